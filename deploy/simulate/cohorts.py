"""Documents that share their fate: what arrives in one second is one cohort, not a thousand objects.

A cohort keeps when its clients first tried, so that waits are counted from there, and shrinks as
its documents are taken up. A line is a queue of cohorts, first come, first served.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from deploy.simulate.arrivals import Kind


@dataclass(slots=True)
class Cohort:
    """Documents of one kind of client that came in the same second.

    Attributes:
        kind: of client.
        count: how many are left here.
        wanted: when their clients first tried, in seconds.
        partner: whose, counted from 0; None for applicants.
        tries: how often they have tried, this time included.
        entered: when they were accepted.
        foretold: seconds from then to the stamp, as they were told; None where nothing was.
        left: nobody waits for them any more: their clients lost patience and sent them again.
        in_line: they wait in a line, and are in no worker's hands.
    """

    kind: Kind
    count: int
    wanted: float
    partner: int | None = None
    tries: int = 1
    entered: float = 0.0
    foretold: float | None = None
    left: bool = False
    in_line: bool = False

    def split(self, count: int) -> "Cohort":
        """Take so many out; they are a cohort of their own with the same past."""
        self.count -= count
        return Cohort(
            self.kind,
            count,
            self.wanted,
            self.partner,
            self.tries,
            self.entered,
            self.foretold,
            self.left,
        )


class Line:
    """A queue of cohorts that knows its length in documents."""

    def __init__(self) -> None:
        """Start empty."""
        self._cohorts: deque[Cohort] = deque()
        self.length = 0

    def __iter__(self) -> Iterator[Cohort]:
        return iter(self._cohorts)

    def append(self, cohort: Cohort) -> None:
        """Put a cohort at the end."""
        cohort.in_line = True
        self._cohorts.append(cohort)
        self.length += cohort.count

    def take(self, most: int) -> list[Cohort]:
        """Take up to so many documents from the head."""
        taken = []
        while most and self._cohorts:
            head = self._cohorts[0]
            if head.count <= most:
                self._cohorts.popleft()
            else:
                head = head.split(most)
            head.in_line = False
            taken.append(head)
            most -= head.count
            self.length -= head.count
        return taken

    def head(self) -> Cohort | None:
        """Return who is next."""
        return self._cohorts[0] if self._cohorts else None
