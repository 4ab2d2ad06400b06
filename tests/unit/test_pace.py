"""Position and time left from a lane's numbers, and what they cost while Valkey says nothing."""

import socket
import time
from collections.abc import Callable

import pytest

from common.forecast import Forecast
from common.pace import UNKNOWN, Entry, LanePace, Pace, Wait


def straight(pace: float, *, stamping: float = 0.0) -> Forecast:
    """A lane that keeps its pace."""
    return Forecast((0.0,), (0.0,), pace, stamping)


def test_the_next_in_line_has_position_one() -> None:
    assert LanePace(10, 4).wait(5).position == 1


def test_a_ticket_that_was_passed_over_is_next() -> None:
    assert LanePace(10, 8).wait(5).position == 1


def test_nothing_measured_means_no_time_is_told() -> None:
    assert LanePace(10, 4).wait(10) == Wait(6, None)
    assert LanePace(10, 4).per_second is None


def test_time_left_is_the_jobs_before_at_the_forecast_pace_and_the_own_stamping() -> None:
    pace = LanePace(accepted=101, served=0, forecast=straight(2.0, stamping=2.0))
    assert pace.wait(101) == Wait(101, 52)
    assert pace.newcomer == Wait(102, 53)


def test_a_lane_that_stands_still_is_not_told_in_years() -> None:
    assert LanePace(10, 0, straight(1e-12)).wait(9) == Wait(9, 7 * 24 * 3600)


def test_without_a_ticket_nothing_is_known() -> None:
    assert LanePace(11, 0, straight(1.0)).wait(None) == UNKNOWN


def test_waiting_is_never_negative() -> None:
    assert LanePace(3, 5).waiting == 0


@pytest.mark.parametrize(
    "ask",
    [
        lambda pace: pace.enter(("stamp.bulk",)),
        lambda pace: pace.enter_several("stamp.bulk", 1)[0],
        lambda pace: pace.withdraw("stamp.bulk", 1),
    ],
    ids=["a document", "a batch", "a batch that came to nothing"],
)
def test_of_those_who_find_valkey_silent_only_the_first_waits(
    ask: Callable[[Pace], Entry | None],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        pace = Pace(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        ask(pace)
        begun = time.monotonic()
        assert ask(pace) in (None, Entry("stamp.bulk", None, UNKNOWN))
        assert time.monotonic() - begun < 0.5


def test_who_must_not_wait_long_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        pace = Pace(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", timeout_seconds=0.05)
        begun = time.monotonic()
        assert pace.lanes() is None
        # Well under the second that others wait.
        assert time.monotonic() - begun < 0.7
