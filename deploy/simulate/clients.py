"""What people do when they are refused, told to come back, or wait too long.

Two kinds are modelled. Patient clients do as they are told: what was accepted they leave alone,
because they hold a receipt, and after a refusal they come back when `Retry-After` says. Impatient
ones are those of September 2024, an assumption: each try that is refused, or has not brought a stamp
within a minute, comes back as another one after 5 to 60 seconds, up to 20 times.
"""

import random
from collections import defaultdict
from dataclasses import dataclass

from deploy.simulate.arrivals import Kind
from deploy.simulate.cohorts import Cohort

# Assumption: when those try again who do not listen.
_IMPATIENT_SECONDS = (5.0, 60.0)


@dataclass(frozen=True, slots=True)
class Manners:
    """How clients behave.

    Attributes:
        patience: seconds after which an accepted try is given up and sent again; None: never.
        tries: how often they try in all; None: until it works.
        obey: whether they come back when they were told to, or after 5 to 60 seconds.
    """

    patience: float | None
    tries: int | None
    obey: bool

    def try_again(self, tried: int) -> bool:
        """Say whether somebody who has tried so often tries once more."""
        return self.tries is None or tried < self.tries

    def back_between(self, told: tuple[float, float]) -> tuple[float, float]:
        """Return between how many seconds they come back that were told to do so in this time."""
        return told if self.obey else _IMPATIENT_SECONDS


# At how many moments those of one cohort come back.
_MOMENTS = 8

PATIENT = Manners(patience=None, tries=None, obey=True)
IMPATIENT = Manners(patience=60.0, tries=20, obey=False)


@dataclass(slots=True)
class _Group:
    count: int = 0
    # Sum over its clients of when they first tried.
    wanted: float = 0.0


_Who = tuple[Kind, int | None, int]


class Returning:
    """Those who come back later, by the second.

    Clients who come back in the same second after as many tries are one group from then on, whose
    first try is the mean of theirs; only how long those waited in all becomes a little less sharp.
    """

    def __init__(self, rng: random.Random) -> None:
        """Start with nobody."""
        self._rng = rng
        self._by_second: defaultdict[int, dict[_Who, _Group]] = defaultdict(dict)
        self.count = 0

    def send(self, cohort: Cohort, now: float, between: tuple[float, float]) -> None:
        """Let a cohort come back between so many and so many seconds from now, at a few moments of it.

        Cohorts are sent away each second, so all moments are met by somebody.
        """
        first = int(now + between[0])
        seconds = range(first, max(first, int(now + between[1])) + 1)
        drawn = self._rng.sample(seconds, min(len(seconds), cohort.count, _MOMENTS))
        each, rest = divmod(cohort.count, len(drawn))
        self.count += cohort.count
        who = (cohort.kind, cohort.partner, cohort.tries + 1)
        for place, second in enumerate(drawn):
            count = each + (place < rest)
            group = self._by_second[second].setdefault(who, _Group())
            group.count += count
            group.wanted += count * cohort.wanted

    def due(self, second: int) -> list[Cohort]:
        """Take out who comes back in this second."""
        groups = self._by_second.pop(second, {})
        back = [
            Cohort(kind, group.count, group.wanted / group.count, partner, tries)
            for (kind, partner, tries), group in groups.items()
        ]
        self.count -= sum(cohort.count for cohort in back)
        return back
