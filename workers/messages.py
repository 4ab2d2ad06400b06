"""How long a process goes on with the jobs of one message: a turn of half a second, or until it leaves.

A message may stand for many jobs. Its turn bounds what an applicant's single document waits behind it,
and keeps a message within the time limits of one job: whatever is begun is begun within the first half
second. What is left over is published again.
"""

import mmap
import time
from collections.abc import Callable

TURN_SECONDS = 0.5
MOST_JOBS = 32


class Leaving:
    """Whether the worker is being ended: one byte that its processes share, made before they are forked."""

    def __init__(self) -> None:
        """Reserve the byte."""
        self._byte = mmap.mmap(-1, 1)

    def begin(self) -> None:
        """Have every process end with the job that it has."""
        self._byte[0] = 1

    @property
    def begun(self) -> bool:
        """Say whether the worker is being ended."""
        return self._byte[0] == 1


class Turn:
    """One message's turn."""

    def __init__(self, leaving: Leaving, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin it; `clock` counts seconds."""
        self._leaving = leaving
        self._clock = clock
        self._until = clock() + TURN_SECONDS

    def lasts(self, begun: int) -> bool:
        """Say whether one more job may be begun, after so many."""
        return begun < MOST_JOBS and not self._leaving.begun and self._clock() < self._until
