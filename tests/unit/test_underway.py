"""How many requests a process has under way: by what the last acceptances took, and fair to all senders."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.identifiers import new_id
from web.underway import (
    LONGEST_WAIT,
    SLOW_SECONDS,
    Bounds,
    UnderWay,
    Visit,
    next_limit,
    retry_after,
)

BOUNDS = Bounds(all=24, most=16, least=4, target_seconds=0.1)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def under_way(clock: Clock) -> UnderWay:
    return UnderWay(BOUNDS, clock)


def enter(under_way: UnderWay, sender: str = "") -> Visit:
    visit = under_way.enter(sender, submission=True)
    assert visit is not None
    return visit


def test_the_limit_shrinks_by_a_fifth_while_acceptances_are_slow() -> None:
    assert next_limit(16, median_seconds=0.2, refused=True, bounds=BOUNDS) == 12
    assert next_limit(5, median_seconds=0.2, refused=False, bounds=BOUNDS) == 4
    assert next_limit(4, median_seconds=9.0, refused=True, bounds=BOUNDS) == 4


def test_it_grows_by_one_where_it_was_met_and_acceptances_are_quick() -> None:
    assert next_limit(8, median_seconds=0.05, refused=True, bounds=BOUNDS) == 9
    assert next_limit(8, median_seconds=0.05, refused=False, bounds=BOUNDS) == 8
    assert next_limit(16, median_seconds=0.05, refused=True, bounds=BOUNDS) == 16


def test_the_limit_follows_what_is_measured(under_way: UnderWay, clock: Clock) -> None:
    def accept(seconds: float) -> None:
        visits = [enter(under_way, str(number)) for number in range(under_way.limit)]
        assert under_way.enter("one more", submission=True) is None
        clock.now += seconds
        for visit in visits:
            under_way.leave(visit, accepted=True)

    for _ in range(30):
        accept(0.4)
    assert under_way.limit == BOUNDS.least
    for _ in range(200):
        accept(0.09)
    assert under_way.limit == BOUNDS.most


def test_refusals_and_other_requests_measure_nothing(under_way: UnderWay, clock: Clock) -> None:
    for _ in range(100):
        refused = enter(under_way)
        other = under_way.enter("", submission=False)
        assert other is not None
        clock.now += 9
        under_way.leave(refused, accepted=False)
        under_way.leave(other, accepted=True)
    assert under_way.limit == BOUNDS.most
    assert under_way.count() == 0


def test_one_who_sends_all_the_time_leaves_room_for_everybody_else(under_way: UnderWay) -> None:
    for _ in range(12):
        enter(under_way, "dumper")
    assert under_way.enter("dumper", submission=True) is None
    others = [enter(under_way, f"applicant {number}") for number in range(4)]
    assert under_way.enter("yet another", submission=True) is None
    under_way.leave(others[0], accepted=True)
    assert under_way.enter("dumper", submission=True) is None
    enter(under_way, "yet another")


def test_a_body_that_does_not_arrive_takes_a_thread_and_nobodys_place(
    under_way: UnderWay, clock: Clock
) -> None:
    slow = [enter(under_way, str(number)) for number in range(16)]
    for visit in slow:
        visit.waits_since = clock.now
    assert under_way.enter("quick", submission=True) is None
    clock.now += SLOW_SECONDS + 0.01
    quick = [enter(under_way, f"quick {number}") for number in range(8)]
    # Now the threads are taken: there are others for those who only ask.
    assert under_way.enter("ninth", submission=True) is None
    assert under_way.enter("ninth", submission=False) is None
    under_way.leave(quick[0], accepted=True)
    assert under_way.enter("ninth", submission=False) is not None


def test_what_a_sender_took_is_no_time_of_an_acceptance(under_way: UnderWay, clock: Clock) -> None:
    for _ in range(50):
        visit = enter(under_way)
        clock.now += 5
        visit.waited += 4.95
        under_way.leave(visit, accepted=True)
    assert under_way.limit == BOUNDS.most


def test_a_partner_has_so_many_under_way_and_another_as_many(under_way: UnderWay) -> None:
    one, other = new_id(), new_id()
    visits = [enter(under_way) for _ in range(4)]
    assert [under_way.belongs_to(visit, one, 2) for visit in visits[:3]] == [True, True, False]
    assert under_way.belongs_to(visits[3], other, 2)
    under_way.leave(visits[0], accepted=True)
    assert under_way.belongs_to(visits[2], one, 2)


def test_those_refused_come_back_as_fast_as_they_can_be_taken(
    under_way: UnderWay, clock: Clock
) -> None:
    # 100 a second are accepted while others are refused.
    for _ in range(60):
        visits = [enter(under_way, str(number)) for number in range(under_way.limit)]
        assert under_way.enter("", submission=True) is None
        clock.now += len(visits) / 100
        for visit in visits:
            under_way.leave(visit, accepted=True)
    draw = Random(1)
    told = sorted(under_way.come_back(draw.random()) for _ in range(3000))
    # The work of 3,000 takes 30 s: nobody comes before it is done up to there, all within half as
    # long again, and in no second more than a few seconds' worth.
    assert told[0] >= 1
    assert 25 <= told[len(told) * 9 // 10] <= 45
    assert told[-1] <= 30 * 1.5 + 3
    assert max(told.count(second) for second in set(told)) <= 200
    # A minute later nobody waits any more.
    clock.now += 60
    assert under_way.come_back(0.0) == 1


@given(st.floats(0, 1e9), st.floats(0, 1))
def test_nobody_is_sent_away_for_ever_nor_told_to_come_at_once(behind: float, draw: float) -> None:
    assert 1 <= retry_after(behind, draw) <= LONGEST_WAIT * 1.5 + 3
    assert retry_after(behind, draw) >= min(behind, LONGEST_WAIT)


def test_two_that_are_refused_in_one_moment_are_told_different_times() -> None:
    assert {retry_after(0.0, draw / 10) for draw in range(11)} == {1, 2}
    assert len({retry_after(20.0, draw / 10) for draw in range(11)}) > 8
