"""What one run is made of: the scenario's arrivals and mishaps, and what stands against them."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from common.lanes import APPLICANT_LANE, BULK_LANE
from deploy.simulate.arrivals import MINUTE, Stream
from deploy.simulate.policies import setting

# Assumption: from the decision to start a worker to its first document, image and imports included.
BOOT_SECONDS = 30.0
_HORIZONS = {
    APPLICANT_LANE: "intake_horizon_seconds",
    BULK_LANE: "intake_horizon_bulk_seconds",
}


class Policy(StrEnum):
    """What stands at the door, and what people do.

    GATE: what Stampede does: a gate by time left, a waiting room, clients that hold receipts.
    OPEN: everything is accepted at once, clients hold receipts and wait.
    IMPATIENT: everything is accepted, nobody has a receipt: who waits for a minute sends again.
    """

    GATE = "gate"
    OPEN = "open"
    IMPATIENT = "impatient"


@dataclass(frozen=True, slots=True)
class Loss:
    """Workers that die at once, in the middle of what they do.

    Attributes:
        at: when, in seconds from the beginning.
        share: which part of those that run then.
        seconds: after how long there is room for as many again.
    """

    at: float
    share: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Authority:
    """A timestamp authority: a worker waits for its answer, which costs no CPU.

    Attributes:
        seconds: how long an answer takes.
        slow_seconds: how long it takes while the authority is slow.
        slow_from: when that begins, in seconds from the beginning.
        slow_until: when it is over.
    """

    seconds: float
    slow_seconds: float
    slow_from: float
    slow_until: float

    def answers_after(self, now: float) -> float:
        """Return how long an answer takes now."""
        slow = self.slow_from <= now < self.slow_until
        return self.slow_seconds if slow else self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """What comes, minute by minute.

    Attributes:
        streams: by source.
        start_hour: local hour at which it begins.
        deadline: seconds after the beginning at which documents must be accepted; None: no deadline.
    """

    streams: tuple[Stream, ...]
    start_hour: float = 0.0
    deadline: float | None = None

    @property
    def documents(self) -> int:
        """Return how many documents come in all."""
        return sum(stream.documents for stream in self.streams)

    @property
    def minutes(self) -> int:
        """Return how long documents come."""
        return max(len(stream.by_minute) for stream in self.streams)

    def last(self, minutes: int) -> "Arrivals":
        """Return what comes in the last so many minutes."""
        skipped = max(0, self.minutes - minutes)
        streams = tuple(
            replace(stream, by_minute=stream.by_minute[skipped:]) for stream in self.streams
        )
        deadline = None if self.deadline is None else self.deadline - skipped * MINUTE
        return Arrivals(
            streams=streams, start_hour=self.start_hour + skipped / 60, deadline=deadline
        )

    @property
    def by_minute(self) -> tuple[int, ...]:
        """Return how many documents come in each minute, all sources together."""
        return tuple(map(sum, zip(*(stream.by_minute for stream in self.streams), strict=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A named course of things.

    Attributes:
        name: on the command line.
        title: one sentence.
        arrivals: what comes, for a seeded generator, a scale and a number of days.
        workers: how many the autoscaler may have at most where nothing else is asked for.
        losses: workers that die.
        authority: the timestamp authority that every document waits for; None: level B-B.
        has_days: whether its length can be chosen.
        dumper: a partner whose waits are told apart from the others'.
    """

    name: str
    title: str
    arrivals: Callable[[random.Random, float, int], Arrivals]
    workers: int
    losses: tuple[Loss, ...] = ()
    authority: Authority | None = None
    has_days: bool = False
    dumper: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What stands against the arrivals.

    Attributes:
        minimum: the fewest workers.
        maximum: the most; equal to the fewest: a fixed number.
        machines: two-core machines that do everything, stamping, accepting and the database; None:
            each worker has a core to itself and the front end runs elsewhere.
        policy: at the door.
        horizon_seconds: how long a newcomer may have to wait before the gate is full; None: as the
            settings say, which allow batches more.
        target_wait_seconds: what the autoscaler aims at.
        boot_seconds: how long a worker takes to start.
    """

    minimum: int
    maximum: int
    machines: int | None = None
    policy: Policy = Policy.GATE
    horizon_seconds: float | None = None
    target_wait_seconds: float = setting("target_wait_seconds")
    boot_seconds: float = BOOT_SECONDS

    def horizon_of(self, lane: str) -> float:
        """Return how long a newcomer to a lane may have to wait."""
        if self.horizon_seconds is not None:
            return self.horizon_seconds
        return setting(_HORIZONS.get(lane, "intake_horizon_partner_seconds"))

    @property
    def fixed(self) -> bool:
        """Say whether there is nothing for the autoscaler to decide."""
        return self.minimum == self.maximum
