"""Telling the workers of accepted jobs, behind the back of whoever waits for an answer.

One thread per process sends them. A job that comes alone is sent at once; where many come, those that a
lane took within a tenth of a second go out in one message, which costs a front end, the broker and a
worker as much as a message for one. A job whose process dies first, or that the broker does not take, is
in the database with the time at which the relay publishes it.
"""

import atexit
import threading
import time
from collections import deque
from collections.abc import Sequence
from uuid import UUID

from common import lanes
from common.lanes import LanesApp
from common.telemetry import logger

log = logger(__name__)

# A worker does the jobs of a message one after the other: more of them would keep others idle.
JOBS_PER_MESSAGE = 16
# Between two messages to one lane that are not full.
PAUSE_SECONDS = 0.1
# Jobs that may wait here; a broker so slow is better served by the relay.
MOST_WAITING = 10_000
DRAIN_SECONDS = 5


class Publisher:
    """Sends accepted jobs to their lanes; whatever it does not send, the relay does."""

    def __init__(self, celery: LanesApp, *, most_waiting: int = MOST_WAITING) -> None:
        """Take the way to the broker; the thread begins with the first job."""
        self._celery = celery
        self._most_waiting = most_waiting
        self._lanes: dict[str, deque[UUID]] = {}
        self._sent_at: dict[str, float] = {}
        self._count = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False

    def publish(self, lane: str, job_ids: Sequence[UUID]) -> None:
        """Have jobs sent to their lane soon; waits for nobody and raises nothing."""
        with self._changed:
            taken = not self._closing and self._count + len(job_ids) <= self._most_waiting
            if taken:
                self._take(lane, job_ids)
        if not taken:
            _left_to_the_relay(lane, job_ids, "too many wait to be published")

    def close(self) -> None:
        """Send what waits, for some seconds at the most, and take nothing more."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(DRAIN_SECONDS)

    def _take(self, lane: str, job_ids: Sequence[UUID]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="publisher", daemon=True)
            self._thread.start()
            atexit.register(self.close)
        waiting = self._lanes.setdefault(lane, deque())
        before = len(waiting)
        waiting.extend(job_ids)
        self._count += len(job_ids)
        if before == 0 or before < JOBS_PER_MESSAGE <= len(waiting):
            # In between the thread knows already when this lane's turn comes.
            self._changed.notify()

    def _work(self) -> None:
        while (message := self._next()) is not None:
            lane, job_ids = message
            try:
                lanes.publish_stamps(self._celery, job_ids, lane)
            except Exception as error:
                _left_to_the_relay(lane, job_ids, str(error))

    def _next(self) -> tuple[str, list[UUID]] | None:
        """Wait for the next message and take it; None at the end, when nothing is left to send."""
        with self._changed:
            while True:
                now = time.monotonic()
                due = {lane: self._due(lane, now) for lane, jobs in self._lanes.items() if jobs}
                if not due and self._closing:
                    return None
                lane = min(due, key=due.__getitem__, default="")
                if due and due[lane] <= now:
                    return lane, self._pop(lane, now)
                self._changed.wait(due[lane] - now if due else None)

    def _due(self, lane: str, now: float) -> float:
        if self._closing or len(self._lanes[lane]) >= JOBS_PER_MESSAGE:
            return now
        return self._sent_at.get(lane, now - PAUSE_SECONDS) + PAUSE_SECONDS

    def _pop(self, lane: str, now: float) -> list[UUID]:
        waiting = self._lanes[lane]
        job_ids = [waiting.popleft() for _ in range(min(JOBS_PER_MESSAGE, len(waiting)))]
        self._count -= len(job_ids)
        self._sent_at[lane] = now
        return job_ids


def _left_to_the_relay(lane: str, job_ids: Sequence[UUID], why: str) -> None:
    log.warning("not published; the relay will", lane=lane, jobs=len(job_ids), error=why)
