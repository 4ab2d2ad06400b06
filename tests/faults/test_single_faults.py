"""One fault at a time under load, each followed by the judge."""

import signal
import time

import httpx
import pytest

from tests.faults import faults
from tests.faults.conftest import Trial
from tests.faults.driver import Letter, plain_letters
from tests.faults.faults import Fault
from tests.faults.machine import BEATS, STAMPERS
from tests.faults.steps import WorkerStep

# A judge waits for as long as a recovery may take on a busy machine.
pytestmark = pytest.mark.timeout(400)

# Those of the steps have tests of their own.
AT_ONCE = [*faults.PROCESSES, *faults.VALKEY, *faults.POSTGRES, *faults.MESSAGES, *faults.DISK]


@pytest.mark.parametrize("fault", AT_ONCE, ids=lambda fault: fault.name)
def test_nothing_is_lost_doubled_or_unbalanced(trial: Trial, fault: Fault) -> None:
    verdict = trial.suffer(fault, seconds=fault.seconds[0])
    assert verdict.clean, verdict.as_json()
    assert 500 not in verdict.answers, verdict.as_json()


def test_without_a_broker_jobs_are_accepted_and_without_a_database_they_are_refused_clearly(
    trial: Trial,
) -> None:
    machine, driver = trial.machine, trial.driver
    with httpx.Client(timeout=20, trust_env=False) as client:
        machine.to_valkey.refuse()
        accepted = driver.send(client, Letter("while the broker is away"))
        machine.to_valkey.forward()
        assert accepted.status_code == 202

        machine.to_postgres.refuse()
        refused = driver.send(client, Letter("while the database is away"))
        machine.to_postgres.forward()
        assert refused.status_code == 503
        assert refused.json()["code"] == "service_unavailable"
        assert int(refused.headers["Retry-After"]) > 0
    # The same keys again: the first is known, of the second nothing was done.
    trial.submit([Letter("while the broker is away"), Letter("while the database is away")])
    kept = driver.accepted["while the broker is away"]
    assert kept.job_id == accepted.json()["id"]
    verdict = trial.judge()
    assert verdict.clean, verdict.as_json()


@pytest.mark.parametrize("beat", BEATS)
def test_whichever_beat_dies_the_other_one_takes_over(trial: Trial, beat: str) -> None:
    """Seen by a webhook that only upkeep sends: the worker died before it could."""
    machine = trial.machine
    machine.down.add(beat)
    machine.programs[beat].kill()
    machine.arm(WorkerStep.FINISHED)
    trial.submit([Letter(f"without {beat}")])
    trial.wait_until_fired(WorkerStep.FINISHED)
    verdict = trial.judge()
    assert verdict.clean, verdict.as_json()
    assert not machine.programs[beat].runs
    machine.down.clear()


def test_a_copy_that_ends_leaves_no_process(trial: Trial) -> None:
    """What every run asserts at its end can fail: somebody who stays is found."""
    machine = trial.machine
    program = machine.programs["beat-1"]
    assert program.pid in machine.left_behind()
    program.send(signal.SIGTERM)
    machine.wait(lambda: program.starts > 1 or None, seconds=30, what="another beat")


def test_a_thousand_queued_jobs_survive_a_broker_that_forgets_everything(trial: Trial) -> None:
    machine = trial.machine
    # Nobody takes anything up meanwhile.
    machine.down.update(STAMPERS)
    for name in STAMPERS:
        machine.programs[name].kill()
    trial.submit(plain_letters("thousand", 1000))
    machine.restart_valkey_empty()
    forgotten_at = time.monotonic()
    machine.down.clear()
    verdict = trial.judge(faults_ended_at=forgotten_at, within=300)
    assert verdict.clean, verdict.as_json()
    assert not verdict.blamed
