"""The one place where the simulation calls the product's own policies.

Lanes and turns, partners' allowances, position and time left, the gate and the waiting room, when to
poll, when to come back, and how many workers: all of them are the functions that run in production. Only
what Valkey keeps between two calls is kept here, by the rules of the scripts in common/counting.py and
common/rates.py.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from uuid import UUID

from common import admission, allowances, polls, scaling
from common.admission import OPEN, Decision, Standing
from common.counting import LaneCounts, Look
from common.forecast import INFLOW_SECONDS, Came
from common.forecast import Meter as CrewMeter
from common.lanes import APPLICANT_LANE, BULK_LANE, STAMP_LANES, lanes_of
from common.pace import LanePace, Outlook
from common.rates import Limit
from common.room import policy as room_policy
from common.settings import WebSettings
from common.turns import WeightedTurns
from deploy.simulate.arrivals import DOCUMENTS_A_PERSON, Kind
from web import underway

__all__ = ["STAMP_LANES", "WeightedTurns"]

# How much of a new measurement goes into a running mean, as in common/counting.py.
_OF_LANE = 0.1
_OF_CREW = 0.02
# How often lanes are looked at (a front end does so every half second), and how often while there are
# no more documents in line than this.
_OFTEN_SECONDS = 2
_FEW = 200
_SELDOM_SECONDS = 10
# What those do whom a gate refuses that says no time, and how far others are spread, as in web/gate.py.
_LOOK_AGAIN_SECONDS = 60.0
_GATE_SPREAD = 0.25
_WIDEST_SPREAD_SECONDS = 300.0
# Places of the room that stand for all of them.
_POINTS = 8
# When the simulated clock shows 0: some midnight in Jakarta.
_EPOCH = datetime(2024, 9, 4, 17, tzinfo=UTC)


def setting(name: str) -> float:
    """Return what a setting is by default."""
    return float(WebSettings.model_fields[name].default)


@cache
def _partner(number: int) -> UUID:
    """Return who a partner is, which decides who shares lanes with whom."""
    return UUID(int=random.Random(f"partner {number}").getrandbits(128))


@cache
def _lanes_of(kind: Kind, partner: int | None, *, prompt: bool) -> tuple[str, ...]:
    if kind is Kind.APPLICANT or partner is None:
        return (APPLICANT_LANE,)
    if kind is Kind.BULK:
        return (BULK_LANE,)
    return lanes_of(_partner(partner), prompt=prompt)


class _Lane:
    """A lane's numbers as its hash in Valkey has them."""

    __slots__ = tuple(LaneCounts.__dataclass_fields__)

    def __init__(self) -> None:
        self.accepted = self.served = 0
        self.since: float | None = None
        self.last: float | None = None
        self.waited: float | None = None
        self.service: float | None = None
        self.per_turn = 1.0
        self.came = tuple(Came(0) for _ in INFLOW_SECONDS)

    def counts(self) -> LaneCounts:
        return LaneCounts(**{name: getattr(self, name) for name in self.__slots__})


class Lanes:
    """The lanes' numbers as Valkey keeps them (common/counting.py), and what is read from them."""

    def __init__(self) -> None:
        """Start with lanes nobody has been in."""
        self._lanes = {name: _Lane() for name in STAMP_LANES}
        self._crew = CrewMeter()
        self._service: float | None = None
        self._stampings = 0
        self._seen: Mapping[str, LanePace] = {name: LanePace(0, 0) for name in STAMP_LANES}
        self._seen_at = -math.inf
        # Documents that have entered any lane, and those of them in line.
        self.accepted = 0
        self.waiting = 0

    def shortest(self, kind: Kind, partner: int | None, *, prompt: bool = True) -> str:
        """Return the lane that a client's next document goes to.

        Args:
            kind: of client.
            partner: its number; None for applicants.
            prompt: a partner keeps to its pace; else its documents go where batches go.
        """
        lanes = _lanes_of(kind, partner, prompt=prompt)
        if len(lanes) == 1:
            return lanes[0]
        return min(lanes, key=lambda name: self._lanes[name].accepted - self._lanes[name].served)

    def enter(self, lane: str, count: int, now: float) -> None:
        """Give so many tickets of a lane."""
        entered = self._lanes[lane]
        if entered.accepted == entered.served:
            entered.since = now
        entered.came = tuple(
            came.until(now, entered.accepted, seconds)
            for came, seconds in zip(entered.came, INFLOW_SECONDS, strict=True)
        )
        entered.accepted += count
        self.accepted += count
        self.waiting += count

    def take_up(self, lane: str, count: int, *, waited: float, now: float) -> None:
        """Note a turn: so many were taken up, the newest of which had waited so long."""
        left = self._lanes[lane]
        left.served += count
        left.last = now
        left.waited = waited
        left.per_turn += (count - left.per_turn) * _OF_LANE
        self.waiting -= count
        self._crew.took(now, count, waiting=self.waiting)

    def stamped(self, lane: str, count: int, seconds_each: float) -> None:
        """Note how long so many stampings took, each."""
        before = self._lanes[lane].service
        mean = seconds_each if before is None else before
        self._lanes[lane].service = seconds_each + (mean - seconds_each) * (1 - _OF_LANE) ** count
        self._stampings += count
        weight = max(1 - (1 - _OF_CREW) ** count, count / self._stampings)
        self._service = (self._service or 0.0) * (1 - weight) + seconds_each * weight

    def look(self, now: float, *, workers: int) -> None:
        """See all lanes at one moment; `pace` goes on with that, as a front end does for a while.

        While next to nothing waits there is little to see, and it is looked at less often.
        """
        if now - self._seen_at < (_OFTEN_SECONDS if self.waiting > _FEW else _SELDOM_SECONDS):
            return
        self._seen_at = now
        counts = {name: lane.counts() for name, lane in self._lanes.items()}
        self._seen = Outlook(Look(now, self._crew.counts(), workers, self._service, counts))

    def pace(self, lane: str) -> LanePace:
        """Return a lane's numbers: how it goes on as seen last, its counters as they are now."""
        counts = self._lanes[lane]
        return replace(self._seen[lane], accepted=counts.accepted, served=counts.served)

    def oldest_seconds(self, now: float) -> float | None:
        """Return how long the oldest document in line has waited, as far as counters tell."""
        ages = [lane.counts().oldest_seconds(now) for lane in self._lanes.values()]
        return max((age for age in ages if age is not None), default=None)

    @property
    def service_seconds(self) -> float | None:
        """Return how long one stamping takes, as measured."""
        return self._service

    def polls_per_second(self) -> float:
        """Return how often applicants who wait in line ask, by what they are told.

        Partners do not ask: they have webhooks.
        """
        paces = {name: self.pace(name) for name in STAMP_LANES}
        applicants = paces[APPLICANT_LANE]
        each = polls.seconds_each(applicants)
        if not applicants.waiting or each is None:
            return applicants.waiting / polls.UNMEASURED
        rhythm = polls.rhythms(paces, setting("polls_per_second"))[APPLICANT_LANE]
        return rhythm.polls_per_second(applicants.waiting, each)


class Allowance:
    """What a partner may submit: token buckets as common/rates.py keeps them in Valkey."""

    def __init__(self) -> None:
        """Start with full buckets of the settings' sizes."""
        allowed = allowances.Allowance(
            int(setting("partner_submissions_per_minute")),
            int(setting("partner_submissions_at_once")),
            int(setting("partner_prompt_per_minute")),
        )
        self._submissions = _Bucket(allowed.limit)
        self._prompt = _Bucket(allowed.prompt)

    def take(self, count: int, now: float) -> tuple[int, int, float]:
        """Take so many documents.

        Returns:
            How many of them may be submitted, how many of those go to the partner's own lanes, and
            the seconds after which those that may not can be.
        """
        allowed, wait = self._submissions.take(count, now)
        prompt, _ = self._prompt.take(count, now)
        return allowed, min(allowed, prompt), wait


class _Bucket:
    """One token bucket: the time at which it will be full again."""

    def __init__(self, limit: Limit) -> None:
        self._each = limit.seconds / limit.count
        self._window = float(limit.seconds)
        self._owes = limit.seconds if limit.owes else 0
        self._full_at = 0.0

    def take(self, count: int, now: float) -> tuple[int, float]:
        """Take so many one by one; returns how many there were, and seconds until there is another."""
        full_at = max(now, self._full_at)
        there = min(count, int((now + self._window - full_at) / self._each + 1e-9))
        paid = count if self._owes else there
        self._full_at = min(full_at + self._each * max(paid, 0), now + self._window + self._owes)
        return max(0, there), max(0.0, self._each - (now + self._window - self._full_at))


class Shedding:
    """What a front end tells those whom it refuses because it has no time."""

    def __init__(self, accepts_per_second: float) -> None:
        """Take what the front end accepts when it is full."""
        self.accepts_per_second = accepts_per_second
        self._done_at = 0.0

    def come_back(self, count: int, now: float) -> tuple[float, float]:
        """Refuse so many; returns between how many seconds they are told to stay away."""
        behind = max(0.0, self._done_at - now)
        self._done_at = now + min(behind + count / self.accepts_per_second, underway.LONGEST_WAIT)
        return underway.retry_after(behind, 0.0), underway.retry_after(behind, 1.0)


def rate_limited(wait: float) -> tuple[float, float]:
    """Return between how many seconds those come back who are over their partner's limit."""
    seconds = math.ceil(wait)
    return underway.retry_after(seconds, 0.0), underway.retry_after(seconds, 1.0)


def later(seconds: float | None) -> tuple[float, float]:
    """Return between how many seconds those come back whom the gate refuses (web/gate.py)."""
    wait = _LOOK_AGAIN_SECONDS if seconds is None else max(1.0, seconds)
    return wait, wait + 1.0 + min(_WIDEST_SPREAD_SECONDS, _GATE_SPREAD * wait)


class Gate:
    """The gate of one lane: whether a newcomer comes in, waits in the room, or comes later."""

    def __init__(self, horizon_seconds: float) -> None:
        """Start open."""
        self._horizon = horizon_seconds
        self._was_full = False

    def decide(self, kind: Kind, pace: LanePace, now: float, room_waiting: int) -> Decision:
        """Ask the policy about a newcomer without a place."""
        lane = admission.Lane.of(pace)
        self._was_full = admission.is_full(
            lane, horizon_seconds=self._horizon, was_full=self._was_full
        )
        return admission.decide(
            kind=admission.Kind(kind),
            setting=OPEN,
            lane=lane,
            horizon_seconds=self._horizon,
            was_full=self._was_full,
            now=clock(now),
            place=Standing.NONE,
            room_waiting=room_waiting,
        )

    def turns(self, pace: LanePace, now: float, *, people: int, jobs: int, since: float) -> int:
        """Ask how many people of the room have their turn now.

        Args:
            pace: of the lane.
            now: the time.
            people: who wait in the room.
            jobs: documents of those whose turn has come and that are not submitted yet.
            since: seconds since the last turns.
        """
        return room_policy.turns(
            self._room(people, jobs, since),
            setting=OPEN,
            lane=admission.Lane.of(pace),
            horizon_seconds=self._horizon,
            now=clock(now),
        )

    def room_polls(self, pace: LanePace, now: float, *, people: int, jobs: int) -> float:
        """Return how many times a second the room's people ask, by what the policy tells them."""
        forecast = room_policy.forecast(
            self._room(people, jobs, None),
            setting=OPEN,
            lane=admission.Lane.of(pace),
            horizon_seconds=self._horizon,
            now=clock(now),
        )
        # A few places stand for all of them.
        places = [people * (2 * point + 1) // (2 * _POINTS) for point in range(_POINTS)]
        asked = (
            room_policy.ask_again_seconds(
                None if forecast is None else forecast.seconds(before),
                waiting=people,
                forecast=forecast,
                polls_per_second=setting("room_polls_per_second"),
                slot_seconds=setting("intake_slot_seconds"),
            )
            for before in places
        )
        return people / _POINTS * sum(1 / seconds for seconds in asked)

    @staticmethod
    def _room(people: int, jobs: int, since: float | None) -> room_policy.Room:
        return room_policy.Room(
            waiting=people,
            expected_jobs=jobs,
            jobs_per_slot=DOCUMENTS_A_PERSON,
            seconds_since_turns=since,
        )


class Scaler:
    """The autoscaler between two limits."""

    def __init__(self, *, minimum: int, maximum: int, target_wait: float) -> None:
        """Start with the fewest workers."""
        self.minimum = minimum
        self.maximum = maximum
        self._target_wait = target_wait
        self._memory = scaling.Memory(
            workers=minimum, changed_at=-math.inf, looked_at=0.0, accepted=0
        )

    def workers(self, lanes: Lanes, now: float, *, maximum: int) -> int:
        """Ask how many workers there should be now, at most so many."""
        self._memory = self._memory.look(accepted=lanes.accepted, now=now)
        load = scaling.Load(
            depth=lanes.waiting,
            oldest_seconds=lanes.oldest_seconds(now),
            service_seconds=lanes.service_seconds,
            inflow=self._memory.inflow,
        )
        limits = scaling.Limits(
            minimum=min(self.minimum, maximum),
            maximum=maximum,
            target_wait_seconds=self._target_wait,
        )
        self._memory = self._memory.decide(load, limits=limits, now=now)
        return self._memory.workers


def clock(now: float) -> datetime:
    """Return the simulated time of day."""
    return _EPOCH + timedelta(seconds=now)
