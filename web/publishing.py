"""Telling the workers of accepted jobs, behind the back of whoever waits for an answer.

One thread per process sends what was accepted while it was sending: an idle front end publishes a job at
once and by itself, a busy one several of a lane in one message. A job whose process dies first, or that
the broker does not take, is in the database with the time at which the relay publishes it.
"""

import atexit
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from uuid import UUID

from common import lanes
from common.lanes import LanesApp
from common.telemetry import logger

log = logger(__name__)

# A worker does the jobs of a message one after the other: more of them would keep others idle.
JOBS_PER_MESSAGE = 16
# What may wait to be sent; a broker so slow is better served by the relay.
MOST_WAITING = 10_000
DRAIN_SECONDS = 5


class Publisher:
    """Sends accepted jobs to their lanes; whatever it does not send, the relay does."""

    def __init__(self, celery: LanesApp, *, most_waiting: int = MOST_WAITING) -> None:
        """Take the way to the broker; the thread begins with the first job."""
        self._celery = celery
        self._most_waiting = most_waiting
        # By lane, the lane that waits longest in front.
        self._waiting: OrderedDict[str, deque[UUID]] = OrderedDict()
        self._count = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False

    def publish(self, lane: str, job_ids: Sequence[UUID]) -> None:
        """Have jobs sent to their lane soon; waits for nobody and raises nothing."""
        with self._changed:
            if self._thread is None:
                self._begin()
            taken = not self._closing and self._count + len(job_ids) <= self._most_waiting
            if taken:
                self._waiting.setdefault(lane, deque()).extend(job_ids)
                self._count += len(job_ids)
                self._changed.notify()
        if not taken:
            log.warning("not published; the relay will", lane=lane, jobs=len(job_ids))

    def close(self) -> None:
        """Send what waits, for some seconds at the most, and take nothing more."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(DRAIN_SECONDS)

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._work, name="publisher", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                lane, job_ids = self._next()
            try:
                lanes.publish_stamps(self._celery, job_ids, lane)
            except Exception as error:
                log.warning(
                    "not published; the relay will", lane=lane, jobs=len(job_ids), error=str(error)
                )

    def _next(self) -> tuple[str, list[UUID]]:
        """Take what goes into one message; what is left of its lane stands behind the other lanes."""
        lane, jobs = self._waiting.popitem(last=False)
        job_ids = [jobs.popleft() for _ in range(min(JOBS_PER_MESSAGE, len(jobs)))]
        if jobs:
            self._waiting[lane] = jobs
        self._count -= len(job_ids)
        return lane, job_ids
