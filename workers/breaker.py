"""A circuit breaker: whoever failed several times in a row is left alone for a while.

Without it every document would wait for an authority that is down until its time was up, and the
authority, coming back, would meet all of them at once.
"""

from collections.abc import Callable

FAILURES_ALLOWED = 3
FIRST_PAUSE_SECONDS = 15.0
LONGEST_PAUSE_SECONDS = 300.0


class Breaker:
    """Closed: asks are let through. Open: none is. After a pause one is tried, and decides.

    The first pause is 15 s; each failed try makes the next one twice as long, up to 5 minutes.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin closed.

        Args:
            clock: returns a time in seconds that never goes back.
        """
        self._clock = clock
        self._failures = 0
        self._open_until = 0.0

    @property
    def lets_through(self) -> bool:
        """Say whether to ask now."""
        return self._failures < FAILURES_ALLOWED or self._clock() >= self._open_until

    def succeeded(self) -> None:
        """Note an answer: closed again."""
        self._failures = 0

    def failed(self) -> None:
        """Note that none came."""
        self._failures += 1
        if self._failures >= FAILURES_ALLOWED:
            doubled = 2.0 ** min(self._failures - FAILURES_ALLOWED, 16)
            pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * doubled)
            self._open_until = self._clock() + pause
