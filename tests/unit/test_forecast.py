"""How a lane goes on: the crew's pace, its turns, and what the other lanes hold."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.forecast import (
    INFLOW_SECONDS,
    MARKS_KEPT,
    WINDOW_SECONDS,
    Came,
    LaneState,
    Meter,
    forecast,
    inflow,
)
from common.lanes import APPLICANT_LANE, BULK_LANE, PARTNER_LANES, STAMP_LANES

FIRST, SECOND = PARTNER_LANES[:2]


def seconds(
    lane: str, position: int, pace: float = 10.0, **waiting: int | LaneState
) -> float | None:
    names = {"applicant": APPLICANT_LANE, "first": FIRST, "second": SECOND, "bulk": BULK_LANE}
    lanes = {
        names[name]: held if isinstance(held, LaneState) else LaneState(waiting=held)
        for name, held in waiting.items()
    }
    found = forecast(lane, lanes, pace=pace, service_seconds=0.0)
    return None if found is None else found.seconds_until(position)


def test_a_lane_by_itself_has_the_whole_pace() -> None:
    assert seconds(FIRST, 101, first=500) == pytest.approx(10.0, abs=0.2)


def test_two_lanes_of_a_kind_have_half_of_it_each() -> None:
    assert seconds(FIRST, 101, first=500, second=500) == pytest.approx(20, abs=0.2)


def test_bulk_waits_for_its_turns_and_has_everything_once_the_others_are_empty() -> None:
    # 160 and 160 jobs leave at 16/33 of 10 a second each, in 33 s, beside 10 of bulk.
    queues = {"applicant": 160, "first": 160, "bulk": 500}
    assert seconds(BULK_LANE, 6, **queues) == pytest.approx(16.5, abs=0.2)
    assert seconds(BULK_LANE, 111, **queues) == pytest.approx(43, abs=0.2)


def test_what_keeps_coming_into_another_lane_is_taken_before_what_waits() -> None:
    steady = LaneState(waiting=0, inflow=4.0)
    assert seconds(BULK_LANE, 61, applicant=steady, bulk=500) == pytest.approx(10, abs=0.2)


def test_more_than_a_lane_can_take_leaves_the_others_their_share() -> None:
    flood = LaneState(waiting=0, inflow=1000.0)
    # One turn in seventeen.
    assert seconds(BULK_LANE, 21, applicant=flood, bulk=500) == pytest.approx(34, abs=0.2)


def test_a_lane_whose_jobs_leave_sixteen_in_a_turn_has_more_of_the_pace() -> None:
    grouped = LaneState(waiting=10_000, per_turn=16.0)
    alone = seconds(BULK_LANE, 161, bulk=10_000, applicant=10_000)
    together = seconds(BULK_LANE, 161, bulk=grouped, applicant=10_000)
    assert alone is not None
    assert together is not None
    assert together < alone / 3


def test_without_a_pace_nothing_is_told() -> None:
    assert forecast(FIRST, {FIRST: LaneState(waiting=1)}, pace=None, service_seconds=1.0) is None


@given(
    st.dictionaries(
        st.sampled_from(STAMP_LANES),
        st.builds(
            LaneState,
            waiting=st.integers(0, 10**6),
            inflow=st.floats(0, 200),
            per_turn=st.floats(1, 16),
        ),
        min_size=1,
    ),
    st.floats(0.01, 5000),
)
def test_a_place_further_back_never_comes_sooner(lanes: dict[str, LaneState], pace: float) -> None:
    for lane in lanes:
        found = forecast(lane, lanes, pace=pace, service_seconds=0.1)
        assert found is not None
        told = [found.seconds_until(place) for place in (1, 2, 50, 1000, 10**6)]
        assert told == sorted(told)
        assert told[-1] >= (10**6 - 1) / pace * 0.999, "nobody is faster than the whole crew"


def meter_of(pace: float, busy_seconds: float, *, per_turn: int = 1, begin: float = 0.0) -> Meter:
    """A crew that took jobs at an even pace while others waited."""
    meter = Meter()
    for turn in range(int(pace / per_turn * busy_seconds) + 1):
        meter.took(begin + turn * per_turn / pace, per_turn, waiting=9)
    return meter


@pytest.mark.parametrize("per_turn", [1, 16])
def test_the_pace_is_what_was_taken_while_others_waited(per_turn: int) -> None:
    counts = meter_of(20.0, 60.0, per_turn=per_turn).counts()
    assert counts.pace(60.0, waiting_since=0.0, guess=7.0) == pytest.approx(20, rel=0.1)


def test_a_pace_that_changes_is_followed_within_thirty_seconds() -> None:
    meter = meter_of(20.0, 60.0)
    for turn in range(300):
        meter.took(60.0 + turn / 10, 1, waiting=9)
    assert meter.counts().pace(90.0, waiting_since=0.0, guess=20.0) == pytest.approx(10, rel=0.05)


def test_while_nobody_takes_what_waits_the_pace_falls_and_never_ends() -> None:
    counts = meter_of(20.0, 60.0).counts()
    paces = [counts.pace(60.0 + away, waiting_since=0.0, guess=20.0) for away in (0, 10, 60, 3600)]
    assert all(pace is not None and pace > 0 for pace in paces)
    assert paces == sorted(paces, key=lambda pace: -(pace or 0))
    assert (paces[2] or 0) < 5


def test_a_lane_that_was_idle_for_an_hour_is_measured_by_its_last_rush() -> None:
    counts = meter_of(20.0, 60.0).counts()
    assert counts.pace(3660.0, waiting_since=3660.0, guess=25.0) == pytest.approx(20, rel=0.1)


def test_a_first_rush_is_guessed_from_the_workers_and_their_usual_time() -> None:
    assert Meter().counts().pace(5.0, waiting_since=5.0, guess=8.0) == pytest.approx(8.0)
    assert Meter().counts().pace(5.0, waiting_since=5.0, guess=None) is None
    away = Meter().counts().pace(65.0, waiting_since=5.0, guess=8.0)
    assert away is not None
    assert 0 < away < 1, "nobody has come yet"


def test_a_crew_holds_no_more_however_long_it_is_measured() -> None:
    assert len(meter_of(2.0, 50 * WINDOW_SECONDS).counts().marks) == MARKS_KEPT


def test_inflow_is_of_the_last_seconds_and_a_burst_does_not_last() -> None:
    short, long = INFLOW_SECONDS
    steady = tuple(Came(0) for _ in INFLOW_SECONDS)
    now = 0.0
    for count in range(6000):
        now = count / 10
        steady = tuple(
            came.until(now, count, span) for came, span in zip(steady, INFLOW_SECONDS, strict=True)
        )
    assert inflow(now, 6000, steady) == pytest.approx(10, rel=0.05)
    assert inflow(now + 3 * short, 6000, steady) == 0
    quiet = replace(steady[1], span=int(now // long))
    burst = inflow(now, 6500, (Came(int(now // short), 6000, 6000), quiet))
    assert burst < 30, "five hundred within a second are no five hundred a second"
