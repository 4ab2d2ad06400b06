"""How true the time is that waiting clients are told, in simulated surges and in a real one.

Simulated: the real arithmetic (`common/forecast.py`) and the real turns, in the surges below. Real: a copy
of the service takes more letters than it can stamp, one of its two stamping workers is killed meanwhile
and started again. What is told at the acceptance and to polls is compared with what came true. A wait that
spans a change of the workers is judged apart: nobody could know. Waits below 3 s are not judged, because
they are told in whole seconds.

Example: python -m tests.bench.waiting --json
"""

import json
import math
import random
import statistics
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.lanes import APPLICANT_LANE, BULK_LANE, PARTNER_LANES
from tests.bench import arguments, waiting_real
from tests.bench.waiting_model import POLL_SECONDS, Arrival, Record, Service, Told

SHORTEST_JUDGED = 3.0
# An estimate that says less than the truth by more than this part is too low.
TOO_LOW = 0.15
FOLLOWED = 0.15


@dataclass(frozen=True)
class Surge:
    """What comes, how many workers there are from when on, and how many jobs a message stands for."""

    arrivals: Sequence[Arrival]
    workers: Sequence[tuple[float, int]] = ((0.0, 4),)
    group: int = 1

    @property
    def changes(self) -> list[float]:
        """Return when the number of workers changed."""
        return [at for at, _ in self.workers[1:]]


def evenly(
    lane: str, begin: float, jobs: int, seconds: float, *, together: int = 1
) -> list[Arrival]:
    """Return jobs that come evenly over a time, some at once."""
    times = range(jobs // together)
    return [Arrival(begin + seconds * each / len(times), lane, together) for each in times]


def at_random(
    lane: str, rate: Callable[[float], float], seconds: float, seed: int
) -> list[Arrival]:
    """Return jobs that come independently, so many a second as `rate` says of a time (thinning)."""
    drawn, now, found = random.Random(seed), 0.0, []
    most = max(rate(float(at)) for at in range(int(seconds)))
    while (now := now + drawn.expovariate(most)) < seconds:
        if drawn.random() < rate(now) / most:
            found.append(Arrival(now, lane, 1))
    return found


def _usual(seconds: float) -> list[Arrival]:
    """Return what comes on any day: 40 % of what four workers can do."""
    return at_random(APPLICANT_LANE, lambda _: 20.0, seconds, 1) + at_random(
        PARTNER_LANES[3], lambda _: 10.0, seconds, 2
    )


def surges() -> dict[str, Surge]:
    """Return the surges by name; four workers stamp about 74 jobs a second."""
    first, second = PARTNER_LANES[0], PARTNER_LANES[5]
    crowd = evenly(APPLICANT_LANE, 5, 8000, 30)
    day = lambda at: 74 * (0.75 - 0.75 * math.cos(at / 600 * math.tau))  # noqa: E731
    return {
        "flash crowd": Surge(crowd),
        "batches in groups": Surge(evenly(BULK_LANE, 5, 8000, 10, together=400), group=16),
        "a partner's dump": Surge(
            _usual(450) + evenly(first, 150, 4000, 5) + evenly(second, 150, 4000, 5)
        ),
        "bulk beside a partner": Surge(
            evenly(first, 5, 4000, 10) + evenly(BULK_LANE, 6, 4000, 10, together=100), group=16
        ),
        "a day in ten minutes": Surge(at_random(APPLICANT_LANE, day, 600, 3)),
        "half the workers die": Surge(crowd, ((0, 4), (60, 2))),
        "twice the workers": Surge(evenly(APPLICANT_LANE, 5, 12000, 30), ((0, 4), (60, 8))),
        "no workers for 20 s": Surge(crowd, ((0, 4), (50, 0), (70, 4))),
    }


def judge(record: Record, changes: Sequence[float]) -> dict[str, Any]:
    """Return errors and what else can be said of what was told."""
    judged = {
        "accept": _errors(_foreseeable(record.accepted, record, changes), record),
        "polls": _errors(_foreseeable(record.polled, record, changes), record),
    }
    known = _judged(_foreseeable(record.polled, record, changes, settled=0.0), record)
    low = [each for each in known if _error(each, record) < -TOO_LOW]
    return judged | {
        "too_low_share": round(len(low) / len(known), 3) if known else None,
        "too_low_longest_s": round(_longest(low), 1),
        "followed_within_s": [_followed(record, change, changes) for change in changes],
    }


def _foreseeable(
    told: Iterable[Told], record: Record, changes: Sequence[float], *, settled: float = 30.0
) -> list[Told]:
    """Return what was told of waits in which no worker came or went, nor so many seconds before them."""
    return [
        each
        for each in told
        if not any(each.at - settled < change <= record.stamped[each.job] for change in changes)
    ]


def _judged(told: Iterable[Told], record: Record) -> list[Told]:
    return [each for each in told if record.stamped[each.job] - each.at >= SHORTEST_JUDGED]


def _error(told: Told, record: Record) -> float:
    """Return how much more was told than came true, as a part of what came true."""
    truth = record.stamped[told.job] - told.at
    return ((told.seconds_left or 0) - truth) / truth


def _errors(told: Iterable[Told], record: Record) -> dict[str, float] | None:
    errors = sorted(abs(_error(each, record)) for each in _judged(told, record))
    if not errors:
        return None
    return {
        "told": len(errors),
        "median_error": round(statistics.median(errors), 3),
        "p90_error": round(errors[int(len(errors) * 0.9)], 3),
    }


def _longest(low: Sequence[Told]) -> float:
    """Return for how long one job was told too little in one go, in seconds."""
    longest, last, began = 0.0, dict[int, float](), dict[int, float]()
    for each in low:
        if each.at - last.get(each.job, -math.inf) > 2.5 * POLL_SECONDS:
            began[each.job] = each.at
        last[each.job] = each.at
        longest = max(longest, each.at - began[each.job])
    return longest


def _followed(record: Record, change: float, changes: Sequence[float]) -> float | None:
    """Return how long after a change polls are right again, and stay so for five looks, by their median."""
    until = min((each for each in changes if each > change), default=math.inf)
    looks: dict[int, list[float]] = {}
    for each in _judged(record.polled, record):
        if change <= each.at and record.stamped[each.job] < until:
            look = int((each.at - change) // POLL_SECONDS)
            looks.setdefault(look, []).append(abs(_error(each, record)))
    right = [
        statistics.median(looks.get(look, [1.0])) <= FOLLOWED
        for look in range(max(looks, default=0) + 1)
    ]
    return next(
        (look * POLL_SECONDS for look in range(len(right) - 4) if all(right[look : look + 5])), None
    )


def main() -> None:
    """Print the figures, and with --json one JSON object as the last line."""
    parser = arguments.parser("waiting", __doc__)
    parser.add_argument("--jobs", type=int, default=300, help="of the real surge (default 300)")
    parser.add_argument("--simulated", action="store_true", help="leave out the real surge")
    choices = parser.parse_args()
    figures: dict[str, Any] = {
        "simulated": {
            name: judge(Service(1, surge.group).run(surge.arrivals, surge.workers), surge.changes)
            for name, surge in surges().items()
        }
    }
    if not choices.simulated:
        with tempfile.TemporaryDirectory() as folder:
            # Servers that run as another user must be able to walk in.
            Path(folder).chmod(0o755)
            real = waiting_real.surge(Path(folder), choices.jobs)
        figures["real"] = judge(real.record, real.changes) | {"jobs_per_s": real.jobs_per_second}
    for name, found in (*figures["simulated"].items(), ("real", figures.get("real"))):
        if found is not None:
            print(f"{name}: {json.dumps(found)}")
    if choices.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
