"""What beat runs: whatever the broker or a worker lost is found and goes on."""

import json
import os
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import redis
from celery import Celery
from flask.testing import FlaskClient
from kombu.entity import Queue
from kombu.exceptions import OperationalError
from sqlalchemy import text

from common import jobs, lanes, pace
from common.database import Database
from common.documents import Documents, MissingDocumentError, inbox_key
from common.identifiers import new_id
from common.pace import Pace
from common.partners import Mode
from common.serials import Supply
from common.settings import WorkerSettings
from tests.service.test_job_states import accept, claim, expire, give_back, new_job, shown
from tests.stack import Account
from web.app import create_app
from workers import recounting
from workers.relay import NEARLY_EMPTY, ROUND
from workers.upkeep import INBOX_SECONDS, Caretaker

LANE = "tests.upkeep"


@pytest.fixture
def celery(worker_settings: WorkerSettings) -> Celery:
    """An app that may also publish to a lane that no worker serves."""
    app = lanes.make_celery(worker_settings)
    app.conf.task_create_missing_queues = True
    return app


@pytest.fixture
def caretaker(
    worker_settings: WorkerSettings,
    db: Database,
    store: Documents,
    lane_pace: Pace,
    celery: Celery,
) -> Caretaker:
    # The broker of these tests was there before them.
    lane_pace.remember()
    return Caretaker(
        settings=worker_settings, database=db, documents=store, pace=lane_pace, app=celery
    )


def queued_in_broker(celery: Celery, lane: str) -> int:
    with celery.connection_for_read() as connection:
        return int(connection.default_channel.client.llen(lane))


def make_due(db: Database, job_id: UUID, lane: str = LANE) -> None:
    with db.transaction() as connection:
        connection.execute(
            text("update jobs set publish_at = now(), lane = :lane where id = :id"),
            {"id": job_id, "lane": lane},
        )


def set_ticket(db: Database, job_id: UUID, ticket: int | None) -> None:
    with db.transaction() as connection:
        connection.execute(
            text("update jobs set ticket = :ticket where id = :id"),
            {"ticket": ticket, "id": job_id},
        )


def sent_last(celery: Celery, lane: str, count: int) -> list[UUID]:
    """The ids of the newest messages of a lane, in the order in which they were sent."""
    with celery.connection_for_read() as connection:
        messages = connection.default_channel.client.lrange(lane, 0, count - 1)
    return [UUID(json.loads(message)["headers"]["id"]) for message in reversed(messages)]


def test_uploads_that_a_crash_left_behind_are_removed_and_fresh_ones_stay(
    caretaker: Caretaker, store: Documents, worker_settings: WorkerSettings
) -> None:
    left, fresh = inbox_key(new_id()), inbox_key(new_id())
    for key in (left, fresh):
        store.put(key, b"%PDF-", lasting=False)
    long_ago = time.time() - INBOX_SECONDS - 1
    os.utime(worker_settings.data_dir / "objects" / left, (long_ago, long_ago))
    assert caretaker.clear_inbox() == 1
    with pytest.raises(MissingDocumentError):
        store.get(left)
    assert store.get(fresh) == b"%PDF-"
    store.delete(fresh)
    assert caretaker.clear_inbox() == 0


def test_a_clock_that_jumps_makes_no_upload_old(
    worker_settings: WorkerSettings, db: Database, store: Documents, lane_pace: Pace, celery: Celery
) -> None:
    fresh = inbox_key(new_id())
    store.put(fresh, b"%PDF-", lasting=False)
    ahead = Caretaker(
        settings=worker_settings,
        database=db,
        documents=store,
        pace=lane_pace,
        app=celery,
        now=lambda: datetime.now(UTC) + timedelta(hours=1),
    )
    assert ahead.clear_inbox() == 0
    assert store.get(fresh) == b"%PDF-"
    store.delete(fresh)


def test_a_job_that_was_never_published_is_sent(
    caretaker: Caretaker, celery: Celery, db: Database, account: Account
) -> None:
    job_id = accept(db, new_job(account))
    make_due(db, job_id)
    before = queued_in_broker(celery, LANE)
    caretaker.relay_jobs()
    assert queued_in_broker(celery, LANE) == before + 1
    caretaker.relay_jobs()
    assert queued_in_broker(celery, LANE) == before + 1, "the next look comes later"


def test_in_a_long_lane_only_jobs_whose_turn_has_passed_are_sent_again(
    caretaker: Caretaker, celery: Celery, lane_pace: Pace, db: Database, account: Account
) -> None:
    lane = f"tests.{new_id()}"
    passed, next_in_line, last = (accept(db, new_job(account)) for _ in range(3))
    for ticket, job_id in enumerate((passed, next_in_line, last), 7):
        make_due(db, job_id, lane)
        set_ticket(db, job_id, ticket)
    lane_pace.recount(lane, queued=2, highest_ticket=9)
    for _ in range(NEARLY_EMPTY):
        lanes.publish_stamp(celery, new_id(), lane)
    caretaker.relay_jobs()
    assert sent_last(celery, lane, 1) == [passed]
    assert queued_in_broker(celery, lane) == NEARLY_EMPTY + 1
    with celery.connection_for_write() as connection:
        connection.default_channel.client.delete(lane)
    caretaker.relay_jobs()
    assert sent_last(celery, lane, 2) == [next_in_line, last], "the broker has nothing of it"
    assert queued_in_broker(celery, lane) == 2, "the next look at the first comes later"


def test_a_job_that_came_while_nobody_could_give_it_a_place_gets_one_when_it_is_sent(
    caretaker: Caretaker, celery: Celery, lane_pace: Pace, db: Database, account: Account
) -> None:
    lane = f"tests.{new_id()}"
    without, behind = (accept(db, new_job(account)) for _ in range(2))
    for job_id in (without, behind):
        make_due(db, job_id, lane)
        set_ticket(db, job_id, None)
    caretaker.relay_jobs()
    assert sent_last(celery, lane, 2) == [without, behind]
    assert [shown(db, job_id).ticket for job_id in (without, behind)] == [1, 2]
    numbers = lane_pace.lane(lane)
    assert numbers is not None
    assert numbers.waiting == 2


def test_a_job_in_a_lane_that_is_no_more_keeps_no_other_from_its_turn(
    worker_settings: WorkerSettings,
    db: Database,
    store: Documents,
    lane_pace: Pace,
    account: Account,
) -> None:
    lane_pace.remember()
    strict = lanes.make_celery(worker_settings)
    strict.conf.task_queues = [*strict.conf.task_queues, Queue(LANE)]  # type: ignore[no-untyped-call]
    caretaker = Caretaker(
        settings=worker_settings, database=db, documents=store, pace=lane_pace, app=strict
    )
    lost, other = (accept(db, new_job(account)) for _ in range(2))
    make_due(db, lost, "tests.of an older version")
    make_due(db, other)
    before = queued_in_broker(strict, LANE)
    caretaker.relay_jobs()
    assert queued_in_broker(strict, LANE) == before + 1


def test_a_job_stays_due_while_the_broker_is_away(
    worker_settings: WorkerSettings, db: Database, store: Documents, account: Account
) -> None:
    away = worker_settings.model_copy(update={"broker_url": "redis://127.0.0.1:9/0"})
    caretaker = Caretaker(
        settings=away,
        database=db,
        documents=store,
        pace=pace.connect(away),
        app=lanes.make_celery(away),
    )
    job_id = accept(db, new_job(account))
    make_due(db, job_id, lanes.BULK_LANE)
    with pytest.raises(OperationalError):
        caretaker.relay_jobs()
    with db.transaction() as connection:
        due = connection.execute(
            text("select publications, publish_at <= now() as due from jobs where id = :id"),
            {"id": job_id},
        ).one()
    assert (due.publications, due.due) == (0, True)
    with db.transaction() as connection:
        connection.execute(
            text("update jobs set publish_at = now() + interval '20 minutes' where id = :id"),
            {"id": job_id},
        )


def test_what_is_sent_carries_no_time_at_which_a_broker_could_be_wrong(
    caretaker: Caretaker, celery: Celery, db: Database, account: Account
) -> None:
    lane = f"tests.{new_id()}"
    make_due(db, accept(db, new_job(account)), lane)
    caretaker.relay_jobs()
    with celery.connection_for_read() as connection:
        message = json.loads(connection.default_channel.client.lpop(lane))
    assert {message["headers"][name] for name in ("eta", "expires")} == {None}


def test_a_broker_that_began_anew_gets_every_queued_job_at_once(
    caretaker: Caretaker,
    celery: Celery,
    lane_pace: Pace,
    db: Database,
    account: Account,
    environment: dict[str, str],
) -> None:
    lane = f"tests.{new_id()}"
    for_long, after_a_fault = (accept(db, new_job(account)) for _ in range(2))
    taken = claim(db, after_a_fault)
    assert taken is not None
    give_back(db, taken, wait=600)
    with db.transaction() as connection:
        connection.execute(
            text(
                "update jobs set lane = :lane, publications = 12, publish_at ="
                " now() + interval '25 minutes' where id = any(:ids)"
            ),
            {"lane": lane, "ids": [for_long, after_a_fault]},
        )
    caretaker.relay_jobs()
    assert queued_in_broker(celery, lane) == 0
    with redis.Redis.from_url(environment["STAMPEDE_BROKER_URL"]) as broker:
        broker.delete("pace:known")
    assert lane_pace.is_new()
    caretaker.relay_jobs()
    assert queued_in_broker(celery, lane) == 1, "the other one waits after its fault"
    assert not lane_pace.is_new()
    caretaker.relay_jobs()
    assert queued_in_broker(celery, lane) == 1


def test_an_expired_lease_brings_the_job_back(
    caretaker: Caretaker, db: Database, account: Account
) -> None:
    job_id = accept(db, new_job(account))
    assert claim(db, job_id) is not None
    expire(db, job_id)
    assert shown(db, job_id).lost_leases == 1
    assert claim(db, job_id) is not None
    caretaker.take_back_expired()
    assert shown(db, job_id).lost_leases == 1, "a lease that runs is left alone"


@pytest.fixture
def lane(db: Database, lane_pace: Pace) -> str:
    """A lane that no worker of these tests serves, without what other tests left in it."""
    name = lanes.APPLICANT_LANE
    with db.transaction() as connection:
        left = connection.execute(
            text("select id, account_id from jobs where state = 'queued' and lane = :lane"),
            {"lane": name},
        ).all()
        for job in left:
            jobs.cancel(connection, account_id=job.account_id, job_id=job.id)
    lane_pace.recount(name, queued=0, highest_ticket=0)
    return name


def test_counters_that_were_lost_are_counted_anew(
    caretaker: Caretaker, lane_pace: Pace, db: Database, account: Account, lane: str
) -> None:
    ids = []
    for ticket in range(100, 110):
        job_id = accept(db, new_job(account, Mode.TEST))
        with db.transaction() as connection:
            connection.execute(
                text("update jobs set lane = :lane, ticket = :ticket where id = :id"),
                {"id": job_id, "lane": lane, "ticket": ticket},
            )
        ids.append(job_id)
    caretaker.recount()
    numbers = lane_pace.lane(lane)
    assert numbers is not None
    assert numbers.waiting == 10
    assert numbers.wait(109).position == 10
    for job_id in ids:
        with db.transaction() as connection:
            assert jobs.cancel(connection, account_id=account.id(Mode.TEST), job_id=job_id)
    caretaker.recount()
    numbers = lane_pace.lane(lane)
    assert numbers is not None
    assert numbers.waiting == 0


def test_a_long_lane_is_counted_only_when_its_counters_cannot_be_right(
    caretaker: Caretaker,
    lane_pace: Pace,
    db: Database,
    account: Account,
    lane: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recounting, "SHORT", 3)
    ids = [accept(db, new_job(account, Mode.TEST)) for _ in range(8)]
    with db.transaction() as connection:
        connection.execute(
            text(
                "update jobs set lane = :lane, ticket = 1000 + place from unnest(:ids)"
                " with ordinality as theirs (id, place) where jobs.id = theirs.id"
            ),
            {"lane": lane, "ids": ids},
        )

    def waiting_after(counters: int) -> int:
        lane_pace.recount(lane, queued=counters, highest_ticket=1008)
        caretaker.recount()
        numbers = lane_pace.lane(lane)
        assert numbers is not None
        return numbers.waiting

    assert waiting_after(7) == 7, "it may be so: nobody counts"
    assert waiting_after(2) == 8
    assert waiting_after(100) == 8
    for job_id in ids:
        with db.transaction() as connection:
            assert jobs.cancel(connection, account_id=account.id(Mode.TEST), job_id=job_id)
    caretaker.recount()


def test_jobs_that_wait_for_serials_are_counted_in_no_lane(
    caretaker: Caretaker, lane_pace: Pace, db: Database, account: Account, lane: str
) -> None:
    waiting = new_job(account)
    with db.transaction() as connection:
        jobs.accept(
            connection, [waiting], publish_after_seconds=9, supply=Supply(source="imported")
        )
        connection.execute(
            text("update jobs set lane = :lane where id = :id"), {"id": waiting.id, "lane": lane}
        )
    for _ in range(2):
        # The second round corrects also the smallest difference.
        caretaker.recount()
    numbers = lane_pace.lane(lane)
    assert numbers is not None
    assert numbers.waiting == 0
    with db.transaction() as connection:
        assert jobs.cancel(connection, account_id=account.id(), job_id=waiting.id)


def test_old_idempotency_keys_are_forgotten_and_young_ones_kept(
    caretaker: Caretaker, db: Database, account: Account
) -> None:
    with db.transaction() as connection:
        for key, age in (("old", 25), ("young", 23)):
            connection.execute(
                text(
                    "insert into idempotency_keys (owner_id, key, fingerprint, status,"
                    " headers, body, created_at) values (:id, :key, '', 202, '{}', '',"
                    " now() - make_interval(hours => :age))"
                ),
                {"id": account.id(), "key": key, "age": age},
            )
    caretaker.forget_idempotency_keys()
    with db.transaction() as connection:
        left: list[Any] = list(
            connection.execute(
                text("select key from idempotency_keys where owner_id = :id"),
                {"id": account.id()},
            ).scalars()
        )
    assert left == ["young"]


def test_an_upload_is_accepted_while_the_broker_is_away(
    web_settings: Any, account: Account, letter: bytes, db: Database
) -> None:
    cut_off = create_app(web_settings.model_copy(update={"broker_url": "redis://127.0.0.1:9/0"}))
    response = cut_off.test_client().post(
        "/v1/jobs", data=letter, content_type="application/pdf", headers=account.test
    )
    assert response.status_code == 202
    assert response.json["position"] is None
    assert shown(db, UUID(response.json["id"])).state == "queued"


def test_without_the_database_a_clear_503_is_given(
    web_settings: Any, account: Account, letter: bytes
) -> None:
    cut_off = create_app(
        web_settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:9/x"})
    )
    client = cut_off.test_client()
    response = client.post(
        "/v1/jobs", data=letter, content_type="application/pdf", headers=account.test
    )
    assert response.status_code == 503
    assert response.json["code"] == "service_unavailable"
    assert int(response.headers["Retry-After"]) >= 1
    assert client.get("/readyz").status_code == 503
    assert client.get("/livez").status_code == 200


def test_an_upload_is_accepted_while_the_broker_is_out_of_memory(
    app: Any, account: Account, letter: bytes, environment: dict[str, str]
) -> None:
    """A broker that answers, but takes nothing: the acceptance stands and is told."""
    client = app.test_client()
    with redis.Redis.from_url(environment["STAMPEDE_BROKER_URL"]) as broker:
        broker.config_set("maxmemory", 1)
        try:
            response = client.post(
                "/v1/jobs", data=letter, content_type="application/pdf", headers=account.test
            )
            cancelled = client.post(f"/v1/jobs/{response.json['id']}/cancel", headers=account.test)
        finally:
            broker.config_set("maxmemory", 0)
    assert (response.status_code, response.json["position"]) == (202, None)
    assert (cancelled.status_code, cancelled.json["state"]) == (200, "cancelled")


def test_the_relay_does_not_fill_a_webhook_lane_that_is_full(
    caretaker: Caretaker, celery: Celery, db: Database, client: FlaskClient, account: Account
) -> None:
    """A slow courier's lane would grow by all that is due, every round, for ever."""
    endpoint = {"url": "http://127.0.0.1:9/"}
    client.post("/v1/webhook-endpoints", json=endpoint, headers=account.live)
    job_id = accept(db, new_job(account))
    assert client.post(f"/v1/jobs/{job_id}/cancel", headers=account.live).status_code == 200
    with db.transaction() as connection:
        late = "update deliveries d set next_attempt_at = now() - interval '1 minute' from events e"
        of_job = text(late + " where e.id = d.event_id and e.job_id = :id")
        assert connection.execute(of_job, {"id": job_id}).rowcount == 1
    missing = ROUND - lanes.waiting(celery, lanes.WEBHOOK_LANE)
    lanes.publish_deliveries(celery, [new_id() for _ in range(missing)])
    assert caretaker.relay_deliveries() == 0
    assert lanes.waiting(celery, lanes.WEBHOOK_LANE) == ROUND

    with celery.connection_for_write() as connection:
        connection.default_channel.queue_purge(lanes.WEBHOOK_LANE)
    assert lanes.waiting(celery, lanes.WEBHOOK_LANE) == 0
    assert caretaker.relay_deliveries() >= 1
