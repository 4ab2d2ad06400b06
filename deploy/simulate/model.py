"""A run: the world is set up, its processes are started, and simpy lets the time pass.

What the front end does is looked at once a second, for all that came in that second; a worker is a
process of its own that takes messages of up to 16 documents, as workers do when a lane is deep. So a
run of 3.5 million documents is a few hundred thousand events instead of tens of millions. What happens
within a second is therefore not shown: waits of less than about a second mean "at once".
"""

import random
from dataclasses import dataclass

import simpy

from deploy.simulate.book import Book
from deploy.simulate.clients import IMPATIENT, PATIENT, Returning
from deploy.simulate.costs import Costs, Sizes
from deploy.simulate.front import Front, Progress
from deploy.simulate.setup import Arrivals, Means, Policy, Scenario
from deploy.simulate.stampers import Stampers
from deploy.simulate.world import Cores, World


@dataclass(frozen=True, slots=True)
class Run:
    """What a run came to.

    Attributes:
        scenario: its name.
        means: what stood against it.
        costs: what a document costs.
        arrivals: what came.
        book: the record.
        seconds: how long the simulated time was.
        left: documents that somebody still waited for when it was broken off.
        in_line: documents in line then, those included that nobody waits for any more.
        mean_bytes: of a document.
    """

    scenario: str
    means: Means
    costs: Costs
    arrivals: Arrivals
    book: Book
    seconds: float
    left: int
    in_line: int
    mean_bytes: float


def run(
    scenario: Scenario,
    means: Means,
    costs: Costs,
    *,
    seed: int,
    scale: float = 1.0,
    days: int = 2,
    last_minutes: int | None = None,
    progress: Progress | None = None,
) -> Run:
    """Simulate a scenario until nobody waits any more.

    The same arguments give the same run.

    Args:
        scenario: what comes and what goes wrong.
        means: workers and policy.
        costs: what a document costs.
        seed: of all that is drawn.
        scale: part of the scenario's documents.
        days: length, where the scenario has one to choose.
        last_minutes: only what comes in these; None: all.
        progress: called once a simulated quarter of an hour, with the seconds so far and of arrivals.
    """
    # One stream of numbers for what comes and one for the rest, so that every policy meets the same.
    arrivals = scenario.arrivals(random.Random(f"{seed} arrivals"), scale, days)
    if last_minutes is not None:
        arrivals = arrivals.last(last_minutes)
    rng = random.Random(f"{seed} world")
    sizes = Sizes(rng)
    world = World(
        env=simpy.Environment(),
        rng=rng,
        arrivals=arrivals,
        means=means,
        costs=costs,
        authority=scenario.authority,
        sizes=sizes,
        cores=Cores(means.machines, costs),
        book=Book(arrivals.deadline, scenario.dumper),
        returning=Returning(rng),
        manners=IMPATIENT if means.policy is Policy.IMPATIENT else PATIENT,
    )
    stampers = Stampers(world)
    front = Front(world, stampers, random.Random(f"{seed} seconds"), progress)
    for loss in scenario.losses:
        world.env.process(stampers.lose(loss))
    world.env.run(until=front.start())
    return Run(
        scenario.name,
        means,
        costs,
        arrivals,
        world.book,
        world.env.now,
        world.left(),
        world.waiting,
        sizes.mean,
    )
