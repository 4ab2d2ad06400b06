"""When a waiting job will be stamped: arithmetic on what was counted, without Valkey and without a clock.

All workers that share lanes are measured as one crew, because theirs is the pace that stays: jobs taken up
per second in which others waited. A lane's share of it follows from the turns that workers take between
lanes (`turns.py`), from how many jobs leave in one turn, and from what comes into the other lanes; when
another lane runs empty, the rest share what it had. So a lane's future is a line with a few corners, and a
ticket is looked up on it in constant time.
"""

import math
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from common import turns

# The pace is that of the last so many seconds in which jobs waited, and of at least so many turns: a turn
# may stand for many jobs.
WINDOW_SECONDS = 16.0
WINDOW_TURNS = 12
# Counts are kept for every step of this many busy seconds, and so many of them.
STEP_SECONDS = 2.0
MARKS_KEPT = 30
# Workers that were away for an hour and are back are not judged by that hour for long.
LONGEST_GAP_SECONDS = 20.0
# A guess (known workers, their usual time for a job) weighs as much as so many seconds of measuring.
GUESS_SECONDS = 2.0
# Inflow is counted over one to two of each of these spans, and the least holds: what came for a few seconds
# will not come for ever, and what has ended is soon forgotten.
INFLOW_SECONDS = (5.0, 60.0)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a crew had done when a step was full: seconds in which jobs waited, jobs taken up, turns."""

    busy: float = 0.0
    taken: int = 0
    turns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What is counted of a crew, times in seconds of one clock."""

    done: Mark
    marks: Sequence[Mark]
    # When the newest turn was taken.
    last: float | None

    def pace(self, now: float, *, waiting_since: float | None, guess: float | None) -> float | None:
        """Return how many jobs the crew takes up per second while jobs wait; None: nothing tells.

        While jobs wait and nobody takes any, it falls with every second beyond the usual gap between turns.

        Args:
            now: by the clock of the counts.
            waiting_since: since when jobs wait in one of its lanes; None: in none.
            guess: what to believe while little is measured.
        """
        since = self._since()
        busy = self.done.busy - since.busy
        taken, made = self.done.taken - since.taken, self.done.turns - since.turns
        silent = 0.0
        if waiting_since is not None:
            usual = busy / made if made else 1 / guess if guess else 0.0
            silent = max(0.0, now - max(self.last or 0.0, waiting_since) - usual)
        if guess is None:
            return taken / (busy + silent) if taken and busy else None
        weight = GUESS_SECONDS * max(0.0, 1 - busy / WINDOW_SECONDS)
        measured = (taken + guess * weight) / (busy + silent + weight)
        # Jobs that wait for a moment beside idle hands are taken faster than those of a queue: the first
        # wait when all work is old, and so about to end.
        lasting = 0.0 if waiting_since is None else min(1.0, (now - waiting_since) / WINDOW_SECONDS)
        return lasting * measured + (1 - lasting) * min(measured, guess)

    def _since(self) -> Mark:
        """Return the newest mark that is long enough ago."""
        for mark in self.marks:
            if (
                self.done.busy - mark.busy >= WINDOW_SECONDS
                and self.done.turns - mark.turns >= WINDOW_TURNS
            ):
                return mark
        return self.marks[-1] if self.marks else Mark()


@dataclass(slots=True)
class Meter:
    """Counts a crew's turns, as the script in `pace.py` does; for those who have no Valkey."""

    done: Mark = Mark()
    marks: deque[Mark] = field(default_factory=lambda: deque([Mark()], MARKS_KEPT))
    last: float | None = None
    backlogged: bool = False

    def took(self, now: float, jobs: int, *, waiting: int) -> None:
        """Note a turn: how many jobs were taken up, and how many wait after it in all lanes."""
        if self.backlogged and self.last is not None:
            gap = min(max(0.0, now - self.last), LONGEST_GAP_SECONDS)
            self.done = Mark(self.done.busy + gap, self.done.taken + jobs, self.done.turns + 1)
            if self.done.busy - self.marks[0].busy >= STEP_SECONDS:
                self.marks.appendleft(self.done)
        self.last, self.backlogged = now, waiting > 0

    def counts(self) -> Counts:
        """Return what was counted until now."""
        return Counts(done=self.done, marks=list(self.marks), last=self.last)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneState:
    """A lane as it stands."""

    waiting: float
    # Jobs that came per second of late.
    inflow: float = 0.0
    # Jobs that leave in one turn.
    per_turn: float = 1.0


@dataclass(frozen=True, slots=True)
class Came:
    """How many jobs had come into a lane when a span of time began, and when the one before it did."""

    # Which span of its length, counted from the clock's beginning.
    span: int
    before: int = 0
    before_previous: int = 0

    def until(self, now: float, count: int, seconds: float) -> "Came":
        """Return this, or a new span that has begun since, when so many had come before now."""
        span = int(now // seconds)
        if span == self.span:
            return self
        return Came(span, count, self.before if span == self.span + 1 else count)


def inflow(now: float, count: int, came: Sequence[Came]) -> float:
    """Return how many jobs came per second of late.

    Args:
        now: by the clock of the counts, in seconds.
        count: how many have come by now.
        came: what was noted for each of `INFLOW_SECONDS`.
    """
    rates: list[float] = []
    for noted, seconds in zip(came, INFLOW_SECONDS, strict=False):
        current = noted.until(now, count, seconds)
        rates.append((count - current.before_previous) / (seconds + now % seconds))
    return min(rates, default=0.0)


@dataclass(frozen=True, slots=True)
class Forecast:
    """How a lane goes on: after so many seconds, so many of its jobs are taken up."""

    # Corners of the line, both ascending, the first at nothing; and the jobs per second after the last.
    seconds: tuple[float, ...]
    jobs: tuple[float, ...]
    pace: float
    # From being taken up to being stamped.
    stamping: float

    @property
    def now(self) -> float:
        """Return how many jobs leave the lane per second at present."""
        return self.pace if len(self.jobs) == 1 else self.jobs[1] / self.seconds[1]

    def seconds_until(self, position: int) -> float:
        """Return in how many seconds the job at a position (1: the next) is stamped."""
        ahead = max(0, position - 1)
        corner = bisect_left(self.jobs, ahead)
        if corner == len(self.jobs):
            return self.seconds[-1] + (ahead - self.jobs[-1]) / self.pace + self.stamping
        if corner == 0:
            return self.stamping
        before = corner - 1
        part = (ahead - self.jobs[before]) / (self.jobs[corner] - self.jobs[before])
        return (
            self.seconds[before]
            + part * (self.seconds[corner] - self.seconds[before])
            + self.stamping
        )


def forecast(
    lane: str, queues: Mapping[str, LaneState], *, pace: float | None, service_seconds: float | None
) -> Forecast | None:
    """Return how a lane goes on, or None where nothing was measured.

    Args:
        lane: which.
        queues: it and all that are served by the same crew.
        pace: jobs that the crew takes up per second.
        service_seconds: how long one stamping takes.
    """
    if not pace:
        return None
    own = queues[lane]
    left = {name: queue.waiting for name, queue in queues.items() if queue.waiting > 0}
    seconds, jobs = [0.0], [0.0]
    while True:
        rates = _rates({lane, *left}, queues, pace)
        ends = {
            name: waiting / (rates[name] - queues[name].inflow)
            for name, waiting in left.items()
            if name != lane and rates[name] > queues[name].inflow
        }
        if not ends:
            break
        phase = min(ends.values())
        seconds.append(seconds[-1] + phase)
        jobs.append(jobs[-1] + phase * rates[lane])
        left = {
            name: waiting + phase * (queues[name].inflow - rates[name])
            for name, waiting in left.items()
            if name == lane or ends.get(name, math.inf) > phase
        }
    stamping = (service_seconds or 1 / pace) * (own.per_turn + 1) / 2
    return Forecast(tuple(seconds), tuple(jobs), rates[lane], stamping)


def _rates(busy: Iterable[str], queues: Mapping[str, LaneState], pace: float) -> dict[str, float]:
    """Return how many jobs leave each busy lane per second.

    A lane in which nothing waits takes what comes into it; where that is more than a busy lane gets, it
    is one.
    """
    heavy = set(busy)
    light = [name for name, queue in queues.items() if name not in heavy and queue.inflow > 0]
    while True:
        shares = _shares(heavy, queues)
        room = pace - sum(queues[name].inflow for name in light)
        growing = []
        for name in light:
            share = _shares({*heavy, name}, queues)[name]
            if queues[name].inflow >= share * (room + queues[name].inflow):
                growing.append(name)
        if not growing:
            return {name: room * share for name, share in shares.items()}
        heavy.update(growing)
        light = [name for name in light if name not in heavy]


def _shares(busy: Iterable[str], queues: Mapping[str, LaneState]) -> dict[str, float]:
    """Return each busy lane's part of the jobs: lanes of a kind share its turns evenly."""
    names = list(busy)
    of_kind = Counter(map(turns.kind, names))
    weights = {
        name: turns.weight(turns.kind(name)) / of_kind[turns.kind(name)] * queues[name].per_turn
        for name in names
    }
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}
