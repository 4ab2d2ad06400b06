"""A quota that runs low: told once per crossing, by upkeep, whoever else is at work."""

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import text

from common import accounts, lanes, ledger, quota_notices
from common.database import Database, Patience
from common.documents import Documents
from common.identifiers import new_id
from common.pace import Pace
from common.quota_notices import Notice
from common.settings import WorkerSettings
from tests.service.test_job_states import accept, assert_clean, new_job
from tests.stack import Account
from workers.upkeep import Caretaker


@pytest.fixture
def caretaker(
    worker_settings: WorkerSettings, db: Database, store: Documents, lane_pace: Pace
) -> Caretaker:
    return Caretaker(
        settings=worker_settings,
        database=db,
        documents=store,
        pace=lane_pace,
        app=lanes.make_celery(worker_settings),
    )


def test_an_account_that_somebody_holds_keeps_no_other_from_its_turn(
    worker_settings: WorkerSettings,
    db: Database,
    store: Documents,
    lane_pace: Pace,
    make_account: Callable[..., Account],
) -> None:
    held, other = sorted((make_account() for _ in range(2)), key=lambda each: each.id())
    for account in (held, other):
        pay(db, account, 1)
        set_low_at(db, account, 10**6)
    hasty = Database(
        worker_settings.database_url,
        patience=Patience(connect=3, turn=2, statement=0.5, answer=3, pause=0),
    )
    caretaker = Caretaker(
        settings=worker_settings,
        database=hasty,
        documents=store,
        pace=lane_pace,
        app=lanes.make_celery(worker_settings),
    )
    with db.transaction() as connection:
        connection.execute(
            text("select from accounts where id = :id for update"), {"id": held.id()}
        )
        caretaker.look_at_quotas()
    hasty.close()
    assert told(db, held) == []
    assert len(told(db, other)) == 1


def told(db: Database, account: Account) -> list[tuple[int, int]]:
    """Return what was available, and the threshold, of each event that the partner got."""
    with db.transaction() as connection:
        payloads = connection.execute(
            text(
                "select payload from events where partner_id = :id and type = 'quota.low'"
                " and mode = 'live' and job_id is null order by id"
            ),
            {"id": account.partner_id},
        ).scalars()
        return [(payload["available"], payload["low_at"]) for payload in payloads]


def set_low_at(db: Database, account: Account, low_at: int | None) -> None:
    with db.transaction() as connection:
        accounts.set_low_at(connection, account.id(), low_at)


def pay(db: Database, account: Account, amount: int) -> None:
    with db.transaction() as connection:
        ledger.top_up(
            connection,
            account_id=account.id(),
            amount=amount,
            reference=f"invoice {new_id()}",
            by="tests",
        )


def test_a_crossing_is_told_once_and_again_only_after_the_balance_recovered(
    caretaker: Caretaker, db: Database, account: Account
) -> None:
    set_low_at(db, account, 98)
    accept(db, new_job(account, stamps=2))
    caretaker.look_at_quotas()
    assert told(db, account) == [], "98 are not fewer than 98"
    accept(db, new_job(account))
    for _ in range(2):
        caretaker.look_at_quotas()
    accept(db, new_job(account))
    caretaker.look_at_quotas()
    assert told(db, account) == [(97, 98)]
    pay(db, account, 2)
    for _ in range(2):
        caretaker.look_at_quotas()
    accept(db, new_job(account, stamps=8))
    caretaker.look_at_quotas()
    assert told(db, account) == [(97, 98), (90, 98)]
    assert_clean(db)


def test_without_a_threshold_of_its_own_an_account_goes_by_the_settings(
    caretaker: Caretaker, db: Database, account: Account, worker_settings: WorkerSettings
) -> None:
    assert worker_settings.quota_low_stamps == 100
    caretaker.look_at_quotas()
    assert told(db, account) == []
    accept(db, new_job(account))
    caretaker.look_at_quotas()
    assert told(db, account) == [(99, 100)]
    # Never, and by the settings again: as if it had recovered and run low once more.
    for low_at in (0, None):
        set_low_at(db, account, low_at)
        caretaker.look_at_quotas()
    assert told(db, account) == [(99, 100), (99, 100)]


def test_an_account_that_never_had_a_stamp_is_not_low(
    caretaker: Caretaker, db: Database, make_account: Callable[..., Account]
) -> None:
    empty, spent = make_account(quota=0), make_account(quota=1)
    accept(db, new_job(spent))
    caretaker.look_at_quotas()
    assert told(db, empty) == []
    assert told(db, spent) == [(0, 100)]


def test_many_that_look_at_once_tell_once(db: Database, account: Account) -> None:
    accept(db, new_job(account))
    start = threading.Barrier(6)
    notices: list[Notice | None] = []

    def look() -> None:
        start.wait()
        with db.transaction() as connection:
            notices.append(quota_notices.look(connection, account.id(), low_at=100))

    threads = [threading.Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([notice for notice in notices if notice is not None]) == 1
    assert len(notices) == 6
    assert told(db, account) == [(99, 100)]


def test_what_dies_before_the_commit_is_told_by_the_next_look(
    caretaker: Caretaker, db: Database, account: Account
) -> None:
    accept(db, new_job(account))
    with db.engine.connect() as connection:
        assert quota_notices.look(connection, account.id(), low_at=100) is not None
        connection.rollback()
    assert told(db, account) == []
    caretaker.look_at_quotas()
    assert told(db, account) == [(99, 100)]


def test_a_look_is_bounded_and_says_nothing_of_accounts_that_are_up_to_date(
    caretaker: Caretaker, db: Database, make_account: Callable[..., Account]
) -> None:
    caretaker.look_at_quotas()
    for account in (make_account(), make_account()):
        accept(db, new_job(account))
    with db.transaction() as connection:
        assert len(quota_notices.out_of_date(connection, low_at=100, limit=1)) == 1
    assert caretaker.look_at_quotas() == 2
    assert caretaker.look_at_quotas() == 0
    with db.transaction() as connection:
        assert quota_notices.out_of_date(connection, low_at=100, limit=1) == []
