"""When whoever waits is to ask again: soon near the end, seldom far from it, and all within a budget.

Somebody with t seconds left is told to come back after a part of t, within limits (`Rhythm`). Usually
that is a quarter of it, 1 to 120 seconds. In a lane whose n jobs leave every p seconds, those who wait
have p, 2p, … np seconds left, so all of them together ask

    1/p * ( min(T, a)/shortest + ln(min(T, b)/a)/part + (T - b)/longest )       with T = np

times a second: the first term for those nearer than a = shortest/part, who ask every `shortest` seconds,
the second up to b = longest/part, the third beyond. Nothing here grows with n.

Where that is more than the budget has for the lane, its rhythm is strained: the part grows from a quarter
to the whole, the shortest pause from 1 second to a minute, and the longest without end. At full strain
each asks once, when its job should be done, and those that are late once more. Fewer polls than that are
not to be had from people who want to know; a budget below the jobs that are done in a second is therefore
kept only while there are no newcomers, by sending everybody away for longer than they have left.

Lanes share the budget as people share a bill: one that needs less than its share gets what it needs, and
the rest is shared by the others. So a short lane keeps its rhythm beside a lane of a million.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from common.pace import LanePace, Wait

# Where nothing strains: a part of what is left, and the limits of the pause in seconds.
PART = 0.25
SHORTEST = 1.0
LONGEST = 120.0
# Where nothing tells what is left, while the budget allows it.
UNMEASURED = 4.0
# At full strain.
STRAINED_SHORTEST = 10.0
# At most this much of a pause, and so many seconds, is added at random. At a limit, where many have the
# same pause, it is taken off instead, up to a half: those of one moment are to come back one by one.
SPREAD = 0.1
SPREAD_SECONDS = 60.0
SPREAD_AT_LIMITS = 0.5
_MEAN_AT_LIMITS = 1 - SPREAD_AT_LIMITS / 2
# Of those who come when their job should be done, as many come again: estimates err.
COME_AGAIN = 1.25
_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often those who wait in a lane ask; seconds.

    Attributes:
        part: of what is left, which is the pause; above 1 only where the budget cannot be kept.
        shortest, longest: the limits of a pause.
        unmeasured: the pause where nothing tells what is left.
    """

    part: float = PART
    shortest: float = SHORTEST
    longest: float = LONGEST
    unmeasured: float = UNMEASURED

    def pause(self, seconds_left: float | None, spread: float) -> float:
        """Return how long somebody waits before asking again.

        Args:
            seconds_left: until the job should be done; None: nothing tells.
            spread: from 0 to below 1, at random.
        """
        at_limit = 1 - SPREAD_AT_LIMITS * spread
        if seconds_left is None:
            return self.unmeasured * at_limit
        pause = seconds_left * self.part
        if self.shortest < pause < self.longest:
            return pause + spread * min(pause * SPREAD, SPREAD_SECONDS)
        return max(self.shortest, min(self.longest, pause)) * at_limit

    def polls_per_second(self, waiting: int, seconds_each: float) -> float:
        """Return how often all of a lane ask together."""
        total = waiting * seconds_each
        near = self.shortest / self.part
        far = self.longest / self.part
        asked = min(total, near) / (self.shortest * _MEAN_AT_LIMITS)
        if total > near:
            asked += math.log(min(total, far) / near) / self.part
        if total > far:
            asked += (total - far) / (self.longest * _MEAN_AT_LIMITS)
        return asked / seconds_each


def strained(strain: float) -> Rhythm:
    """Return the rhythm at a strain from 0 to 1."""
    return Rhythm(
        part=PART + (1 - PART) * strain,
        shortest=SHORTEST * (STRAINED_SHORTEST / SHORTEST) ** strain,
        longest=_DAY if strain >= 1 else min(_DAY, LONGEST / (1 - strain)),
    )


def rhythm(waiting: int, seconds_each: float | None, budget: float) -> Rhythm:
    """Return the most frequent rhythm that keeps a lane within its budget.

    Args:
        waiting: how many wait in the lane.
        seconds_each: after how many seconds each of them leaves it; None: not measured.
        budget: polls per second for all of them.
    """
    if not waiting:
        return Rhythm()
    if seconds_each is None:
        return Rhythm(unmeasured=max(UNMEASURED, waiting / budget / _MEAN_AT_LIMITS))
    if Rhythm().polls_per_second(waiting, seconds_each) <= budget:
        return Rhythm()
    if strained(1).polls_per_second(waiting, seconds_each) > budget:
        once = strained(1)
        return Rhythm(
            max(1.0, COME_AGAIN / seconds_each / budget), once.shortest, once.longest, once.shortest
        )
    # It falls as strain grows. Sixteen halvings are finer than a second's pause needs.
    low, high = 0.0, 1.0
    for _ in range(16):
        middle = (low + high) / 2
        if strained(middle).polls_per_second(waiting, seconds_each) > budget:
            low = middle
        else:
            high = middle
    return strained(high)


def shares(needs: Mapping[str, float], budget: float) -> dict[str, float]:
    """Share a budget fairly (max-min): nobody gets more than it needs while another lacks."""
    left, given = budget, {}
    for place, (name, need) in enumerate(sorted(needs.items(), key=lambda item: item[1])):
        given[name] = min(need, left / (len(needs) - place))
        left -= given[name]
    return given


def rhythms(lanes: Mapping[str, LanePace], budget: float) -> dict[str, Rhythm]:
    """Return each lane's rhythm, all of them together within a budget of polls per second."""
    measured = {name: (lane.waiting, seconds_each(lane)) for name, lane in lanes.items()}
    needs = {
        name: waiting / (UNMEASURED * _MEAN_AT_LIMITS)
        if each is None
        else Rhythm().polls_per_second(waiting, each)
        for name, (waiting, each) in measured.items()
    }
    given = shares(needs, budget)
    return {name: rhythm(waiting, each, given[name]) for name, (waiting, each) in measured.items()}


def seconds_each(lane: LanePace) -> float | None:
    """Return after how many seconds the next one leaves a lane, and the next; None: not measured."""
    newcomer = lane.newcomer.seconds_left
    return None if newcomer is None else newcomer / (lane.waiting + 1)


def retry_after(wait: Wait, rhythm: Rhythm, spread: float) -> int:
    """Return whole seconds until somebody asks again, at least 1.

    Args:
        wait: what is left, as far as it is known.
        rhythm: its lane's.
        spread: from 0 to below 1, at random, so that those of one moment do not come back in one.
    """
    if wait.position is None:
        # Not in a lane: it is being stamped, or something holds it up. No two came to it at once.
        return wait.ask_again
    return max(1, round(rhythm.pause(wait.seconds_left, spread)))
