"""The job's ways from state to state, its fencing, and what each settles."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from common import audit, jobs, ledger, partners
from common.database import Database
from common.identifiers import new_id
from common.jobs import Claim, NewJob, Result, State, records
from common.jobs.records import JobRecord
from common.partners import Mode
from common.placements import Placement
from common.problems import Code, ProblemError
from tests.stack import Account

RESULT = Result(key="aa/result.pdf", length=10, sha256=b"r" * 32)


def new_job(account: Account, mode: Mode = Mode.LIVE, *, stamps: int = 1) -> NewJob:
    return NewJob(
        id=new_id(),
        account_id=account.id(mode),
        partner_id=account.partner_id,
        mode=mode,
        # A lane that no worker of the tests serves.
        lane="tests",
        ticket=1,
        placements=[Placement(page=page) for page in range(1, stamps + 1)],
        external_reference="a reference",
        metadata={"a": "b"},
        document_name="letter.pdf",
        document_bytes=9,
        document_sha256=b"d" * 32,
        accepted_at=datetime.now(UTC),
        receipt="a receipt",
    )


def accept(db: Database, job: NewJob) -> UUID:
    with db.transaction() as connection:
        jobs.accept(connection, [job], publish_after_seconds=3600)
    return job.id


def claim(db: Database, job_id: UUID, *, lease_seconds: int = 60) -> Claim | None:
    with db.transaction() as connection:
        return jobs.claim(connection, job_id, lease_seconds=lease_seconds)


def finish(db: Database, claim: Claim) -> bool:
    with db.transaction() as connection:
        return jobs.finish(connection, claim, RESULT) is not None


def expire(db: Database, job_id: UUID) -> None:
    with db.transaction() as connection:
        connection.execute(
            text("update jobs set lease_until = now() - interval '1 second' where id = :id"),
            {"id": job_id},
        )
        jobs.take_back_expired(connection, limit=1000)


def shown(db: Database, job_id: UUID) -> JobRecord:
    with db.transaction() as connection:
        job = records.show(connection, job_id)
    assert job is not None
    return job


def balance(db: Database, account: Account, mode: Mode = Mode.LIVE) -> tuple[int, int, int]:
    with db.transaction() as connection:
        found = ledger.balance(connection, account.id(mode))
    return found.available, found.held, found.captured


def events_of(db: Database, job_id: UUID) -> list[str]:
    with db.transaction() as connection:
        return list(
            connection.execute(
                text("select type from events where job_id = :id order by id"), {"id": job_id}
            ).scalars()
        )


def serial_state(db: Database, job_id: UUID) -> str:
    """Return the state that all serials of the job are in."""
    with db.transaction() as connection:
        return str(
            connection.execute(
                text("select distinct state from serials where job_id = :id"), {"id": job_id}
            ).scalar_one()
        )


def assert_clean(db: Database) -> None:
    with db.transaction() as connection:
        assert audit.audit(connection).violations == []


def test_a_job_that_is_stamped_captures_its_hold_and_tells_once(
    db: Database, account: Account
) -> None:
    job_id = accept(db, new_job(account))
    assert balance(db, account) == (99, 1, 0)
    claimed = claim(db, job_id)
    assert claimed is not None
    assert claimed.serials == shown(db, job_id).serials
    assert finish(db, claimed)
    job = shown(db, job_id)
    assert (job.state, job.result_key, job.attempt) == (State.STAMPED, RESULT.key, 1)
    assert balance(db, account) == (99, 0, 1)
    assert events_of(db, job_id) == ["job.accepted", "job.stamped"]
    assert serial_state(db, job_id) == "affixed"
    assert_clean(db)


def test_a_second_delivery_finds_nothing_to_claim(db: Database, account: Account) -> None:
    job_id = accept(db, new_job(account))
    assert claim(db, job_id) is not None
    assert claim(db, job_id) is None


def test_two_workers_at_once_get_one_claim(db: Database, account: Account) -> None:
    job_id = accept(db, new_job(account))
    claims: list[Claim | None] = []
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        claims.append(claim(db, job_id))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([c for c in claims if c is not None]) == 1


def test_a_worker_that_wakes_up_late_changes_nothing(db: Database, account: Account) -> None:
    job_id = accept(db, new_job(account))
    sleeper = claim(db, job_id)
    assert sleeper is not None
    expire(db, job_id)
    successor = claim(db, job_id)
    assert successor is not None
    assert successor.serials == sleeper.serials
    assert not finish(db, sleeper)
    with db.transaction() as connection:
        assert jobs.fail(connection, sleeper, Code.DOCUMENT_UNREADABLE, {}) is None
        assert not jobs.give_back(connection, sleeper, retry_after_seconds=1)
    assert shown(db, job_id).state is State.STAMPING
    assert finish(db, successor)
    assert not finish(db, sleeper)
    assert balance(db, account) == (99, 0, 1)
    assert events_of(db, job_id).count("job.stamped") == 1
    assert_clean(db)


def test_a_failed_job_says_why_and_gives_the_quota_back(db: Database, account: Account) -> None:
    job_id = accept(db, new_job(account))
    claimed = claim(db, job_id)
    assert claimed is not None
    with db.transaction() as connection:
        assert jobs.fail(connection, claimed, Code.DOCUMENT_CERTIFIED, {"field": "x"})
    job = shown(db, job_id)
    assert (job.state, job.problem_code) == (State.FAILED, Code.DOCUMENT_CERTIFIED)
    assert job.problem_facts == {"field": "x"}
    assert balance(db, account) == (100, 0, 0)
    assert serial_state(db, job_id) == "void"
    assert events_of(db, job_id) == ["job.accepted", "job.failed"]
    assert_clean(db)


def test_a_queued_job_can_be_cancelled_once_and_by_its_owner_only(
    db: Database, account: Account, make_account: Callable[..., Account]
) -> None:
    job_id = accept(db, new_job(account))
    stranger = make_account()

    def cancel(who: Account, mode: Mode) -> bool:
        with db.transaction() as connection:
            return jobs.cancel(connection, account_id=who.id(mode), job_id=job_id) is not None

    assert not cancel(stranger, Mode.LIVE)
    assert not cancel(account, Mode.TEST)
    assert cancel(account, Mode.LIVE)
    assert not cancel(account, Mode.LIVE)
    assert claim(db, job_id) is None
    assert balance(db, account) == (100, 0, 0)
    assert events_of(db, job_id) == ["job.accepted", "job.cancelled"]
    assert_clean(db)


def test_a_job_being_stamped_cannot_be_cancelled(db: Database, account: Account) -> None:
    job_id = accept(db, new_job(account))
    assert claim(db, job_id) is not None
    with db.transaction() as connection:
        assert jobs.cancel(connection, account_id=account.id(), job_id=job_id) is None
    assert shown(db, job_id).state is State.STAMPING


def test_a_passing_fault_puts_the_job_back_with_its_serial(db: Database, account: Account) -> None:
    job_id = accept(db, new_job(account))
    first = claim(db, job_id)
    assert first is not None
    with db.transaction() as connection:
        assert jobs.give_back(connection, first, retry_after_seconds=0)
    second = claim(db, job_id)
    assert second is not None
    assert (second.attempt, second.serials) == (2, first.serials)


def test_a_document_that_takes_its_worker_down_twice_is_unprocessable(
    db: Database, account: Account
) -> None:
    job_id = accept(db, new_job(account))
    assert claim(db, job_id) is not None
    expire(db, job_id)
    assert shown(db, job_id).state is State.QUEUED
    assert claim(db, job_id) is not None
    expire(db, job_id)
    job = shown(db, job_id)
    assert (job.state, job.problem_code) == (State.FAILED, Code.DOCUMENT_UNPROCESSABLE)
    assert balance(db, account) == (100, 0, 0)
    assert_clean(db)


def test_without_quota_nothing_is_left_behind(
    db: Database, make_account: Callable[..., Account]
) -> None:
    poor = make_account(quota=1)
    accept(db, new_job(poor))
    refused = new_job(poor)
    with pytest.raises(ProblemError) as refusal:
        accept(db, refused)
    assert refusal.value.code is Code.QUOTA_TOO_SMALL
    assert refusal.value.facts == {"available": 0, "needed": 1}
    with db.transaction() as connection:
        assert records.show(connection, refused.id) is None
    assert_clean(db)


def test_test_jobs_hold_and_spend_specimens_and_never_touch_the_live_account(
    db: Database, make_account: Callable[..., Account]
) -> None:
    poor = make_account(quota=0)
    stamped, waiting = (accept(db, new_job(poor, Mode.TEST, stamps=2)) for _ in range(2))
    claimed = claim(db, stamped)
    assert claimed is not None
    assert finish(db, claimed)
    assert balance(db, poor, Mode.TEST) == (partners.SPECIMENS - 4, 2, 2)
    with db.transaction() as connection:
        assert jobs.cancel(connection, account_id=poor.id(Mode.TEST), job_id=waiting)
    assert balance(db, poor, Mode.TEST) == (partners.SPECIMENS - 2, 0, 2)
    assert balance(db, poor) == (0, 0, 0)
    assert_clean(db)


def test_jobs_are_accepted_together_or_not_at_all(
    db: Database, make_account: Callable[..., Account]
) -> None:
    account = make_account(quota=6)
    three = [new_job(account, stamps=count) for count in (1, 2, 3)]
    with db.transaction() as connection:
        serials = jobs.accept(connection, three, publish_after_seconds=3600)
    assert [len(of_job) for of_job in serials] == [1, 2, 3]
    assert [shown(db, job.id).serials for job in three] == serials
    assert [events_of(db, job.id) for job in three] == [["job.accepted"]] * 3
    assert balance(db, account) == (0, 6, 0)

    with db.transaction() as connection:
        assert jobs.cancel(connection, account_id=account.id(), job_id=three[0].id)
    two = [new_job(account) for _ in range(2)]
    with pytest.raises(ProblemError) as refusal, db.transaction() as connection:
        jobs.accept(connection, two, publish_after_seconds=3600)
    assert refusal.value.facts == {"available": 1, "needed": 2}
    with db.transaction() as connection:
        assert [records.show(connection, job.id) for job in two] == [None, None]
    assert balance(db, account) == (1, 5, 0)
    assert_clean(db)


def test_jobs_of_two_accounts_are_not_accepted_together(db: Database, account: Account) -> None:
    mixed = [new_job(account), new_job(account, Mode.TEST)]
    with pytest.raises(ValueError), db.transaction() as connection:
        jobs.accept(connection, mixed, publish_after_seconds=3600)


def test_the_quota_is_right_when_many_spend_it_at_once(
    db: Database, make_account: Callable[..., Account]
) -> None:
    account = make_account(quota=20)
    outcomes: list[bool] = []

    def spend() -> None:
        for _ in range(5):
            try:
                accept(db, new_job(account))
                outcomes.append(True)
            except ProblemError:
                outcomes.append(False)

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(True) == 20
    assert outcomes.count(False) == 20
    assert balance(db, account) == (0, 20, 0)
    assert_clean(db)


def test_a_top_up_counts_once_per_reference(db: Database, account: Account) -> None:
    def top_up(amount: int) -> int:
        with db.transaction() as connection:
            return ledger.top_up(
                connection, account_id=account.id(), amount=amount, reference="r", by="tests"
            ).topped_up

    assert [top_up(50), top_up(50)] == [150, 150]
    with pytest.raises(ledger.ReferenceReusedError):
        top_up(51)


def test_any_order_of_events_leaves_the_books_balanced(
    db: Database, make_account: Callable[..., Account]
) -> None:
    """A state machine: whatever workers, owners and clocks do, the audit stays clean."""

    class Life(RuleBasedStateMachine):
        accepted: Bundle[UUID] = Bundle("accepted")
        claimed: Bundle[Claim] = Bundle("claimed")

        def __init__(self) -> None:
            super().__init__()
            self.account = make_account(quota=5)

        @rule(target=accepted, mode=st.sampled_from(Mode), stamps=st.integers(1, 3))
        def accepts(self, mode: Mode, stamps: int) -> UUID:
            job = new_job(self.account, mode, stamps=stamps)
            try:
                return accept(db, job)
            except ProblemError:
                return job.id

        @rule(target=claimed, job_id=accepted)
        def claims(self, job_id: UUID) -> Claim:
            taken = claim(db, job_id)
            return taken or Claim(
                job_id=job_id,
                account_id=self.account.id(),
                partner_id=self.account.partner_id,
                mode=Mode.LIVE,
                attempt=0,
                lane="tests",
                stamps=[],
                document_sha256=b"",
                external_reference=None,
            )

        @rule(taken=claimed)
        def finishes(self, taken: Claim) -> None:
            finish(db, taken)

        @rule(taken=claimed)
        def fails(self, taken: Claim) -> None:
            with db.transaction() as connection:
                jobs.fail(connection, taken, Code.DOCUMENT_UNREADABLE, {})

        @rule(taken=claimed)
        def gives_back(self, taken: Claim) -> None:
            with db.transaction() as connection:
                jobs.give_back(connection, taken, retry_after_seconds=0)

        @rule(job_id=accepted, mode=st.sampled_from(Mode))
        def cancels(self, job_id: UUID, mode: Mode) -> None:
            with db.transaction() as connection:
                jobs.cancel(connection, account_id=self.account.id(mode), job_id=job_id)

        @rule(taken=claimed)
        def leases_expire(self, taken: Claim) -> None:
            with db.transaction() as connection:
                connection.execute(
                    text(
                        "update jobs set lease_until = now() - interval '1 second'"
                        " where id = :id and state = 'stamping'"
                    ),
                    {"id": taken.job_id},
                )
                jobs.take_back_expired(connection, limit=1000)

        @invariant()
        def the_audit_is_clean(self) -> None:
            assert_clean(db)

    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=15,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
