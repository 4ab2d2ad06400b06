"""What the simulation is made of: lines, clients who come back, waits, costs, and the search."""

import json
import random
from pathlib import Path

import pytest

from deploy.simulate import costs, search
from deploy.simulate.arrivals import Kind
from deploy.simulate.clients import IMPATIENT, PATIENT, Returning
from deploy.simulate.cohorts import Cohort, Line
from deploy.simulate.costs import BenchError, Sizes
from deploy.simulate.policies import Allowance, Shedding, later
from deploy.simulate.tally import Spread

PIPELINE = {"cpu_ms_by_process": {"web": 2.0, "stamp": 3.0, "PostgreSQL": 1.0, "Valkey": 0.5}}


def applicants(count: int, wanted: float = 0.0, tries: int = 1) -> Cohort:
    return Cohort(Kind.APPLICANT, count, wanted, tries=tries)


def test_a_line_is_first_come_first_served_in_parts() -> None:
    line = Line()
    line.append(applicants(5, wanted=1.0))
    line.append(applicants(5, wanted=2.0))
    assert [(c.count, c.wanted) for c in line.take(7)] == [(5, 1.0), (2, 2.0)]
    assert line.length == 3
    assert [c.count for c in line.take(99)] == [3]
    assert line.take(1) == []


def test_who_stays_in_line_is_told_from_who_was_taken() -> None:
    line, cohort = Line(), applicants(5)
    line.append(cohort)
    line.take(2)
    assert cohort.in_line
    assert cohort.count == 3
    line.take(3)
    assert not cohort.in_line


def test_whoever_is_sent_away_comes_back_once_in_the_time_they_were_told() -> None:
    returning = Returning(random.Random(1))
    returning.send(applicants(1000, wanted=40.0), 100.0, (30.0, 50.0))
    back = {second: returning.due(second) for second in range(100, 160)}
    assert min(second for second, found in back.items() if found) >= 130
    assert max(second for second, found in back.items() if found) <= 150
    assert sum(cohort.count for found in back.values() for cohort in found) == 1000
    assert {(c.tries, c.wanted) for found in back.values() for c in found} == {(2, 40.0)}
    assert returning.count == 0


def test_patient_clients_obey_and_impatient_ones_do_not() -> None:
    assert PATIENT.back_between((300.0, 375.0)) == (300.0, 375.0)
    assert IMPATIENT.back_between((300.0, 375.0)) == (5.0, 60.0)
    assert PATIENT.try_again(1000)
    assert IMPATIENT.try_again(19)
    assert not IMPATIENT.try_again(20)


def test_percentiles_are_right_to_one_hundredth() -> None:
    spread = Spread()
    for value in range(1, 10_001):
        spread.add(value / 10)
    for share in (0.01, 0.5, 0.9, 0.95, 0.99):
        assert spread.percentile(share) == pytest.approx(share * 1000, rel=0.011)
    assert spread.percentile(1.0) == pytest.approx(1000, rel=0.011)
    assert spread.largest == 1000


def test_of_nothing_there_is_no_percentile() -> None:
    assert Spread().percentile(0.5) is None


def test_what_is_neither_web_nor_stamping_counts_half_to_each() -> None:
    read = costs.from_benches({"pipeline": PIPELINE})
    assert (read.accept_ms, read.stamp_ms, read.database_ms) == (2.75, 3.75, 1.0)
    assert read.job_ms == 6.5
    assert read.stamp_ms_per_mb == 0


def test_costs_come_from_what_benches_print(tmp_path: Path) -> None:
    output = tmp_path / "pipeline.txt"
    output.write_text(f"Stampede: 1000 jobs\n{json.dumps(PIPELINE)}\n")
    intake = tmp_path / "intake.json"
    intake.write_text(json.dumps({"polls_per_s": 4000.0}))
    read = costs.read([output, intake])
    assert read.stamp_ms == 3.75
    assert read.poll_ms == 0.5
    assert read.stamp_ms_per_mb == pytest.approx(costs.read([]).stamp_ms_per_mb)


def test_several_benches_may_stand_in_one_file(tmp_path: Path) -> None:
    file = tmp_path / "benches.json"
    file.write_text(
        json.dumps(
            {
                "pipeline": PIPELINE,
                "engine": {
                    "documents": [
                        {"bytes": 1000, "seal_ms": 1.0},
                        {"bytes": 1_001_000, "seal_ms": 1.5},
                    ]
                },
            }
        )
    )
    assert costs.read([file]).stamp_ms_per_mb == pytest.approx(0.5)


@pytest.mark.parametrize(
    "content, why",
    [
        ("", "no JSON object"),
        ("[1]", "no JSON object"),
        ("{}", "not what the pipeline, intake or engine bench prints"),
        ('{"cpu_ms_by_process": {}}', "no cpu_ms_by_process"),
        ('{"cpu_ms_by_process": {"web": 1}}', "no 'web' or no 'stamp'"),
        ('{"cpu_ms_by_process": {"web": -1, "stamp": 1}}', "'web' is -1"),
        ('{"cpu_ms_by_process": {"web": "x", "stamp": 1}}', "'web' is 'x'"),
        ('{"cpu_ms_by_process": {"web": 1, "stamp": NaN}}', "'stamp' is nan"),
        ('{"polls_per_s": 0}', "'polls_per_s' is 0"),
        ('{"engine": {"documents": [7]}}', "engine"),
        ('{"engine": {"documents": 7}}', "engine"),
    ],
)
def test_a_file_that_is_no_benchs_output_is_refused_with_a_reason(
    tmp_path: Path, content: str, why: str
) -> None:
    file = tmp_path / "bench.json"
    file.write_text(content)
    with pytest.raises(BenchError, match=why.replace("'", ".")):
        costs.read([file])


def test_sizes_are_as_the_issuer_sees_them() -> None:
    sizes = Sizes(random.Random(1))
    drawn = sorted(sizes.of(1) for _ in range(20_000))
    assert drawn[0] >= 50_000
    assert drawn[-1] <= 5_000_000
    assert 330_000 < drawn[10_000] < 370_000
    assert sum(drawn) / len(drawn) == pytest.approx(sizes.mean, rel=0.05)


def test_a_partner_that_is_slower_than_its_pace_keeps_to_its_own_lanes() -> None:
    allowance = Allowance()
    for second in range(60):
        assert allowance.take(10, second) == (10, 10, 0.0)


def test_what_a_partner_sends_faster_than_its_pace_goes_behind_the_batches() -> None:
    allowance = Allowance()
    answers = [allowance.take(100, second)[:2] for second in range(30)]
    assert answers[0] == (100, 20)
    assert set(answers[2:]) == {(100, 0)}


def test_beyond_its_limit_a_partner_is_told_to_come_later() -> None:
    allowed, _, wait = Allowance().take(70_000, 0.0)
    assert allowed == 60_000
    assert wait > 0


def test_those_whom_a_busy_front_end_refuses_come_back_one_after_the_other() -> None:
    shedding = Shedding(100.0)
    first = shedding.come_back(1000, 0.0)
    second = shedding.come_back(1000, 0.0)
    assert first[0] < second[0] == 10
    assert second[1] > second[0]


def test_a_gate_that_says_no_time_is_asked_again_after_a_while() -> None:
    assert later(None)[0] == 60
    assert later(400.0) == (400.0, 501.0)


def test_water_waits_as_long_as_the_reservoir_is_deep() -> None:
    # One minute of 200 a second for 100 a second: after it 6,000 wait, which takes a minute.
    assert search.fluid_wait([12_000, 0], 100.0, 1.0) == pytest.approx(30, rel=0.02)
    assert search.fluid_wait([6_000, 6_000], 100.0, 0.99) <= 0.01


def test_the_guess_is_the_smallest_that_keeps_the_target() -> None:
    by_minute = [600] * 60
    assert search.guess(by_minute, 1.0, 0.95, 1.0) == 10


@pytest.mark.parametrize("first", [1, 2, 7, 13, 14, 40])
@pytest.mark.parametrize("needed", [1, 2, 13, 37])
def test_the_search_finds_the_smallest_from_wherever_it_begins(first: int, needed: int) -> None:
    found = search.smallest(first, lambda n: 10.0 if n >= needed else 100.0, 60.0)
    assert found.needed == needed
    assert found.wait == 10.0
    assert len(found.tried) <= 14


def test_what_nothing_helps_against_has_no_answer() -> None:
    found = search.smallest(3, lambda _: None, 60.0)
    assert found.needed is None


def test_a_percentile_of_all_is_a_lower_one_of_the_slowest_part() -> None:
    assert search.share_of_last(0.95, 1000, 500) == pytest.approx(0.90)
    assert search.share_of_last(0.95, 1000, 10) == 0
