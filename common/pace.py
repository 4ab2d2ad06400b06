"""The truth about waiting: position and time left. When to ask again follows in polls.py.

Each lane keeps a few numbers in Valkey: how many jobs came (`accepted`), how many of them were taken
up (`served`), the measured interval between two taken while others waited (`interval_us`), and how
long one stamping takes (`service_us`). Position and time left follow from them in constant time.

The counters are a convenience, never a record: when Valkey is away or empty, jobs are accepted all
the same, clients are told that the position is not known, and upkeep counts anew from the database.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
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

# KEYS: the candidate lanes. ARGV: how many jobs. They enter the shortest; returns its index, the last
# ticket, its numbers.
_ENTER = """
local best, shortest = 1, nil
for index, key in ipairs(KEYS) do
  local counts = redis.call('HMGET', key, 'accepted', 'served')
  local waiting = (tonumber(counts[1]) or 0) - (tonumber(counts[2]) or 0)
  if shortest == nil or waiting < shortest then best, shortest = index, waiting end
end
local ticket = redis.call('HINCRBY', KEYS[best], 'accepted', ARGV[1])
if shortest <= 0 then
  local clock = redis.call('TIME')
  redis.call('HSET', KEYS[best], 'since_us', clock[1] .. string.format('%06d', clock[2]))
end
local numbers = redis.call('HMGET', KEYS[best], 'served', 'interval_us', 'service_us')
return {best - 1, ticket, numbers[1], numbers[2], numbers[3]}
"""

# A worker took jobs up, or stamped some. ARGV: smoothing, how many were taken up, microseconds that the
# newest of them had waited ('' when not known), then the microseconds of each stamping.
_PROGRESS = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local taken = tonumber(ARGV[2])
if taken > 0 then
  local served = redis.call('HINCRBY', KEYS[1], 'served', taken)
  local before = redis.call('HMGET', KEYS[1], 'accepted', 'interval_us', 'last_us', 'backlogged')
  local waiting = (tonumber(before[1]) or 0) - served
  if before[3] and before[4] == '1' then
    local interval = (now - tonumber(before[3])) / taken
    local mean = tonumber(before[2])
    if mean then interval = mean + (interval - mean) * (1 - (1 - ARGV[1]) ^ taken) end
    redis.call('HSET', KEYS[1], 'interval_us', math.floor(interval))
  end
  redis.call('HSET', KEYS[1], 'last_us', string.format('%.0f', now),
             'backlogged', waiting > 0 and '1' or '0')
  if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 'waited_us', ARGV[3]) end
end
if #ARGV > 3 then
  local mean = tonumber(redis.call('HGET', KEYS[1], 'service_us'))
  for index = 4, #ARGV do
    local took = tonumber(ARGV[index])
    if mean then mean = mean + (took - mean) * ARGV[1] else mean = took end
  end
  redis.call('HSET', KEYS[1], 'service_us', math.floor(mean))
end
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


@dataclass(frozen=True, slots=True)
class LanePace:
    """A lane's measured numbers."""

    accepted: int
    served: int
    interval_us: int | None
    service_us: int | None
    # Age of the oldest job that waits, in seconds; 0 when none does, None when nothing tells.
    oldest_seconds: float | None = None

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
# The names of the lanes' counters begin with it.
LANE_PREFIX = "pace:"
_KNOWN = f"{LANE_PREFIX}known"
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
        self._entering = self._client.register_script(_ENTER)
        self._progressing = self._client.register_script(_PROGRESS)
        self._recount = self._client.register_script(_RECOUNT)

    def enter(self, lanes: tuple[str, ...]) -> Entry:
        """Give a ticket in the shortest of these lanes; without Valkey the first, with no ticket."""
        return self._enter(lanes, 1)[0]

    def enter_several(self, lane: str, count: int) -> list[Entry]:
        """Give so many tickets of one lane, one behind the other; without Valkey none."""
        return self._enter((lane,), count)

    def _enter(self, lanes: tuple[str, ...], count: int) -> list[Entry]:
        answer = self._ask(
            lambda: cast(
                list[Any], self._entering(keys=[_key(lane) for lane in lanes], args=[count])
            )
        )
        if answer is None:
            return [Entry(lanes[0], None, UNKNOWN)] * count
        index, last, served, interval, service = answer
        pace = LanePace(last, int(served or 0), _whole(interval), _whole(service))
        return [
            Entry(lanes[index], ticket, pace.wait(ticket))
            for ticket in range(last - count + 1, last + 1)
        ]

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
        waited = "" if waited_seconds is None else _microseconds(waited_seconds)
        took = map(_microseconds, service_seconds)
        self._ask(
            lambda: self._progressing(keys=[_key(lane)], args=[_SMOOTHING, taken_up, waited, *took])
        )

    def lane(self, lane: str) -> LanePace | None:
        """Return a lane's numbers, or None when Valkey is away."""
        answer = self._ask(lambda: self._numbers(lane))
        if answer is None:
            return None
        now, counters = answer
        return numbers_of(counters, now)

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

    def _numbers(self, lane: str) -> tuple[float, Mapping[str, str]]:
        """Return Valkey's time in seconds, and what it holds of a lane."""
        with self._client.pipeline(transaction=False) as both:
            both.time()
            both.hgetall(_key(lane))
            (seconds, microseconds), numbers = both.execute()
        return seconds + microseconds / 1_000_000, numbers

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


def numbers_of(counters: Mapping[str, str], now: float) -> LanePace:
    """Return a lane's numbers from its counters as they stand in Valkey, at its time in seconds."""
    return LanePace(
        int(counters.get("accepted", 0)),
        int(counters.get("served", 0)),
        _whole(counters.get("interval_us")),
        _whole(counters.get("service_us")),
        _oldest(counters, now),
    )


def _key(lane: str) -> str:
    return f"{LANE_PREFIX}{lane}"


def _oldest(numbers: Mapping[str, str], now: float) -> float | None:
    """Return the age of a lane's oldest waiting job in seconds.

    A lane is first-in, first-out: the oldest has waited as long as the newest taken had, and the time
    since that was taken; never longer than the lane has had anything in it.
    """
    if int(numbers.get("accepted", 0)) <= int(numbers.get("served", 0)):
        return 0.0
    ages = []
    if "since_us" in numbers:
        ages.append(now - int(numbers["since_us"]) / 1_000_000)
    if "waited_us" in numbers and "last_us" in numbers:
        waited = int(numbers["waited_us"]) / 1_000_000
        ages.append(waited + now - int(numbers["last_us"]) / 1_000_000)
    return max(0.0, min(ages)) if ages else None


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _whole(value: str | None) -> int | None:
    return None if value is None else int(value)
