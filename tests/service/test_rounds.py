"""Rounds of upkeep: bounded, safe beside themselves, and right when the database's clock goes back."""

import threading
from collections.abc import Callable
from uuid import UUID

import pytest
from celery import Celery
from flask.testing import FlaskClient
from prometheus_client import REGISTRY
from sqlalchemy import text

from common import documents, jobs, outbox, webhook_endpoints
from common.database import Database
from common.documents import Documents, MissingDocumentError
from common.identifiers import new_id
from common.jobs import State
from common.pace import Pace
from common.partners import Mode
from common.settings import WebSettings, WorkerSettings
from tests.service.test_job_states import (
    accept,
    assert_clean,
    claim,
    events_of,
    finish,
    kill,
    new_job,
    serial_state,
    shown,
)
from tests.service.test_upkeep import caretaker, celery, make_due, queued_in_broker
from tests.stack import Account
from workers import upkeep
from workers.upkeep import Caretaker

__all__ = ["caretaker", "celery"]


def run_sql(db: Database, statement: str, **values: object) -> None:
    with db.transaction() as connection:
        connection.execute(text(statement), values)


def stamped(db: Database, store: Documents, account: Account, *, ended: str = "now") -> UUID:
    """A stamped job with its files, which ended then."""
    job_id = accept(db, new_job(account))
    taken = claim(db, job_id)
    assert taken is not None
    assert finish(db, taken)
    key = documents.result_key(job_id, 1)
    store.put(documents.original_key(job_id), b"%PDF-1")
    store.put(key, b"%PDF-2")
    run_sql(
        db,
        "update jobs set result_key = :key, finished_at = now() + cast(:ended as interval)"
        " where id = :id",
        key=key,
        ended="0 days" if ended == "now" else ended,
        id=job_id,
    )
    return job_id


def there(store: Documents, key: str) -> bool:
    try:
        store.get(key)
    except MissingDocumentError:
        return False
    return True


def files_there(store: Documents, job_id: UUID) -> list[bool]:
    keys = (documents.original_key(job_id), documents.result_key(job_id, 1))
    return [there(store, key) for key in keys]


def test_documents_are_purged_after_the_retention_time_and_the_record_stays(
    caretaker: Caretaker,
    db: Database,
    store: Documents,
    account: Account,
    client: FlaskClient,
    web_settings: WebSettings,
) -> None:
    with db.transaction() as connection:
        webhook_endpoints.register(
            connection, account.caller(Mode.LIVE), url="http://127.0.0.1:9/", description=""
        )
    old = stamped(db, store, account, ended="-366 days")
    young = stamped(db, store, account, ended="-364 days")
    page = client.get(f"/v1/jobs/{old}", headers=account.live).json["links"]["status_page"]
    assert caretaker.purge() >= 1
    assert caretaker.purge() == 0
    assert files_there(store, old) == [False, False]
    assert files_there(store, young) == [True, True]

    job = client.get(f"/v1/jobs/{old}", headers=account.live).json
    assert job["state"] == "stamped"
    assert job["purged_at"]
    assert job["links"]["document"] is None
    assert job["stamped"]["sha256"], "copies can still be compared"
    gone = client.get(f"/v1/jobs/{old}/document", headers=account.live)
    assert (gone.status_code, gone.json["code"]) == (410, "document_purged")
    receipt = client.get(f"/v1/jobs/{old}/receipt", headers=account.live)
    assert receipt.status_code == 200
    seen = client.get(page.removeprefix(web_settings.public_url)).text
    assert "Masa simpan berkasnya habis pada" in seen
    assert "Unduh dokumen bermeterai" not in seen
    late = client.get(
        page.removeprefix(web_settings.public_url) + "/document", headers={"Accept": "text/html"}
    )
    assert late.status_code == 410
    assert "Lihat statusnya" in late.text, "the button of a page that was open since"
    assert serial_state(db, old) == "affixed"
    serial = client.get(f"/v1/serials/{job['serial']}").json
    assert (serial["state"], serial["document_sha256"]) == ("affixed", job["stamped"]["sha256"])
    assert events_of(db, old) == ["job.accepted", "job.stamped", "job.purged"]
    assert events_of(db, young) == ["job.accepted", "job.stamped"]
    with db.transaction() as connection:
        told = connection.execute(
            text(
                "select e.type from deliveries d join events e on e.id = d.event_id"
                " where e.job_id = :id order by e.id"
            ),
            {"id": old},
        ).scalars()
        assert list(told) == ["job.stamped", "job.purged"]
    assert_clean(db)


def test_what_is_kept_for_ever_or_not_at_an_end_is_not_purged(
    caretaker: Caretaker,
    worker_settings: WorkerSettings,
    db: Database,
    store: Documents,
    lane_pace: Pace,
    celery: Celery,
    account: Account,
) -> None:
    old = stamped(db, store, account, ended="-400 days")
    for_ever = Caretaker(
        settings=worker_settings.model_copy(update={"retention_days": 0}),
        database=db,
        documents=store,
        pace=lane_pace,
        app=celery,
    )
    assert for_ever.purge() == 0
    assert files_there(store, old) == [True, True]
    waiting = accept(db, new_job(account))
    run_sql(db, "update jobs set accepted_at = 'epoch' where id = :id", id=waiting)
    caretaker.purge()
    assert shown(db, waiting).purged_at is None


def test_a_purge_that_dies_before_it_removes_the_files_leaves_nothing_to_be_shown(
    db: Database, store: Documents, account: Account, client: FlaskClient
) -> None:
    old = stamped(db, store, account, ended="-366 days")
    with db.transaction() as connection:
        assert old in jobs.purge(connection, retention_days=365, limit=1000).job_ids
    assert files_there(store, old) == [True, True]
    gone = client.get(f"/v1/jobs/{old}/document", headers=account.live)
    assert gone.json["code"] == "document_purged"


@pytest.mark.parametrize("work", ["relay_jobs", "take_back_expired", "purge", "recount"])
def test_rounds_beside_themselves_do_each_thing_once(
    caretaker: Caretaker,
    celery: Celery,
    db: Database,
    store: Documents,
    account: Account,
    work: str,
) -> None:
    lane = f"tests.{new_id()}"
    due = [accept(db, new_job(account)) for _ in range(10)]
    lost = [accept(db, new_job(account)) for _ in range(10)]
    old = [stamped(db, store, account, ended="-366 days") for _ in range(10)]
    for job_id in due:
        make_due(db, job_id, lane)
    for job_id in lost:
        assert claim(db, job_id) is not None
    run_sql(
        db,
        "update jobs set lease_until = now() - interval '1 second', lane = :lane"
        " where id = any(:ids)",
        ids=lost,
        lane=lane,
    )
    done: list[int | None] = []
    with db.transaction() as connection:
        unpurged = connection.execute(
            text(
                "select count(*) from jobs where purged_at is null"
                " and finished_at < now() - interval '365 days'"
            )
        ).scalar_one()
    start = threading.Barrier(3)

    def go() -> None:
        start.wait()
        done.append(getattr(caretaker, work)())

    threads = [threading.Thread(target=go) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 3, "none of them failed"
    if work == "relay_jobs":
        assert queued_in_broker(celery, lane) == 10
    if work == "take_back_expired":
        assert [shown(db, job_id).lost_leases for job_id in lost] == [1] * 10
    if work == "purge":
        assert all(shown(db, job_id).purged_at for job_id in old)
        assert sum(count or 0 for count in done) == unpurged
    for job_id in [*due, *lost]:
        run_sql(
            db,
            "update jobs set publish_at = now() + interval '20 minutes' where id = :id"
            " and state = 'queued'",
            id=job_id,
        )
    assert_clean(db)


def test_times_from_before_the_clock_went_back_are_pulled_in(
    caretaker: Caretaker, celery: Celery, db: Database, store: Documents, account: Account
) -> None:
    """By exactly an hour, of which some seconds have passed since, while nothing ran."""
    lane = f"tests.{new_id()}"
    waits, lost, other = (accept(db, new_job(account)) for _ in range(3))
    assert claim(db, lost) is not None
    run_sql(
        db,
        "update jobs set lane = :lane, publish_at = now() + interval '3590 seconds'"
        " where id = any(:ids)",
        ids=[waits, lost],
        lane=lane,
    )
    run_sql(db, "update jobs set lease_until = now() + interval '1 hour' where id = :id", id=lost)
    caretaker.take_back_expired()
    caretaker.relay_jobs()
    assert queued_in_broker(celery, lane) == 2
    assert (shown(db, lost).state, shown(db, lost).lost_leases) == (State.QUEUED, 0)
    with db.transaction() as connection:
        far = connection.execute(
            text("select publish_at > now() + interval '15 minutes' from jobs where id = :id"),
            {"id": other},
        ).scalar_one()
    assert far, "one that may lie that far ahead does"


def test_the_relay_looks_as_often_as_at_first_once_a_job_was_claimed(
    caretaker: Caretaker, db: Database, account: Account
) -> None:
    """Its earlier messages came through; only the next one may be lost."""
    job_id = accept(db, new_job(account))
    run_sql(db, "update jobs set publications = 12 where id = :id", id=job_id)
    assert claim(db, job_id, worker="stamp@gone/1") is not None
    assert kill(db, job_id, "stamp@gone/1")
    caretaker.relay_jobs()
    with db.transaction() as connection:
        soon = connection.execute(
            text("select publish_at < now() + interval '1 minute' from jobs where id = :id"),
            {"id": job_id},
        ).scalar_one()
    assert soon


@pytest.mark.parametrize(
    ("attempts", "ahead", "due"),
    [(0, 3600, True), (0, 5, False), (1, 3600, True), (2, 300, False), (8, 3600, True)],
)
def test_webhooks_are_not_an_hour_late_because_the_clock_went_back(
    db: Database, store: Documents, account: Account, attempts: int, ahead: int, due: bool
) -> None:
    with db.transaction() as connection:
        webhook_endpoints.register(
            connection, account.caller(Mode.LIVE), url="http://127.0.0.1:9/", description=""
        )
    job_id = stamped(db, store, account)
    mine = "event_id in (select id from events where job_id = :id)"
    run_sql(
        db,
        "update deliveries set attempts = :attempts,"
        f" next_attempt_at = now() + make_interval(secs => :ahead) where {mine}",
        attempts=attempts,
        ahead=ahead,
        id=job_id,
    )
    with db.transaction() as connection:
        outbox.pull_in(connection, lease_seconds=9)
        pulled = connection.execute(
            text(f"select next_attempt_at <= now() from deliveries where {mine}"), {"id": job_id}
        ).scalar_one()
    assert pulled == due


def test_a_job_with_damaged_books_keeps_no_other_from_its_turn(
    caretaker: Caretaker, db: Database, account: Account, make_account: Callable[..., Account]
) -> None:
    damaged, fine = (accept(db, new_job(account)) for _ in range(2))
    for job_id in (damaged, fine):
        assert claim(db, job_id) is not None
    run_sql(
        db,
        "update jobs set lost_leases = :lost, lease_until = now() - interval '1 hour'"
        " where id = :id",
        lost=jobs.LOST_LEASES_ALLOWED,
        id=damaged,
    )
    # Its owner is now somebody who holds nothing for it.
    run_sql(
        db,
        "update jobs set account_id = :other where id = :id",
        other=make_account().id(),
        id=damaged,
    )
    run_sql(db, "update jobs set lease_until = now() - interval '1 second' where id = :id", id=fine)
    caretaker.take_back_expired()
    assert shown(db, damaged).state is State.STAMPING
    assert shown(db, fine).state is State.QUEUED
    run_sql(db, "update jobs set account_id = :own where id = :id", own=account.id(), id=damaged)
    caretaker.take_back_expired()
    assert shown(db, damaged).state is State.FAILED
    assert_clean(db)


def test_a_long_round_ends_when_its_time_is_up(
    worker_settings: WorkerSettings,
    db: Database,
    store: Documents,
    lane_pace: Pace,
    celery: Celery,
    account: Account,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upkeep, "PURGED_AT_ONCE", 1)
    old = [stamped(db, store, account, ended="-370 days") for _ in range(4)]
    seconds = iter([0.0, 1.0, upkeep.LONG_ROUND_SECONDS])
    caretaker = Caretaker(
        settings=worker_settings,
        database=db,
        documents=store,
        pace=lane_pace,
        app=celery,
        clock=lambda: next(seconds),
    )
    assert caretaker.purge() == 2
    assert [shown(db, job_id).purged_at is None for job_id in old].count(True) == 2


def test_a_round_that_was_done_to_its_end_says_when(db: Database) -> None:
    def last() -> float | None:
        return REGISTRY.get_sample_value(
            "stampede_upkeep_last_run_timestamp_seconds", {"round": "tests"}
        )

    with pytest.raises(RuntimeError), upkeep.round_of("tests"):
        raise RuntimeError
    assert last() is None
    with upkeep.round_of("tests"):
        pass
    assert last()
