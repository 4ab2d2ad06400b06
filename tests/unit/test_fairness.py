"""One partner dumps all that it has: what the others wait, played with the real lanes, turns and paces."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from uuid import UUID

import pytest

from common.allowances import Allowance
from common.lanes import APPLICANT_LANE, BULK_LANE, STAMP_LANES, lanes_of, partner_lanes
from common.turns import WeightedTurns

# Seconds that a worker takes for one job, and how many workers there are: 100 jobs a second.
SERVICE = 0.02
WORKERS = 2
SECONDS = 60
DUMPER = UUID(int=1)
APPLICANTS = "applicants"


@dataclass(frozen=True, slots=True)
class Job:
    """A job, and whose it is."""

    at: float
    whose: UUID | str


class Paces:
    """The buckets of `Allowance.prompt`, by the clock of the play; what common/rates.py does in Valkey."""

    def __init__(self) -> None:
        limit = Allowance(60_000, 16, 1200).prompt
        assert limit.owes
        self._window, self._each = limit.seconds, limit.seconds / limit.count
        self._full: dict[UUID, float] = {}

    def take(self, whose: UUID, now: float) -> bool:
        full = max(self._full.get(whose, now), now)
        self._full[whose] = min(full + self._each, now + 2 * self._window)
        return now + self._window - full >= self._each


def of_shape(shared: int) -> UUID:
    """Return a partner that has so many lanes in common with the dumper."""
    theirs = set(partner_lanes(DUMPER))
    return next(
        UUID(int=n)
        for n in range(2, 10_000)
        if len(theirs & set(partner_lanes(UUID(int=n)))) == shared
    )


def arrivals(load: float) -> Iterator[Job]:
    """Yield the jobs of a minute: a third by applicants, the rest by six partners, at random times."""
    draw = Random(7)
    partners = [of_shape(shared) for shared in (0, 1, 2)]
    partners += [UUID(int=n) for n in range(20_000, 20_003)]
    at = draw.expovariate(load * WORKERS / SERVICE)
    while at < SECONDS:
        whose = APPLICANTS if draw.random() < 1 / 3 else draw.choice(partners)
        yield Job(at, whose)
        at += draw.expovariate(load * WORKERS / SERVICE)


def play(jobs: Sequence[Job], *, in_a_message: int = 1) -> dict[UUID | str, list[float]]:
    """Return how long the jobs of each waited until they were stamped, in order of their arrival."""
    lanes: dict[str, deque[Job]] = {lane: deque() for lane in STAMP_LANES}
    turns, paces = WeightedTurns(STAMP_LANES), Paces()
    free = [0.0] * WORKERS
    waits: dict[UUID | str, list[float]] = {}
    coming = deque(sorted(jobs, key=lambda job: job.at))

    def arrive() -> None:
        job = coming.popleft()
        if isinstance(job.whose, UUID):
            choice = lanes_of(job.whose, prompt=paces.take(job.whose, job.at))
        else:
            choice = (APPLICANT_LANE,)
        min((lanes[lane] for lane in choice), key=len).append(job)

    while True:
        now = min(free)
        while coming and coming[0].at <= now:
            arrive()
        lane = next((lane for lane in turns.consume(len(lanes)) if lanes[lane]), None)
        if lane is None:
            if not coming:
                return waits
            # Nothing to do: all workers wait for the next to come.
            free = [max(at, coming[0].at) for at in free]
            continue
        turns.rotate(lane)
        worker = free.index(now)
        for _ in range(min(in_a_message, len(lanes[lane]))):
            job = lanes[lane].popleft()
            free[worker] += SERVICE
            waits.setdefault(job.whose, []).append(free[worker] - job.at)


def p95(waits: Sequence[float]) -> float:
    return sorted(waits)[int(0.95 * len(waits))]


def dump(count: int) -> list[Job]:
    """All that the dumper has, sent as fast as a front end takes it."""
    return [Job(number / 500, DUMPER) for number in range(count)]


@pytest.fixture(scope="module", params=[0.3, 0.5, 0.7])
def usual(request: pytest.FixtureRequest) -> list[Job]:
    return list(arrivals(request.param))


def test_a_dump_at_most_doubles_what_any_other_partner_waits(usual: list[Job]) -> None:
    before, during = play(usual), play(usual + dump(10_000))
    for shared in (0, 1, 2):
        partner = of_shape(shared)
        assert p95(during[partner]) <= 2 * p95(before[partner])


def test_an_applicant_waits_at_most_half_as_long_again(usual: list[Job]) -> None:
    before, during = play(usual), play(usual + dump(10_000))
    assert p95(during[APPLICANTS]) <= 1.5 * p95(before[APPLICANTS])


def test_without_paces_whoever_shares_both_lanes_of_the_dumper_would_wait_behind_it(
    usual: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Paces, "take", lambda *_: True)
    during = play(usual + dump(10_000))
    assert p95(during[of_shape(2)]) > 10
    assert p95(during[of_shape(1)]) < p95(during[of_shape(2)]) / 5


def test_nothing_is_left_lying_while_a_worker_is_free(usual: list[Job]) -> None:
    during = play(usual + dump(10_000))
    assert len(during[DUMPER]) == 10_000
    whole = len(usual) + 10_000
    assert max(during[DUMPER]) <= whole * SERVICE / WORKERS


def test_messages_of_several_jobs_cost_others_no_more_than_one_message_each(
    usual: list[Job],
) -> None:
    alone, together = (play(usual + dump(10_000), in_a_message=count) for count in (1, 16))
    for whose in (APPLICANTS, of_shape(0), of_shape(2)):
        assert p95(together[whose]) <= p95(alone[whose]) + 2 * 16 * SERVICE


def test_partners_that_keep_to_their_pace_stay_in_their_own_lanes() -> None:
    # Ten a second, half of what goes there.
    paces, partner = Paces(), of_shape(0)
    lanes = {lanes_of(partner, prompt=paces.take(partner, n / 10))[0] for n in range(600)}
    assert BULK_LANE not in lanes
