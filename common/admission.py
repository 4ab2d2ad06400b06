"""Who may come in now: the policy of the intake's gate. Values in, a value out; nothing is asked here.

The gate goes by time, not by count: it is full when a newcomer would wait longer than the horizon.
Then applicants wait in a room, each at a place of its own, and partners come back later. What was
accepted is never slowed by what is admitted, because the horizon bounds what may stand before it.

    decide(kind=Kind.PARTNER, setting=OPEN, lane=lane, horizon_seconds=3600, was_full=False, now=now)
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from common.pace import LanePace

# A full gate opens again once the wait has fallen to this part of the horizon, so that it does not
# flap with every job that is taken up.
REOPENING_SHARE = 0.9
# Submissions a second that a slow gate may be set to: one in fifty seconds at the least.
SLOWEST_RATE = 0.02
FASTEST_RATE = 100_000.0
# Far behind the last place of a lane, so that what one place costs is not lost in whole seconds.
_FAR = 10_000


class Kind(StrEnum):
    """Whose gate it is; each has one of its own."""

    APPLICANT = "applicant"
    PARTNER = "partner"
    BULK = "bulk"


class State(StrEnum):
    """How an operator has set a gate."""

    OPEN = "open"
    SLOW = "slow"
    CLOSED = "closed"


class Why(StrEnum):
    """What keeps somebody out."""

    CLOSED = "closed"
    FULL = "full"
    SLOW = "slow"


class Standing(StrEnum):
    """Whether the caller holds a place in the waiting room, and whether its turn has come."""

    NONE = "none"
    WAITING = "waiting"
    TURN = "turn"


@dataclass(frozen=True, slots=True)
class Setting:
    """How a gate is set, and until when; `reason` is for people, `rate` in submissions a second."""

    state: State
    rate: float | None = None
    reason: str | None = None
    reopens_at: datetime | None = None

    def at(self, now: datetime) -> "Setting":
        """Return what applies now: a setting whose time is over has given way to the open gate."""
        return OPEN if self.reopens_at is not None and self.reopens_at <= now else self


OPEN = Setting(State.OPEN)


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane as a newcomer finds it; None where nothing is measured.

    Attributes:
        waiting: how many accepted jobs are not yet taken up.
        seconds_left: how long a newcomer would wait until its job is stamped.
        seconds_per_job: how much one more job adds to that.
    """

    waiting: int = 0
    seconds_left: float | None = None
    seconds_per_job: float | None = None

    @classmethod
    def of(cls, pace: LanePace | None) -> "Lane":
        """Return a lane by its measured pace; one that nothing is known of while Valkey is away."""
        if pace is None:
            return cls()
        newcomer = pace.wait(pace.accepted + 1).seconds_left
        far = pace.wait(pace.accepted + 1 + _FAR).seconds_left
        each = None if newcomer is None or far is None else (far - newcomer) / _FAR
        return cls(pace.waiting, newcomer, each or None)


@dataclass(frozen=True, slots=True)
class Admit:
    """Come in."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait in the room, at a place of your own."""

    why: Why


@dataclass(frozen=True, slots=True)
class Later:
    """Come back after so many seconds; None where nobody knows when."""

    why: Why
    seconds: float | None


Decision = Admit | Wait | Later


def is_full(lane: Lane, *, horizon_seconds: float, was_full: bool) -> bool:
    """Say whether a newcomer to the lane would wait too long; of an unknown lane nobody can say so.

    Args:
        lane: as it is now.
        horizon_seconds: how long is too long.
        was_full: what this said when it was asked last.
    """
    if lane.seconds_left is None:
        return False
    share = REOPENING_SHARE if was_full else 1.0
    return lane.seconds_left > horizon_seconds * share


def decide(
    *,
    kind: Kind,
    setting: Setting,
    lane: Lane,
    horizon_seconds: float,
    was_full: bool,
    now: datetime,
    slow_wait_seconds: float = 0.0,
    place: Standing = Standing.NONE,
    room_waiting: int = 0,
) -> Decision:
    """Say whether somebody may come in.

    Args:
        kind: whose gate it is.
        setting: how an operator has set it.
        lane: the lane that the job would go to; of several, the shortest.
        horizon_seconds: how long a newcomer may have to wait.
        was_full: what `is_full` said of the lane before.
        now: the time, which a setting may end at.
        slow_wait_seconds: how long until a slow gate has let so many through that it is this
            caller's turn; 0: now.
        place: of an applicant, in the waiting room.
        room_waiting: how many wait in the room; nobody without a place comes in before them.

    Returns:
        Admit, Wait (applicants only) or Later.
    """
    setting = setting.at(now)
    if setting.state is State.CLOSED:
        until = setting.reopens_at
        return Later(Why.CLOSED, None if until is None else (until - now).total_seconds())
    if kind is Kind.APPLICANT and place is Standing.TURN:
        return Admit()
    full = is_full(lane, horizon_seconds=horizon_seconds, was_full=was_full)
    slow = setting.state is State.SLOW and slow_wait_seconds > 0
    if kind is Kind.APPLICANT:
        if full or room_waiting > 0 or place is Standing.WAITING:
            return Wait(Why.FULL)
        return Wait(Why.SLOW) if slow else Admit()
    if full and lane.seconds_left is not None:
        # The accepted backlog grows shorter by a second a second while nobody is let in.
        return Later(Why.FULL, lane.seconds_left - horizon_seconds * REOPENING_SHARE)
    return Later(Why.SLOW, slow_wait_seconds) if slow else Admit()
