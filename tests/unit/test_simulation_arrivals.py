"""The curves by which documents come in the simulation."""

import random
from itertools import pairwise

import pytest

from deploy.simulate.arrivals import (
    DAY,
    HOUR,
    MINUTE,
    Kind,
    Stream,
    by_second,
    day_factor,
    in_bursts,
    level,
    mixed,
    spread,
    towards_a_deadline,
)
from deploy.simulate.scenarios import SCENARIOS
from deploy.simulate.setup import Arrivals


def september(scale: float = 1.0, days: int = 2) -> Arrivals:
    return SCENARIOS["september"].arrivals(random.Random(1), scale, days)


def test_september_is_two_documents_of_each_of_1_77_million_people() -> None:
    assert september().documents == 3_540_000


@pytest.mark.parametrize("days", [1, 2, 4])
def test_september_ends_at_the_deadline_and_has_as_many_documents_in_any_length(days: int) -> None:
    arrivals = september(days=days)
    assert arrivals.minutes * MINUTE == arrivals.deadline == days * DAY
    assert arrivals.documents == 3_540_000


def test_a_scale_is_a_part_of_the_documents() -> None:
    assert september(scale=0.01).documents == 35_400


def test_the_last_hour_asks_for_several_hundred_documents_a_second() -> None:
    last_hour = sum(september().by_minute[-60:])
    assert 300 < last_hour / HOUR < 700
    assert 0.35 < last_hour / 3_540_000 < 0.55


def test_30_percent_come_through_partners() -> None:
    by_kind = dict.fromkeys(Kind, 0)
    for stream in september().streams:
        by_kind[stream.kind] += stream.documents
    assert by_kind[Kind.APPLICANT] / 3_540_000 == pytest.approx(0.70, abs=0.001)
    assert by_kind[Kind.BULK] / 3_540_000 == pytest.approx(0.05, abs=0.001)


@pytest.mark.parametrize("high", [10, 14, 20, 21.5, 23])
@pytest.mark.parametrize("low", [1, 2, 3, 4, 5])
def test_the_day_is_low_before_dawn_and_high_at_ten_at_two_and_in_the_evening(
    low: float, high: float
) -> None:
    assert day_factor(low) < 0.21
    assert day_factor(high) == 1.0


def test_a_day_follows_on_the_one_before() -> None:
    assert day_factor(24) == day_factor(0)
    assert day_factor(34) == day_factor(10)


def test_the_rate_grows_like_the_time_left_shrinks() -> None:
    weights = towards_a_deadline(2)
    without_day = [
        weight / day_factor((minute + 0.5) / 60) for minute, weight in enumerate(weights)
    ]
    six_hours, one_hour = without_day[-6 * 60], without_day[-60]
    assert one_hour / six_hours == pytest.approx(6, rel=0.02)


def test_nobody_hurries_more_in_the_last_ten_minutes() -> None:
    last = [
        weight / day_factor(24 - (10 - minute - 0.5) / 60)
        for minute, weight in enumerate(towards_a_deadline(2)[-10:])
    ]
    assert max(last) == pytest.approx(min(last))


@pytest.mark.parametrize("documents", [0, 1, 59, 100_003])
def test_minutes_add_up_to_what_was_spread(documents: int) -> None:
    assert sum(spread(documents, towards_a_deadline(1))) == documents


def test_an_even_flow_is_even() -> None:
    assert set(spread(6000, level(60))) == {100}


def test_bursts_lose_nothing_and_the_last_goes_out_in_the_last_minute() -> None:
    gathered = spread(10_000, level(120))
    sent = in_bursts(gathered, random.Random(3), mean_minutes=5)
    assert sum(sent) == 10_000
    assert sent[-1] > 0
    assert 10 < sum(1 for count in sent if count) < 50
    for so_far, came in zip(running(sent), running(gathered), strict=True):
        assert so_far <= came


def running(values: tuple[int, ...]) -> list[int]:
    return [sum(values[: at + 1]) for at in range(len(values))]


def test_a_minutes_documents_come_in_its_seconds() -> None:
    stream = Stream(Kind.PARTNER, (500, 0, 20), partner=0, within_seconds=20)
    minutes = list(by_second(stream, random.Random(1)))
    assert [sum(seconds.values()) for seconds in minutes] == [500, 0, 20]
    assert set(minutes[0]) == set(range(20))


def test_shares_of_sources_add_up_whatever_the_rounding() -> None:
    for documents in (7, 1001, 99_999):
        assert sum(s.documents for s in mixed(documents, level(30), random.Random(1))) == documents


def test_the_last_minutes_are_cut_off_with_their_deadline() -> None:
    arrivals = september(scale=0.01)
    last = arrivals.last(180)
    assert last.by_minute == arrivals.by_minute[-180:]
    assert last.deadline == 180 * MINUTE
    assert last.start_hour + last.deadline / HOUR == 48


def test_the_same_seed_gives_the_same_arrivals() -> None:
    assert september().streams == september().streams


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_all_sources_of_a_scenario_last_equally_long(name: str) -> None:
    streams = SCENARIOS[name].arrivals(random.Random(1), 0.1, 2).streams
    assert all(len(a.by_minute) == len(b.by_minute) for a, b in pairwise(streams))
