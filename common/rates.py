"""How often somebody may try: token buckets in Valkey.

A limit of 10 in an hour lets 10 come at once and one more every six minutes after that. A bucket is one
number, the time at which it will be full again, by Valkey's clock; it is gone from memory once it is
full. Whose it is stands in its name only as a MAC: an address cannot be read back.

Warning: limits hold back guessing and waste, they guard nothing by themselves. While Valkey is away
everything is allowed, and so is whoever comes when a limit keeps as many buckets as it may: the memory
is the broker's.
"""

import base64
import hashlib
import hmac
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import cast

from common.settings import Settings
from common.telemetry import RATES_UNKNOWN
from common.wire import Script, Wire

# New buckets that one limit keeps within one of its windows: twice that at any time, at most 160
# bytes each.
MOST_BUCKETS = 100_000
_WHOSE_BYTES = 15

# KEYS: pairs of a bucket and its limit's count of new buckets. ARGV: what to take from each (0: only
# look), the most new buckets, then for each pair its window, the time for one, and how much it may owe, in
# microseconds.
# Returns triples: how many are left, microseconds until as many are there again, microseconds until all
# are.
_TAKE = Script("""
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local cost, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local answer = {}
for pair = 1, #KEYS / 2 do
  local bucket, made = KEYS[2 * pair - 1], KEYS[2 * pair]
  local window, each = tonumber(ARGV[3 * pair]), tonumber(ARGV[3 * pair + 1])
  local owes = tonumber(ARGV[3 * pair + 2])
  local stored = tonumber(redis.call('GET', bucket))
  local full = stored or now
  if full < now then full = now end
  -- The clock may have stepped back.
  if full > now + window + owes then full = now + window + owes end
  local left = math.max(0, math.floor((now + window - full) / each))
  if cost > 0 and (left >= cost or owes > 0) then
    local kept = true
    if not stored then
      local count = redis.call('INCR', made)
      if count == 1 then redis.call('PEXPIRE', made, math.ceil(window / 1000)) end
      kept = count <= most
    end
    if kept then
      full = math.min(full + each * cost, now + window + owes)
      redis.call('SET', bucket, string.format('%.0f', full),
                 'PX', math.ceil((full - now) / 1000))
    end
  end
  local room = now + window - full
  answer[#answer + 1] = left
  answer[#answer + 1] = math.max(0, each * math.max(1, cost) - room)
  answer[#answer + 1] = full - now
end
return answer
""")


@dataclass(frozen=True, slots=True)
class Limit:
    """So many in so many seconds; all of them may come at once.

    Who `owes` pays for what was refused too, up to one window's worth: whoever goes on at a higher rate
    gets nothing until it has paused, instead of just so many.
    """

    name: str
    count: int
    seconds: int
    owes: bool = False

    @property
    def microseconds_each(self) -> int:
        """Return after how many microseconds one more is there."""
        return self.seconds * 1_000_000 // self.count

    @property
    def policy(self) -> str:
        """Return the limit as an item of `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers)."""
        return f'"{self.name}";q={self.count};w={self.seconds}'


@dataclass(frozen=True, slots=True)
class Bucket:
    """One's own share of a limit; `whose` is empty for one that everybody shares."""

    limit: Limit
    whose: str


@dataclass(frozen=True, slots=True)
class Standing:
    """Where somebody stood with a limit when asking, before anything was taken.

    Attributes:
        left: how many were there.
        wait_seconds: after how many seconds there are as many as were asked for, now that those are
            taken.
        full_seconds: after how many seconds all are there again.
        asked: how many were asked for.
    """

    limit: Limit
    left: int
    wait_seconds: int = 0
    full_seconds: int = 0
    asked: int = 1

    @property
    def allowed(self) -> bool:
        """Say whether there were as many as were asked for."""
        return self.left >= self.asked

    @property
    def untouched(self) -> bool:
        """Say whether nothing was taken within the window."""
        return self.left >= self.limit.count

    def field(self, *, taken: int = 0) -> str:
        """Return the standing as an item of `RateLimit` (draft-ietf-httpapi-ratelimit-headers).

        Args:
            taken: how many of those that were there are gone now.
        """
        left = max(0, self.left - taken)
        reset = self.full_seconds if left else self.wait_seconds
        return f'"{self.limit.name}";r={left};t={reset}'


class Rates:
    """The buckets. Both methods survive a Valkey that is away: then everything is allowed."""

    def __init__(self, wire: Wire, key: bytes, *, most_buckets: int = MOST_BUCKETS) -> None:
        """Take the way to Valkey.

        Args:
            wire: to Redis or Valkey.
            key: of the MAC that names buckets.
            most_buckets: new buckets that one limit keeps within one of its windows.
        """
        self._key = key
        self._most = most_buckets
        self._wire = wire

    def look(self, *buckets: Bucket) -> list[Standing]:
        """Return where these buckets stand; takes nothing."""
        return self._ask(buckets, 0)

    def take(self, *buckets: Bucket, count: int = 1) -> list[Standing]:
        """Take so many from each of these buckets that has them; return where they stood before."""
        return self._ask(buckets, count)

    def _ask(self, buckets: Sequence[Bucket], cost: int) -> list[Standing]:
        keys = [key for bucket in buckets for key in self._keys(bucket)]
        sizes = [
            number
            for bucket in buckets
            for number in (
                bucket.limit.seconds * 1_000_000,
                bucket.limit.microseconds_each,
                bucket.limit.seconds * 1_000_000 * bucket.limit.owes,
            )
        ]
        answer = cast(list[int] | None, self._wire.run(_TAKE, keys, [cost, self._most, *sizes]))
        if answer is None:
            RATES_UNKNOWN.inc()
            return [Standing(bucket.limit, bucket.limit.count) for bucket in buckets]
        return [
            Standing(bucket.limit, left, _seconds(wait), _seconds(full), max(1, cost))
            for bucket, left, wait, full in zip(buckets, *_thirds(answer), strict=True)
        ]

    def _keys(self, bucket: Bucket) -> tuple[str, str]:
        name = bucket.limit.name
        mac = hmac.digest(self._key, f"rate:{name}:{bucket.whose}".encode(), hashlib.sha256)
        whose = base64.urlsafe_b64encode(mac[:_WHOSE_BYTES]).decode()
        return f"rate:{name}:{whose}", f"rates:{name}"


def connect(settings: Settings, wire: Wire | None = None) -> Rates:
    """Return the buckets that the settings name, over a way to Valkey that others use as well."""
    key = settings.link_key.get_secret_value().encode()
    return Rates(wire or Wire(settings.broker_url), key)


def network_of(address: str | None) -> str:
    """Return whom an address stands for: itself in IPv4, its /64 in IPv6, which one line gets whole.

    An IPv4 address in IPv6 clothes is the same as without; what is no address is taken as it is.
    """
    try:
        parsed = ip_address((address or "").partition("%")[0])
    except ValueError:
        return (address or "")[:64]
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"


def _thirds(values: Sequence[int]) -> Iterable[Sequence[int]]:
    return values[0::3], values[1::3], values[2::3]


def _seconds(microseconds: int) -> int:
    return math.ceil(microseconds / 1_000_000)
