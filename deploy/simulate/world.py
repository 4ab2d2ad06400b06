"""Everything that the simulated processes share: lines, meters, machines, and the book."""

import random
from dataclasses import dataclass, field

import simpy

from deploy.simulate.book import Book
from deploy.simulate.clients import Manners, Returning
from deploy.simulate.cohorts import Line
from deploy.simulate.costs import CORES, Costs, Sizes
from deploy.simulate.policies import STAMP_LANES, Lanes
from deploy.simulate.setup import Arrivals, Authority, Means


class Cores:
    """How fast workers are while the front end takes its part of the same machines.

    Assumption: the front end gets what it asks for, up to half of the cores; beyond that it sheds. What
    it leaves is shared evenly by the workers, each of which uses one core at most.
    """

    # Which part of the cores the front end may take while workers want them all.
    FRONT_SHARE = 0.5

    def __init__(self, machines: int | None, costs: Costs) -> None:
        """Take the number of machines; None: every worker has its own core, the front end others."""
        self._cores = None if machines is None else machines * CORES
        self._costs = costs
        self.speed = 1.0
        # Cores that the front end kept busy in the last second.
        self.front = 0.0

    @property
    def accepts_per_second(self) -> float | None:
        """Return how many submissions the front end takes in a second; None: any number."""
        if self._cores is None:
            return None
        return self._cores * self.FRONT_SHARE * 1000 / self._costs.accept_ms

    def second(self, *, accepted: int, refused: int, polls: float, workers: int) -> None:
        """Note what the front end did in a second; says how fast workers are in the next."""
        busy = accepted * self._costs.accept_ms + (refused + polls) * self._costs.poll_ms
        self.front = busy / 1000
        if self._cores is not None and workers:
            taken = min(self.front, self._cores * self.FRONT_SHARE)
            self.speed = min(1.0, (self._cores - taken) / workers)


@dataclass(slots=True)
class World:
    """Everything that the processes share."""

    env: simpy.Environment
    rng: random.Random
    arrivals: Arrivals
    means: Means
    costs: Costs
    authority: Authority | None
    sizes: Sizes
    cores: Cores
    book: Book
    returning: Returning
    manners: Manners
    lines: dict[str, Line] = field(default_factory=lambda: {lane: Line() for lane in STAMP_LANES})
    # What the product knows of these lines.
    lanes: Lanes = field(default_factory=Lanes)
    room: Line = field(default_factory=Line)
    # Documents whose turn has come and that are not submitted yet.
    turned: int = 0
    # Documents in workers' hands, and those that a dead worker had and nobody has yet.
    in_hands: int = 0
    # Status polls that come in a second, of those in line and in the room.
    polls_per_s: float = 0.0

    @property
    def waiting(self) -> int:
        """Return how many accepted documents are not taken up."""
        return sum(line.length for line in self.lines.values())

    def left(self) -> int:
        """Return how many documents somebody still wants, wherever they are."""
        wanted = sum(c.count for line in self.lines.values() for c in line if not c.left)
        return wanted + self.in_hands + self.room.length + self.turned + self.returning.count
