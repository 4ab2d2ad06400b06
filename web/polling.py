"""When this process tells its clients to ask again: by the lanes as they were within the last second."""

import random
import threading
import time
from collections.abc import Callable, Mapping

from common import polls
from common.pace import Pace, Wait
from common.polls import Rhythm

# The rhythms of all lanes together change slowly; what is left for one job is looked up each time.
FRESH_SECONDS = 1.0


class Polling:
    """The rhythm of each lane. Safe to share between threads: one looks, the others go by what was."""

    def __init__(
        self,
        pace: Pace,
        *,
        budget: float,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Take the lanes' counters; asks nothing yet.

        Args:
            pace: the counters.
            budget: polls per second of all clients together.
            clock: returns a time in seconds that never goes back.
            draw: returns a number from 0 to below 1, another one each time.
        """
        self._pace = pace
        self._budget = budget
        self._clock = clock
        self._draw = draw
        self._rhythms: Mapping[str, Rhythm] = {}
        self._looked_at = -FRESH_SECONDS
        self._looking = threading.Lock()

    def retry_after(self, wait: Wait, lane: str) -> int:
        """Return after how many seconds to ask again for a job of this lane that has this left."""
        self._refresh()
        return polls.retry_after(wait, self._rhythms.get(lane, Rhythm()), self._draw())

    def _refresh(self) -> None:
        """Look at the lanes, unless somebody did within a second or is just doing it."""
        if self._clock() - self._looked_at < FRESH_SECONDS:
            return
        if not self._looking.acquire(blocking=False):
            return
        try:
            # Also when Valkey is away: the rhythm of a moment ago is better than none.
            self._looked_at = self._clock()
            found = self._pace.lanes()
            if found is not None:
                self._rhythms = polls.rhythms(found, self._budget)
        finally:
            self._looking.release()
