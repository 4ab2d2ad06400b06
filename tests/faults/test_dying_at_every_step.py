"""kill -9 at every step of a stamp worker and of the front end: one result, one charge, one event."""

import os
import signal
from uuid import UUID

import pytest

from common import lanes
from common.settings import Settings
from tests.faults.conftest import Trial
from tests.faults.driver import Kind, Letter
from tests.faults.machine import STAMPERS
from tests.faults.steps import WebStep, WorkerStep

# A judge waits for as long as a recovery may take on a busy machine.
pytestmark = pytest.mark.timeout(400)

# Before it a killed worker's job has a lease that must run out first.
WITHOUT_LEASE = {WorkerStep.FINISHED, WorkerStep.TOLD}
# Steps that one job by itself comes to.
ALONE = [step for step in WorkerStep if step is not WorkerStep.FINISHED_AND_CLAIMED]


@pytest.fixture(scope="module")
def killed(trial: Trial) -> dict[str, str]:
    """One job for every step, whose process was killed there."""
    jobs = {}
    for step in (*ALONE, *WebStep):
        trial.machine.arm(step)
        letter = Letter(f"dies when {step}")
        trial.submit([letter])
        job_id = trial.driver.accepted[letter.key].job_id
        # Final before the next step is armed: its second attempt goes the same way.
        trial.wait_until("stamped", job_id)
        trial.wait_until_fired(step)
        jobs[step] = job_id
    verdict = trial.judge()
    assert verdict.clean, verdict.as_json()
    return jobs


@pytest.mark.parametrize("step", ALONE)
def test_a_worker_killed_at_a_step_leaves_a_job_that_is_stamped_once(
    trial: Trial, killed: dict[str, str], step: WorkerStep
) -> None:
    job = trial.job(killed[step])
    assert job["state"] == "stamped"
    # What was committed is not done again; everything before it is, by a second attempt.
    assert job["attempts"] == (1 if step in WITHOUT_LEASE else 2)


@pytest.mark.parametrize("step", WebStep)
def test_a_front_end_killed_at_a_step_accepts_one_job_when_asked_again(
    trial: Trial, killed: dict[str, str], step: WebStep
) -> None:
    job = trial.job(killed[step])
    assert (job["state"], job["attempts"]) == ("stamped", 1)
    assert job["external_reference"] == f"dies when {step}"


def send_together(trial: Trial, names: list[str]) -> list[str]:
    """Have letters accepted and taken up as the jobs of one message; returns the jobs."""
    machine = trial.machine
    stampers = [machine.programs[name] for name in STAMPERS]
    for program in stampers:
        program.send_all(signal.SIGSTOP)
    # A message that comes while one of them waits for it would be given to it all the same.
    machine.pause(2)
    letters = [Letter(name) for name in names]
    trial.submit(letters)
    job_ids = [trial.driver.accepted[letter.key].job_id for letter in letters]
    settings = Settings(link_key="k" * 32, broker_url=machine.valkey.url)  # type: ignore[arg-type]
    celery = lanes.make_celery(settings)
    with celery.connection_for_write() as connection:
        for lane in lanes.STAMP_LANES:
            connection.default_channel.queue_purge(lane)
    lanes.publish_stamps(celery, [UUID(job_id) for job_id in job_ids], lanes.BULK_LANE)
    for program in stampers:
        program.send_all(signal.SIGCONT)
    return job_ids


def test_a_worker_killed_between_two_jobs_of_a_message_leaves_one_done_and_the_other_begun(
    trial: Trial,
) -> None:
    trial.machine.arm(WorkerStep.FINISHED_AND_CLAIMED)
    first, second, third = send_together(trial, ["first of three", "second", "third"])
    trial.wait_until_fired(WorkerStep.FINISHED_AND_CLAIMED)
    for job_id in (first, second, third):
        trial.wait_until("stamped", job_id)
    verdict = trial.judge()
    assert verdict.clean, verdict.as_json()
    assert [trial.job(job_id)["attempts"] for job_id in (first, second, third)] == [1, 2, 1]


def test_a_document_that_kills_its_worker_twice_is_given_up_and_costs_nothing(
    trial: Trial,
) -> None:
    letters = [Letter("deadly", Kind.DEADLY), Letter("harmless")]
    trial.submit(letters)
    verdict = trial.judge()
    assert verdict.clean, verdict.as_json()
    deadly, harmless = (trial.job(trial.driver.accepted[each.key].job_id) for each in letters)
    assert (deadly["state"], deadly["problem"]["code"]) == ("failed", "document_unprocessable")
    assert deadly["attempts"] == 2
    assert harmless["state"] == "stamped"


def test_a_worker_that_wakes_up_after_its_lease_throws_its_result_away(trial: Trial) -> None:
    """Stopped when it has claimed, and its parent with it, until a second worker has done the job."""
    machine, letter = trial.machine, Letter("sleeper")
    machine.arm(WorkerStep.CLAIMED, signal.SIGSTOP)
    trial.submit([letter])
    sleeper = trial.wait_until_fired(WorkerStep.CLAIMED)
    parent = machine.parent_of(sleeper)
    # Or it would see that its child takes too long, and kill it.
    parent.send_all(signal.SIGSTOP)
    job_id = trial.driver.accepted[letter.key].job_id
    trial.wait_until("stamped", job_id)
    os.kill(sleeper, signal.SIGCONT)
    log = machine.wait(
        lambda: [line for line in parent.lines() if job_id in line and "taken over" in line],
        seconds=30,
        what="the sleeper's result to be thrown away",
    )
    parent.send_all(signal.SIGCONT)
    assert len(log) == 1
    verdict = trial.judge()
    assert verdict.clean, verdict.as_json()
    assert trial.job(job_id)["attempts"] == 2
