"""Keeps the parts of a copy running: what ends is started again, what cannot stay up ends the copy.

A part that is stopped (SIGSTOP) has not ended and is left alone.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from deploy.processes import CrashedError, last_words

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0
# A part that ran this long has recovered: what was before does not count.
HEALTHY_SECONDS = 60.0
# One that ends so often within so long will not stay up the next time either.
ENDS_ALLOWED = 5
ENDS_WITHIN_SECONDS = 60.0


class Part(Protocol):
    """A program that this copy runs."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def log(self) -> Path:
        """Where it writes."""

    @property
    def pid(self) -> int:
        """The process that runs it."""

    def ended(self) -> str | None:
        """Say how it ended, or None while it runs; nothing of it runs on afterwards."""

    def launch(self) -> None:
        """Start it, without waiting until it answers."""


@dataclass(slots=True)
class Patience:
    """Decides when a part that ended is started again; times are seconds of one clock."""

    # When it ended, oldest first, since it last was healthy.
    ends: list[float] = field(default_factory=list)

    def pause(self, *, started: float, ended: float) -> float | None:
        """Return how long to wait before the next start, or None when there is to be none."""
        if ended - started >= HEALTHY_SECONDS:
            self.ends.clear()
        self.ends.append(ended)
        recent = [end for end in self.ends if ended - end < ENDS_WITHIN_SECONDS]
        if len(recent) >= ENDS_ALLOWED:
            return None
        return float(min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (len(self.ends) - 1)))


@dataclass(slots=True)
class _Watched:
    """A part, since when it runs, and when it is started again if it does not."""

    part: Part
    started: float
    patience: Patience = field(default_factory=Patience)
    how: str = ""
    again_at: float | None = None


class Supervisor:
    """Watches parts that are running; call `look` often."""

    def __init__(
        self,
        parts: Sequence[Part],
        say: Callable[[str], None],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the parts, all of them running, and how to tell about restarts."""
        self._say = say
        self._now = now
        self._watched = [_Watched(part, now()) for part in parts]

    def look(self) -> None:
        """Notice what has ended, and start what is due.

        Raises:
            CrashedError: a part ended again and again; says how, and what it said last.
        """
        for watched in self._watched:
            if watched.again_at is None:
                how = watched.part.ended()
                if how is not None:
                    self._put_off(watched, how)
            elif self._now() >= watched.again_at:
                self._start_again(watched)

    def _put_off(self, watched: _Watched, how: str) -> None:
        now = self._now()
        pause = watched.patience.pause(started=watched.started, ended=now)
        part = watched.part
        if pause is None:
            raise CrashedError(
                f"{part.name} {how}, {ENDS_ALLOWED} times within {ENDS_WITHIN_SECONDS:.0f} s;"
                f" its log is {part.log}{last_words(part.log)}"
            )
        watched.how, watched.again_at = how, now + pause

    def _start_again(self, watched: _Watched) -> None:
        part = watched.part
        watched.started, watched.again_at = self._now(), None
        try:
            part.launch()
        except OSError as error:
            # No memory or no process left for it: that may pass, as an end may.
            self._put_off(watched, f"could not be started ({error.strerror})")
            return
        self._say(f"{part.name} {watched.how}; started again as pid {part.pid}, log {part.log}")
