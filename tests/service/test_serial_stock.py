"""Imported serials: taken from the stock by jobs, given back, and waited for when there are none."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError

from common import codes, documents, jobs, lanes
from common.database import Database
from common.documents import Documents
from common.identifiers import new_id
from common.jobs import NewJob, State
from common.pace import Pace
from common.partners import Mode
from common.problems import Code, ProblemError
from common.serials import Supply, look_up, stock
from common.settings import WebSettings, WorkerSettings
from deploy.qr import read_codes
from tests.service import serial_lists
from tests.service.serial_lists import import_text, imported
from tests.service.test_job_states import (
    assert_clean,
    balance,
    claim,
    events_of,
    finish,
    new_job,
    shown,
)
from tests.service.test_signing_keys import stamper
from tests.stack import Account
from workers.checking import check
from workers.upkeep import Caretaker


@pytest.fixture(scope="module")
def db(web_settings: WebSettings) -> Iterator[Database]:
    """A database of its own: the stock is one for all partners, and other tests have none."""
    with serial_lists.own_database(web_settings.database_url) as opened:
        yield opened


@pytest.fixture(autouse=True)
def empty_database(db: Database) -> None:
    serial_lists.empty(db)


@pytest.fixture
def supply() -> Supply:
    return Supply(source="imported")


@pytest.fixture
def caretaker(
    worker_settings: WorkerSettings, db: Database, store: Documents, lane_pace: Pace
) -> Caretaker:
    return caretaker_of(worker_settings, db, store, lane_pace)


def caretaker_of(
    worker_settings: WorkerSettings, db: Database, store: Documents, lane_pace: Pace
) -> Caretaker:
    settings = worker_settings.model_copy(
        update={"serial_source": "imported", "serial_stock_low": 3}
    )
    celery = lanes.make_celery(settings)
    celery.conf.task_create_missing_queues = True
    return Caretaker(settings=settings, database=db, documents=store, pace=lane_pace, app=celery)


def accept(db: Database, job: NewJob, supply: Supply) -> UUID:
    with db.transaction() as connection:
        jobs.accept(connection, [job], publish_after_seconds=1200, supply=supply)
    return job.id


def cancel(db: Database, account: Account, job_id: UUID) -> None:
    with db.transaction() as connection:
        assert jobs.cancel(connection, account_id=account.id(), job_id=job_id)


def serve(db: Database, supply: Supply, *, limit: int = 100) -> int:
    with db.transaction() as connection:
        return jobs.serve_waiting(connection, supply, limit=limit, enter=lambda lane: 7)


def in_stock(db: Database) -> list[str]:
    with db.transaction() as connection:
        return list(
            connection.execute(text("select serial from serial_stock order by id")).scalars()
        )


def test_jobs_get_the_issuers_numbers_and_test_jobs_get_made_ones(
    db: Database, account: Account, supply: Supply
) -> None:
    listed = imported(db, 3)
    live = accept(db, new_job(account, stamps=2), supply)
    assert shown(db, live).serials == listed[:2]
    test = accept(db, new_job(account, Mode.TEST), supply)
    assert shown(db, test).serials[0].startswith("T")
    assert in_stock(db) == listed[2:]
    taken = claim(db, live)
    assert taken is not None
    assert taken.serials == listed[:2]
    assert finish(db, taken)
    assert_clean(db)


def test_a_refused_acceptance_leaves_its_serials_in_the_stock(
    db: Database, make_account: Callable[..., Account], supply: Supply
) -> None:
    listed = imported(db, 2)
    poor, rich = make_account(quota=1), make_account()
    with pytest.raises(ProblemError) as refusal:
        accept(db, new_job(poor, stamps=2), supply)
    assert refusal.value.code is Code.QUOTA_TOO_SMALL
    assert in_stock(db) == listed
    assert shown(db, accept(db, new_job(rich, stamps=2), supply)).serials == listed
    assert_clean(db)


def test_what_a_rollback_left_behind_is_found_before_the_stock_is_called_empty(
    db: Database, account: Account, make_account: Callable[..., Account], supply: Supply
) -> None:
    first, second, third = imported(db, 3)
    with db.engine.connect() as connection:
        refused = new_job(make_account())
        jobs.accept(connection, [refused], publish_after_seconds=1, supply=supply)
        assert shown(db, accept(db, new_job(account), supply)).serials == [second]
        connection.rollback()
    assert shown(db, accept(db, new_job(account), supply)).serials == [third]
    assert shown(db, accept(db, new_job(account), supply)).serials == [first]
    assert shown(db, accept(db, new_job(account), supply)).serials == []


def test_serials_in_hand_hold_nobody_up(db: Database, account: Account) -> None:
    """Another process takes the next ones, though the first transaction is still open."""
    first, second, third = imported(db, 3)
    with db.engine.connect() as connection:
        connection.execute(text("set local lock_timeout = '2s'"))
        (taken,) = jobs.accept(
            connection,
            [new_job(account)],
            publish_after_seconds=1,
            supply=Supply(source="imported"),
        )
        with db.engine.connect() as other:
            other.execute(text("set local lock_timeout = '2s'"))
            place = stock.Place()
            assert [each.serial for each in place.pick(other, 5)] == [second, third]
            other.rollback()
        connection.rollback()
    assert taken == [first]
    assert in_stock(db) == [first, second, third]


def test_a_process_looks_ahead_of_the_last_row_it_took_and_back_only_at_the_end(
    db: Database,
) -> None:
    """Else it would walk over everything deleted for as long as somebody's snapshot is open."""
    listed = imported(db, 6)
    asked: list[tuple[int, int]] = []

    def listen(*call: Any) -> None:
        asked.append((call[3]["above"], call[3]["up_to"]))

    place = stock.Place()
    event.listen(db.engine, "before_cursor_execute", listen)
    try:
        with db.engine.connect() as connection:
            taken = [each for count in (1, 2, 3) for each in place.pick(connection, count)]
            connection.rollback()
        with db.engine.connect() as connection:
            again = place.pick(connection, 2)
    finally:
        event.remove(db.engine, "before_cursor_execute", listen)
    assert [each.serial for each in taken] == listed
    assert [each.serial for each in again] == listed[:2]
    n = [each.number for each in taken]
    everything = 2**62
    assert asked == [
        (0, everything),
        (n[0], everything),
        (n[2], everything),
        (n[5], everything),
        (0, n[5]),
    ]


def test_many_at_once_share_the_stock_without_a_gap_or_a_double(
    db: Database, make_account: Callable[..., Account]
) -> None:
    listed = imported(db, 60)
    account = make_account(quota=1000)
    shared = Supply(source="imported")
    accepted: list[UUID] = []
    start = threading.Barrier(6)

    def work(number: int) -> None:
        # As in production: threads share a supply, processes do not.
        supply = shared if number % 2 else Supply(source="imported")
        start.wait()
        accepted.extend(
            accept(db, new_job(account, stamps=stamps), supply) for stamps in (1, 3, 2, 1, 3)
        )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Who looked while others had the last ones in hand waits for the next round, which finds all.
    serve(db, Supply(source="imported"))
    given = [serial for job_id in accepted for serial in shown(db, job_id).serials]
    assert sorted(given) == sorted(listed)
    assert balance(db, account) == (940, 60, 0)
    assert_clean(db)


def test_without_stock_a_job_is_accepted_and_waits(
    db: Database, account: Account, supply: Supply
) -> None:
    imported(db, 1)
    job_id = accept(db, new_job(account, stamps=2), supply)
    job = shown(db, job_id)
    assert (job.state, job.waiting_for, job.ticket) == (State.QUEUED, "serials", None)
    assert (job.serials, job.serial) == ([], None)
    assert [stamp["serial"] for stamp in job.stamps] == [None, None]
    assert claim(db, job_id) is None
    assert balance(db, account) == (98, 2, 0)
    with db.transaction() as connection:
        told, publish_at = connection.execute(
            text(
                "select payload, publish_at from events e join jobs j on j.id = e.job_id"
                " where j.id = :id"
            ),
            {"id": job_id},
        ).one()
    assert (told["serial"], told["serials"], publish_at) == (None, [], None)
    assert len(in_stock(db)) == 1, "all stamps or none"
    assert_clean(db)


def test_jobs_that_wait_are_served_in_their_order_and_small_ones_do_not_overtake(
    db: Database, account: Account, supply: Supply
) -> None:
    large, small, last = (
        accept(db, new_job(account, stamps=stamps), supply) for stamps in (3, 1, 1)
    )
    imported(db, 2)
    assert serve(db, supply) == 0
    late = accept(db, new_job(account), Supply(source="imported"))
    assert shown(db, late).waiting_for == "serials", "a newcomer stands behind them"
    imported(db, 2)
    assert serve(db, supply) == 2
    assert [len(shown(db, job_id).serials) for job_id in (large, small, last, late)] == [3, 1, 0, 0]
    imported(db, 2)
    assert serve(db, supply, limit=1) == 1
    assert serve(db, supply, limit=1) == 1
    assert serve(db, supply) == 0
    job = shown(db, late)
    assert (job.waiting_for, job.ticket) == (None, 7)
    assert claim(db, late) is not None
    assert_clean(db)


def test_where_the_stock_is_plenty_newcomers_do_not_wait_for_the_next_round(
    db: Database, account: Account, supply: Supply
) -> None:
    waiting = accept(db, new_job(account), supply)
    imported(db, 1 + stock.SPARE)
    assert len(shown(db, accept(db, new_job(account), Supply(source="imported"))).serials) == 1
    assert serve(db, supply) == 1
    assert len(shown(db, waiting).serials) == 1


def test_what_a_process_saw_of_those_who_wait_holds_for_a_moment_only(
    db: Database, account: Account
) -> None:
    now = 0.0
    supply = Supply(source="imported", clock=lambda: now)
    waiting = accept(db, new_job(account), supply)
    imported(db, 5)
    assert serve(db, Supply(source="imported")) == 1
    assert shown(db, waiting).waiting_for is None
    assert shown(db, accept(db, new_job(account), supply)).waiting_for == "serials"
    assert serve(db, Supply(source="imported")) == 1
    now = 1.0
    assert shown(db, accept(db, new_job(account), supply)).waiting_for is None


def test_jobs_that_waited_get_made_serials_when_the_source_is_changed(
    db: Database, account: Account, supply: Supply
) -> None:
    job_id = accept(db, new_job(account, stamps=2), supply)
    assert serve(db, Supply()) == 1
    assert len(shown(db, job_id).serials) == 2
    assert_clean(db)


def test_two_rounds_at_once_serve_a_job_once(
    db: Database, account: Account, supply: Supply
) -> None:
    job_id = accept(db, new_job(account), supply)
    imported(db, 5)
    with db.engine.begin() as connection:
        assert jobs.serve_waiting(connection, supply, limit=9, enter=lambda lane: 1) == 1
        assert serve(db, Supply(source="imported")) == 0
    assert len(shown(db, job_id).serials) == 1
    assert len(in_stock(db)) == 4


def test_a_round_that_is_rolled_back_served_nobody(
    db: Database, account: Account, supply: Supply
) -> None:
    job_id = accept(db, new_job(account), supply)
    listed = imported(db, 2)
    with db.engine.connect() as connection:
        assert jobs.serve_waiting(connection, supply, limit=9, enter=lambda lane: 1) == 1
        connection.rollback()
    assert shown(db, job_id).waiting_for == "serials"
    assert in_stock(db) == listed
    assert serve(db, supply) == 1
    assert_clean(db)


def test_a_job_that_waits_can_be_cancelled(db: Database, account: Account, supply: Supply) -> None:
    job_id = accept(db, new_job(account, stamps=2), supply)
    cancel(db, account, job_id)
    imported(db, 2)
    assert serve(db, supply) == 0
    job = shown(db, job_id)
    assert (job.state, job.waiting_for, job.serials) == (State.CANCELLED, None, [])
    assert events_of(db, job_id) == ["job.accepted", "job.cancelled"]
    assert balance(db, account) == (100, 0, 0)
    assert_clean(db)


def test_the_audit_takes_a_cancelled_job_for_whole_though_nothing_was_ever_imported(
    db: Database, account: Account, supply: Supply
) -> None:
    cancel(db, account, accept(db, new_job(account), supply))
    assert_clean(db)


def test_an_ended_job_gives_its_numbers_back_and_another_one_gets_them(
    db: Database, account: Account, supply: Supply
) -> None:
    first, second = imported(db, 2)
    failing = accept(db, new_job(account, stamps=2), supply)
    frozen = claim(db, failing)
    assert frozen is not None
    with db.transaction() as connection:
        assert jobs.fail(connection, frozen, Code.DOCUMENT_CERTIFIED, {})
    assert shown(db, failing).serials == []
    assert sorted(in_stock(db)) == [first, second]
    with db.transaction() as connection:
        assert look_up(connection, first) is None
        told = connection.execute(
            text("select payload from events where job_id = :id and type = 'job.failed'"),
            {"id": failing},
        ).scalar_one()
    assert (told["serial"], told["serials"]) == (None, [])
    next_one = accept(db, new_job(account, stamps=2), supply)
    taken = claim(db, next_one)
    assert taken is not None
    assert sorted(taken.serials) == [first, second]
    assert not finish(db, frozen), "the worker that slept stamped with them, for nobody"
    assert finish(db, taken)
    assert_clean(db)


def test_the_issuers_numbers_can_be_retired_instead(db: Database, account: Account) -> None:
    strict = Supply(source="imported", reuse=False)
    (number,) = imported(db, 1)
    job_id = accept(db, new_job(account), strict)
    cancel(db, account, job_id)
    assert in_stock(db) == []
    assert shown(db, job_id).serials == [number]
    with db.transaction() as connection:
        found = look_up(connection, number)
    assert found is not None
    assert found.state == "void"
    assert_clean(db)


def test_generated_serials_never_go_back(db: Database, account: Account) -> None:
    job_id = accept(db, new_job(account), Supply())
    cancel(db, account, job_id)
    assert in_stock(db) == []
    assert len(shown(db, job_id).serials) == 1
    assert_clean(db)


@pytest.mark.parametrize(
    "change",
    [
        "update serials set state = 'reserved', affixed_at = null where serial = :serial",
        "update serials set state = 'void', affixed_at = null where serial = :serial",
        "update serials set affixed_at = now() + interval '1 day' where serial = :serial",
        "delete from serials where serial = :serial",
        "update serials set job_id = :other where serial = :serial",
    ],
)
@pytest.mark.parametrize("state", ["affixed", "void"])
def test_the_database_lets_nobody_change_what_became_of_a_serial(
    db: Database, account: Account, change: str, state: str
) -> None:
    strict = Supply(source="imported", reuse=False)
    (serial,) = imported(db, 1)
    job_id = accept(db, new_job(account), strict)
    other = accept(db, new_job(account), Supply())
    if state == "affixed":
        taken = claim(db, job_id)
        assert taken is not None
        assert finish(db, taken)
    else:
        cancel(db, account, job_id)
    with pytest.raises(IntegrityError, match="serial"), db.transaction() as connection:
        connection.execute(text(change), {"serial": serial, "other": other})
    assert_clean(db)


@pytest.mark.parametrize(
    "change",
    [
        "delete from serials where serial = :serial",
        "update serials set job_id = :other where serial = :serial",
        "update serials set position = 2 where serial = :serial",
        "update serials set serial = 'S0123456789ABCDEFGHJKM' where serial = :serial",
    ],
)
def test_a_reserved_serial_stays_its_jobs_until_the_job_has_ended(
    db: Database, account: Account, supply: Supply, change: str
) -> None:
    (serial,) = imported(db, 1)
    accept(db, new_job(account), supply)
    other = accept(db, new_job(account), Supply())
    with pytest.raises(IntegrityError), db.transaction() as connection:
        connection.execute(text(change), {"serial": serial, "other": other})
    assert_clean(db)


def test_a_serial_is_given_to_one_job_and_one_stamp(
    db: Database, account: Account, supply: Supply
) -> None:
    (serial,) = imported(db, 1)
    accept(db, new_job(account), supply)
    other = accept(db, new_job(account), supply)
    for position in (1, 2):
        with pytest.raises(IntegrityError), db.transaction() as connection:
            connection.execute(
                text(
                    "insert into serials (serial, mode, job_id, position, state)"
                    " values (:serial, 'live', :job, :position, 'reserved')"
                ),
                {"serial": serial, "job": other, "position": position},
            )


def test_upkeep_serves_waiting_jobs_and_sends_them_to_their_lane(
    caretaker: Caretaker, db: Database, account: Account, supply: Supply, lane_pace: Pace
) -> None:
    lane = f"tests.{new_id()}"
    waiting = [accept(db, new_job(account), supply) for _ in range(3)]
    with db.transaction() as connection:
        connection.execute(text("update jobs set lane = :lane"), {"lane": lane})
    assert caretaker.serve_waiting() == 0
    imported(db, 2)
    assert caretaker.serve_waiting() == 2
    assert caretaker.serve_waiting() == 0
    assert [shown(db, job_id).ticket for job_id in waiting] == [1, 2, None]
    counted = lane_pace.lane(lane)
    assert counted is not None
    assert counted.waiting == 2
    with db.transaction() as connection:
        sent = connection.execute(text("select sum(publications) from jobs")).scalar_one()
    assert sent == 2


def test_a_round_that_fails_leaves_the_lanes_count_as_it_was(
    caretaker: Caretaker,
    db: Database,
    account: Account,
    supply: Supply,
    lane_pace: Pace,
) -> None:
    lane = f"tests.{new_id()}"
    accept(db, new_job(account), supply)
    (listed,) = imported(db, 1)
    with db.transaction() as connection:
        connection.execute(text("update jobs set lane = :lane"), {"lane": lane})
        # A number that a job has already: the database refuses to give it out.
        generated = new_job(account)
        jobs.accept(connection, [generated], publish_after_seconds=9)
        connection.execute(text("set local session_replication_role = replica"))
        connection.execute(
            text("update serials set serial = :listed where job_id = :id"),
            {"listed": listed, "id": generated.id},
        )
    with pytest.raises(IntegrityError):
        caretaker.serve_waiting()
    counted = lane_pace.lane(lane)
    assert counted is not None
    assert counted.waiting == 0


def test_a_low_stock_is_told_once_and_again_after_an_import(
    caretaker: Caretaker, db: Database, account: Account, supply: Supply
) -> None:
    def told() -> list[dict[str, int]]:
        with db.transaction() as connection:
            return list(
                connection.execute(
                    text("select payload from events where type = 'serials.low' order by id")
                ).scalars()
            )

    listed = imported(db, 3)
    assert not caretaker.watch_stock()
    accept(db, new_job(account), supply)
    assert caretaker.watch_stock()
    assert not caretaker.watch_stock(), "told once"
    accept(db, new_job(account, stamps=3), supply)
    assert told() == [{"in_stock": 2, "below": 3, "waiting_jobs": 0}]
    import_text(db, "\n".join(["serial", *listed]), reference="nothing new arms nothing")
    assert not caretaker.watch_stock()
    imported(db, 4)
    assert not caretaker.watch_stock(), "enough"
    assert serve(db, supply) == 1
    accept(db, new_job(account), Supply(source="imported"))
    assert caretaker.watch_stock()
    assert told()[1:] == [{"in_stock": 2, "below": 3, "waiting_jobs": 0}]


def test_who_makes_serials_has_no_stock_to_watch(
    worker_settings: WorkerSettings, db: Database, store: Documents, lane_pace: Pace
) -> None:
    made_here = Caretaker(
        settings=worker_settings,
        database=db,
        documents=store,
        pace=lane_pace,
        app=lanes.make_celery(worker_settings),
    )
    assert not made_here.watch_stock()


def test_the_level_counts_stock_and_waiting_jobs(
    db: Database, account: Account, supply: Supply, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(db, new_job(account), supply)
    imported(db, 40)
    with db.transaction() as connection:
        level = stock.level(connection)
        assert (level.in_stock, level.exact, level.waiting_jobs) == (40, True, 1)
        monkeypatch.setattr(stock, "COUNTED", 10)
        level = stock.level(connection)
        assert (level.in_stock, level.exact) == (40, False), "PostgreSQL's estimate, fresh"
        assert stock.level(connection, exact=True).exact


def test_the_longest_serial_with_every_letter_is_stamped_signed_and_read_back(
    db: Database,
    account: Account,
    supply: Supply,
    worker_settings: WorkerSettings,
    store: Documents,
    lane_pace: Pace,
    letter: bytes,
    root_certificate: bytes,
) -> None:
    serial = "EILOU6789ABCDFGHJKMNPQRS"
    serial_lists.import_text(db, serial)
    job = replace(
        new_job(account),
        document_bytes=len(letter),
        document_sha256=hashlib.sha256(letter).digest(),
    )
    store.put(documents.original_key(job.id), letter)
    accept(db, job, supply)
    stamper(worker_settings, db, store, lane_pace).stamp(job.id)
    done = shown(db, job.id)
    assert (done.state, done.serial) == (State.STAMPED, serial)
    stamped = store.get(documents.result_key(job.id, done.attempt))
    checked = check(stamped, trust_roots_pem=root_certificate)
    assert checked.good
    assert [signature.serial for signature in checked.signatures] == [serial]
    (code,) = read_codes(stamped)
    assert codes.read(code).serial == serial
    with db.transaction() as connection:
        found = look_up(connection, serial)
    assert found is not None
    assert (found.state, found.document_sha256) == ("affixed", hashlib.sha256(stamped).digest())
    assert_clean(db)
