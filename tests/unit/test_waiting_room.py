"""The waiting room from values alone: how many turns, how long the others wait, how often they ask."""

from datetime import UTC, datetime, timedelta

import pytest

from common.admission import OPEN, Lane, Setting, State
from common.room import policy
from common.room.board import Board, PlaceState, Stand
from common.room.policy import Forecast, Room

NOW = datetime(2024, 9, 6, 16, 0, tzinfo=UTC)
CLOSED = Setting(State.CLOSED)
UNTIL = Setting(State.CLOSED, reopens_at=NOW + timedelta(minutes=10))


def room(
    waiting: int = 1000, expected: float = 0.0, each: float = 1.0, since: float | None = 1.0
) -> Room:
    return Room(
        waiting=waiting, expected_jobs=expected, jobs_per_slot=each, seconds_since_turns=since
    )


def lane(seconds_left: float, per_job: float = 0.1) -> Lane:
    return Lane(round(seconds_left / per_job), seconds_left, per_job)


@pytest.mark.parametrize(
    ("room", "setting", "lane", "expected"),
    [
        # As many as bring the lane to its horizon of 60 s: one job is 0.1 s.
        (room(), OPEN, lane(59.0), 10),
        (room(), OPEN, lane(60.0), 0),
        (room(), OPEN, lane(90.0), 0),
        (room(waiting=3), OPEN, lane(59.0), 3),
        (room(waiting=0), OPEN, lane(0.0), 0),
        # Those in their slots will come yet, and have the room that they need.
        (room(expected=8.0), OPEN, lane(59.0), 2),
        (room(expected=10.0), OPEN, lane(59.0), 0),
        # Of two slots one is used: twice as many turns bring as many jobs; of two jobs a slot, half.
        (room(each=0.5), OPEN, lane(59.0), 20),
        (room(each=2.0), OPEN, lane(59.0), 5),
        # An empty lane is filled at four times its pace, not all at once.
        (room(), OPEN, lane(0.0), 40),
        (room(since=0.5), OPEN, lane(0.0), 20),
        (room(since=500.0), OPEN, lane(0.0), 80),
        (room(since=None), OPEN, lane(0.0), 80),
        # Nothing measured: a trickle.
        (room(), OPEN, Lane(), 10),
        # Slow: no more than that, and what is slower than a round saves up for it.
        (room(), Setting(State.SLOW, rate=3.0), lane(0.0), 3),
        (room(), Setting(State.SLOW, rate=0.1), lane(0.0), 0),
        (room(since=10.0), Setting(State.SLOW, rate=0.1), lane(0.0), 1),
        (room(since=1e6), Setting(State.SLOW, rate=0.1), lane(0.0), 1),
        (room(), Setting(State.SLOW, rate=900.0), lane(60.0), 0),
        # Closed: none, until its time.
        (room(), CLOSED, lane(0.0), 0),
        (room(), UNTIL, lane(0.0), 0),
    ],
)
def test_how_many_turns_there_are(room: Room, setting: Setting, lane: Lane, expected: int) -> None:
    assert policy.turns(room, setting=setting, lane=lane, horizon_seconds=60, now=NOW) == expected


def test_the_dead_do_not_hold_up_the_living() -> None:
    """Many wait, nine of ten have left: the lane is kept as long as if all were there."""
    paces = {}
    for share in (1.0, 0.1):
        backlog, waiting, taken, slots, jobs = 600.0, 100_000, 0, 0, 0.0
        for _ in range(120):
            backlog = max(0.0, backlog - 10)
            each = policy.jobs_per_slot(slots=slots, jobs=round(jobs))
            now = Room(waiting=waiting, expected_jobs=0, jobs_per_slot=each, seconds_since_turns=1)
            turns = policy.turns(
                now, setting=OPEN, lane=lane(backlog * 0.1), horizon_seconds=60, now=NOW
            )
            waiting, taken, slots = waiting - turns, taken + turns, slots + turns
            jobs += turns * share
            backlog += turns * share
        assert backlog == pytest.approx(600, rel=0.05)
        paces[share] = taken
    assert paces[0.1] == pytest.approx(10 * paces[1.0], rel=0.1)


def test_how_long_the_room_waits() -> None:
    # Nobody comes in until the lane is down to its horizon; then one for each job that is taken up.
    told = policy.forecast(
        room(expected=50.0, each=0.5), setting=OPEN, lane=lane(100.0), horizon_seconds=60, now=NOW
    )
    assert told == Forecast(first=45.0, each=0.05)
    assert told.seconds(99) == pytest.approx(50.0)
    slow = Setting(State.SLOW, rate=2.0)
    told = policy.forecast(room(), setting=slow, lane=lane(0.0), horizon_seconds=60, now=NOW)
    assert told == Forecast(0.0, 0.5)
    told = policy.forecast(room(), setting=UNTIL, lane=lane(100.0), horizon_seconds=60, now=NOW)
    assert told == Forecast(600.0, 0.1)
    assert policy.forecast(room(), setting=CLOSED, lane=Lane(), horizon_seconds=1, now=NOW) is None


@pytest.mark.parametrize("waiting", [10, 10_000, 500_000])
@pytest.mark.parametrize("each", [0.0036, 0.1])
def test_all_who_ask_stay_within_the_budget_and_nobody_misses_a_slot(
    waiting: int, each: float
) -> None:
    """Each place asks as it is told until its turn comes; then all questions are counted."""
    budget, slot = 2000.0, 600.0
    told = Forecast(0.0, each)
    wait, asked = waiting * each, 0
    while wait > 0:
        pause = policy.ask_again_seconds(
            wait, waiting=waiting, forecast=told, polls_per_second=budget, slot_seconds=slot
        )
        assert 2 <= pause <= slot * 0.8
        wait, asked = wait - pause, asked + 1
    assert asked / each <= budget * 1.2, "questions of one place, times places a second"
    assert -wait <= slot * 0.8, "it sees its turn while most of a slot may yet be left"


def test_while_nobody_knows_how_long_all_ask_within_the_budget() -> None:
    for waiting, pause in ((5, 30.0), (200_000, 100.0), (5_000_000, 480.0)):
        assert pause == policy.ask_again_seconds(
            None, waiting=waiting, forecast=None, polls_per_second=2000, slot_seconds=600
        )


def board(**changed: object) -> Board:
    facts: dict[str, object] = {
        "made_at": 1000.0,
        "served": 30,
        "last": 100,
        "over": 10,
        "turns": ((20, 500.0), (30, 900.0)),
        "slot_seconds": 600.0,
        "setting": OPEN,
        "forecast": Forecast(5.0, 0.5),
    }
    return Board(**(facts | changed))  # type: ignore[arg-type]


def test_a_number_and_the_board_say_where_a_place_stands() -> None:
    at = 1000.0
    assert board().stand(31, at) == Stand(PlaceState.WAITING, 0, 5.5)
    assert board().stand(100, at) == Stand(PlaceState.WAITING, 69, 40.0)
    assert board().stand(100, at + 10) == Stand(PlaceState.WAITING, 69, 30.0)
    assert board().stand(31, at + 60) == Stand(PlaceState.WAITING, 0, 1.0)
    ends = datetime.fromtimestamp
    assert board().stand(11, at) == Stand(PlaceState.ADMITTED, ends_at=ends(1100, UTC))
    assert board().stand(20, at) == board().stand(11, at)
    assert board().stand(21, at) == Stand(PlaceState.ADMITTED, ends_at=ends(1500, UTC))
    assert board().stand(20, 1100.0) == Stand(PlaceState.EXPIRED)
    assert board().stand(10, at) == Stand(PlaceState.EXPIRED)
    assert board(forecast=None).stand(31, at) == Stand(PlaceState.WAITING, 0)


def test_a_closed_gate_stops_the_clock_of_slots() -> None:
    assert board(setting=CLOSED).stand(20, 1e9) == Stand(PlaceState.ADMITTED)
    assert board(setting=CLOSED).stand(10, 1e9) == Stand(PlaceState.EXPIRED)


def test_a_mirrored_board_is_the_same() -> None:
    for made in (board(), board(forecast=None, turns=(), setting=UNTIL)):
        assert Board.from_json(made.as_json()) == made
