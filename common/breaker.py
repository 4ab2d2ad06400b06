"""A circuit breaker: whoever failed several times in a row is left alone for a while.

Without it every document would wait for an authority that is down until its time was up, and every
request for a database that does not answer; and whoever came back would meet all of them at once.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

FAILURES_ALLOWED = 3
FIRST_PAUSE_SECONDS = 15.0
LONGEST_PAUSE_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pauses:
    """When a breaker opens, and how long it stays so, in seconds."""

    failures_allowed: int = FAILURES_ALLOWED
    # Each failed try makes the next pause twice as long, up to the longest.
    first: float = FIRST_PAUSE_SECONDS
    longest: float = LONGEST_PAUSE_SECONDS
    # A failure that comes sooner holds nobody up, and does not count: refused, not silent.
    bearable: float = 0.0
    # How long a try may take before the next one is let through, should nobody say how it went.
    longest_try: float = 0.0


class Breaker:
    """Closed: asks are let through. Open: none is. After a pause one is tried, and decides.

    By default it opens after three failures, for 15 s at first. Safe to share between threads.
    """

    def __init__(self, clock: Callable[[], float], pauses: Pauses | None = None) -> None:
        """Begin closed.

        Args:
            clock: returns a time in seconds that never goes back.
            pauses: other ones than the usual.
        """
        self._clock = clock
        self._pauses = pauses or Pauses()
        self._lock = threading.Lock()
        self._failures = 0
        self._open_until = 0.0
        self._trying = False

    @property
    def is_closed(self) -> bool:
        """Say whether nothing is known against asking."""
        return self._failures < self._pauses.failures_allowed

    @property
    def lets_through(self) -> bool:
        """Say whether to ask now."""
        return self.is_closed or self._clock() >= self._open_until

    @property
    def is_resting(self) -> bool:
        """Say whether it is open and nobody is trying."""
        return not self.is_closed and not self._trying

    def take_turn(self) -> bool:
        """Say whether to ask now; of many who ask this after a pause, one is to try."""
        if self.is_closed:
            return True
        with self._lock:
            if not self.lets_through:
                return False
            self._open_until = self._clock() + max(self._pauses.first, self._pauses.longest_try)
            self._trying = True
            return True

    @contextmanager
    def watch(self, *failures: type[Exception]) -> Iterator[None]:
        """Note how the block ends; these exceptions say that no answer came."""
        started = self._clock()
        try:
            yield
        except failures:
            if self._clock() - started >= self._pauses.bearable:
                self.failed()
            elif self._trying:
                self.succeeded()
            raise
        self.succeeded()

    def succeeded(self) -> None:
        """Note an answer: closed again."""
        if self._failures == 0:
            return
        with self._lock:
            self._failures, self._trying = 0, False

    def failed(self) -> None:
        """Note that none came."""
        pauses = self._pauses
        with self._lock:
            self._failures += 1
            self._trying = False
            if self._failures >= pauses.failures_allowed:
                doubled = 2.0 ** min(self._failures - pauses.failures_allowed, 16)
                self._open_until = self._clock() + min(pauses.longest, pauses.first * doubled)
