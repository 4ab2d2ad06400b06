"""What a run came to, for people in lines and for programs in JSON."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from deploy.simulate.answer import Answer, words
from deploy.simulate.arrivals import HOUR, MINUTE
from deploy.simulate.model import Run
from deploy.simulate.search import Found
from deploy.simulate.tally import Spread

PERCENTILES = (0.50, 0.90, 0.95, 0.99)
# Points that a course over time is told in, at most.
_POINTS = 288
_LINES = 12
_NAMES = ("p50", "p90", "p95", "p99", "max")


def as_json(run: Run) -> dict[str, Any]:
    """Return a run as JSON values: seconds, documents, parts of one."""
    book, means = run.book, run.means
    return {
        "scenario": run.scenario,
        "policy": means.policy,
        "workers": {"minimum": means.minimum, "maximum": means.maximum},
        "machines": means.machines,
        "documents": run.arrivals.documents,
        "mean_bytes": round(run.mean_bytes),
        "costs_ms": asdict(run.costs),
        "simulated_hours": round(run.seconds / HOUR, 2),
        **asdict(book.counts),
        "left_at_the_end": run.left,
        "wait_seconds": {
            who: _percentiles(spread) for who, spread in _waits(run).items() if spread.count
        },
        "wait_in_line_seconds": {
            who: _percentiles(spread) for who, spread in book.queue_waits.items() if spread.count
        },
        "room": {
            "documents": book.counts.roomed,
            "longest": max(book.samples.room, default=0),
            "wait_seconds": _percentiles(book.room_waits),
        },
        "foretold": {
            "compared": book.errors.count,
            "error": _percentiles(book.errors, 3),
            "told_too_little": _share(book.told_too_little, book.errors.count),
        },
        "peaks_per_s": {
            "tries": book.peak_tries,
            "accepted": book.peak_accepted,
            "polls": round(max(book.samples.polls_per_s, default=0.0)),
            "documents_in_the_busiest_minute": round(max(run.arrivals.by_minute) / MINUTE, 1),
        },
        "peak_waiting": max(book.samples.waiting, default=0),
        "peak_workers": book.peak_workers,
        "worker_hours": round(book.worker_seconds / HOUR, 1),
        "machine_hours": None
        if means.machines is None
        else round(means.machines * run.seconds / HOUR, 1),
        "course": _course(run),
    }


def answer_as_json(answer: Answer) -> dict[str, Any]:
    """Return the answer as JSON values."""
    alone = answer.one_machine
    return {
        "target_p95_seconds": answer.target_seconds,
        "workers": _found_json(answer.workers),
        "machines": _found_json(answer.machines),
        "database_cores_in_the_busiest_minute": round(answer.database_cores, 1),
        "one_machine": {name: v for name, v in as_json(alone).items() if name != "course"},
    }


def lines(run: Run, title: str) -> Iterator[str]:
    """Yield the lines that a person reads."""
    book, counts, costs = run.book, run.book.counts, run.costs
    busiest = max(run.arrivals.by_minute) / MINUTE
    yield f"{run.scenario}: {title}"
    yield f"  documents     {run.arrivals.documents:,}; {busiest:,.0f} a second in the busiest minute"
    yield f"  against them  {words(run.means)}; {_policy(run)}"
    yield (
        f"  a document    {costs.accept_ms:.1f} ms of CPU to accept, {costs.stamp_ms:.1f} ms to stamp;"
        f" {run.mean_bytes / 1000:,.0f} KB on average"
    )
    yield ""
    yield f"  {'seconds from the first try to the stamp':<42}" + _heads()
    for who, spread in _waits(run).items():
        if spread.count:
            yield f"    {who:<40}" + _row(spread)
    if counts.gave_up:
        yield "    (of those who got one: the others gave up)"
    if counts.tries > counts.wanted:
        yield "  seconds from its acceptance to the stamp"
        for who, spread in book.queue_waits.items():
            if spread.count:
                yield f"    {who:<40}" + _row(spread)
    yield ""
    yield from _counts(run)
    yield ""
    yield f"  workers       {book.peak_workers:,} at most, {book.worker_seconds / HOUR:,.1f} worker-hours"
    yield f"  {'':<4}{'from':>12} {'documents/s':>12} {'stamped/s':>11} {'waiting':>11} {'workers':>8}"
    yield from _table(run)


def answer_lines(answer: Answer, documents: int) -> Iterator[str]:
    """Yield the answer as a person reads it."""
    alone = answer.one_machine
    limit = f"95 of 100 documents stamped within {answer.target_seconds:g} s of the first try"
    yield f"What it takes to have {limit}:"
    yield f"  workers       {_needed(answer.workers, 'with a core each; front ends and database elsewhere')}"
    yield f"  machines      {_needed(answer.machines, 'with two cores that do everything')}"
    yield (
        f"  database      {answer.database_cores:.1f} cores of one PostgreSQL in the busiest minute, by"
        " the bench: more machines do not share that"
    )
    counts, waits = alone.book.counts, alone.book.all_waits
    yield "One two-core machine alone:"
    yield (
        f"  waits         p50 {_time(waits.percentile(0.5))}, p95 {_time(waits.percentile(0.95))},"
        f" longest {_time(waits.largest)}"
    )
    yield (
        f"  room          {counts.roomed:,} documents waited there, at most"
        f" {max(alone.book.samples.room):,} at once, the longest for {_time(alone.book.room_waits.largest)}"
    )
    yield f"  refused       {counts.refused:,} tries, of which the busy front end shed {counts.shed:,}"
    yield f"  too late      {counts.late:,} of {documents:,} documents were accepted after the deadline"


def _counts(run: Run) -> Iterator[str]:
    book, counts = run.book, run.book.counts
    yield f"  stamped       {counts.stamped:,}; left when the run ended: {run.left:,}"
    yield f"  tries         {counts.tries:,}, refused {counts.refused:,}" + (
        f" (shed by a busy front end {counts.shed:,})" if counts.shed else ""
    )
    if counts.in_vain or counts.gave_up:
        yield f"  in vain       {counts.in_vain:,} stamped for nobody; {counts.gave_up:,} gave up"
    yield (
        f"  room          {counts.roomed:,} waited in it, {max(book.samples.room):,} at once"
        + (f", the longest {_time(book.room_waits.largest)}" if counts.roomed else "")
    )
    if run.arrivals.deadline is not None:
        yield f"  too late      {counts.late:,} accepted after the deadline"
    if counts.redone:
        yield f"  redone        {counts.redone:,} that dead workers had in hand"
    yield (
        f"  at most       {book.peak_tries:,} tries and {book.peak_accepted:,} acceptances in a second,"
        f" {max(book.samples.polls_per_s):,.0f} polls a second"
    )
    if book.errors.count:
        half, most = book.errors.percentile(0.5) or 0.0, book.errors.percentile(0.9) or 0.0
        low = _share(book.told_too_little, book.errors.count)
        yield (
            f"  foretold      wrong by {half:.0%} (median) and {most:.0%} (p90) where the wait was 10 s or"
            f" more; too short for {low:.0%} of them"
        )


def _policy(run: Run) -> str:
    return {
        "gate": "gate and waiting room, clients with receipts",
        "open": "no gate, clients with receipts",
        "impatient": "no gate, no receipts: who waits a minute sends again",
    }[run.means.policy]


def _waits(run: Run) -> dict[str, Spread]:
    return {**run.book.waits, "all": run.book.all_waits}


def _percentiles(spread: Spread, digits: int = 1) -> dict[str, float | None]:
    values = [*map(spread.percentile, PERCENTILES), spread.largest if spread.count else None]
    return {
        name: None if value is None else round(value, digits)
        for name, value in zip(_NAMES, values, strict=True)
    }


def _heads() -> str:
    return "".join(f"{name:>10}" for name in _NAMES)


def _row(spread: Spread) -> str:
    return "".join(f"{value or 0:>10,.1f}" for value in _percentiles(spread).values())


def _share(part: int, whole: int) -> float:
    return round(part / whole, 3) if whole else 0.0


def _course(run: Run) -> dict[str, list[float]]:
    """Return the course of the run in at most so many points, each the mean of its minutes."""
    samples = run.book.samples
    step = -(-len(samples.workers) // _POINTS)

    def means(values: list[Any], per: float = 1.0) -> list[float]:
        chunks = (values[at : at + step] for at in range(0, len(values), step))
        return [round(sum(chunk) / len(chunk) / per, 1) for chunk in chunks]

    return {
        "minute": [float(at) for at in range(0, len(samples.workers), step)],
        "wanted_per_s": means(samples.wanted, MINUTE),
        "tries_per_s": means(samples.tries, MINUTE),
        "accepted_per_s": means(samples.accepted, MINUTE),
        "stamped_per_s": means(samples.stamped, MINUTE),
        "waiting": means(samples.waiting),
        "room": means(samples.room),
        "coming_back": means(samples.coming_back),
        "workers": means(samples.workers),
        "polls_per_s": means(samples.polls_per_s),
    }


def _table(run: Run) -> Iterator[str]:
    """Yield the course in a dozen lines, the first half of it in the first of them."""
    samples = run.book.samples
    for first, last in _parts(len(samples.workers)):
        minutes = last - first
        hour = run.arrivals.start_hour + first / 60
        day, clock = divmod(hour, 24)
        at = f"{f'day {day + 1:.0f} ' if hour >= 24 else ''}{int(clock):02}:{first % 60:02}"
        yield (
            f"  {'':<4}{at:>12} {sum(samples.wanted[first:last]) / minutes / MINUTE:>12,.1f}"
            f" {sum(samples.stamped[first:last]) / minutes / MINUTE:>11,.1f}"
            f" {max(samples.waiting[first:last]):>11,} {max(samples.workers[first:last]):>8,}"
        )


def _parts(minutes: int) -> list[tuple[int, int]]:
    """Split a course into a dozen spans of whole minutes."""
    step = -(-minutes // _LINES)
    return [(at, min(minutes, at + step)) for at in range(0, minutes, step)]


def _needed(found: Found, what: str) -> str:
    if found.needed is None:
        return f"not even {found.tried[-1][0]:,}, {what}"
    return f"{found.needed:,}, {what} (p95 {_time(found.wait)})"


def _found_json(found: Found) -> dict[str, Any]:
    return {
        "needed": found.needed,
        "p95_seconds": None if found.wait is None else round(found.wait, 1),
        "tried": {
            str(number): None if wait is None else round(wait, 1) for number, wait in found.tried
        },
    }


def _time(seconds: float | None) -> str:
    """Return a time as people say it."""
    if seconds is None:
        return "-"
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.1f} h"
