"""What waits for each pool of workers, and how many workers that takes, read when somebody asks.

A machine asks for itself (`workers/autoscale.py`), a cluster by `/scaling/{pool}` and `/metrics`. Both
apply the policy of `common/scaling.py`. A cluster's front ends answer one after the other, so what they
remember between two looks stands in Valkey; it is lost with Valkey, and measured anew.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from common.breaker import Breaker, Pauses
from common.lanes import CHECK_LANE, STAMP_LANES, WEBHOOK_LANE
from common.pace import LanePace, Pace
from common.scaling import Limits, Load, Memory
from common.settings import Settings


@dataclass(frozen=True, slots=True)
class Pool:
    """Workers that serve the same lanes.

    A worker is what works on one job at a time: a process that stamps or checks, a thread of the courier.
    """

    name: str
    lanes: tuple[str, ...]
    # Of lanes whose pace nobody measures: a guess, in seconds. It only decides how steeply the pool grows;
    # too small a guess leaves a longer queue, which asks for more.
    assumed_service_seconds: float | None = None


STAMP_POOL = Pool("stamp", STAMP_LANES)
COURIER_POOL = Pool("courier", (WEBHOOK_LANE,), assumed_service_seconds=1.0)
CHECK_POOL = Pool("check", (CHECK_LANE,), assumed_service_seconds=2.0)
POOLS = {pool.name: pool for pool in (STAMP_POOL, COURIER_POOL, CHECK_POOL)}

# As long as nothing is known: the policy may change the number at its first look.
LONG_AGO = 0.0
_REMEMBERED_SECONDS = 3600
_PAUSES = Pauses(failures_allowed=1, first=2, longest=2, longest_try=3, bearable=0.1)


def load_of(paces: Sequence[LanePace]) -> Load:
    """Add lanes up: what waits in all, the oldest of all, and how long one job takes on average.

    The average is over the jobs that wait, so that a slow lane counts as much as it has to do.
    """
    measured = [(p.waiting + 1, p.service_seconds) for p in paces if p.service_seconds is not None]
    ages = [p.oldest_seconds for p in paces if p.oldest_seconds is not None]
    weight = sum(count for count, _ in measured)
    return Load(
        depth=sum(p.waiting for p in paces),
        oldest_seconds=max(ages, default=None),
        service_seconds=sum(n * s for n, s in measured) / weight if measured else None,
    )


class Demand:
    """How many workers the pools need. Every method survives a Valkey that is away."""

    def __init__(self, settings: Settings, pace: Pace) -> None:
        """Take the settings and the lanes' counters; connects at the first use."""
        self._limits = Limits(
            minimum=1,
            maximum=settings.scaling_max_workers,
            target_wait_seconds=settings.target_wait_seconds,
        )
        self._pace = pace
        self._client = redis.Redis.from_url(
            settings.broker_url,
            socket_timeout=1,
            socket_connect_timeout=1,
            decode_responses=True,
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )
        self._breaker = Breaker(time.monotonic, _PAUSES)

    def workers(self, pool: Pool) -> int | None:
        """Return how many workers a pool needs now, or None when Valkey is away."""
        paces: Sequence[LanePace] = []
        if pool.assumed_service_seconds is None:
            seen = self._pace.lanes()
            if seen is None:
                return None
            paces = [seen[lane] for lane in pool.lanes]
        if not self._breaker.take_turn():
            return None
        try:
            with self._breaker.watch(redis.RedisError):
                return self._workers(pool, paces)
        except redis.RedisError:
            return None

    def depths(self, lanes: Sequence[str]) -> list[int] | None:
        """Return how many messages lanes hold in the broker, or None when it is away."""
        if not self._breaker.take_turn():
            return None
        try:
            with self._breaker.watch(redis.RedisError), self._client.pipeline(False) as together:
                for lane in lanes:
                    together.llen(lane)
                return list(map(int, together.execute()))
        except redis.RedisError:
            return None

    def _workers(self, pool: Pool, paces: Sequence[LanePace]) -> int:
        key = f"scaling:{pool.name}"
        with self._client.pipeline(transaction=False) as together:
            together.time()
            together.hgetall(key)
            for lane in pool.lanes:
                together.llen(lane)
            (seconds, microseconds), kept, *lengths = together.execute()
        now = seconds + microseconds / 1_000_000
        accepted = sum(pace.accepted for pace in paces)
        before = _remembered(kept) or Memory(
            workers=self._limits.minimum, changed_at=LONG_AGO, looked_at=now, accepted=accepted
        )
        if pool.assumed_service_seconds is None:
            after = before.look(accepted=accepted, now=now)
            load = replace(load_of(paces), inflow=after.inflow)
        else:
            after = before
            load = Load(depth=sum(lengths), service_seconds=pool.assumed_service_seconds)
        after = after.decide(load, limits=self._limits, now=now)
        if after != before or not kept:
            with self._client.pipeline(transaction=False) as together:
                together.hset(key, mapping=_kept(after))
                together.expire(key, _REMEMBERED_SECONDS)
                together.execute()
        return after.workers


def _remembered(kept: Mapping[str, str]) -> Memory | None:
    """Read what the last look left; None where there is nothing, or another version's."""
    try:
        return Memory(
            workers=int(kept["workers"]),
            changed_at=float(kept["changed_at"]),
            looked_at=float(kept["looked_at"]),
            accepted=int(kept["accepted"]),
            inflow=float(kept["inflow"]) if kept["inflow"] else None,
        )
    except (KeyError, ValueError):
        return None


def _kept(memory: Memory) -> dict[Any, Any]:
    return {
        "workers": memory.workers,
        "changed_at": memory.changed_at,
        "looked_at": memory.looked_at,
        "accepted": memory.accepted,
        "inflow": "" if memory.inflow is None else memory.inflow,
    }
