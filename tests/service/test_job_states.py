"""The job's ways from state to state, its fencing, and what each settles."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
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
from common.jobs import Claim, NewJob, Result, Setback, SetbackKind, State, records
from common.jobs.records import JobRecord
from common.partners import Mode
from common.placements import Placement
from common.problems import Code, ProblemError
from tests.stack import Account

LEASE = 60


class AtOnce(Random):
    """Draws the shortest wait after a fault: none."""

    def uniform(self, a: float, b: float) -> float:
        return a


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
        jobs.accept(connection, [job], publish_after_seconds=1200)
    return job.id


def claim(db: Database, job_id: UUID, *, worker: str = "stamp@a/1") -> Claim | None:
    with db.transaction() as connection:
        return jobs.claim(connection, job_id, lease_seconds=LEASE, worker=worker)


def finish(db: Database, claim: Claim) -> bool:
    with db.transaction() as connection:
        return jobs.finish(connection, claim, RESULT) is not None


def give_back(
    db: Database,
    claim: Claim,
    kind: SetbackKind = SetbackKind.PASSING,
    *,
    wait: float = 0,
    allowed: int = 2,
) -> State | None:
    with db.transaction() as connection:
        return jobs.give_back(
            connection,
            claim,
            Setback(kind, "a reason"),
            retry_after_seconds=wait,
            faults_allowed=allowed,
        )


def expire(db: Database, job_id: UUID, *, ended: str = "-1 second") -> None:
    """Let the job's lease end at this time from now, and take it back if it has run out."""
    with db.transaction() as connection:
        connection.execute(
            text(
                "update jobs set lease_until = now() + cast(:ended as interval)"
                " where id = :id and state = 'stamping'"
            ),
            {"id": job_id, "ended": ended},
        )
    with db.transaction() as connection:
        jobs.take_back(connection, job_id, lease_seconds=LEASE)


def kill(db: Database, job_id: UUID, worker: str, kind: SetbackKind = SetbackKind.KILLED) -> bool:
    with db.transaction() as connection:
        return (
            jobs.take_from(connection, [job_id], worker=worker, setback=Setback(kind, "SIGKILL"))
            is not None
        )


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
    assert give_back(db, sleeper) is None
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
    assert give_back(db, first) is State.QUEUED
    second = claim(db, job_id)
    assert second is not None
    assert (second.attempt, second.serials) == (2, first.serials)


def test_a_document_that_takes_its_worker_down_twice_is_unprocessable(
    db: Database, account: Account
) -> None:
    job_id = accept(db, new_job(account))
    for number in range(jobs.KILLS_ALLOWED):
        assert shown(db, job_id).state is State.QUEUED
        assert claim(db, job_id, worker=f"stamp@a/{number}") is not None
        assert kill(db, job_id, f"stamp@a/{number}")
    job = shown(db, job_id)
    assert (job.state, job.problem_code) == (State.FAILED, Code.DOCUMENT_UNPROCESSABLE)
    assert [(each["attempt"], each["kind"]) for each in job.setbacks] == [
        (1, "killed"),
        (2, "killed"),
    ]
    assert balance(db, account) == (100, 0, 0)
    assert_clean(db)


def test_machines_that_go_away_without_a_word_are_not_held_against_the_document_so_soon(
    db: Database, account: Account
) -> None:
    job_id = accept(db, new_job(account))
    for _ in range(jobs.LOST_LEASES_ALLOWED - 1):
        assert claim(db, job_id) is not None
        expire(db, job_id)
        assert shown(db, job_id).state is State.QUEUED
    assert claim(db, job_id) is not None
    expire(db, job_id)
    job = shown(db, job_id)
    assert (job.state, job.problem_code) == (State.FAILED, Code.DOCUMENT_UNPROCESSABLE)
    assert balance(db, account) == (100, 0, 0)
    assert_clean(db)


def test_only_the_process_that_has_a_job_can_lose_it(db: Database, account: Account) -> None:
    job_id = accept(db, new_job(account))
    assert not kill(db, job_id, "stamp@a/1"), "nobody has it"
    assert claim(db, job_id, worker="stamp@a/2") is not None
    assert not kill(db, job_id, "stamp@a/1"), "another one has it"
    taken = claim_again(db, job_id)
    assert finish(db, taken)
    assert not kill(db, job_id, "stamp@a/2"), "it is stamped"
    assert shown(db, job_id).kills == 0


def claim_again(db: Database, job_id: UUID) -> Claim:
    """Let the lease run out and claim anew, as the process that the parent knows."""
    expire(db, job_id)
    taken = claim(db, job_id, worker="stamp@a/2")
    assert taken is not None
    return taken


def test_a_lease_from_before_the_clock_went_back_is_over_and_blames_nobody(
    db: Database, account: Account
) -> None:
    job_id = accept(db, new_job(account))
    sleeper = claim(db, job_id)
    assert sleeper is not None
    expire(db, job_id, ended="30 seconds")
    assert shown(db, job_id).state is State.STAMPING, "one that runs is left alone"
    expire(db, job_id, ended="1 hour")
    job = shown(db, job_id)
    assert (job.state, job.lost_leases) == (State.QUEUED, 0)
    assert not finish(db, sleeper)
    assert_clean(db)


def test_a_job_waits_after_a_fault_whatever_old_messages_say(
    db: Database, account: Account
) -> None:
    job_id = accept(db, new_job(account))
    first = claim(db, job_id)
    assert first is not None
    assert give_back(db, first, wait=600) is State.QUEUED
    assert claim(db, job_id) is None
    with db.transaction() as connection:
        connection.execute(
            text("update jobs set not_before = not_before + interval '1 hour' where id = :id"),
            {"id": job_id},
        )
    assert claim(db, job_id) is not None, "the clock went back by an hour, and nobody waits for it"


def test_faults_of_ours_park_the_job_with_all_that_it_holds(db: Database, account: Account) -> None:
    job_id = accept(db, new_job(account, stamps=2))
    serials = shown(db, job_id).serials
    for left in (State.QUEUED, State.PARKED):
        taken = claim(db, job_id)
        assert taken is not None
        assert give_back(db, taken, SetbackKind.OURS) is left
    assert claim(db, job_id) is None
    assert balance(db, account) == (98, 2, 0)
    assert serial_state(db, job_id) == "reserved"
    assert_clean(db)
    with db.transaction() as connection:
        assert jobs.requeue(connection, [job_id]) == [job_id]
        assert jobs.requeue(connection, [job_id]) == []
    taken = claim(db, job_id)
    assert taken is not None
    assert (taken.attempt, taken.serials) == (3, serials)
    assert give_back(db, taken, SetbackKind.OURS) is State.QUEUED, "faults are counted anew"
    taken = claim(db, job_id)
    assert taken is not None
    assert finish(db, taken)
    assert [each["attempt"] for each in shown(db, job_id).setbacks] == [1, 2, 3]
    assert balance(db, account) == (98, 0, 2)
    assert_clean(db)


def test_passing_faults_never_park_a_job(db: Database, account: Account) -> None:
    job_id = accept(db, new_job(account))
    for _ in range(12):
        taken = claim(db, job_id)
        assert taken is not None
        assert give_back(db, taken, allowed=1) is State.QUEUED


def test_a_parked_job_that_is_given_up_costs_nothing_and_says_why(
    db: Database, account: Account
) -> None:
    job_id = accept(db, new_job(account))
    with db.transaction() as connection:
        assert jobs.give_up(connection, job_id, reason="x") is None, "nobody has tried it"
    taken = claim(db, job_id)
    assert taken is not None
    assert give_back(db, taken, SetbackKind.OURS, allowed=1) is State.PARKED
    with db.transaction() as connection:
        assert jobs.give_up(connection, job_id, reason="the stored file is gone")
        assert jobs.give_up(connection, job_id, reason="x") is None
    job = shown(db, job_id)
    assert (job.state, job.problem_code) == (State.FAILED, Code.STAMPING_FAILED)
    assert job.problem_facts == {"reason": "the stored file is gone"}
    assert balance(db, account) == (100, 0, 0)
    assert events_of(db, job_id) == ["job.accepted", "job.failed"]
    assert_clean(db)


def test_a_job_that_is_stamped_at_once_leaves_no_setback(db: Database, account: Account) -> None:
    job_id = accept(db, new_job(account))
    taken = claim(db, job_id)
    assert taken is not None
    assert finish(db, taken)
    assert list(shown(db, job_id).setbacks) == []


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
        serials = jobs.accept(connection, three, publish_after_seconds=1200)
    assert [len(of_job) for of_job in serials] == [1, 2, 3]
    assert [shown(db, job.id).serials for job in three] == serials
    assert [events_of(db, job.id) for job in three] == [["job.accepted"]] * 3
    assert balance(db, account) == (0, 6, 0)

    with db.transaction() as connection:
        assert jobs.cancel(connection, account_id=account.id(), job_id=three[0].id)
    two = [new_job(account) for _ in range(2)]
    with pytest.raises(ProblemError) as refusal, db.transaction() as connection:
        jobs.accept(connection, two, publish_after_seconds=1200)
    assert refusal.value.facts == {"available": 1, "needed": 2}
    with db.transaction() as connection:
        assert [records.show(connection, job.id) for job in two] == [None, None]
    assert balance(db, account) == (1, 5, 0)
    assert_clean(db)


def test_jobs_of_two_accounts_are_not_accepted_together(db: Database, account: Account) -> None:
    mixed = [new_job(account), new_job(account, Mode.TEST)]
    with pytest.raises(ValueError), db.transaction() as connection:
        jobs.accept(connection, mixed, publish_after_seconds=1200)


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
                waited_seconds=0.0,
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
            give_back(db, taken)

        @rule(taken=claimed)
        def meets_a_fault_of_ours(self, taken: Claim) -> None:
            give_back(db, taken, SetbackKind.OURS)

        @rule(taken=claimed, kind=st.sampled_from([SetbackKind.KILLED, SetbackKind.LOST]))
        def its_process_dies(self, taken: Claim, kind: SetbackKind) -> None:
            kill(db, taken.job_id, "stamp@a/1", kind)

        @rule(job_id=accepted)
        def is_requeued(self, job_id: UUID) -> None:
            with db.transaction() as connection:
                jobs.requeue(connection, [job_id])

        @rule(job_id=accepted)
        def is_given_up(self, job_id: UUID) -> None:
            with db.transaction() as connection:
                jobs.give_up(connection, job_id, reason="it cannot be mended")

        @rule(job_id=accepted)
        def is_purged(self, job_id: UUID) -> None:
            with db.transaction() as connection:
                connection.execute(
                    text(
                        "update jobs set finished_at = 'epoch' where id = :id and"
                        " finished_at is not null and purged_at is null"
                    ),
                    {"id": job_id},
                )
                jobs.purge(connection, retention_days=365, limit=1000)

        @rule(job_id=accepted, mode=st.sampled_from(Mode))
        def cancels(self, job_id: UUID, mode: Mode) -> None:
            with db.transaction() as connection:
                jobs.cancel(connection, account_id=self.account.id(mode), job_id=job_id)

        @rule(taken=claimed)
        def leases_expire(self, taken: Claim) -> None:
            expire(db, taken.job_id)

        @invariant()
        def the_audit_is_clean(self) -> None:
            assert_clean(db)

    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=15,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
