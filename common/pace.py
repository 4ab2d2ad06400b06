"""The truth about waiting: position and time left. When to ask again follows in polls.py.

Valkey counts a few numbers a lane (`counting.py`), `forecast.py` makes a forecast of them, and here a
ticket is looked up on it. All of it takes constant time, however many jobs wait.

The counters are a convenience, never a record: when Valkey is away or empty, jobs are accepted all
the same, clients are told that the position is not known, and upkeep counts anew from the database.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import Any, TypeVar, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from common import counting
from common.breaker import Breaker, Pauses
from common.counting import Look
from common.forecast import Forecast, LaneState, forecast, inflow
from common.lanes import STAMP_LANES
from common.settings import Settings

T = TypeVar("T")
# How long a front end goes on with what it saw of all lanes; of a job's own lane it looks anew.
_FRESH_SECONDS = 0.5
# Nobody is told more: what has stood still for long is not measured by then.
_LONGEST_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Wait:
    """What a waiting client is told; None where it is not known."""

    position: int | None
    seconds_left: int | None
    # When to ask again where no time can be told, in seconds.
    ask_again: int = 2


UNKNOWN = Wait(None, None)


@dataclass(frozen=True, slots=True)
class LanePace:
    """A lane's measured numbers."""

    accepted: int
    served: int
    forecast: Forecast | None = None
    # Age of the oldest job that waits, in seconds; 0 when none does, None when nothing tells.
    oldest_seconds: float | None = None
    # How long one stamping takes, and how many jobs came per second of late.
    service_seconds: float | None = None
    inflow: float = 0.0

    @property
    def waiting(self) -> int:
        """Return how many accepted jobs are not yet taken up."""
        return max(0, self.accepted - self.served)

    @property
    def per_second(self) -> float | None:
        """Return how many jobs leave the lane per second as long as some wait, or None: not measured."""
        return None if self.forecast is None else self.forecast.now

    @property
    def newcomer(self) -> Wait:
        """Return what a job is told that comes now."""
        return self.wait(self.accepted + 1)

    def wait(self, ticket: int | None) -> Wait:
        """Return the place of a ticket and the seconds until its job is stamped."""
        if ticket is None:
            return UNKNOWN
        position = max(1, ticket - self.served)
        if self.forecast is None:
            return Wait(position, None)
        seconds = math.ceil(self.forecast.seconds_until(position))
        return Wait(position, min(max(1, seconds), _LONGEST_SECONDS))


class Outlook(Mapping[str, LanePace]):
    """Every lane's numbers at one moment, and how it goes on: worked out when somebody asks for it."""

    def __init__(self, seen: Look) -> None:
        """Take what was counted."""
        self._seen = seen
        self._states = {
            lane: LaneState(
                waiting=counts.waiting,
                inflow=inflow(seen.now, counts.accepted, counts.came),
                per_turn=counts.per_turn,
            )
            for lane, counts in seen.lanes.items()
        }
        waiting_since = min(
            (counts.since or 0.0 for counts in seen.lanes.values() if counts.waiting), default=None
        )
        guess = None if not seen.service else max(1, seen.hands) / seen.service
        self._pace = seen.crew.pace(seen.now, waiting_since=waiting_since, guess=guess)
        self._known: dict[str, LanePace] = {}

    def __getitem__(self, lane: str) -> LanePace:
        """Return a lane's numbers."""
        if lane not in self._known:
            counts = self._seen.lanes[lane]
            service = counts.service or self._seen.service
            self._known[lane] = LanePace(
                counts.accepted,
                counts.served,
                forecast(lane, self._states, pace=self._pace, service_seconds=service),
                counts.oldest_seconds(self._seen.now),
                counts.service,
                self._states[lane].inflow,
            )
        return self._known[lane]

    def __iter__(self) -> Iterator[str]:
        """Go through the lanes' names."""
        return iter(self._seen.lanes)

    def __len__(self) -> int:
        """Return how many lanes there are."""
        return len(self._seen.lanes)


@dataclass(frozen=True, slots=True)
class Entry:
    """A job's place: its lane and ticket, and the wait as it was on arrival."""

    lane: str
    ticket: int | None
    wait: Wait


# In no lane now, and nothing is measured that could tell when it will be.
HELD_UP = Wait(None, None, ask_again=30)
# The names of the lanes' counters begin with it.
LANE_PREFIX = "pace:"
_KNOWN = f"{LANE_PREFIX}known"
_CREW = f"{LANE_PREFIX}crew"
_HANDS = f"{LANE_PREFIX}hands"
# Away, still loading, out of memory, a replica: whatever it says, the counters can wait.
_UNREACHABLE = redis.RedisError
# Whoever accepts a document waits for a silent Valkey once in a while, not each time.
_PAUSES = Pauses(failures_allowed=1, first=2, longest=2, longest_try=3, bearable=0.1)


class Pace:
    """The lanes' counters in Valkey. Every method survives a Valkey that is away."""

    def __init__(self, broker_url: str, *, timeout_seconds: float = 1) -> None:
        """Prepare a client; connects at the first use.

        Args:
            broker_url: Valkey's address.
            timeout_seconds: how long a silent one is waited for.
        """
        self._client = redis.Redis.from_url(
            broker_url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            decode_responses=True,
            # Once and at once, for a connection that a restart cut; waiting would hold up clients.
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )
        self._breaker = Breaker(time.monotonic, _PAUSES)
        self._entering = self._client.register_script(counting.ENTER)
        self._progressing = self._client.register_script(counting.PROGRESS)
        self._looking = self._client.register_script(counting.LOOK)
        self._recounting = self._client.register_script(counting.RECOUNT)
        # A worker process is known by it, from its first word: made after the fork.
        self._name = ""
        self._seen: tuple[float, Mapping[str, LanePace]] = (-math.inf, {})

    def enter(self, lanes: tuple[str, ...]) -> Entry:
        """Give a ticket in the shortest of these lanes; without Valkey the first, with no ticket."""
        return self._enter(lanes, 1)[0]

    def enter_several(self, lane: str, count: int) -> list[Entry]:
        """Give so many tickets of one lane, one behind the other; without Valkey none."""
        return self._enter((lane,), count)

    def withdraw(self, lane: str, count: int = 1) -> None:
        """Note that so many tickets of a lane came to nothing: refused, cancelled, or held up."""
        self._ask(lambda: self._client.hincrby(_key(lane), "served", count))

    def progress(
        self,
        lane: str,
        *,
        taken_up: int,
        waited_seconds: float | None,
        service_seconds: Sequence[float],
    ) -> None:
        """Note all that a worker has to say of a lane's jobs since its last word, in one call.

        Args:
            lane: where they waited.
            taken_up: how many were claimed for the first time.
            waited_seconds: how long the newest of them had waited since its acceptance.
            service_seconds: how long each stamping took from its claim to its finish.
        """
        self._name = self._name or token_hex(8)
        waited = "" if waited_seconds is None else _microseconds(waited_seconds)
        took = map(_microseconds, service_seconds)
        keys = [_key(lane), _CREW, _HANDS, *map(_key, _with(lane))]
        self._ask(lambda: self._progressing(keys=keys, args=[self._name, taken_up, waited, *took]))

    def lane(self, lane: str) -> LanePace | None:
        """Return a lane's numbers, or None when Valkey is away."""
        seen = self._look(_with(lane))
        return None if seen is None else seen[lane]

    def lanes(self) -> Mapping[str, LanePace] | None:
        """Return the numbers of all stamp lanes at one moment, or None when Valkey is away."""
        return self._look(STAMP_LANES)

    def wait(self, lane: str, ticket: int | None) -> Wait:
        """Return the position and time left of a ticket now."""
        if ticket is None:
            return UNKNOWN
        served = self._ask(lambda: self._client.hget(_key(lane), "served"))
        return self.wait_behind(lane, ticket, served=int(served or 0))

    def wait_behind(self, lane: str, ticket: int, *, served: int) -> Wait:
        """Return what `wait` does, where it is known already how many the lane has served."""
        seen = self._of_late(lane)
        return UNKNOWN if seen is None else replace(seen, served=served).wait(ticket)

    def recount(
        self,
        lane: str,
        *,
        queued: int,
        highest_ticket: int,
        seen: LanePace | None = None,
        oldest_seconds: float = 0.0,
    ) -> None:
        """Set the counters right from what the database counted.

        Args:
            lane: which.
            queued: its jobs with a ticket that nobody has taken up yet.
            highest_ticket: among them.
            seen: its numbers when the database was asked; what has moved since is kept.
            oldest_seconds: for how long the oldest of them has waited.
        """
        seen_waiting = "" if seen is None else seen.accepted - seen.served
        arguments = [queued, highest_ticket, seen_waiting, _microseconds(oldest_seconds)]
        self._ask(lambda: self._recounting(keys=[_key(lane)], args=arguments))

    def is_new(self) -> bool:
        """Say whether Valkey has started empty since `remember` was called: its queues are gone too."""
        try:
            return not self._client.exists(_KNOWN)
        except _UNREACHABLE:
            return False

    def remember(self) -> None:
        """Leave a mark that is gone when Valkey starts empty."""
        try:
            self._client.set(_KNOWN, 1)
        except _UNREACHABLE:
            return

    def answers(self) -> bool:
        """Say whether Valkey answers now."""
        return bool(self._ask(self._client.ping))

    def _enter(self, lanes: tuple[str, ...], count: int) -> list[Entry]:
        answer = self._ask(
            lambda: cast(list[Any], self._entering(keys=[*map(_key, lanes)], args=[count]))
        )
        if answer is None:
            return [Entry(lanes[0], None, UNKNOWN)] * count
        index, last, served = answer
        lane = lanes[index]
        seen = self._of_late(lane) or LanePace(0, 0)
        pace = replace(seen, accepted=last, served=int(served or 0))
        return [
            Entry(lane, ticket, pace.wait(ticket)) for ticket in range(last - count + 1, last + 1)
        ]

    def _of_late(self, lane: str) -> LanePace | None:
        """Return a lane's numbers as they were a moment ago, or None when Valkey is away."""
        at, lanes = self._seen
        if lane not in lanes or time.monotonic() - at > _FRESH_SECONDS:
            seen = self._look(_with(lane))
            if seen is None:
                return None
            self._seen = time.monotonic(), seen
            return seen[lane]
        return lanes[lane]

    def _look(self, lanes: tuple[str, ...]) -> Mapping[str, LanePace] | None:
        keys = [_CREW, _HANDS, *map(_key, lanes)]
        answer = self._ask(lambda: cast(list[Any], self._looking(keys=keys)))
        return None if answer is None else Outlook(counting.read(lanes, answer))

    def _ask(self, question: Callable[[], T]) -> T | None:
        """Return Valkey's answer, or None when it is away or was so a moment ago."""
        if not self._breaker.take_turn():
            return None
        try:
            with self._breaker.watch(_UNREACHABLE):
                return question()
        except _UNREACHABLE:
            return None


def connect(settings: Settings) -> Pace:
    """Return the counters that the settings name."""
    return Pace(settings.broker_url)


def _key(lane: str) -> str:
    return f"{LANE_PREFIX}{lane}"


def _with(lane: str) -> tuple[str, ...]:
    """Return the lanes that are served together with this one."""
    return STAMP_LANES if lane in STAMP_LANES else (*STAMP_LANES, lane)


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)
