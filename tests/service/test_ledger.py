"""The ledger alone: against a plain model of it, and under many hands."""

import random
import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from common import audit, jobs, ledger, statements
from common.database import Database
from common.identifiers import new_id
from common.ledger import Balance
from common.partners import Mode
from common.problems import Code, ProblemError
from tests.service.test_job_states import accept, assert_clean, balance, claim, finish, new_job
from tests.stack import Account

REFERENCES = st.sampled_from(["invoice-1", "invoice-2", "invoice-3"])


def in_parallel(*works: Callable[[], None]) -> None:
    """Run all at once; what one raises fails the test."""
    start = threading.Barrier(len(works))
    raised: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        start.wait()
        try:
            work()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised == []


def adjust(
    db: Database, account: Account, amount: int, reference: str, reason: str = "a reason"
) -> Balance:
    with db.transaction() as connection:
        return ledger.adjust(
            connection,
            account_id=account.id(),
            amount=amount,
            reference=reference,
            reason=reason,
            by="tests",
        )


def top_up(db: Database, account: Account, amount: int, reference: str) -> Balance:
    with db.transaction() as connection:
        return ledger.top_up(
            connection, account_id=account.id(), amount=amount, reference=reference, by="tests"
        )


def test_an_adjustment_counts_once_and_says_why(db: Database, account: Account) -> None:
    assert adjust(db, account, -30, "c-1", "paid twice") == Balance(70, 70, 0, 0)
    assert adjust(db, account, -30, "c-1", "paid twice") == Balance(70, 70, 0, 0)
    assert adjust(db, account, 5, "c-2", "an apology") == Balance(75, 75, 0, 0)
    with db.transaction() as connection:
        page = statements.page(connection, account_id=account.id(), limit=10)
    said = [(e.kind, e.source, e.target, e.amount, e.reason, e.by) for e in page.entries]
    assert said == [
        ("adjust", "outside", "available", 5, "an apology", "tests"),
        ("adjust", "available", "outside", 30, "paid twice", "tests"),
        ("top_up", "outside", "available", 100, None, "tests"),
    ]
    assert_clean(db)


def test_a_reference_stands_for_one_thing(db: Database, account: Account) -> None:
    adjust(db, account, -30, "c-1")
    for change, amount, reference in (
        (adjust, 30, "c-1"),
        (adjust, -31, "c-1"),
        (top_up, 30, "c-1"),
        # The account's first top-up, by the factory.
        (adjust, 100, "first"),
    ):
        with pytest.raises(ledger.ReferenceReusedError):
            change(db, account, amount, reference)
    assert balance(db, account) == (70, 0, 0)


def test_no_adjustment_takes_what_is_held_or_not_there(db: Database, account: Account) -> None:
    accept(db, new_job(account, stamps=10))
    with pytest.raises(ledger.OverdrawnError) as refusal:
        adjust(db, account, -91, "c-1")
    assert (refusal.value.available, refusal.value.wanted) == (90, 91)
    with pytest.raises(ValueError, match="zero"):
        adjust(db, account, 0, "c-1")
    assert adjust(db, account, -90, "c-1") == Balance(10, 0, 10, 0)
    assert_clean(db)


def test_a_top_up_sent_by_many_at_once_counts_once(db: Database, account: Account) -> None:
    def send() -> None:
        top_up(db, account, 50, "invoice")

    in_parallel(*[send] * 8)
    assert balance(db, account) == (150, 0, 0)


def test_many_hands_on_one_account_lose_nothing_and_never_wait_for_each_other(
    db: Database, make_account: Callable[..., Account]
) -> None:
    account = make_account(quota=60)
    taken: list[int] = []
    refused_at: list[int] = []

    def deadlocks() -> int:
        with db.transaction() as connection:
            return int(
                connection.execute(
                    text(
                        "select deadlocks from pg_stat_database where datname = current_database()"
                    )
                ).scalar_one()
            )

    def hold_and_settle() -> None:
        chance = random.Random(threading.get_ident())
        for _ in range(10):
            try:
                job_id = accept(db, new_job(account, stamps=chance.randint(1, 3)))
            except ProblemError as error:
                if error.code is not Code.QUOTA_TOO_SMALL:
                    raise
                continue
            if chance.random() < 0.5:
                claimed = claim(db, job_id)
                assert claimed is not None
                assert finish(db, claimed)
            else:
                with db.transaction() as connection:
                    assert jobs.cancel(connection, account_id=account.id(), job_id=job_id)

    def take_away() -> None:
        for _ in range(10):
            try:
                adjust(db, account, -7, f"c-{new_id()}")
                taken.append(7)
            except ledger.OverdrawnError as error:
                refused_at.append(error.available)

    def pay() -> None:
        for number in range(10):
            top_up(db, account, 2, f"invoice-{number}")

    before = deadlocks()
    in_parallel(*[hold_and_settle] * 4, *[take_away] * 2, *[pay] * 2)
    available, held, captured = balance(db, account)
    assert held == 0
    assert all(0 <= left < 7 for left in refused_at)
    # Two hands paid the same ten invoices.
    assert available + captured == 60 + 20 - sum(taken)
    assert deadlocks() == before
    assert_clean(db)


@pytest.mark.parametrize(
    "damage",
    [
        "update accounts set held = held + 1, available = available - 1 where id = :id",
        "update accounts set captured = captured + 1, held = held - 1 where id = :id",
        "update accounts set topped_up = topped_up + 1, available = available + 1 where id = :id",
        "insert into ledger_entries (account_id, kind, source, target, amount, reference)"
        " values (:id, 'top_up', 'outside', 'available', 1, 'never paid')",
    ],
)
def test_the_audit_finds_an_account_that_is_not_the_sum_of_its_entries(
    db: Database, account: Account, damage: str
) -> None:
    accept(db, new_job(account))
    with db.engine.connect() as connection:
        connection.execute(text(damage), {"id": account.id()})
        query = audit.RULES["every side of an account is the sum of its entries"]
        assert connection.execute(text(query)).scalars().all() == [account.id()]
        connection.rollback()
    assert_clean(db)


def test_a_job_is_settled_once_one_way_or_the_other(db: Database, account: Account) -> None:
    job_id = accept(db, new_job(account))
    accept(db, new_job(account))
    for _ in range(2):
        with db.transaction() as connection:
            cancelled = jobs.cancel(connection, account_id=account.id(), job_id=job_id)
    assert cancelled is None
    for settle in (ledger.capture, ledger.release):
        with pytest.raises(IntegrityError, match="settlement"), db.transaction() as connection:
            settle(connection, account_id=account.id(), job_id=job_id)
    assert balance(db, account) == (99, 1, 0)
    assert_clean(db)


def insert_job(connection: Connection, account: Account) -> UUID:
    """Write the bare row of a job, for an entry to name."""
    job_id = new_id()
    connection.execute(
        text(
            "insert into jobs (id, account_id, partner_id, mode, state, lane, placements, metadata,"
            " document_name, document_bytes, document_sha256, receipt) values (:id, :account_id,"
            " :partner_id, :mode, 'queued', 'tests', '[{}]', '{}', 'a.pdf', 9, 'd', 'receipt')"
        ),
        {
            "id": job_id,
            "account_id": account.id(),
            "partner_id": account.partner_id,
            "mode": Mode.LIVE,
        },
    )
    return job_id


def test_any_order_of_calls_does_what_a_plain_model_does(
    db: Database, make_account: Callable[..., Account]
) -> None:
    """A state machine in one transaction, which is rolled back at the end of each run."""
    account = make_account(quota=0)

    class Books(RuleBasedStateMachine):
        held_jobs: Bundle[UUID] = Bundle("held_jobs")

        def __init__(self) -> None:
            super().__init__()
            self.connection = db.engine.connect()
            self.transaction = self.connection.begin()
            self.available = 0
            self.captured = 0
            self.held: dict[UUID, int] = {}
            self.settled: set[UUID] = set()
            self.references: dict[str, tuple[str, int]] = {}

        def teardown(self) -> None:
            self.transaction.rollback()
            self.connection.close()

        def tried(self, call: Callable[..., Any], **arguments: Any) -> Exception | None:
            """Return what a call raised; what it had done is undone then."""
            try:
                with self.connection.begin_nested():
                    call(self.connection, account_id=account.id(), **arguments)
            except (ValueError, LookupError, ProblemError, IntegrityError) as error:
                return error
            return None

        def change(self, kind: str, amount: int, reference: str, raised: Exception | None) -> None:
            known = self.references.get(reference)
            if known is not None:
                same = known == (kind, amount)
                assert raised is None if same else isinstance(raised, ledger.ReferenceReusedError)
            elif self.available + amount < 0:
                assert isinstance(raised, ledger.OverdrawnError)
                assert raised.available == self.available
            else:
                assert raised is None
                self.references[reference] = (kind, amount)
                self.available += amount

        @rule(amount=st.integers(1, 20), reference=REFERENCES)
        def tops_up(self, amount: int, reference: str) -> None:
            raised = self.tried(ledger.top_up, amount=amount, reference=reference, by="tests")
            self.change("top_up", amount, reference, raised)

        @rule(amount=st.integers(-20, 20).filter(bool), reference=REFERENCES)
        def adjusts(self, amount: int, reference: str) -> None:
            raised = self.tried(
                ledger.adjust, amount=amount, reference=reference, reason="why", by="tests"
            )
            self.change("adjust", amount, reference, raised)

        @rule(reference=REFERENCES)
        def sends_again(self, reference: str) -> None:
            kind, amount = self.references.get(reference, ("top_up", 1))
            if kind == "top_up":
                self.tops_up(amount, reference)
            else:
                self.adjusts(amount, reference)

        @rule(target=held_jobs, amounts=st.lists(st.integers(1, 5), min_size=1, max_size=3))
        def holds(self, amounts: list[int]) -> Any:
            stamps = {insert_job(self.connection, account): amount for amount in amounts}
            raised = self.tried(ledger.hold, stamps=stamps)
            if sum(amounts) > self.available:
                assert isinstance(raised, ProblemError)
                assert raised.facts == {"available": self.available, "needed": sum(amounts)}
                return multiple()
            assert raised is None
            self.available -= sum(amounts)
            self.held |= stamps
            return multiple(*stamps)

        @rule(job_id=held_jobs)
        def holds_again(self, job_id: UUID) -> None:
            raised = self.tried(ledger.hold, stamps={job_id: 1})
            assert isinstance(raised, IntegrityError if self.available else ProblemError)

        @rule(job_id=held_jobs, spent=st.booleans())
        def settles(self, job_id: UUID, spent: bool) -> None:
            raised = self.tried(ledger.capture if spent else ledger.release, job_id=job_id)
            if job_id in self.settled:
                assert isinstance(raised, IntegrityError)
                return
            assert raised is None
            self.settled.add(job_id)
            if spent:
                self.captured += self.held.pop(job_id)
            else:
                self.available += self.held.pop(job_id)

        @rule(spent=st.booleans())
        def settles_what_was_never_held(self, spent: bool) -> None:
            raised = self.tried(ledger.capture if spent else ledger.release, job_id=new_id())
            assert isinstance(raised, ledger.NothingHeldError)

        @invariant()
        def the_books_say_what_the_model_says(self) -> None:
            held = sum(self.held.values())
            topped_up = sum(amount for _, amount in self.references.values())
            expected = Balance(topped_up, self.available, held, self.captured)
            assert ledger.balance(self.connection, account.id()) == expected
            sides = dict.fromkeys(statements.Side, 0)
            page = statements.page(self.connection, account_id=account.id(), limit=1000)
            for entry in page.entries:
                sides[entry.source] -= entry.amount
                sides[entry.target] += entry.amount
            assert tuple(sides.values()) == (-topped_up, self.available, held, self.captured)

    run_state_machine_as_test(
        Books,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
