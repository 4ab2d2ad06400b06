"""Polls: what everybody together asks, and how soon somebody learns that a job is done."""

import heapq
import math
import random
from collections import Counter

import pytest

from common import polls
from common.forecast import Forecast
from common.pace import HELD_UP, UNKNOWN, LanePace, Wait
from common.polls import Rhythm

MILLION = 1_000_000
# A million documents an hour, as a lane's measured interval.
HOURLY_US = 3600
BUDGET = 500.0


def lane(waiting: int, interval_us: int | None = HOURLY_US) -> LanePace:
    forecast = None if interval_us is None else Forecast((0.0,), (0.0,), 1e6 / interval_us, 0.0)
    return LanePace(waiting, 0, forecast)


def asked_together(rhythm: Rhythm, waiting: int, seconds_each: float) -> float:
    """Sum what each of those who wait asks in a second, one by one, at a middling spread."""
    return sum(1 / rhythm.pause(place * seconds_each, 0.5) for place in range(1, waiting + 1))


@pytest.mark.parametrize("waiting", [1, 10, 1000, 100_000])
@pytest.mark.parametrize("seconds_each", [0.0036, 0.1, 2.0, 90.0])
@pytest.mark.parametrize("strain", [0, 0.3, 0.9])
def test_what_a_lane_asks_in_all_is_what_its_members_ask_one_by_one(
    waiting: int, seconds_each: float, strain: float
) -> None:
    rhythm = polls.strained(strain)
    one_by_one = asked_together(rhythm, waiting, seconds_each)
    assert rhythm.polls_per_second(waiting, seconds_each) == pytest.approx(
        one_by_one, rel=0.06, abs=1
    )


@pytest.mark.parametrize("waiting", [100, 10_000, 100_000])
def test_at_a_pace_that_the_budget_allows_every_moment_keeps_within_it(waiting: int) -> None:
    """However they came to ask just now: also when all reload their pages at once."""
    rhythm = polls.rhythms({"a": lane(waiting, 20_000)}, BUDGET)["a"]
    assert asked_together(rhythm, waiting, 0.02) <= BUDGET * 1.01


def test_a_waiting_job_is_asked_for_after_a_quarter_of_what_is_left_at_ordinary_times() -> None:
    rhythm = polls.rhythms({"a": lane(1000, 100_000)}, BUDGET)["a"]
    assert rhythm == Rhythm()
    assert [rhythm.pause(left, 0) for left in (1, 4, 40, 400, 4000)] == [1, 1, 10, 100, 120]


def test_a_short_lane_keeps_its_rhythm_beside_a_lane_of_a_million() -> None:
    rhythms = polls.rhythms({"long": lane(MILLION), "short": lane(50, 200_000)}, BUDGET)
    assert rhythms["short"] == Rhythm()
    assert rhythms["long"].pause(3600, 0) >= 3600


def test_at_an_ordinary_pace_everybody_learns_within_seconds() -> None:
    """Ten thousand wait and ten leave a second: from four seconds before the end, asked each second."""
    rhythm = polls.rhythms({"a": lane(10_000, 100_000)}, BUDGET)["a"]
    assert max(rhythm.pause(left, 0.99) for left in range(5)) <= 1


def test_nearer_the_end_nobody_is_told_to_wait_longer() -> None:
    for strain in (0, 0.5, 1):
        rhythm = polls.strained(strain)
        pauses = [rhythm.pause(left, 0) for left in range(5000)]
        assert pauses == sorted(pauses)


def test_a_budget_is_shared_as_friends_share_a_bill() -> None:
    assert polls.shares({"a": 10, "b": 500, "c": 900}, 610) == {"a": 10, "b": 300, "c": 300}
    assert polls.shares({"a": 1, "b": 2}, 10) == {"a": 1, "b": 2}


def test_where_no_pace_is_measured_the_waiting_share_the_budget_evenly() -> None:
    rhythms = polls.rhythms({"few": lane(10, None), "many": lane(MILLION, None)}, BUDGET)
    assert rhythms["few"].pause(None, 0) == polls.UNMEASURED
    assert MILLION / rhythms["many"].pause(None, 0.5) <= BUDGET * 1.01
    assert polls.rhythms({"none": lane(0, None)}, BUDGET)["none"] == Rhythm()


def test_what_is_in_no_lane_is_asked_for_at_its_own_time() -> None:
    strained = polls.strained(1)
    assert polls.retry_after(UNKNOWN, strained, 0) == 2
    assert polls.retry_after(HELD_UP, strained, 0.99) == 30


def test_nobody_is_told_to_come_back_at_once_or_in_step_with_others() -> None:
    spreads = [place / 100 for place in range(100)]
    told = [
        [polls.retry_after(Wait(9, left), Rhythm(), s) for s in spreads] for left in (1, 80, 2000)
    ]
    assert set(told[0]) == {1}
    assert set(told[1]) == {20, 21, 22}
    assert (min(told[2]), max(told[2])) == (61, 120) and len(set(told[2])) > 50


@pytest.mark.parametrize(
    ("budget", "newcomers", "median_lag", "worst_lag"),
    [(500, True, 90, 1000), (200, False, 1500, 4000)],
)
def test_a_million_who_obey_stay_within_the_budget_and_learn_soon(
    budget: float, newcomers: bool, median_lag: float, worst_lag: float
) -> None:
    """Two hours at a million an hour; one in fifty clients is played, and stands for fifty.

    With newcomers a million wait all the time: as many come as leave. Estimates are off by up to a
    quarter of what is left, and who comes late is late by that. A budget below the jobs that end in a
    second can be kept only while no newcomers come, and only by everybody's learning late.
    """
    each, stands_for = HOURLY_US / 1e6, 50
    draw = random.Random(5)
    come = MILLION // stands_for
    total = come * 2 if newcomers else come
    # When each job is done; those at the start were told when they came.
    done = [place * stands_for * each for place in range(1, total + 1)]
    came = [max(0.0, at - MILLION * each) for at in done]
    said: list[tuple[float, int]] = []

    def next_poll(client: int, now: float) -> float:
        left = done[client] - now
        waiting = MILLION if newcomers else max(1, round(MILLION - now / each))
        rhythm = polls.rhythms({"a": lane(waiting)}, budget)["a"]
        guess = math.ceil(max(1.0, left * draw.uniform(0.75, 1.25)))
        return now + polls.retry_after(Wait(1, guess), rhythm, draw.random())

    for client in range(total):
        heapq.heappush(said, (next_poll(client, came[client]), client))
    asked: Counter[int] = Counter()
    lags = []
    while said:
        now, client = heapq.heappop(said)
        asked[int(now // 60)] += stands_for
        if now >= done[client]:
            lags.append(now - done[client])
        else:
            heapq.heappush(said, (next_poll(client, now), client))
    busiest = max(asked.values()) / 60
    assert busiest <= budget * 1.1
    lags.sort()
    assert lags[len(lags) // 2] <= median_lag
    assert lags[int(len(lags) * 0.99)] <= worst_lag
