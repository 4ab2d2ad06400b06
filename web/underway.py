"""How many requests may be under way at once in this process, and when those refused may come back.

A front end that takes everything answers nobody in time. How many submissions it works on is a limit
that follows the measured time of an acceptance: it shrinks by a fifth while that is above the target, and
grows by one while it is below and somebody was refused (AIMD). A body that is slow to arrive takes a
thread but no work, so it counts against the threads only.

Nothing here asks anybody: a decision takes microseconds, whatever PostgreSQL and Valkey are doing.
"""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

# A body that has not moved for so long is its sender's to wait for; seconds.
SLOW_SECONDS = 0.25
# The limit is looked at after so many acceptances, and not more often than this.
_SAMPLE = 16
_SECONDS_BETWEEN = 0.25
_SHRINK = 0.8
# The share of the places that a sender may have who has one already.
_FOR_EVERYBODY = 0.75
# Acceptances a second before any were measured.
_FIRST_GUESS = 50.0
_SMOOTHING = 0.3
# Nobody is sent away for longer than this at once; seconds.
LONGEST_WAIT = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one process may do at once.

    Attributes:
        all: requests with a body, of any kind, slow ones too; fewer than the server has threads.
        most: submissions at once, where they are quick.
        least: submissions at once, however slow they are.
        target_seconds: how long an acceptance may take, its own waits within the process included.
    """

    all: int
    most: int
    least: int
    target_seconds: float = 0.12


def next_limit(limit: int, *, median_seconds: float, refused: bool, bounds: Bounds) -> int:
    """Return how many submissions may be under way from now on.

    Args:
        limit: how many were until now.
        median_seconds: how long the last acceptances took.
        refused: the limit was met meanwhile.
        bounds: between which it stays.
    """
    if median_seconds > bounds.target_seconds:
        limit = math.floor(limit * _SHRINK)
    elif refused:
        limit += 1
    return max(bounds.least, min(bounds.most, limit))


def retry_after(seconds_behind: float, draw: float) -> int:
    """Return after how many seconds one that is refused may come back.

    Never before those that were refused earlier have had their turn, and up to half as long again and
    two seconds later, so that a crowd that was refused together does not come back together.

    Args:
        seconds_behind: how long the work of those refused before takes.
        draw: a random number from 0 to 1.
    """
    behind = min(seconds_behind, LONGEST_WAIT)
    return max(1, math.ceil(behind + draw * (2 + behind / 2)))


class Visit:
    """One request with a body: whose it is, and since when it has waited for its sender.

    Attributes:
        sender: what it was sent with, not looked up: an Authorization header.
        partner_id: whose it is, once that is known.
    """

    __slots__ = ("began", "partner_id", "sender", "submission", "waited", "waits_since")

    def __init__(self, began: float, sender: str, *, submission: bool) -> None:
        """Begin at a time of the monotonic clock."""
        self.began = began
        self.sender = sender
        self.partner_id: UUID | None = None
        self.submission = submission
        self.waited = 0.0
        self.waits_since: float | None = None

    def is_slow(self, now: float) -> bool:
        """Say whether it only holds a thread: its body does not arrive."""
        return self.waits_since is not None and now - self.waits_since > SLOW_SECONDS


class UnderWay:
    """The requests with a body that this process has under way."""

    def __init__(self, bounds: Bounds, clock: Callable[[], float]) -> None:
        """Begin with none, and with the largest limit."""
        self.bounds = bounds
        self.limit = bounds.most
        self._clock = clock
        self._lock = threading.Lock()
        self._visits: set[Visit] = set()
        self._took: list[float] = []
        self._looked_at = clock()
        self._refused = False
        self._per_second = _FIRST_GUESS
        # When the work of all that were refused would be done.
        self._done_at = 0.0

    def enter(self, sender: str, *, submission: bool) -> Visit | None:
        """Let a request in, or return None: it is one too many.

        The last quarter of the places is for senders that have none yet, so that one who sends all
        the time closes the door on nobody else.
        """
        now = self._clock()
        with self._lock:
            if submission:
                theirs = [v for v in self._visits if v.submission and not v.is_slow(now)]
                full = len(theirs) >= self.limit or (
                    len(theirs) >= self.limit * _FOR_EVERYBODY
                    and any(visit.sender == sender for visit in theirs)
                )
            else:
                full = False
            if full or len(self._visits) >= self.bounds.all:
                self._refused = True
                return None
            visit = Visit(now, sender, submission=submission)
            self._visits.add(visit)
            return visit

    def belongs_to(self, visit: Visit, partner_id: UUID, most: int) -> bool:
        """Note whose a submission is, and say whether that partner may have one more under way."""
        with self._lock:
            if sum(other.partner_id == partner_id for other in self._visits) >= most:
                return False
            visit.partner_id = partner_id
            return True

    def leave(self, visit: Visit, *, accepted: bool) -> None:
        """Note that a request was answered; acceptances are what the limit is measured by."""
        now = self._clock()
        with self._lock:
            self._visits.discard(visit)
            if not (accepted and visit.submission):
                return
            self._took.append(now - visit.began - visit.waited)
            passed = now - self._looked_at
            if len(self._took) >= _SAMPLE and passed >= _SECONDS_BETWEEN:
                self._look(now, passed)

    def come_back(self, draw: float) -> int:
        """Return after how many seconds a refused request may come back; each call is one of them."""
        now = self._clock()
        with self._lock:
            behind = max(0.0, self._done_at - now)
            self._done_at = now + min(behind + 1 / self._per_second, LONGEST_WAIT)
        return retry_after(behind, draw)

    def count(self) -> int:
        """Return how many requests are under way."""
        return len(self._visits)

    def _look(self, now: float, passed: float) -> None:
        took = sorted(self._took)
        if self._refused:
            # Only then is what was accepted all that could be.
            measured = len(took) / passed
            self._per_second += _SMOOTHING * (measured - self._per_second)
        self.limit = next_limit(
            self.limit,
            median_seconds=took[len(took) // 2],
            refused=self._refused,
            bounds=self.bounds,
        )
        self._took.clear()
        self._refused = False
        self._looked_at = now
