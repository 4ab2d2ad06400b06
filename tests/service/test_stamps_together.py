"""What happens to a job happens to all of its stamps: held, spent and given back together."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, text

from common import audit, jobs, ledger
from common.database import Database
from common.identifiers import new_id
from common.jobs import State
from common.partners import Mode
from common.problems import Code, ProblemError
from tests import damages
from tests.service.test_job_states import (
    accept,
    assert_clean,
    balance,
    claim,
    expire,
    finish,
    give_back,
    new_job,
    serial_state,
    shown,
)
from tests.stack import Account


def settled(db: Database, job_id: UUID) -> list[tuple[str, int]]:
    with db.transaction() as connection:
        entries = connection.execute(
            text("select kind, amount from ledger_entries where job_id = :id order by id"),
            {"id": job_id},
        ).all()
    return [(kind, amount) for kind, amount in entries]


def test_all_stamps_of_a_job_are_held_and_spent_together(db: Database, account: Account) -> None:
    job_id = accept(db, new_job(account, stamps=3))
    assert balance(db, account) == (97, 3, 0)
    first = claim(db, job_id)
    assert first is not None
    assert len(set(first.serials)) == 3
    assert [stamp.placement.page for stamp in first.stamps] == [1, 2, 3]
    assert give_back(db, first) is State.QUEUED
    second = claim(db, job_id)
    assert second is not None
    assert second.stamps == first.stamps
    assert finish(db, second)
    assert shown(db, job_id).serials == first.serials
    assert serial_state(db, job_id) == "affixed"
    assert settled(db, job_id) == [("hold", 3), ("capture", 3)]
    assert balance(db, account) == (97, 0, 3)
    assert_clean(db)


@pytest.mark.parametrize(("count", "stamps"), [(1, 1), (1, 20), (5, 3)])
def test_accepting_takes_one_statement_however_many_jobs_and_stamps(
    db: Database, account: Account, count: int, stamps: int
) -> None:
    """It locks the account until the commit: each more would be waited for."""
    said: list[str] = []

    def listen(*call: Any) -> None:
        said.append(call[2])

    event.listen(db.engine, "before_cursor_execute", listen)
    try:
        several = [new_job(account, stamps=stamps) for _ in range(count)]
        with db.transaction() as connection:
            jobs.accept(connection, several, publish_after_seconds=1200)
    finally:
        event.remove(db.engine, "before_cursor_execute", listen)
    (statement,) = said
    assert "accept_jobs(" in statement


def test_all_stamps_of_a_job_are_given_back_together(db: Database, account: Account) -> None:
    cancelled, failed, lost = (accept(db, new_job(account, stamps=3)) for _ in range(3))
    assert balance(db, account) == (91, 9, 0)
    with db.transaction() as connection:
        assert jobs.cancel(connection, account_id=account.id(), job_id=cancelled)
    taken = claim(db, failed)
    assert taken is not None
    with db.transaction() as connection:
        assert jobs.fail(connection, taken, Code.BOX_OFF_PAGE, {})
    for _ in range(jobs.LOST_LEASES_ALLOWED):
        assert claim(db, lost) is not None
        expire(db, lost)
    for job_id in (cancelled, failed, lost):
        assert serial_state(db, job_id) == "void"
        assert settled(db, job_id) == [("hold", 3), ("release", 3)]
    assert balance(db, account) == (100, 0, 0)
    assert_clean(db)


def test_a_quota_that_is_too_small_by_one_holds_nothing(
    db: Database, make_account: Callable[..., Account]
) -> None:
    poor = make_account(quota=2)
    with pytest.raises(ProblemError) as refusal:
        accept(db, new_job(poor, stamps=3))
    assert refusal.value.facts == {"available": 2, "needed": 3}
    accept(db, new_job(poor, stamps=2))
    assert balance(db, poor) == (0, 2, 0)
    assert_clean(db)


def test_what_was_never_held_cannot_be_settled(db: Database, account: Account) -> None:
    of_another = accept(db, new_job(account, Mode.TEST))
    for job_id in (new_id(), of_another):
        for settle in (ledger.capture, ledger.release):
            with pytest.raises(ledger.NothingHeldError), db.transaction() as connection:
                settle(connection, account_id=account.id(), job_id=job_id)
    assert balance(db, account) == (100, 0, 0)


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (
            "delete from serials where job_id = :id and position = 2",
            "every job has one serial for each stamp, numbered from 1",
        ),
        (
            "update serials set position = 9 where job_id = :id and position = 3",
            "every job has one serial for each stamp, numbered from 1",
        ),
        (
            "update serials set state = 'void' where job_id = :id and position = 2",
            "a serial is void exactly where its job ended unstamped",
        ),
        (
            "update jobs set placements = placements || '[{}]' where id = :id",
            "every job holds once, one for each stamp, in the account that owns it",
        ),
        (
            "update jobs set mode = 'test' where id = :id",
            "a job's partner and mode are its account's",
        ),
        (
            "insert into ledger_entries (account_id, kind, source, target, amount, job_id)"
            " select account_id, 'release', 'held', 'available', 2, id from jobs where id = :id",
            "what is captured or released is all that was held, in the same account",
        ),
    ],
)
def test_the_audit_finds_a_job_whose_stamps_do_not_add_up(
    db: Database, account: Account, damage: str, rule: str
) -> None:
    job_id = accept(db, new_job(account, stamps=3))
    with db.engine.connect() as connection:
        # The database itself refuses some of this.
        connection.execute(text("set local session_replication_role = replica"))
        connection.execute(text(damage), {"id": job_id})
        found = audit.look(connection)
        connection.rollback()
    assert damages.speaks(found, rule, str(job_id))
    assert_clean(db)
