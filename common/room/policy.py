"""How many of the waiting room may come in now, and how long the others wait. Decides, does nothing.

A turn is a slot of some minutes in which its holder may submit. Some holders submit twice, some left
long ago; how many jobs came of a slot is measured, so that the dead do not hold up the living.
"""

import math
from dataclasses import dataclass
from datetime import datetime

from common.admission import Lane, Setting, State

# So many turns a second where nothing is measured: about what the record day of 2024 needed.
UNMEASURED_PER_SECOND = 10.0
# An empty lane fills at most so many times as fast as it is worked off: a room of a million that was
# let in at once would find its slots over before the front end had taken half of it.
FILLING = 4.0
# A round that comes late makes up for no more than this, in seconds.
LONGEST_ROUND = 2.0
# What is measured of few slots says little: it counts as if so many had brought one job each.
_PRIOR_SLOTS = 10
# Where nearly everybody left, the room still goes at most so many times faster.
_FEWEST_JOBS_PER_SLOT = 0.1
# Between two questions about a place, in seconds; the latest as a share of a slot.
_SHORTEST_SECONDS = 2.0
_UNKNOWN_SECONDS = 30.0
_LATEST_SHARE = 0.8


def jobs_per_slot(*, slots: int, jobs: int) -> float:
    """Return how many jobs come of one slot.

    Args:
        slots: slots that are over.
        jobs: what was submitted in them.
    """
    return max(_FEWEST_JOBS_PER_SLOT, (jobs + _PRIOR_SLOTS) / (slots + _PRIOR_SLOTS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What the next turns depend on.

    Attributes:
        waiting: places whose turn has not come.
        expected_jobs: what those in their slots may still submit.
        jobs_per_slot: how many jobs come of one slot.
        seconds_since_turns: since the last turns were given; None when none ever were.
    """

    waiting: int
    expected_jobs: float
    jobs_per_slot: float
    seconds_since_turns: float | None


def turns(
    room: Room, *, setting: Setting, lane: Lane, horizon_seconds: float, now: datetime
) -> int:
    """Return how many places have their turn now.

    So many that the lane's time left comes to the horizon when they have submitted; no more than a
    slow gate lets through.
    """
    setting = setting.at(now)
    if setting.state is State.CLOSED or room.waiting <= 0:
        return 0
    since = LONGEST_ROUND if room.seconds_since_turns is None else room.seconds_since_turns
    if lane.seconds_left is None or lane.seconds_per_job is None:
        most = _in(since, UNMEASURED_PER_SECOND)
    else:
        room_for_jobs = (horizon_seconds - lane.seconds_left) / lane.seconds_per_job
        by_horizon = math.floor((room_for_jobs - room.expected_jobs) / room.jobs_per_slot)
        fastest = FILLING / (lane.seconds_per_job * room.jobs_per_slot)
        most = min(by_horizon, _in(since, fastest))
    if setting.state is State.SLOW and setting.rate is not None:
        most = min(most, _in(since, setting.rate))
    return max(0, min(room.waiting, most))


def _in(seconds: float, rate: float) -> int:
    """Return how many are due after so many seconds; one that is slower than a round saves up for it."""
    return math.floor(min(seconds * rate, max(1.0, LONGEST_ROUND * rate)))


@dataclass(frozen=True, slots=True)
class Forecast:
    """How long the first place of the room waits, and each further one more, in seconds."""

    first: float
    each: float

    def seconds(self, before: int) -> float:
        """Return how long a place waits that has so many before it."""
        return self.first + (before + 1) * self.each


def forecast(
    room: Room, *, setting: Setting, lane: Lane, horizon_seconds: float, now: datetime
) -> Forecast | None:
    """Return how long the room waits; None when a closed gate has no time to open at."""
    setting = setting.at(now)
    first = 0.0
    each = 1 / UNMEASURED_PER_SECOND
    if lane.seconds_left is not None and lane.seconds_per_job is not None:
        ahead = lane.seconds_left + room.expected_jobs * lane.seconds_per_job
        first = max(0.0, ahead - horizon_seconds)
        each = lane.seconds_per_job * room.jobs_per_slot
    if setting.state is State.SLOW and setting.rate is not None:
        each = max(each, 1 / setting.rate)
    if setting.state is State.CLOSED:
        if setting.reopens_at is None:
            return None
        # What was accepted is worked off meanwhile.
        first = max(first, (setting.reopens_at - now).total_seconds())
    return Forecast(first, each)


def ask_again_seconds(
    wait_seconds: float | None,
    *,
    waiting: int,
    forecast: Forecast | None,
    polls_per_second: float,
    slot_seconds: float,
) -> float:
    """Return after how many seconds a place is to ask again, before jitter.

    Each time a part of the wait that is left passes, so that a place asks the more often the nearer its
    turn is. The part is as small as the budget allows: a place that asks again after the part p of its
    wait asks ln(wait / shortest) / -ln(1 - p) times in all. Never so late that most of a slot would
    be over, though the room may have to go over its budget for that.

    Args:
        wait_seconds: how long this place still waits; None when nobody knows.
        waiting: how many wait.
        forecast: how long they do.
        polls_per_second: the budget of all together.
        slot_seconds: how long a slot is.
    """
    latest = slot_seconds * _LATEST_SHARE
    if wait_seconds is None or forecast is None:
        return min(latest, max(_UNKNOWN_SECONDS, waiting / polls_per_second))
    # The last questions come at the shortest pause, whatever the part.
    asked_in_all = max(1.0, polls_per_second * forecast.each - 2)
    e_folds = math.log(max(2.0, waiting * forecast.each / _SHORTEST_SECONDS))
    part = min(0.8, max(0.2, 1 - math.exp(-e_folds / asked_in_all)))
    return max(_SHORTEST_SECONDS, min(latest, wait_seconds * part))
