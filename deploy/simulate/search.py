"""How many workers, or machines, a scenario would have needed: a guess by fluid, then runs.

The fluid guess lets documents flow like water, which knows no lanes and no bursts within a minute; from
there on runs of the whole model decide, first in growing steps, then by bisection. Only the last hours
before the deadline are run, because the slowest documents are all there: what came earlier counts as
faster, and the percentile is taken among all documents.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deploy.simulate.arrivals import MINUTE
from deploy.simulate.tally import Spread

SEARCHED_MINUTES = 180
# Beyond this nobody is asked to buy.
MOST = 4096


@dataclass(frozen=True, slots=True)
class Found:
    """An answer.

    Attributes:
        needed: the smallest number that keeps the wait; None: not even MOST does.
        wait: what the percentile is with it, in seconds; None where nothing was stamped.
        tried: each number that was run, and its wait.
    """

    needed: int | None
    wait: float | None
    tried: tuple[tuple[int, float | None], ...]


def share_of_last(share: float, documents: int, last: int) -> float:
    """Return which percentile of the last documents is this one of all, when none earlier is slower."""
    return max(0.0, 1 - (1 - share) * documents / last)


def fluid_wait(by_minute: Sequence[int], per_second: float, share: float) -> float:
    """Return the wait that a share of the documents does not exceed when they flow like water.

    Args:
        by_minute: how many come.
        per_second: how many are stamped at most.
        share: from 0 to 1.
    """
    waits, waiting = Spread(), 0.0
    for documents in by_minute:
        after = max(0.0, waiting + documents - per_second * MINUTE)
        waits.add((waiting + after) / 2 / per_second, documents)
        waiting = after
    return waits.percentile(share) or 0.0


def guess(by_minute: Sequence[int], per_second_each: float, share: float, target: float) -> int:
    """Return the smallest number whose fluid wait is within the target."""
    low, high = 0, 1
    while fluid_wait(by_minute, high * per_second_each, share) > target and high < MOST:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if fluid_wait(by_minute, middle * per_second_each, share) > target:
            low = middle
        else:
            high = middle
    return high


def smallest(first: int, wait: Callable[[int], float | None], target: float) -> Found:
    """Return the smallest number whose wait is within the target.

    Args:
        first: where to begin.
        wait: runs the model with a number; None: nothing came out of it.
        target: seconds.
    """
    tried: dict[int, float | None] = {}

    def enough(number: int) -> bool:
        if number not in tried:
            tried[number] = wait(number)
        found = tried[number]
        return found is not None and found <= target

    low, high, step = 0, first, 1
    if enough(first):
        while high - step > 0 and enough(high - step):
            high, step = high - step, step * 2
        low = max(0, high - step)
    else:
        low = first
        while not enough(high := min(MOST, low + step)):
            if high == MOST:
                return Found(None, None, tuple(sorted(tried.items())))
            low, step = high, step * 2
    while high - low > 1:
        middle = math.ceil((low + high) / 2)
        if enough(middle):
            high = middle
        else:
            low = middle
    return Found(high, tried[high], tuple(sorted(tried.items())))
