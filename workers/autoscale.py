"""Scales the pool of a worker by what waits in its lanes: Celery's own autoscaler, with our policy.

Celery grows by the messages that it holds, and holds as many as it may ever have processes. Here the
lanes' counters decide (`common/scaling.py`), and a worker holds one message for each process that it
has, so that what it cannot work on yet is free for other machines.

This reaches below Celery's surface (`AsynPool`), which is why pyproject.toml holds Celery to one minor
version; tests/service/test_autoscale.py is what tells when that has changed.
"""

import math
import time
from dataclasses import replace
from typing import Any

from celery.worker.autoscale import Autoscaler

from common import demand
from common.demand import STAMP_POOL
from common.pace import Pace
from common.scaling import Limits, Memory
from common.settings import Settings
from common.telemetry import POOL_PROCESSES, logger

log = logger(__name__)

LOOK_SECONDS = 1.0
# The worker's loop waits for this: results and heartbeats with it.
TIMEOUT_SECONDS = 0.1


class CarefulAutoscaler(Autoscaler):  # type: ignore[misc]
    """Celery's own policy, and a way to shrink that interrupts nobody."""

    def _shrink(self, n: int) -> None:
        """Let go of so many processes that have nothing to do; those that are busy stay.

        billiard takes a process for idle until it has said that it took its job up, and ends it by a
        signal. One that was sent a job a moment ago would be killed over it. The pool itself knows
        better who is busy: from the write of a job until its result is read.
        """
        pool = self.pool._pool
        idle = [
            process
            for process in pool._pool
            if process._is_alive()
            and process.inqW_fd not in pool._busy_workers
            and not pool._worker_active(process)
        ]
        for process in idle[:n]:
            # Otherwise it may be sent a job while it ends.
            pool._busy_workers.add(process.inqW_fd)
            pool._processes -= 1
            pool._putlock.shrink()
            process.terminate_controlled()


class LaneAutoscaler(CarefulAutoscaler):
    """As many processes as the stamp lanes need, within `--autoscale`'s limits."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Take what Celery gives; connects at the first look."""
        super().__init__(*arguments, **named)
        settings = Settings.load()
        # Celery looks again after so many seconds.
        self.keepalive = LOOK_SECONDS
        self._target = settings.target_wait_seconds
        self._pace = Pace(settings.broker_url, timeout_seconds=TIMEOUT_SECONDS)
        self._next_look = -math.inf
        self._memory: Memory | None = None
        # What the worker holds messages for; Celery begins with as many as it may ever have.
        self._prefetching = self.max_concurrency

    def _maybe_scale(self, req: Any = None) -> bool:
        """Look at the lanes, about once a second; called for each message and by a timer."""
        now = time.monotonic()
        # Timers go on while a pool that is closed finishes what it has.
        if now < self._next_look or not self.pool.active:
            return False
        # The timer may come a little early.
        self._next_look = now + 0.9 * LOOK_SECONDS
        before = self.processes
        desired = self._desired(now)
        if desired > before:
            self.pool.grow(desired - before)
        elif desired < before:
            self._shrink(before - desired)
        if self.processes != before:
            log.info("pool scaled", before=before, processes=self.processes)
        self._prefetch()
        POOL_PROCESSES.labels(self.worker.hostname).set(self.processes)
        return bool(self.processes != before)

    def _desired(self, now: float) -> int:
        limits = Limits(
            minimum=self.min_concurrency,
            maximum=self.max_concurrency,
            target_wait_seconds=self._target,
        )
        seen = self._pace.lanes()
        if seen is None:
            return limits.clamp(self.processes)
        paces = [seen[lane] for lane in STAMP_POOL.lanes]
        accepted = sum(pace.accepted for pace in paces)
        memory = self._memory or Memory(
            workers=self.processes, changed_at=-math.inf, looked_at=now, accepted=accepted
        )
        if memory.workers != self.processes:
            # Busy processes stayed, or somebody changed the limits by remote control.
            memory = replace(memory, workers=self.processes)
        memory = memory.look(accepted=accepted, now=now)
        load = replace(demand.load_of(paces), inflow=memory.inflow)
        self._memory = memory.decide(load, limits=limits, now=now)
        return self._memory.workers

    def _prefetch(self) -> None:
        consumer = self.worker.consumer
        if self._prefetching != self.processes and consumer.qos is not None:
            consumer._update_prefetch_count(self.processes - self._prefetching)
            self._prefetching = self.processes

    def _update_consumer_prefetch_count(self, new_max: int) -> None:
        """Leave it: the limits that remote control changes do not say how many processes there are."""

    def info(self) -> dict[str, Any]:
        """Return what `celery inspect stats` and Flower show."""
        return dict(super().info()) | {"target_wait_seconds": self._target}
