"""Which processes have a document in their hands: one byte for each, in memory that all of them share.

A process that died cannot be asked what it was doing. Its parent looks here: a death while the engine
works on a document may be the document's doing; one while the store, the database or a token was
waited for is not, however often it happens.
"""

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_MOST_PIDS = 2**22


class Hands:
    """Made before the processes are forked; pages that nobody writes to take no memory."""

    def __init__(self) -> None:
        """Reserve a byte for each process id that the system gives out."""
        self._held = mmap.mmap(-1, _most_pids())

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Have a document in the hands of this process within the block."""
        with self._set(1):
            yield

    def without(self, ask: Callable[P, T]) -> Callable[P, T]:
        """Return a function that puts the document down while somebody else is asked something."""

        def asking(*arguments: P.args, **named: P.kwargs) -> T:
            with self._set(0):
                return ask(*arguments, **named)

        return asking

    def held(self, pid: int) -> bool:
        """Say whether a process that is gone had a document in its hands; once, as ids come again."""
        held = self._held[pid] == 1
        self._held[pid] = 0
        return held

    @contextmanager
    def _set(self, value: int) -> Iterator[None]:
        pid = os.getpid()
        before, self._held[pid] = self._held[pid], value
        try:
            yield
        finally:
            self._held[pid] = before


def _most_pids() -> int:
    try:
        return int(Path("/proc/sys/kernel/pid_max").read_text()) + 1
    except (OSError, ValueError):
        return _MOST_PIDS
