"""Weighted turns between lanes."""

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from common.lanes import APPLICANT_LANE, BULK_LANE, PARTNER_LANES, STAMP_LANES
from common.turns import WeightedTurns


def served(turns: WeightedTurns, waiting: dict[str, int], fetches: int) -> list[str]:
    """Play a worker: look into the lanes in order, take from the first that has something."""
    taken = []
    for _ in range(fetches):
        lane = next((q for q in turns.consume(len(STAMP_LANES)) if waiting.get(q)), None)
        if lane is None:
            break
        waiting[lane] -= 1
        taken.append(lane)
        turns.rotate(lane)
    return taken


def kinds(taken: list[str]) -> Counter[str]:
    return Counter("partner" if lane in PARTNER_LANES else lane for lane in taken)


def test_full_lanes_are_served_sixteen_sixteen_one() -> None:
    waiting = dict.fromkeys(STAMP_LANES, 1000)
    taken = kinds(served(WeightedTurns(STAMP_LANES), waiting, 660))
    assert taken == {APPLICANT_LANE: 320, "partner": 320, BULK_LANE: 20}


def test_applicants_and_partners_alternate_instead_of_coming_in_blocks() -> None:
    taken = served(WeightedTurns(STAMP_LANES), dict.fromkeys(STAMP_LANES, 100), 90)
    longest = run = 1
    for before, now in pairwise(taken):
        run = run + 1 if before == now else 1
        longest = max(longest, run)
    assert longest <= 2


def test_a_lone_applicant_is_next_while_a_partner_floods() -> None:
    turns = WeightedTurns(STAMP_LANES)
    waiting = {PARTNER_LANES[3]: 10_000}
    served(turns, waiting, 500)
    waiting[APPLICANT_LANE] = 1
    assert APPLICANT_LANE in served(turns, waiting, 2)


def test_an_idle_lane_saves_up_no_turns() -> None:
    turns = WeightedTurns(STAMP_LANES)
    waiting = {APPLICANT_LANE: 10_000}
    served(turns, waiting, 1000)
    waiting[PARTNER_LANES[0]] = 1000
    taken = kinds(served(turns, waiting, 100))
    assert 45 <= taken["partner"] <= 55


def test_partner_lanes_take_their_turns_one_after_the_other() -> None:
    waiting = dict.fromkeys(PARTNER_LANES, 10)
    taken = served(WeightedTurns(STAMP_LANES), waiting, 8)
    assert sorted(taken) == sorted(PARTNER_LANES)


def test_queues_that_are_no_stamp_lanes_take_turns_too() -> None:
    turns = WeightedTurns(["webhook", "upkeep"])
    taken = served(turns, {"webhook": 100, "upkeep": 100}, 100)
    assert Counter(taken) == {"webhook": 50, "upkeep": 50}


def test_without_queues_there_is_nothing_to_look_into() -> None:
    assert WeightedTurns().consume(3) == []


@given(st.lists(st.sampled_from([*STAMP_LANES, "unknown"]), max_size=200))
def test_the_order_always_names_every_lane_once(rotations: list[str]) -> None:
    turns = WeightedTurns(STAMP_LANES)
    for lane in rotations:
        turns.rotate(lane)
        assert sorted(turns.consume(len(STAMP_LANES))) == sorted(STAMP_LANES)
