"""'How many workers would September 2024 have needed', and what one machine would have done."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from deploy.simulate import model, search
from deploy.simulate.costs import CORES, Costs
from deploy.simulate.model import Run
from deploy.simulate.search import SEARCHED_MINUTES, Found
from deploy.simulate.setup import Means, Policy, Scenario

SHARE = 0.95
Told = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a scenario needs so that 95 of 100 documents are stamped within a time.

    Attributes:
        target_seconds: the time, from the first try to the stamp.
        workers: stamping processes with a core each; front ends and the database run elsewhere.
        machines: two-core machines that do everything.
        database_cores: cores that PostgreSQL takes in the busiest minute.
        one_machine: what one of these machines does alone.
    """

    target_seconds: float
    workers: Found
    machines: Found
    database_cores: float
    one_machine: Run


def find(
    scenario: Scenario,
    costs: Costs,
    *,
    target_seconds: float,
    seed: int,
    scale: float,
    days: int,
    told: Told,
) -> Answer:
    """Search; each run is told before it is made."""
    run: dict[str, Any] = {"seed": seed, "scale": scale, "days": days}
    told("one machine alone")
    alone = model.run(scenario, machines(1), costs, **run)
    by_minute = alone.arrivals.by_minute
    last = alone.arrivals.last(SEARCHED_MINUTES)
    share = search.share_of_last(SHARE, alone.arrivals.documents, last.documents)

    def wait(means: Means) -> float | None:
        told(words(means))
        tried = model.run(scenario, means, costs, last_minutes=SEARCHED_MINUTES, **run)
        return tried.book.all_waits.percentile(share)

    def needed(per_second_each: float, means: Callable[[int], Means]) -> Found:
        first = search.guess(by_minute, per_second_each, SHARE, target_seconds)
        return search.smallest(first, lambda number: wait(means(number)), target_seconds)

    return Answer(
        target_seconds=target_seconds,
        workers=needed(1000 / costs.stamp_ms, workers),
        machines=needed(CORES * 1000 / costs.job_ms, machines),
        database_cores=max(by_minute) / 60 * costs.database_ms / 1000,
        one_machine=alone,
    )


def workers(number: int) -> Means:
    """Return so many workers, and front ends that are never short."""
    return Means(minimum=number, maximum=number, policy=Policy.GATE)


def machines(number: int) -> Means:
    """Return so many machines that do everything, with a worker a core."""
    return replace(workers(number * CORES), machines=number)


def words(means: Means) -> str:
    """Return what stands against the arrivals, in words."""
    if means.machines is not None:
        return f"{means.machines} two-core machines, {means.maximum} workers on them"
    if means.fixed:
        return f"{means.maximum} workers"
    return f"{means.minimum} to {means.maximum} workers, autoscaled"
