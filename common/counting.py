"""What Valkey counts of the lanes, as scripts, and how their numbers are read.

A lane's hash holds `accepted` and `served` (tickets given, and tickets that wait no more), `since_us` (when
it last had nothing in it), `last_us` and `waited_us` (when its newest job was taken up, and how long that
had waited), `service_us` and `per_turn` (running means: one stamping, and the jobs that leave in a turn),
and `came0`, `came1` (what had come when a span of `forecast.INFLOW_SECONDS` began). The crew's hash holds
what `forecast.Counts` is made of. Times are microseconds by Valkey's clock, so that no other clock matters.
All of it has a fixed size, however many jobs wait.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.forecast import (
    INFLOW_SECONDS,
    LONGEST_GAP_SECONDS,
    MARKS_KEPT,
    STEP_SECONDS,
    Came,
    Counts,
    Mark,
)

MICRO = 1_000_000
# How much of a new measurement goes into a running mean: of a lane's numbers, and of the crew's.
_OF_LANE = 0.1
_OF_CREW = 0.02
# A worker process that took nothing for so long is not counted as one that would.
_HANDS_SECONDS = 600
_SPANS = ", ".join(f"{seconds * MICRO:.0f}" for seconds in INFLOW_SECONDS)

_NOW = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local function whole(number) return string.format('%.0f', number) end
"""

# KEYS: the candidate lanes. ARGV: how many jobs. They enter the shortest lane together; returns its index,
# the last ticket, and how many were served.
ENTER = f"""{_NOW}
local best, shortest = 1, nil
for index, key in ipairs(KEYS) do
  local counts = redis.call('HMGET', key, 'accepted', 'served')
  local waiting = (tonumber(counts[1]) or 0) - (tonumber(counts[2]) or 0)
  if shortest == nil or waiting < shortest then best, shortest = index, waiting end
end
local key = KEYS[best]
local ticket = redis.call('HINCRBY', key, 'accepted', ARGV[1])
local before = ticket - ARGV[1]
if shortest <= 0 then redis.call('HSET', key, 'since_us', whole(now)) end
local numbers = redis.call('HMGET', key, 'served', 'came0', 'came1')
for index, length in ipairs({{{_SPANS}}}) do
  local span, begun = math.floor(now / length), before
  local last, earlier = string.match(numbers[index + 1] or '', '^(%d+):(%d+)')
  if tonumber(last) ~= span then
    local previous = tonumber(last) == span - 1 and earlier or before
    redis.call('HSET', key, 'came' .. (index - 1),
               whole(span) .. ':' .. whole(begun) .. ':' .. whole(previous))
  end
end
return {{best - 1, ticket, numbers[1]}}
"""

# KEYS: the lane, the crew, its hands, then every lane of the crew. ARGV: who speaks, how many were taken up,
# microseconds that the newest of them had waited ('' when not known), then those of each stamping.
PROGRESS = f"""{_NOW}
local lane, crew, hands = KEYS[1], KEYS[2], KEYS[3]
local taken = tonumber(ARGV[2])
redis.call('ZADD', hands, whole(now), ARGV[1])
if taken > 0 then
  redis.call('HINCRBY', lane, 'served', taken)
  local waiting = 0
  for index = 4, #KEYS do
    local counts = redis.call('HMGET', KEYS[index], 'accepted', 'served')
    waiting = waiting + math.max(0, (tonumber(counts[1]) or 0) - (tonumber(counts[2]) or 0))
  end
  local was = redis.call('HMGET', crew, 'last_us', 'backlogged', 'busy_us', 'marked_us', 'mark')
  if was[2] == '1' then
    local gap = math.min(math.max(0, now - was[1]), {LONGEST_GAP_SECONDS * MICRO:.0f})
    local busy = (tonumber(was[3]) or 0) + gap
    local all = redis.call('HINCRBY', crew, 'taken', taken)
    local turns = redis.call('HINCRBY', crew, 'turns', 1)
    redis.call('HSET', crew, 'busy_us', whole(busy))
    if busy - (tonumber(was[4]) or 0) >= {STEP_SECONDS * MICRO:.0f} then
      local mark = ((tonumber(was[5]) or 0) + 1) % {MARKS_KEPT}
      redis.call('HSET', crew, 'marked_us', whole(busy), 'mark', mark,
                 'mark' .. mark, whole(busy) .. ':' .. all .. ':' .. turns)
      redis.call('ZREMRANGEBYSCORE', hands, '-inf', whole(now - {_HANDS_SECONDS * MICRO}))
    end
  end
  redis.call('HSET', crew, 'last_us', whole(now), 'backlogged', waiting > 0 and '1' or '0')
  local mean = tonumber(redis.call('HGET', lane, 'per_turn')) or taken
  redis.call('HSET', lane, 'last_us', whole(now), 'per_turn',
             string.format('%.3f', mean + (taken - mean) * {_OF_LANE}))
  if ARGV[3] ~= '' then redis.call('HSET', lane, 'waited_us', ARGV[3]) end
end
if #ARGV > 3 then
  local mean = tonumber(redis.call('HGET', lane, 'service_us'))
  local crews = redis.call('HMGET', crew, 'service_us', 'stampings')
  local all, count = tonumber(crews[1]) or 0, tonumber(crews[2]) or 0
  for index = 4, #ARGV do
    local took = tonumber(ARGV[index])
    if mean then mean = mean + (took - mean) * {_OF_LANE} else mean = took end
    count = count + 1
    all = all + (took - all) * math.max({_OF_CREW}, 1 / count)
  end
  redis.call('HSET', lane, 'service_us', whole(mean))
  redis.call('HSET', crew, 'service_us', whole(all), 'stampings', whole(count))
end
"""

# KEYS: the crew, its hands, then lanes. Returns the time, the crew, how many hands it has, and each lane.
LOOK = f"""{_NOW}
local lanes = {{}}
for index = 3, #KEYS do
  lanes[index - 2] = redis.call('HMGET', KEYS[index], 'accepted', 'served', 'since_us', 'last_us',
                                'waited_us', 'service_us', 'per_turn', 'came0', 'came1')
end
return {{whole(now), redis.call('HGETALL', KEYS[1]),
        redis.call('ZCOUNT', KEYS[2], whole(now - {_HANDS_SECONDS * MICRO}), '+inf'), lanes}}
"""

# ARGV: jobs that wait and the highest ticket, as the database has them; how many waited by these numbers
# when it was asked ('': as many as now); for how many microseconds the oldest job waits. What has moved
# since is kept.
RECOUNT = f"""{_NOW}
local counts = redis.call('HMGET', KEYS[1], 'accepted', 'served')
local accepted, served = tonumber(counts[1]) or 0, tonumber(counts[2]) or 0
local waiting = tonumber(ARGV[1])
if ARGV[3] ~= '' then waiting = math.max(0, waiting + (accepted - served) - ARGV[3]) end
if accepted <= served then redis.call('HSET', KEYS[1], 'since_us', whole(now - ARGV[4])) end
accepted = math.max(accepted, tonumber(ARGV[2]))
redis.call('HSET', KEYS[1], 'accepted', whole(accepted), 'served', whole(accepted - waiting))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneCounts:
    """A lane's numbers, times in seconds; None where nothing was counted."""

    accepted: int
    served: int
    since: float | None
    last: float | None
    waited: float | None
    service: float | None
    per_turn: float
    came: tuple[Came, ...]

    @property
    def waiting(self) -> int:
        """Return how many accepted jobs are not yet taken up."""
        return max(0, self.accepted - self.served)

    def oldest_seconds(self, now: float) -> float | None:
        """Return the age of the oldest job that waits: 0 when none does, None when nothing tells.

        A lane is first-in, first-out: the oldest has waited as long as the newest taken had and the time
        since that was taken, and never longer than the lane has had anything in it.
        """
        if not self.waiting:
            return 0.0
        ages = []
        if self.since is not None:
            ages.append(now - self.since)
        if self.waited is not None and self.last is not None:
            ages.append(self.waited + now - self.last)
        return max(0.0, min(ages)) if ages else None


@dataclass(frozen=True, slots=True)
class Look:
    """All that was counted, at one moment."""

    now: float
    crew: Counts
    hands: int
    service: float | None
    lanes: Mapping[str, LaneCounts]


def read(lanes: Sequence[str], answer: Sequence[Any]) -> Look:
    """Return what `LOOK` answered for these lanes."""
    now, crew, hands, counted = answer
    numbers = dict(zip(crew[::2], crew[1::2], strict=True))
    return Look(
        now=int(now) / MICRO,
        crew=_crew(numbers),
        hands=hands,
        service=_seconds(numbers.get("service_us")),
        lanes={lane: _lane(each) for lane, each in zip(lanes, counted, strict=True)},
    )


def _lane(numbers: Sequence[str | None]) -> LaneCounts:
    accepted, served, since, last, waited, service, per_turn, *came = numbers
    return LaneCounts(
        accepted=int(accepted or 0),
        served=int(served or 0),
        since=_seconds(since),
        last=_seconds(last),
        waited=_seconds(waited),
        service=_seconds(service),
        per_turn=float(per_turn or 1),
        came=tuple(Came(*map(int, noted.split(":"))) for noted in came if noted),
    )


def _crew(numbers: Mapping[str, str]) -> Counts:
    newest = int(numbers.get("mark", 0))
    slots = (f"mark{(newest - back) % MARKS_KEPT}" for back in range(MARKS_KEPT))
    marks = [_mark(*numbers[slot].split(":")) for slot in slots if slot in numbers]
    if len(marks) < MARKS_KEPT:
        marks.append(Mark())
    return Counts(
        done=_mark(
            numbers.get("busy_us", "0"), numbers.get("taken", "0"), numbers.get("turns", "0")
        ),
        marks=marks,
        last=_seconds(numbers.get("last_us")),
    )


def _mark(busy: str, taken: str, turns: str) -> Mark:
    return Mark(int(busy) / MICRO, int(taken), int(turns))


def _seconds(microseconds: str | None) -> float | None:
    return None if microseconds is None else int(microseconds) / MICRO
