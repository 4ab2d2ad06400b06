"""Processes that die or hang over a document: real ones, in a pool of their own."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from celery import Celery
from sqlalchemy import text

from common import documents, jobs, lanes
from common.database import Database
from common.documents import Documents
from common.identifiers import new_id
from common.jobs import State
from common.jobs.records import JobRecord
from common.problems import Code
from common.settings import WorkerSettings
from tests.service.test_job_states import accept, assert_clean, balance, new_job, shown
from tests.stack import Account, eventually, run, stop
from workers.upkeep import Caretaker

LANE = "tests.deadly"
# Soft limit 3.6 s, hard limit 4.8 s: what happens sooner than the lease is the parent's doing.
LEASE_SECONDS = 6


@pytest.fixture(scope="module")
def celery(worker_settings: WorkerSettings) -> Celery:
    app = lanes.make_celery(worker_settings)
    app.conf.task_create_missing_queues = True
    return app


Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Start the deadly stamp worker; it is ended with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(lease_seconds: int) -> subprocess.Popen[bytes]:
        log = tmp_path / f"deadly-{len(started)}.log"
        command = ["celery", "-A", "tests.service.deadly_stamps", "worker", "--loglevel", "INFO"]
        process = run(
            [*command, "-n", "deadly@test", "-c", "1", "-Q", LANE],
            environment | {"STAMPEDE_LEASE_SECONDS": str(lease_seconds)},
            log,
        )
        started.append(process)
        eventually(partial(ready, log), seconds=60)
        return process

    yield start
    for process in started:
        stop(process)


def ready(log: Path) -> bool:
    return b" ready" in log.read_bytes()


Submit = Callable[..., UUID]


@pytest.fixture
def submit(
    db: Database, store: Documents, account: Account, letter: bytes, celery: Celery
) -> Submit:
    """Accept a letter that ends like this, and publish it to the deadly worker."""

    def submit(last_line: bytes, job_id: UUID | None = None, *, publish: bool = True) -> UUID:
        document = letter + last_line
        job = replace(
            new_job(account),
            id=job_id or new_id(),
            lane=LANE,
            document_bytes=len(document),
            document_sha256=hashlib.sha256(document).digest(),
        )
        store.put(documents.original_key(job.id), document)
        accept(db, job)
        if publish:
            lanes.publish_stamp(celery, job.id, LANE)
        return job.id

    return submit


Together = Callable[..., list[UUID]]


@pytest.fixture
def together(submit: Submit, celery: Celery) -> Together:
    """Accept letters that end like these, and publish them in one message to the deadly worker."""

    def together(*last_lines: bytes) -> list[UUID]:
        ids = [submit(line, publish=False) for line in last_lines]
        lanes.publish_stamps(celery, ids, LANE)
        return ids

    return together


def in_state(db: Database, job_id: UUID, *states: State) -> JobRecord:
    def look() -> JobRecord | None:
        job = shown(db, job_id)
        return job if job.state in states and job.attempt else None

    return eventually(look, seconds=40)


def end_of(job: JobRecord) -> datetime:
    assert job.finished_at is not None
    return job.finished_at


def kinds(job: JobRecord) -> list[str]:
    return [each["kind"] for each in job.setbacks]


def test_a_document_that_kills_two_processes_fails_long_before_any_lease(
    start: Start, submit: Submit, db: Database, account: Account
) -> None:
    start(600)
    deadly, harmless = submit(b"%dies"), submit(b"")
    job = in_state(db, deadly, State.FAILED)
    assert job.problem_code is Code.DOCUMENT_UNPROCESSABLE
    assert kinds(job) == ["killed", "killed"]
    assert in_state(db, harmless, State.STAMPED).attempt == 1
    assert balance(db, account) == (99, 0, 1)
    assert_clean(db)


@pytest.mark.parametrize(
    ("last_line", "kind"),
    [(b"%dies once", "killed"), (b"%dies while it is read, once", "lost")],
)
def test_a_job_whose_process_died_goes_on_at_once_with_its_serial(
    start: Start, submit: Submit, db: Database, last_line: bytes, kind: str
) -> None:
    start(600)
    job_id = submit(last_line)
    serials = shown(db, job_id).serials
    job = in_state(db, job_id, State.STAMPED)
    assert (job.attempt, kinds(job), job.serials) == (2, [kind], serials)
    assert_clean(db)


def test_a_process_that_hangs_over_a_document_is_killed_and_twice_is_enough(
    start: Start, submit: Submit, db: Database, worker_settings: WorkerSettings, celery: Celery
) -> None:
    start(LEASE_SECONDS)
    job_id = submit(b"%hangs")
    in_state(db, job_id, State.QUEUED)
    assert kinds(shown(db, job_id)) == ["killed"]
    # Its message is acknowledged; the relay sends the next one.
    lanes.publish_stamp(celery, job_id, LANE)
    job = in_state(db, job_id, State.FAILED)
    assert (job.problem_code, kinds(job)) == (
        Code.DOCUMENT_UNPROCESSABLE,
        ["killed", "killed"],
    )


@pytest.mark.parametrize("last_line", [b"%hangs while it is read", b"%sleeps"])
def test_time_that_the_document_did_not_take_is_not_held_against_it(
    start: Start, submit: Submit, db: Database, last_line: bytes
) -> None:
    start(LEASE_SECONDS)
    job_id = submit(last_line)
    job = in_state(db, job_id, State.QUEUED)
    assert kinds(job) == ["passing"]
    assert (job.kills, job.lost_leases, job.faults) == (0, 0, 0)


def test_a_document_that_keeps_a_processor_busy_until_the_time_is_up_fails_at_once(
    start: Start, submit: Submit, db: Database
) -> None:
    start(LEASE_SECONDS)
    job = in_state(db, submit(b"%burns"), State.FAILED)
    assert (job.problem_code, job.attempt) == (Code.DOCUMENT_UNPROCESSABLE, 1)
    assert job.problem_facts == {"reason": "time"}
    assert kinds(job) == ["document"]


def test_a_document_that_kills_costs_the_others_of_its_message_nothing(
    start: Start, together: Together, db: Database, account: Account
) -> None:
    start(600)
    first, deadly, *others = together(b"", b"%dies", b"", b"")
    job = in_state(db, deadly, State.FAILED)
    assert (job.problem_code, kinds(job)) == (
        Code.DOCUMENT_UNPROCESSABLE,
        ["killed", "killed"],
    )
    ended = [in_state(db, job_id, State.STAMPED) for job_id in (first, *others)]
    assert [(each.attempt, each.lost_leases) for each in ended] == [(1, 0)] * 3
    assert max(job, *ended, key=end_of).id == deadly, "none had to wait for it"
    assert balance(db, account) == (97, 0, 3)
    assert_clean(db)


def test_a_document_that_hangs_costs_the_others_of_its_message_its_time_and_no_more(
    start: Start, together: Together, db: Database
) -> None:
    start(LEASE_SECONDS)
    first, hangs, last = together(b"", b"%hangs", b"")
    for job_id in (first, last):
        assert in_state(db, job_id, State.STAMPED).attempt == 1
    assert kinds(shown(db, hangs)) == ["killed"]
    job = in_state(db, hangs, State.FAILED)
    assert (job.problem_code, kinds(job)) == (
        Code.DOCUMENT_UNPROCESSABLE,
        ["killed", "killed"],
    )


def test_the_time_limit_is_one_for_each_job_and_those_behind_are_put_back(
    start: Start, together: Together, db: Database
) -> None:
    start(LEASE_SECONDS)
    sleeps, *others = together(b"%sleeps", *[b"%takes a while"] * 14)
    assert kinds(in_state(db, sleeps, State.QUEUED)) == ["passing"]
    # More than the hard limit in all.
    for job_id in others:
        job = in_state(db, job_id, State.STAMPED)
        assert (job.attempt, kinds(job)) == (1, [])


def test_a_long_message_lets_others_have_their_turn(
    start: Start, together: Together, submit: Submit, db: Database
) -> None:
    start(600)
    ids = together(*[b"%takes a while"] * 8)
    single = submit(b"")
    ended = [in_state(db, job_id, State.STAMPED) for job_id in (*ids, single)]
    assert {each.attempt for each in ended} == {1}
    in_order = sorted(ended, key=end_of)
    assert [each.id for each in in_order].index(single) < 4, "a turn is half a second"


def test_a_worker_that_is_ended_finishes_its_job_and_puts_the_others_back(
    start: Start, together: Together, db: Database, celery: Celery
) -> None:
    ended = start(600)
    ids = together(*[b"%takes a while"] * 8)
    in_state(db, ids[0], State.STAMPING, State.STAMPED)
    ended.terminate()
    assert ended.wait(20) == 0
    states = [shown(db, job_id).state for job_id in ids]
    assert set(states) <= {State.STAMPED, State.QUEUED}
    assert states.count(State.QUEUED) > 4, "it does not finish its turn"
    start(600)
    assert {in_state(db, job_id, State.STAMPED).attempt for job_id in ids} == {1}


def test_a_job_whose_message_was_revoked_is_stamped_all_the_same(
    start: Start, submit: Submit, db: Database, celery: Celery
) -> None:
    start(600)
    job = new_id()
    celery.control.revoke(str(job))
    eventually(lambda: str(job) in str(celery.control.inspect().revoked()), seconds=20)
    in_state(db, submit(b"", job), State.STAMPED)


def test_a_parent_that_cannot_reach_a_job_soon_leaves_it_to_the_lease(
    db: Database, account: Account, environment: dict[str, str]
) -> None:
    job_id = accept(db, new_job(account))
    take = (
        "import uuid; from billiard.exceptions import WorkerLostError; from workers import app;"
        f" app.StampRequest.undertaker.take_from([uuid.UUID('{job_id}')], 'h', 1, WorkerLostError())"
    )
    with db.transaction() as connection:
        assert jobs.claim(connection, job_id, lease_seconds=60, worker="h/1")
    with db.transaction() as connection:
        connection.execute(text("select from jobs where id = :id for update"), {"id": job_id})
        # All processes of the parent wait meanwhile.
        subprocess.run(
            [sys.executable, "-c", take], env=os.environ | environment, timeout=20, check=True
        )
        still = connection.execute(
            text("select state from jobs where id = :id"), {"id": job_id}
        ).scalar_one()
    assert still == State.STAMPING


def test_when_the_parent_dies_too_the_lease_brings_the_job_back(
    start: Start,
    submit: Submit,
    db: Database,
    store: Documents,
    lane_pace: object,
    worker_settings: WorkerSettings,
    celery: Celery,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    settings = worker_settings.model_copy(update={"lease_seconds": LEASE_SECONDS})
    command = ["celery", "-A", "tests.service.deadly_stamps", "worker", "-n", "gone@test"]
    log = tmp_path / "gone.log"
    process = run(
        [*command, "--loglevel", "INFO", "-c", "1", "-Q", LANE],
        environment | {"STAMPEDE_LEASE_SECONDS": str(LEASE_SECONDS)},
        log,
    )
    eventually(partial(ready, log), seconds=60)
    job_id = submit(b"%hangs")
    in_state(db, job_id, State.STAMPING)
    # The whole session: as when a machine is switched off.
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
    caretaker = Caretaker(
        settings=settings,
        database=db,
        documents=store,
        pace=lane_pace,  # type: ignore[arg-type]
        app=celery,
    )

    def taken_back() -> JobRecord | None:
        # Other tests leave jobs with workers that are gone too; their leases may end before this one.
        caretaker.take_back_expired()
        job = shown(db, job_id)
        return job if job.state is State.QUEUED else None

    job = eventually(taken_back)
    assert (job.state, job.kills, job.lost_leases) == (State.QUEUED, 0, 1)
    with db.transaction() as connection:
        worker = connection.execute(
            text("select worker from setbacks where job_id = :id"), {"id": job_id}
        ).scalar_one()
    assert worker.startswith("gone@test/")
