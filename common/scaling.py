"""How many workers a queue needs: one pure policy for a machine, a cluster and the simulator.

It knows nothing of Celery, Kubernetes or Valkey: numbers come in, a number comes out. Whoever applies it
says how many workers there are and when that last changed; `Memory` keeps both, and measures what
comes in, for those who only look now and then.
"""

import math
from dataclasses import dataclass, replace

# Arrivals are not even: at a higher share of its time a worker would let a queue form by chance alone.
BUSY_SHARE = 0.8
# A worker leaves only where the others have so much to spare afterwards. Growing and shrinking would
# otherwise follow each other at the same load.
SPARE = 1.2
# How long nothing changed before one leaves. Longer than a lull between two bursts of a portal.
QUIET_SECONDS = 30.0
# What leaves at a time: one, or a tenth of many; a hundred would otherwise take most of an hour.
SHRINK_SHARE = 10
# How much harder it drains when the oldest waits far beyond the target.
MOST_PRESSURE = 3.0
# Inflow is a running mean over about so many seconds; shorter looks than the second add only noise.
INFLOW_SECONDS = 20.0
SHORTEST_LOOK_SECONDS = 1.0
# More in a second is a counter that was set right, not documents.
MOST_INFLOW = 20_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is measured of a queue; None where it is not known."""

    # Jobs that wait and are not taken up yet.
    depth: int
    # How long the oldest of them has waited, in seconds.
    oldest_seconds: float | None = None
    # How long one worker takes for one job, in seconds.
    service_seconds: float | None = None
    # Jobs that come in, a second.
    inflow: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an operator allows, and wants."""

    minimum: int
    maximum: int
    # Seconds within which what waits is to be drained.
    target_wait_seconds: float

    def __post_init__(self) -> None:
        if not 0 <= self.minimum <= self.maximum or self.target_wait_seconds <= 0:
            raise ValueError(f"no limits to scale within: {self}")

    def clamp(self, workers: int) -> int:
        """Return the number of workers within the limits that is nearest."""
        return min(self.maximum, max(self.minimum, workers))


def desired_workers(
    load: Load | None, *, current: int, limits: Limits, since_change_seconds: float
) -> int:
    """Return how many workers there should be now.

    It grows at once to what the measured pace says is needed, and shrinks step by step after a quiet time.
    The same load twice gives the same number: nothing else is remembered between two calls.

    Args:
        load: the queue's numbers; None when they cannot be had. Then what is there stays.
        current: workers that there are.
        limits: the fewest and the most, and the wait that is aimed at.
        since_change_seconds: how long ago their number last changed; infinite when never.
    """
    if load is None:
        return limits.clamp(current)
    needed = workers_needed(load, current=current, target_wait_seconds=limits.target_wait_seconds)
    if needed is None:
        return limits.clamp(_unmeasured(load.depth, current, since_change_seconds))
    grown = math.ceil(needed)
    if grown >= current:
        return limits.clamp(grown)
    return limits.clamp(_shrunk(math.ceil(needed * SPARE), current, since_change_seconds))


def workers_needed(load: Load, *, current: int, target_wait_seconds: float) -> float | None:
    """Return how many workers keep up with what comes in and drain what waits within the target.

    None where nothing says how long a job takes. When the oldest job has waited longer than the target,
    what was measured was too rosy, and up to `MOST_PRESSURE` times as many drain. More workers than
    jobs wait would stand idle: one job that nobody can stamp, however old, asks for one worker. As many as
    there are workers are no queue yet, but what the next moment takes up: counted in, they would make
    the number go up and down with each single job.
    """
    if load.service_seconds is None:
        return None
    overdue = (load.oldest_seconds or 0.0) / target_wait_seconds
    depth = max(0, load.depth if overdue > 1 else load.depth - current)
    pressure = min(MOST_PRESSURE, max(1.0, overdue))
    draining = min(depth, depth / target_wait_seconds * pressure * load.service_seconds)
    keeping_up = (load.inflow or 0.0) * load.service_seconds / BUSY_SHARE
    return draining + keeping_up


def _unmeasured(depth: int, current: int, since_change_seconds: float) -> int:
    """Return twice as many while more wait than there are workers, and fewer only when none waits."""
    if depth > current:
        return max(1, min(depth, current * 2))
    return current if depth > 0 else _shrunk(0, current, since_change_seconds)


def _shrunk(enough: int, current: int, since_change_seconds: float) -> int:
    if since_change_seconds < QUIET_SECONDS:
        return current
    return min(current, max(enough, current - max(1, current // SHRINK_SHARE)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is kept between two looks at a queue; times are seconds of one clock."""

    workers: int
    changed_at: float
    looked_at: float
    # Jobs that had come since the counter began.
    accepted: int
    inflow: float | None = None

    def look(self, *, accepted: int, now: float) -> "Memory":
        """Measure what came in since the last look; a second look within a second measures nothing."""
        passed = now - self.looked_at
        if 0 <= passed < SHORTEST_LOOK_SECONDS:
            return self
        came = (accepted - self.accepted) / passed if passed > 0 else -1.0
        inflow = self.inflow
        if 0 <= came <= MOST_INFLOW:
            # Of looks that are far apart the last one counts alone.
            weight = 1.0 if inflow is None else 1.0 - math.exp(-passed / INFLOW_SECONDS)
            inflow = came if inflow is None else inflow + (came - inflow) * weight
        return replace(self, accepted=accepted, looked_at=now, inflow=inflow)

    def decide(self, load: Load | None, *, limits: Limits, now: float) -> "Memory":
        """Apply the policy, and note when the number changed."""
        workers = desired_workers(
            load,
            current=self.workers,
            limits=limits,
            since_change_seconds=max(0.0, now - self.changed_at),
        )
        if workers == self.workers:
            return self
        return replace(self, workers=workers, changed_at=now)
