"""The truth about waiting: position, time left, and when to ask again.

Each lane keeps a few numbers in Valkey: how many jobs came (`accepted`), how many of them were taken
up (`served`), the measured interval between two taken while others waited (`interval_us`), and how
long one stamping takes (`service_us`). Position and time left follow from them in constant time.

The counters are a convenience, never a record: when Valkey is away or empty, jobs are accepted all
the same, clients are told that the position is not known, and upkeep counts anew from the database.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from common.breaker import Breaker, Pauses
from common.settings import Settings

T = TypeVar("T")
# How much of a new measurement goes into the running mean.
_SMOOTHING = 0.1

# KEYS: the candidate lanes. Enters the shorter one and returns its index, the ticket, its numbers.
_ENTER = """
local best, shortest = 1, nil
for index, key in ipairs(KEYS) do
  local counts = redis.call('HMGET', key, 'accepted', 'served')
  local waiting = (tonumber(counts[1]) or 0) - (tonumber(counts[2]) or 0)
  if shortest == nil or waiting < shortest then best, shortest = index, waiting end
end
local ticket = redis.call('HINCRBY', KEYS[best], 'accepted', 1)
local numbers = redis.call('HMGET', KEYS[best], 'served', 'interval_us', 'service_us', 'last_us')
return {best - 1, ticket, numbers[1], numbers[2], numbers[3], numbers[4]}
"""

# A job left the queue. ARGV: smoothing, 1 when it was taken up for stamping (0: cancelled).
_LEAVE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local served = redis.call('HINCRBY', KEYS[1], 'served', 1)
if ARGV[2] == '0' then return served end
local before = redis.call('HMGET', KEYS[1], 'accepted', 'interval_us', 'last_us', 'backlogged')
local waiting = (tonumber(before[1]) or 0) - served
if before[3] and before[4] == '1' then
  local interval = now - tonumber(before[3])
  local mean = tonumber(before[2])
  if mean then interval = mean + (interval - mean) * tonumber(ARGV[1]) end
  redis.call('HSET', KEYS[1], 'interval_us', math.floor(interval))
end
redis.call('HSET', KEYS[1], 'last_us', string.format('%.0f', now),
           'backlogged', waiting > 0 and '1' or '0')
return served
"""

_SERVICE = """
local mean = tonumber(redis.call('HGET', KEYS[1], 'service_us'))
local took = tonumber(ARGV[2])
if mean then took = mean + (took - mean) * tonumber(ARGV[1]) end
redis.call('HSET', KEYS[1], 'service_us', math.floor(took))
"""

# ARGV: queued jobs and the highest ticket, both counted in the database before this call.
_RECOUNT = """
local counts = redis.call('HMGET', KEYS[1], 'accepted', 'served')
local accepted = tonumber(counts[1]) or 0
if accepted < tonumber(ARGV[2]) then accepted = tonumber(ARGV[2]) end
redis.call('HSET', KEYS[1], 'accepted', accepted, 'served', accepted - tonumber(ARGV[1]))
"""


@dataclass(frozen=True, slots=True)
class Wait:
    """What a waiting client is told; None where it is not known."""

    position: int | None
    seconds_left: int | None
    # When to ask again where no time can be told, in seconds.
    ask_again: int = 2

    @property
    def retry_after(self) -> int:
        """Return after how many seconds to ask again: a quarter of the wait, 1 to 30."""
        if self.seconds_left is None:
            return self.ask_again
        return max(1, min(30, math.ceil(self.seconds_left / 4)))


@dataclass(frozen=True, slots=True)
class LanePace:
    """A lane's measured numbers."""

    accepted: int
    served: int
    interval_us: int | None
    service_us: int | None

    @property
    def waiting(self) -> int:
        """Return how many accepted jobs are not yet taken up."""
        return max(0, self.accepted - self.served)

    def wait(self, ticket: int | None) -> Wait:
        """Return the place of a ticket and the seconds until its job is stamped."""
        if ticket is None:
            return Wait(None, None)
        position = max(1, ticket - self.served)
        per_job = self.interval_us if self.interval_us is not None else self.service_us
        if per_job is None:
            return Wait(position, None)
        microseconds = (position - 1) * per_job + (self.service_us or per_job)
        return Wait(position, max(1, math.ceil(microseconds / 1_000_000)))


@dataclass(frozen=True, slots=True)
class Entry:
    """A job's place: its lane and ticket, and the wait as it was on arrival."""

    lane: str
    ticket: int | None
    wait: Wait


UNKNOWN = Wait(None, None)
# In no lane now, and nothing is measured that could tell when it will be.
HELD_UP = Wait(None, None, ask_again=30)
_KNOWN = "pace:known"
# Away, still loading, out of memory, a replica: whatever it says, the counters can wait.
_UNREACHABLE = redis.RedisError
# Whoever accepts a document waits for a silent Valkey once in a while, not each time.
_PAUSES = Pauses(failures_allowed=1, first=2, longest=2, longest_try=3, bearable=0.1)


class Pace:
    """The lanes' counters in Valkey. Every method survives a Valkey that is away."""

    def __init__(self, broker_url: str) -> None:
        """Prepare a client; connects at the first use."""
        self._client = redis.Redis.from_url(
            broker_url,
            socket_timeout=1,
            socket_connect_timeout=1,
            decode_responses=True,
            # Once and at once, for a connection that a restart cut; waiting would hold up clients.
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )
        self._breaker = Breaker(time.monotonic, _PAUSES)
        self._enter = self._client.register_script(_ENTER)
        self._leave = self._client.register_script(_LEAVE)
        self._service = self._client.register_script(_SERVICE)
        self._recount = self._client.register_script(_RECOUNT)

    def enter(self, lanes: tuple[str, ...]) -> Entry:
        """Give a ticket in the shortest of these lanes; without Valkey the first, with no ticket."""
        answer = self._ask(
            lambda: cast(list[Any], self._enter(keys=[_key(lane) for lane in lanes]))
        )
        if answer is None:
            return Entry(lanes[0], None, UNKNOWN)
        index, ticket, served, interval, service, _last = answer
        pace = LanePace(ticket, int(served or 0), _whole(interval), _whole(service))
        return Entry(lanes[index], ticket, pace.wait(ticket))

    def enter_several(self, lane: str, count: int) -> list[Entry]:
        """Give so many tickets of one lane, one behind the other; without Valkey none."""
        answer = self._ask(lambda: self._tickets(lane, count))
        if answer is None:
            return [Entry(lane, None, UNKNOWN)] * count
        last, (served, interval, service) = answer
        pace = LanePace(last, int(served or 0), _whole(interval), _whole(service))
        return [
            Entry(lane, ticket, pace.wait(ticket)) for ticket in range(last - count + 1, last + 1)
        ]

    def withdraw(self, lane: str, count: int) -> None:
        """Note that so many tickets of a lane came to nothing."""
        self._ask(lambda: self._client.hincrby(_key(lane), "served", count))

    def leave(self, lane: str, *, taken_up: bool) -> None:
        """Note that a job left the lane's queue, for a worker or because it was cancelled."""
        self._ask(lambda: self._leave(keys=[_key(lane)], args=[_SMOOTHING, int(taken_up)]))

    def served_in(self, lane: str, *, seconds: float) -> None:
        """Note how long one job took from its claim to its finish."""
        microseconds = round(seconds * 1_000_000)
        self._ask(lambda: self._service(keys=[_key(lane)], args=[_SMOOTHING, microseconds]))

    def lane(self, lane: str) -> LanePace | None:
        """Return a lane's numbers, or None when Valkey is away."""
        numbers = self._ask(lambda: cast(Mapping[str, str], self._client.hgetall(_key(lane))))
        if numbers is None:
            return None
        return LanePace(
            int(numbers.get("accepted", 0)),
            int(numbers.get("served", 0)),
            _whole(numbers.get("interval_us")),
            _whole(numbers.get("service_us")),
        )

    def wait(self, lane: str, ticket: int | None) -> Wait:
        """Return the position and time left of a ticket now."""
        pace = self.lane(lane)
        return UNKNOWN if pace is None else pace.wait(ticket)

    def recount(self, lane: str, *, queued: int, highest_ticket: int) -> None:
        """Set the counters right from what the database counted."""
        self._ask(lambda: self._recount(keys=[_key(lane)], args=[queued, highest_ticket]))

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

    def _tickets(self, lane: str, count: int) -> Any:
        """Return the last of so many tickets, and the lane's numbers."""
        with self._client.pipeline() as both:
            both.hincrby(_key(lane), "accepted", count)
            both.hmget(_key(lane), "served", "interval_us", "service_us")
            return both.execute()

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
    return f"pace:{lane}"


def _whole(value: str | None) -> int | None:
    return None if value is None else int(value)
