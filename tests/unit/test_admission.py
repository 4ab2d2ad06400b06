"""Who may come in, from values alone: the gate's setting, the lane's time left, the caller's place."""

from datetime import UTC, datetime, timedelta

import pytest

from common import admission
from common.admission import (
    OPEN,
    REOPENING_SHARE,
    Admit,
    Decision,
    Kind,
    Lane,
    Later,
    Setting,
    Standing,
    State,
    Wait,
    Why,
)
from common.forecast import Forecast
from common.pace import LanePace

NOW = datetime(2024, 9, 6, 16, 0, tzinfo=UTC)
HORIZON = 3600
SHORT, LONG, UNKNOWN = Lane(5, 60.0, 12.0), Lane(9000, 4000.0, 0.44), Lane()
CLOSED = Setting(State.CLOSED, reason="store full")
UNTIL = Setting(State.CLOSED, reopens_at=NOW + timedelta(minutes=30))
OVER = Setting(State.CLOSED, reopens_at=NOW)
SLOW = Setting(State.SLOW, rate=2.0)
A, P, B = Kind.APPLICANT, Kind.PARTNER, Kind.BULK
NONE, WAITING, TURN = Standing.NONE, Standing.WAITING, Standing.TURN
BACK_IN = Later(Why.FULL, 4000.0 - 3600 * REOPENING_SHARE)


@pytest.mark.parametrize(
    ("kind", "setting", "lane", "slow_wait", "place", "room", "expected"),
    [
        # Within the horizon, or nobody knows: come in.
        (A, OPEN, SHORT, 0, NONE, 0, Admit()),
        (P, OPEN, SHORT, 0, NONE, 0, Admit()),
        (B, OPEN, SHORT, 0, NONE, 0, Admit()),
        (A, OPEN, UNKNOWN, 0, NONE, 0, Admit()),
        (P, OPEN, UNKNOWN, 0, NONE, 0, Admit()),
        # Past it: applicants into the room, partners later, by the time that it takes.
        (A, OPEN, LONG, 0, NONE, 0, Wait(Why.FULL)),
        (P, OPEN, LONG, 0, NONE, 0, BACK_IN),
        (B, OPEN, LONG, 0, NONE, 0, BACK_IN),
        # Nobody overtakes those in the room, also where the lane has room.
        (A, OPEN, SHORT, 0, NONE, 1, Wait(Why.FULL)),
        (A, OPEN, UNKNOWN, 0, NONE, 1, Wait(Why.FULL)),
        (A, OPEN, SHORT, 0, WAITING, 0, Wait(Why.FULL)),
        (P, OPEN, SHORT, 0, NONE, 1_000_000, Admit()),
        # Whose turn has come comes in, past the horizon and past the room.
        (A, OPEN, LONG, 0, TURN, 500, Admit()),
        (A, SLOW, LONG, 9.0, TURN, 500, Admit()),
        # Closed is closed, also for them.
        (A, CLOSED, SHORT, 0, TURN, 0, Later(Why.CLOSED, None)),
        (A, UNTIL, SHORT, 0, NONE, 0, Later(Why.CLOSED, 1800.0)),
        (P, CLOSED, SHORT, 0, NONE, 0, Later(Why.CLOSED, None)),
        (B, UNTIL, LONG, 0, NONE, 0, Later(Why.CLOSED, 1800.0)),
        # Until its time is over.
        (P, OVER, SHORT, 0, NONE, 0, Admit()),
        (P, OVER, LONG, 0, NONE, 0, BACK_IN),
        # Slow: in turn.
        (P, SLOW, SHORT, 0, NONE, 0, Admit()),
        (P, SLOW, SHORT, 3.0, NONE, 0, Later(Why.SLOW, 3.0)),
        (A, SLOW, SHORT, 3.0, NONE, 0, Wait(Why.SLOW)),
        (A, SLOW, SHORT, 0, NONE, 0, Admit()),
        # Full as well as slow: the longer wait is the true one.
        (P, SLOW, LONG, 3.0, NONE, 0, BACK_IN),
    ],
)
def test_who_comes_in(
    kind: Kind,
    setting: Setting,
    lane: Lane,
    slow_wait: float,
    place: Standing,
    room: int,
    expected: Decision,
) -> None:
    decided = admission.decide(
        kind=kind,
        setting=setting,
        lane=lane,
        horizon_seconds=HORIZON,
        was_full=False,
        now=NOW,
        slow_wait_seconds=slow_wait,
        place=place,
        room_waiting=room,
    )
    assert decided == expected


def test_a_full_gate_opens_a_good_while_below_the_horizon_and_not_at_it() -> None:
    full, seen = False, []
    for seconds_left in (3599, 3601, 3599, 3300, 3241, 3240, 3500, 3600, 3601):
        full = admission.is_full(
            Lane(1, float(seconds_left), 1.0), horizon_seconds=HORIZON, was_full=full
        )
        seen.append(full)
    assert seen == [False, True, True, True, True, False, False, False, True]


def test_when_to_come_back_is_when_the_gate_opens_and_not_before() -> None:
    for seconds_left in (3601.0, 5000.0, 90_000.0):
        decided = admission.decide(
            kind=P,
            setting=OPEN,
            lane=Lane(100, seconds_left, 1.0),
            horizon_seconds=HORIZON,
            was_full=True,
            now=NOW,
        )
        assert isinstance(decided, Later)
        assert decided.seconds is not None
        then = Lane(100, seconds_left - decided.seconds, 1.0)
        assert not admission.is_full(then, horizon_seconds=HORIZON, was_full=True)
        sooner = Lane(100, seconds_left - decided.seconds + 1, 1.0)
        assert admission.is_full(sooner, horizon_seconds=HORIZON, was_full=True)


def test_a_lane_is_what_a_newcomer_finds() -> None:
    two_a_second = Forecast(seconds=(0.0,), jobs=(0.0,), pace=2.0, stamping=2.0)
    lane = Lane.of(LanePace(accepted=1000, served=400, forecast=two_a_second))
    assert (lane.waiting, lane.seconds_left, lane.seconds_per_job) == (600, 302, 0.5)
    assert Lane.of(LanePace(accepted=5, served=5)) == Lane(0)
    assert Lane.of(None) == Lane()
