"""What the database itself refuses, whoever asks: books that do not balance, entries that are changed."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from common.database import Database
from tests.service.test_job_states import accept, new_job
from tests.stack import Account


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("available = -1, held = held + available + 1", "available_not_negative"),
        ("held = -1, available = available + held + 1", "held_not_negative"),
        ("captured = -1, available = available + captured + 1", "captured_not_negative"),
        ("available = available + 1", "adds_up"),
        ("topped_up = topped_up - 1", "adds_up"),
    ],
)
def test_the_database_itself_refuses_books_that_do_not_balance(
    db: Database, account: Account, change: str, rule: str
) -> None:
    with pytest.raises(IntegrityError, match=rule), db.transaction() as connection:
        connection.execute(
            text(f"update accounts set {change} where id = :id"), {"id": account.id()}
        )


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ("'hold', 'available', 'captured', 1, :job, null, null, null", "kind"),
        ("'release', 'captured', 'available', 1, :job, null, null, null", "kind"),
        ("'gift', 'outside', 'available', 1, null, 'r', null, null", "kind"),
        ("'hold', 'available', 'held', 0, :job, null, null, null", "amount_positive"),
        ("'hold', 'available', 'held', 1, null, null, null, null", "job"),
        ("'top_up', 'outside', 'available', 1, null, null, null, null", "reference"),
        ("'top_up', 'outside', 'available', 1, null, 'first', null, null", "uq_.*_reference"),
        ("'adjust', 'outside', 'available', 1, null, 'r', null, 'me'", "adjust_explained"),
        ("'adjust', 'available', 'outside', 1, null, 'r', 'why', null", "adjust_explained"),
        ("'hold', 'available', 'held', 1, :job, null, null, null", "uq_.*_hold"),
    ],
)
def test_the_database_itself_refuses_an_entry_that_makes_no_sense(
    db: Database, account: Account, values: str, rule: str
) -> None:
    job_id = accept(db, new_job(account))
    with pytest.raises(IntegrityError, match=rule), db.transaction() as connection:
        connection.execute(
            text(
                "insert into ledger_entries"
                " (account_id, kind, source, target, amount, job_id, reference, reason, by)"
                f" values (:id, {values})"
            ),
            {"id": account.id(), "job": job_id},
        )


@pytest.mark.parametrize(
    "change",
    [
        "update ledger_entries set amount = 5 where account_id = :id",
        "delete from ledger_entries where account_id = :id",
        "truncate ledger_entries",
    ],
)
def test_ledger_entries_are_never_changed(db: Database, account: Account, change: str) -> None:
    with pytest.raises(DBAPIError, match="never changed"), db.transaction() as connection:
        connection.execute(text(change), {"id": account.id()})
