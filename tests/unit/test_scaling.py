"""How many workers a queue needs: growth at once, shrinking by steps, and never back and forth."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import scaling
from common.scaling import Limits, Load, Memory, desired_workers

LIMITS = Limits(minimum=1, maximum=50, target_wait_seconds=10)
LONG_AGO = math.inf

counts = st.integers(0, 100_000)
ages = st.floats(0, 100_000)
services = st.floats(0.001, 60)
inflows = st.one_of(st.none(), st.floats(0, 2000))
loads = st.builds(
    Load,
    depth=counts,
    oldest_seconds=st.one_of(st.none(), ages),
    service_seconds=st.one_of(st.none(), services),
    inflow=inflows,
)
workers = st.integers(0, 80)
quiet = st.one_of(st.floats(0, 10_000), st.just(LONG_AGO))


def desired(load: Load | None, *, current: int = 1, since: float = LONG_AGO) -> int:
    return desired_workers(load, current=current, limits=LIMITS, since_change_seconds=since)


def test_a_burst_gets_at_once_what_drains_it_within_the_target() -> None:
    burst = Load(depth=1000, oldest_seconds=1, service_seconds=0.1, inflow=0)
    assert desired(burst, since=0) == 10


def test_what_comes_in_is_kept_up_with_besides() -> None:
    assert desired(Load(depth=0, service_seconds=0.1, inflow=80)) == 10


def test_an_old_queue_drains_harder_than_a_young_one() -> None:
    young = Load(depth=1000, oldest_seconds=1, service_seconds=0.1)
    assert desired(replace(young, oldest_seconds=20)) == 20
    assert desired(replace(young, oldest_seconds=10_000)) == 30


def test_one_job_that_nobody_can_stamp_asks_for_one_worker_however_old() -> None:
    stuck = Load(depth=1, oldest_seconds=86_400, service_seconds=30, inflow=0)
    assert desired(stuck) == 1


def test_nobody_leaves_before_a_quiet_time_and_then_one_does() -> None:
    idle = Load(depth=0, oldest_seconds=0, service_seconds=0.1, inflow=0)
    assert desired(idle, current=8, since=scaling.QUIET_SECONDS - 1) == 8
    assert desired(idle, current=8, since=scaling.QUIET_SECONDS) == 7


def test_of_many_a_tenth_leaves() -> None:
    assert desired(Load(depth=0, service_seconds=0.1, inflow=0), current=40) == 36


def test_nobody_leaves_whom_the_inflow_needs() -> None:
    busy = Load(depth=0, oldest_seconds=0, service_seconds=0.1, inflow=40)
    # Five are needed, six with something to spare.
    assert desired(busy, current=7) == 6
    assert desired(busy, current=6) == 6


def test_what_is_there_stays_while_nothing_is_known() -> None:
    assert desired(None, current=7) == 7
    assert desired(None, current=0) == 1


def test_where_nothing_is_measured_it_doubles_while_more_wait_than_work() -> None:
    assert desired(Load(depth=100), current=4, since=0) == 8
    assert desired(Load(depth=5), current=4) == 5
    assert desired(Load(depth=3), current=4) == 4
    assert desired(Load(depth=0), current=4) == 3


def test_limits_that_are_none_are_refused() -> None:
    for minimum, maximum, target in ((2, 1, 10.0), (-1, 1, 10.0), (1, 1, 0.0)):
        with pytest.raises(ValueError, match="no limits"):
            Limits(minimum=minimum, maximum=maximum, target_wait_seconds=target)


@given(st.one_of(st.none(), loads), workers, quiet)
def test_it_stays_within_the_limits(load: Load | None, current: int, since: float) -> None:
    assert LIMITS.minimum <= desired(load, current=current, since=since) <= LIMITS.maximum


@given(loads, workers, quiet, st.integers(0, 10_000))
def test_a_longer_queue_never_gets_fewer(load: Load, current: int, since: float, more: int) -> None:
    longer = replace(load, depth=load.depth + more)
    assert desired(longer, current=current, since=since) >= desired(
        load, current=current, since=since
    )


@given(loads, workers, quiet, ages)
def test_an_older_queue_never_gets_fewer(
    load: Load, current: int, since: float, more: float
) -> None:
    older = replace(load, oldest_seconds=(load.oldest_seconds or 0) + more)
    assert desired(older, current=current, since=since) >= desired(
        load, current=current, since=since
    )


@given(loads, workers)
def test_it_never_shrinks_soon_after_a_change(load: Load, current: int) -> None:
    assert desired(load, current=current, since=1) >= min(current, LIMITS.maximum)


@given(loads, workers, quiet)
def test_what_it_asks_for_it_does_not_ask_to_change_at_once(
    load: Load, current: int, since: float
) -> None:
    """But for a queue that nothing is measured of, which doubles and doubles."""
    first = desired(load, current=current, since=since)
    if load.service_seconds is not None:
        assert desired(load, current=first, since=0) == first


def _run(inflow: float, service: float, start: int, backlog: float, seconds: int) -> list[int]:
    """Let a queue fill and drain by the second under the policy; returns the workers of each."""
    limits = Limits(minimum=1, maximum=10_000, target_wait_seconds=10)
    memory = Memory(workers=start, changed_at=-1000, looked_at=-1, accepted=0)
    depth, accepted, history = backlog, 0.0, []
    for second in range(seconds):
        accepted += inflow
        depth = max(0.0, depth + inflow - memory.workers / service)
        memory = memory.look(accepted=round(accepted), now=second)
        load = Load(
            depth=math.ceil(depth),
            oldest_seconds=depth * service / max(1, memory.workers),
            service_seconds=service,
            inflow=memory.inflow,
        )
        memory = memory.decide(load, limits=limits, now=second)
        history.append(memory.workers)
    return history


@given(st.floats(0.5, 200), st.floats(0.01, 2), st.integers(1, 100), st.floats(0, 20_000))
def test_constant_load_ends_in_a_number_that_stays_and_suffices(
    inflow: float, service: float, start: int, backlog: float
) -> None:
    history = _run(inflow, service, start, backlog, seconds=3000)
    settled = history[-300:]
    assert len(set(settled)) == 1
    assert settled[0] >= inflow * service
    # It went up and then down, not back and forth.
    after_the_peak = history[history.index(max(history)) :]
    assert all(later <= earlier for earlier, later in pairwise(after_the_peak))


def test_inflow_is_a_running_mean_that_a_counter_set_right_does_not_move() -> None:
    memory = Memory(workers=1, changed_at=0, looked_at=0, accepted=0)
    memory = memory.look(accepted=50, now=5)
    assert memory.inflow == 10
    assert memory.look(accepted=60, now=5.5) is memory
    jumped = memory.look(accepted=10_000_000, now=6)
    assert (jumped.inflow, jumped.accepted) == (10, 10_000_000)
    fallen = jumped.look(accepted=5, now=7)
    assert (fallen.inflow, fallen.accepted) == (10, 5)
    slower = fallen.look(accepted=5, now=17)
    assert slower.inflow == pytest.approx(10 * math.exp(-10 / scaling.INFLOW_SECONDS))


def test_a_clock_that_was_set_back_begins_anew() -> None:
    memory = Memory(workers=3, changed_at=1000, looked_at=1000, accepted=10, inflow=2.0)
    back = memory.look(accepted=12, now=400)
    assert (back.looked_at, back.accepted, back.inflow) == (400, 12, 2.0)
