"""A value that many threads read and that is asked for anew once in a while, by one of them."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """The last answer to a question. While one caller asks again, the others go on with the last."""

    def __init__(
        self,
        ask: Callable[[T | None], T],
        *,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the question.

        Args:
            ask: is given the last answer, None at first, and returns the new one; never raises.
            seconds: how long an answer is good.
            clock: seconds that only grow.
        """
        self._ask = ask
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._answer: T | None = None
        self._until = float("-inf")

    def get(self) -> T:
        """Return the answer, asking again where it is too old."""
        answer = self._answer
        if answer is not None and self._clock() < self._until:
            return answer
        # The first answer is waited for by all; a later one by whoever comes first.
        if not self._lock.acquire(blocking=answer is None):
            assert answer is not None
            return answer
        try:
            if self._answer is None or self._clock() >= self._until:
                self._answer = self._ask(self._answer)
                self._until = self._clock() + self._seconds
            return self._answer
        finally:
            self._lock.release()

    def forget(self) -> None:
        """Ask again at the next turn."""
        self._until = float("-inf")
