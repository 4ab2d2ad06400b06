"""Whole runs, small enough to be made in a test."""

from dataclasses import asdict

import pytest

from deploy.simulate import model
from deploy.simulate.arrivals import Kind, Stream
from deploy.simulate.book import DUMPER
from deploy.simulate.costs import MESSAGE, Costs
from deploy.simulate.model import Run
from deploy.simulate.report import as_json
from deploy.simulate.scenarios import SCENARIOS
from deploy.simulate.setup import Arrivals, Authority, Loss, Means, Policy, Scenario

# 100 documents a second and worker; a machine of two cores does 100 in all.
COSTS = Costs(accept_ms=10.0, stamp_ms=10.0, database_ms=2.0, stamp_ms_per_mb=0.0)


def of(*by_minute: int, **more: object) -> Scenario:
    """A scenario of applicants alone."""
    arrivals = Arrivals(streams=(Stream(Kind.APPLICANT, by_minute),), deadline=60 * len(by_minute))
    return Scenario(
        name="test",
        title="A test.",
        arrivals=lambda *_: arrivals,
        workers=8,
        **more,  # type: ignore[arg-type]
    )


def played(scenario: Scenario, means: Means, *, seed: int = 1, scale: float = 1.0) -> Run:
    """Run a scenario; of September only its last half hour, which is what is hard about it."""
    minutes = 30 if scenario.has_days else None
    return model.run(scenario, means, COSTS, seed=seed, scale=scale, last_minutes=minutes)


def workers(number: int, **more: object) -> Means:
    return Means(minimum=number, maximum=number, **more)  # type: ignore[arg-type]


def p95(run: Run) -> float:
    return run.book.all_waits.percentile(0.95) or 0.0


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("means", [workers(2, machines=1), workers(1, horizon_seconds=20.0)])
@pytest.mark.parametrize("name", ["september", "dump", "lost"])
def test_nothing_is_lost_and_nothing_comes_from_nowhere(
    name: str, means: Means, policy: Policy
) -> None:
    run = played(SCENARIOS[name], Means(**{**asdict(means), "policy": policy}), scale=0.05)
    counts = run.book.counts
    assert counts.wanted == run.arrivals.documents
    assert counts.wanted == counts.stamped + counts.gave_up + run.left
    # Of what nobody waits for, workers may still hold a message each when the run ends.
    held = counts.accepted - counts.stamped - counts.in_vain - run.in_line
    assert 0 <= held <= (MESSAGE * means.maximum if policy is Policy.IMPATIENT else 0)
    assert run.book.all_waits.count == counts.stamped
    assert sum(run.book.samples.wanted) == counts.wanted


def test_the_same_seed_gives_the_same_run_and_another_seed_another_one() -> None:
    runs = [played(SCENARIOS["flash"], workers(3), seed=seed, scale=0.1) for seed in (5, 5, 6)]
    told = [as_json(run) for run in runs]
    assert told[0] == told[1]
    assert told[0] != told[2]


@pytest.mark.parametrize("name", ["september", "flash", "dump"])
def test_twice_as_many_workers_never_wait_longer(name: str) -> None:
    few, many = (played(SCENARIOS[name], workers(n), scale=0.05) for n in (1, 2))
    for share in (0.5, 0.9, 0.95, 0.99):
        longer = few.book.all_waits.percentile(share) or 0.0
        # Half a second and less is what happens within a second, which the model does not show.
        assert (many.book.all_waits.percentile(share) or 0.0) <= max(longer, 1.0)


def test_a_steady_load_below_what_workers_do_waits_for_nothing() -> None:
    run = played(of(*[9_000] * 10), workers(2))
    assert run.book.all_waits.largest < 2


def test_water_does_not_flow_faster_than_workers_stamp() -> None:
    run = played(of(12_000, 0, 0), workers(1))
    # 12,000 documents at 100 a second; the last that comes waits for a minute's work.
    assert run.book.all_waits.largest == pytest.approx(60, rel=0.05)
    assert max(run.book.samples.stamped) == pytest.approx(6_000, rel=0.02)


def test_larger_documents_take_longer() -> None:
    slower = Costs(accept_ms=10.0, stamp_ms=10.0, database_ms=2.0, stamp_ms_per_mb=20.0)
    run = model.run(of(12_000, 0, 0), workers(1), slower, seed=1)
    # A mean of about 520 KB is 165 KB over what the bench stamped.
    assert run.book.all_waits.largest > 80


def test_past_the_horizon_applicants_wait_in_the_room_in_their_order() -> None:
    run = played(of(*[12_000] * 4, 0), workers(1, horizon_seconds=30.0))
    book = run.book
    assert book.counts.roomed > 10_000
    assert book.counts.stamped == 48_000
    # Accepted work is never more than the horizon and what was let in while it filled.
    assert (book.queue_waits[Kind.APPLICANT].percentile(0.99) or 0) < 60
    assert run.book.samples.room[-1] == 0
    assert book.counts.late > 0


def test_an_open_door_lets_the_line_grow_instead() -> None:
    run = played(of(*[12_000] * 4, 0), workers(1, horizon_seconds=30.0, policy=Policy.OPEN))
    assert run.book.counts.roomed == 0
    assert run.book.counts.late == 0
    assert (run.book.queue_waits[Kind.APPLICANT].percentile(0.99) or 0) > 200


def test_impatience_turns_slowness_into_work_for_nobody() -> None:
    scenario = of(*[12_000] * 6, *[0] * 4)
    patient = played(scenario, workers(1, policy=Policy.OPEN))
    impatient = played(scenario, workers(1, policy=Policy.IMPATIENT))
    assert patient.book.counts.stamped == 72_000
    assert patient.book.counts.in_vain == 0
    assert impatient.book.counts.in_vain > 10_000
    assert impatient.book.counts.tries > 2 * 72_000


def test_a_machine_stamps_slower_while_it_accepts() -> None:
    elsewhere = played(of(*[8_400] * 3, 0, 0), workers(2))
    shared = played(of(*[8_400] * 3, 0, 0), workers(2, machines=1))
    assert elsewhere.book.all_waits.largest < 2
    assert shared.book.all_waits.largest > 30
    assert max(shared.book.samples.stamped) <= 2 * 6_000


def test_a_busy_front_end_sheds_and_everybody_comes_back() -> None:
    run = played(of(30_000, *[0] * 9), workers(2, machines=1))
    assert run.book.counts.shed > 0
    assert run.book.peak_accepted <= 100 + 64
    assert run.book.counts.stamped == 30_000


def test_after_half_the_workers_died_all_is_well_again() -> None:
    loss = Loss(at=5 * 60 + 0.4, share=0.5, seconds=5 * 60)
    run = played(of(*[9_000] * 25, losses=(loss,)), workers(2))
    samples = run.book.samples
    assert run.book.counts.stamped == 225_000
    assert 0 < run.book.counts.redone <= 16
    assert samples.workers[3] == 2
    assert samples.workers[7] == 1
    assert samples.workers[12] == 2
    assert max(samples.waiting) > 5_000
    assert samples.waiting[-2] < 100
    assert samples.longest_wait[-2] < 2


def test_the_autoscaler_replaces_the_dead_within_half_a_minute_or_so() -> None:
    loss = Loss(at=5 * 60 + 0.4, share=0.5, seconds=5 * 60)
    run = played(of(*[15_000] * 10, losses=(loss,)), Means(minimum=2, maximum=16))
    assert run.book.samples.workers[6] >= 3
    assert max(run.book.samples.waiting[8:]) < 500


def test_the_autoscaler_grows_with_a_flash_crowd_and_shrinks_after_it() -> None:
    run = played(of(600, 600, 60_000, *[600] * 12), Means(minimum=1, maximum=32))
    samples = run.book.samples
    assert max(samples.workers) > 8
    assert samples.workers[-1] < max(samples.workers) / 2
    assert run.book.worker_seconds / 3600 < 32 * run.seconds / 3600 / 2


def test_a_dump_leaves_the_others_alone() -> None:
    scale = 0.3
    usual = played(SCENARIOS["even"], workers(1), scale=scale)
    dump = played(SCENARIOS["dump"], workers(1), scale=scale)
    for kind in (Kind.APPLICANT, Kind.PARTNER):
        before = usual.book.waits[kind].percentile(0.95) or 0.0
        after = dump.book.waits[kind].percentile(0.95) or 0.0
        assert after <= 2 * max(before, 1.0)
    assert (dump.book.waits[DUMPER].percentile(0.95) or 0.0) > 60


def test_a_slow_authority_is_waited_for() -> None:
    slow = Authority(seconds=0.01, slow_seconds=0.2, slow_from=120, slow_until=240)
    run = played(of(*[2_000] * 10, authority=slow), workers(1))
    assert run.book.counts.stamped == 20_000
    assert max(run.book.samples.longest_wait[:2]) < 2
    assert max(run.book.samples.longest_wait) > 60


def test_the_foretold_wait_is_compared_with_the_true_one() -> None:
    run = played(of(*[12_000] * 5, 0), workers(1))
    assert run.book.errors.count > 10_000
    assert (run.book.errors.percentile(0.5) or 1.0) < 0.15


def test_only_the_last_minutes_can_be_run() -> None:
    run = model.run(SCENARIOS["september"], workers(1), COSTS, seed=1, scale=0.01, last_minutes=60)
    assert run.arrivals.minutes == 60
    assert 0.3 < run.arrivals.documents / 35_400 < 0.6
