"""A message that stands for several jobs: one claim at a time, and what goes wrong with one is its own."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, LiteralString
from uuid import UUID

import pytest
from sqlalchemy import text

from common import documents, jobs, lanes, ledger
from common.codes import CodeSigner
from common.database import Database, OutcomeUnknownError
from common.documents import Documents
from common.identifiers import new_id
from common.jobs import Claim, Finished, Next, State
from common.pace import Pace
from common.placements import Placement
from common.settings import WorkerSettings
from tests.service.test_job_states import (
    RESULT,
    AtOnce,
    accept,
    assert_clean,
    balance,
    claim,
    give_back,
    new_job,
    shown,
)
from tests.service.test_signing_keys import nobody
from tests.stack import Account
from workers.keyring import Keyring
from workers.sealer import Sealer
from workers.stamping import AttemptEndedError, Stamper

WORKER = "stamp@a/1"


def finish_and_claim(db: Database, claimed: Claim, next_: UUID) -> Finished:
    return jobs.finish_alone(
        db, claimed, RESULT, Next(job_id=next_, lease_seconds=60, worker=WORKER)
    )


def must(claimed: Claim | None) -> Claim:
    assert claimed is not None
    return claimed


def test_finishing_one_job_claims_the_next(db: Database, account: Account) -> None:
    first, second = (accept(db, new_job(account, stamps=2)) for _ in range(2))
    finished = finish_and_claim(db, must(claim(db, first)), second)
    assert finished.changed is not None
    taken = must(finished.claim)
    assert (taken.job_id, taken.attempt, taken.serials) == (second, 1, shown(db, second).serials)
    assert (shown(db, first).state, shown(db, second).state) == (State.STAMPED, State.STAMPING)
    assert balance(db, account) == (96, 2, 2)
    # It is a claim like any other.
    assert give_back(db, taken) is State.QUEUED
    assert_clean(db)


@pytest.mark.parametrize("what", ["ended", "waits after a fault", "is not known"])
def test_a_next_job_that_is_not_there_to_be_claimed_keeps_nobody_from_finishing(
    db: Database, account: Account, what: str
) -> None:
    first, second = (accept(db, new_job(account)) for _ in range(2))
    if what == "ended":
        with db.transaction() as connection:
            assert jobs.cancel(connection, account_id=account.live_account_id, job_id=second)
    if what == "waits after a fault":
        give_back(db, must(claim(db, second)), wait=60)
    if what == "is not known":
        second = new_id()
    finished = finish_and_claim(db, must(claim(db, first)), second)
    assert (finished.changed is not None, finished.claim) == (True, None)
    assert shown(db, first).state is State.STAMPED


def test_a_next_job_that_somebody_has_his_hands_on_is_not_waited_for(
    db: Database, account: Account
) -> None:
    first, second = (accept(db, new_job(account)) for _ in range(2))
    claimed = must(claim(db, first))
    with db.transaction() as connection:
        connection.execute(text("select from jobs where id = :id for update"), {"id": second})
        finished = finish_and_claim(db, claimed, second)
    assert (finished.changed is not None, finished.claim) == (True, None)
    assert shown(db, second).state is State.QUEUED


def test_who_has_lost_his_claim_claims_nothing(db: Database, account: Account) -> None:
    first, second = (accept(db, new_job(account)) for _ in range(2))
    lost = must(claim(db, first))
    give_back(db, lost)
    newer = must(claim(db, first))
    assert finish_and_claim(db, lost, second) == Finished(None, None)
    assert shown(db, second).state is State.QUEUED
    assert finish_and_claim(db, newer, second).changed is not None


def test_a_job_without_its_hold_is_not_finished_and_nothing_is_claimed(
    db: Database, account: Account
) -> None:
    first, second = (accept(db, new_job(account)) for _ in range(2))
    claimed = must(claim(db, first))
    give_to(db, first, account.test_account_id)
    with pytest.raises(ledger.NothingHeldError):
        finish_and_claim(db, claimed, second)
    assert (shown(db, first).state, shown(db, second).state) == (State.STAMPING, State.QUEUED)
    give_to(db, first, account.live_account_id)
    assert finish_and_claim(db, claimed, second).claim is not None


def give_to(db: Database, job_id: UUID, account_id: UUID) -> None:
    """Make a job an account's, which holds nothing for it."""
    with db.transaction() as connection:
        connection.execute(
            text("update jobs set account_id = :account where id = :id"),
            {"id": job_id, "account": account_id},
        )


def test_a_settlement_reads_no_more_of_a_ledger_that_has_grown(
    db: Database, account: Account
) -> None:
    """Its plan looks for the hold by the job; by the account it would read all that ever happened."""
    with db.transaction() as connection:
        plan = "\n".join(
            connection.execute(
                text(
                    "explain with ended as (select cast(:job as uuid) as id,"
                    f" cast(:account as uuid) as account_id), {ledger.CAPTURE_ENDED} select"
                ),
                {"job": new_id(), "account": account.live_account_id},
            ).scalars()
        )
    assert "uq_ledger_entries_hold" in plan
    assert "ix_ledger_entries_account" not in plan


Make = Callable[..., Stamper]


@pytest.fixture
def make(worker_settings: WorkerSettings, store: Documents, lane_pace: Pace) -> Make:
    """Return a maker of stampers, over a database of the test's choice."""

    def make(database: Database) -> Stamper:
        settings = worker_settings
        return Stamper(
            settings=settings,
            database=database,
            documents=store,
            pace=lane_pace,
            keys=Keyring(settings),
            sealer=Sealer.from_settings(settings),
            codes=CodeSigner.from_pem(
                settings.code_key_file.read_bytes(), public_url=settings.public_url
            ),
            design=None,
            tell=nobody,
            random=AtOnce(),
        )

    return make


Submit = Callable[..., UUID]


@pytest.fixture
def submit(db: Database, store: Documents, account: Account, letter: bytes) -> Submit:
    """Accept a letter, with its document stored unless it is to be missing."""

    def submit(*, page: int = 1, stored: bool = True) -> UUID:
        job = replace(
            new_job(account),
            placements=[Placement(page=page)],
            document_bytes=len(letter),
            document_sha256=hashlib.sha256(letter).digest(),
        )
        if stored:
            store.put(documents.original_key(job.id), letter)
        return accept(db, job)

    return submit


def test_each_job_has_its_own_end(
    make: Make, submit: Submit, db: Database, account: Account
) -> None:
    good, wrong_page, without, cancelled, last = (
        submit(),
        submit(page=99),
        submit(stored=False),
        submit(),
        submit(),
    )
    with db.transaction() as connection:
        jobs.cancel(connection, account_id=account.live_account_id, job_id=cancelled)
    with pytest.raises(AttemptEndedError, match="the accepted document is gone"):
        make(db).stamp(good, wrong_page, without, cancelled, new_id(), last, worker=WORKER)
    states = [shown(db, job_id).state for job_id in (good, wrong_page, without, cancelled, last)]
    assert states == [
        State.STAMPED,
        State.FAILED,
        State.QUEUED,
        State.CANCELLED,
        State.STAMPED,
    ]
    assert_clean(db)


def test_one_is_claimed_at_a_time(make: Make, submit: Submit, db: Database) -> None:
    ids = [submit() for _ in range(3)]
    seen = []

    def look(begun: int) -> bool:
        seen.append((begun, [shown(db, job_id).state for job_id in ids]))
        return True

    make(db).stamp(*ids, worker=WORKER, may_go_on=look)
    assert seen == [
        (1, [State.STAMPING, State.QUEUED, State.QUEUED]),
        (2, [State.STAMPED, State.STAMPING, State.QUEUED]),
    ]


def test_what_may_not_be_begun_is_put_back_unclaimed(
    make: Make, submit: Submit, db: Database
) -> None:
    ids = [submit() for _ in range(4)]
    left: list[UUID] = []
    make(db).stamp(*ids, worker=WORKER, may_go_on=lambda begun: begun < 2, put_back=left.extend)
    assert left == ids[2:]
    assert [shown(db, job_id).attempt for job_id in ids] == [1, 1, 0, 0]


def test_a_lane_is_told_of_all_jobs_of_a_message(
    make: Make, submit: Submit, db: Database, lane_pace: Pace
) -> None:
    before = lane_pace.lane("tests")
    make(db).stamp(*[submit() for _ in range(3)], worker=WORKER)
    after = lane_pace.lane("tests")
    assert before is not None
    assert after is not None
    assert after.served - before.served == 3
    assert after.service_seconds is not None


class Forgetful(Database):
    """A database whose first answer to a statement is lost, when that has been carried out."""

    lost = 0

    def call(
        self, statement: LiteralString, parameters: Sequence[object], **named: Any
    ) -> tuple[Any, ...]:
        row = super().call(statement, parameters, **named)
        if not self.lost:
            self.lost += 1
            raise OutcomeUnknownError
        return row


def test_a_job_that_was_claimed_by_a_statement_without_an_answer_does_not_wait_for_its_lease(
    make: Make, submit: Submit, db: Database, worker_settings: WorkerSettings
) -> None:
    first, second = submit(), submit()
    forgetful = Forgetful(worker_settings.database_url)
    with pytest.raises(AttemptEndedError, match="no answer came"):
        make(forgetful).stamp(first, second, worker=WORKER)
    forgetful.close()
    assert (shown(db, first).state, shown(db, first).attempt) == (State.STAMPED, 1)
    job = shown(db, second)
    assert (job.state, job.attempt, job.lost_leases) == (State.STAMPED, 2, 0)
    assert_clean(db)


def test_a_message_has_the_id_of_its_first_job_and_all_ids_in_its_arguments(
    worker_settings: WorkerSettings,
) -> None:
    celery = lanes.make_celery(worker_settings)
    celery.conf.task_create_missing_queues = True
    ids = [new_id() for _ in range(3)]
    lane = f"tests.{ids[0]}"
    lanes.publish_stamps(celery, ids, lane)
    with celery.connection_for_read() as connection:
        message = connection.default_channel.basic_get(lane, no_ack=True)
    assert message is not None
    assert message.headers["id"] == str(ids[0])
    assert all(str(each) in message.headers["argsrepr"] for each in ids)
