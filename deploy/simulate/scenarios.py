"""The named scenarios: what comes, and what goes wrong meanwhile."""

import random

from deploy.simulate.arrivals import (
    DAY,
    DOCUMENTS_A_PERSON,
    HOUR,
    MINUTE,
    SEPTEMBER_PEOPLE,
    Kind,
    Stream,
    added,
    level,
    mixed,
    spread,
    towards_a_deadline,
)
from deploy.simulate.setup import Arrivals, Authority, Loss, Scenario

# Documents a second that the mishaps are played over.
_USUAL_PER_SECOND = 200
_DUMPED = 100_000
_DUMP_MINUTE = 15


def _september(rng: random.Random, scale: float, days: int) -> Arrivals:
    documents = round(SEPTEMBER_PEOPLE * DOCUMENTS_A_PERSON * scale)
    streams = mixed(documents, towards_a_deadline(days), rng)
    return Arrivals(streams=tuple(streams), deadline=days * DAY)


def _flash(rng: random.Random, scale: float, days: int) -> Arrivals:
    """A link goes out at 10:10: 100,000 within five minutes over a quiet morning."""
    quiet = spread(round(50 * HOUR * scale), level(60))
    crowd = spread(round(_DUMPED * scale), (10, 6, 3, 2, 1))
    flash = {10 + minute: documents for minute, documents in enumerate(crowd)}
    return Arrivals(streams=(Stream(Kind.APPLICANT, added(quiet, flash)),), start_hour=10)


def _even(rng: random.Random, scale: float, days: int) -> Arrivals:
    return Arrivals(streams=_usual(scale), start_hour=9)


def _usual(scale: float) -> tuple[Stream, ...]:
    """Return an hour of even load: 70% applicants, 25% through five partners, 5% in batches."""
    per_hour = _USUAL_PER_SECOND * HOUR * scale
    partner = spread(round(per_hour * 0.05), level(60))
    return (
        Stream(Kind.APPLICANT, spread(round(per_hour * 0.7), level(60))),
        *(Stream(Kind.PARTNER, partner, partner=number) for number in range(5)),
        Stream(Kind.BULK, spread(round(per_hour * 0.05), level(60)), partner=0),
    )


def _dump(rng: random.Random, scale: float, days: int) -> Arrivals:
    """One partner sends 100,000 single documents within two minutes, over the usual load."""
    applicants, first, *others = _usual(scale)
    each = round(_DUMPED * scale / 2)
    dumped = added(first.by_minute, {_DUMP_MINUTE: each, _DUMP_MINUTE + 1: each})
    return Arrivals(
        streams=(applicants, Stream(Kind.PARTNER, dumped, partner=0), *others), start_hour=9
    )


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="september",
            title="The last two days of September 2024: 1.77 million people, two documents each.",
            arrivals=_september,
            workers=64,
            has_days=True,
        ),
        Scenario(
            name="flash",
            title="A flash crowd at the minute: 100,000 documents within five minutes.",
            arrivals=_flash,
            workers=16,
        ),
        Scenario(
            name="even",
            title="200 documents a second for an hour, to compare the next ones with.",
            arrivals=_even,
            workers=8,
        ),
        Scenario(
            name="dump",
            title="One partner sends 100,000 documents within two minutes, over 200 a second.",
            arrivals=_dump,
            workers=8,
            dumper=0,
        ),
        Scenario(
            name="lost",
            title="Half the workers die at once under 200 a second; back after ten minutes.",
            arrivals=_even,
            workers=8,
            losses=(Loss(at=15 * MINUTE + 0.4, share=0.5, seconds=10 * MINUTE),),
        ),
        Scenario(
            name="authority",
            title="The timestamp authority slows from 0.05 to 1 s an answer for a quarter of an hour.",
            arrivals=_even,
            workers=64,
            authority=Authority(
                seconds=0.05, slow_seconds=1.0, slow_from=15 * MINUTE, slow_until=30 * MINUTE
            ),
        ),
    )
}
