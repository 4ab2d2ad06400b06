"""Snapshots in Valkey: always what the database says, and a question to it only when it must be."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import redis
from flask.testing import FlaskClient
from sqlalchemy import Connection, text

from common import database, jobs, snapshots, upgrades
from common.database import Database
from common.identifiers import new_id
from common.jobs import Setback, SetbackKind, records
from common.jobs.records import JobPicture
from common.levels import Level
from common.links import StatusLinks
from common.pace import Pace
from common.problems import Code
from common.serials import GENERATED
from common.settings import WebSettings
from common.snapshots import Glance, Snapshots
from deploy.servers import Postgres, free_port
from tests.service.test_job_states import RESULT, accept, claim, new_job
from tests.stack import Account
from web.app import create_app

OURS = Setback(SetbackKind.OURS, "a fault")


@pytest.fixture
def kept(web_settings: WebSettings) -> Iterator[Snapshots]:
    opened = snapshots.connect(web_settings)
    yield opened
    opened.close()


@pytest.fixture
def valkey(web_settings: WebSettings) -> Iterator[redis.Redis]:
    opened = redis.Redis.from_url(web_settings.broker_url)
    yield opened
    opened.close()


def read(db: Database, job_id: UUID) -> JobPicture:
    with db.transaction() as connection:
        found = records.show(connection, job_id)
    assert found is not None
    return JobPicture(**{f.name: getattr(found, f.name) for f in fields(JobPicture)})


def leave(kept: Snapshots, db: Database, job_id: UUID) -> None:
    """Ask for a job as the first one does."""
    glance = kept.look(job_id)
    assert glance.lease is not None
    kept.keep(read(db, job_id), glance.lease)
    assert kept.look(job_id).picture == read(db, job_id)


Step = Callable[[Database, UUID], None]
STEPS: dict[str, Step] = {}


def step(way: Callable[[Connection, UUID], object]) -> Callable[[Connection, UUID], object]:
    """Note a way in which a job changes, done in one transaction."""

    def run(db: Database, job_id: UUID) -> None:
        with db.transaction() as connection:
            assert way(connection, job_id)

    STEPS[way.__name__] = run
    return way


def own(connection: Connection, job_id: UUID) -> Any:
    found = records.show(connection, job_id)
    assert found is not None
    return found


def claimed(connection: Connection, job_id: UUID) -> jobs.Claim:
    """Return the claim that the job's newest attempt has."""
    job = own(connection, job_id)
    return jobs.Claim(
        job_id=job_id,
        account_id=job.account_id,
        partner_id=job.partner_id,
        mode=job.mode,
        attempt=job.attempt,
        lane=job.lane,
        stamps=[],
        document_sha256=job.document_sha256,
        external_reference=job.external_reference,
        waited_seconds=0.0,
    )


@step
def claim_(connection: Connection, job_id: UUID) -> object:
    return jobs.claim(connection, job_id, lease_seconds=60, worker="stamp@a/1")


@step
def finish(connection: Connection, job_id: UUID) -> object:
    return jobs.finish(connection, claimed(connection, job_id), RESULT)


@step
def finish_without_timestamp(connection: Connection, job_id: UUID) -> object:
    result = jobs.Result(key="aa/b.pdf", length=9, sha256=b"b" * 32, to_be_upgraded=True)
    return jobs.finish(connection, claimed(connection, job_id), result)


@step
def upgrade(connection: Connection, job_id: UUID) -> object:
    job = own(connection, job_id)
    due = upgrades.Upgradable(
        job_id=job_id,
        attempt=job.attempt,
        document_bytes=job.document_bytes,
        result_key=job.result_key,
        result_sha256=job.result_sha256,
        evidence_until=None,
    )
    return upgrades.upgraded(connection, due, key="aa/c.pdf", sha256=b"c" * 32, level=Level.B_T)


@step
def fail(connection: Connection, job_id: UUID) -> object:
    return jobs.fail(connection, claimed(connection, job_id), Code.DOCUMENT_ENCRYPTED, {"a": 1})


@step
def give_back(connection: Connection, job_id: UUID) -> object:
    made = claimed(connection, job_id)
    return jobs.give_back(connection, made, OURS, retry_after_seconds=0, faults_allowed=99)


@step
def park(connection: Connection, job_id: UUID) -> object:
    made = claimed(connection, job_id)
    return jobs.give_back(connection, made, OURS, retry_after_seconds=0, faults_allowed=1)


@step
def requeue(connection: Connection, job_id: UUID) -> object:
    return jobs.requeue(connection, [job_id])


@step
def give_up(connection: Connection, job_id: UUID) -> object:
    return jobs.give_up(connection, job_id, reason="nobody can read it")


@step
def cancel(connection: Connection, job_id: UUID) -> object:
    return jobs.cancel(connection, account_id=own(connection, job_id).account_id, job_id=job_id)


@step
def lose_the_lease(connection: Connection, job_id: UUID) -> object:
    """Without a note: the lease is in no picture."""
    connection.execute(
        text("update jobs set lease_until = now() - interval '1 second' where id = :id"),
        {"id": job_id},
    )
    return jobs.take_back(connection, job_id, lease_seconds=60)


@step
def lose_the_process(connection: Connection, job_id: UUID) -> object:
    killed = Setback(SetbackKind.KILLED, "signal 9")
    return jobs.take_from(connection, [job_id], worker="stamp@a/1", setback=killed)


@step
def purge(connection: Connection, job_id: UUID) -> object:
    connection.execute(
        text("update jobs set finished_at = finished_at - interval '9 days' where id = :id"),
        {"id": job_id},
    )
    return jobs.purge(connection, retention_days=8, limit=1000)


@step
def wait_for_serials(connection: Connection, job_id: UUID) -> object:
    """Only before the job is known to anybody: part of its acceptance, and noted by nobody."""
    # Its serials go as if it never had any; the database itself would not let them.
    connection.execute(text("set local session_replication_role = replica"))
    connection.execute(text("delete from serials where job_id = :id"), {"id": job_id})
    return connection.execute(
        text(
            "update jobs set waiting_for = 'serials', ticket = null, publish_at = null"
            " where id = :id"
        ),
        {"id": job_id},
    )


@step
def serve_waiting(connection: Connection, job_id: UUID) -> object:
    return jobs.serve_waiting(connection, GENERATED, limit=1000, enter=lambda _lane: 7)


WAYS = (
    ("cancel",),
    ("claim_", "finish", "purge"),
    ("claim_", "finish_without_timestamp", "upgrade", "purge"),
    ("claim_", "fail"),
    ("claim_", "give_back", "claim_", "park", "requeue", "claim_", "finish"),
    ("claim_", "park", "give_up"),
    ("claim_", "give_back", "give_up"),
    ("claim_", "lose_the_lease", "claim_", "lose_the_lease", "cancel"),
    ("claim_", "lose_the_process", "claim_", "lose_the_process"),
    ("claim_", "lose_the_lease") * 4,
)


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_after_each_step_of_a_jobs_life_the_snapshot_is_what_the_database_says(
    way: tuple[str, ...], db: Database, account: Account, kept: Snapshots
) -> None:
    job_id = accept(db, new_job(account))
    for name in way:
        leave(kept, db, job_id)
        before = read(db, job_id)
        STEPS[name](db, job_id)
        assert read(db, job_id) != before
        assert kept.look(job_id).picture is None, f"{name} leaves an old snapshot"
        kept.forget(job_id)


def test_a_job_that_waited_for_serials_is_shown_with_them(
    db: Database, account: Account, kept: Snapshots
) -> None:
    job_id = accept(db, new_job(account))
    STEPS["wait_for_serials"](db, job_id)
    leave(kept, db, job_id)
    STEPS["serve_waiting"](db, job_id)
    assert kept.look(job_id).picture is None


def test_every_way_in_which_a_job_changes_is_walked() -> None:
    walked = {name for way in WAYS for name in way} | {"wait_for_serials", "serve_waiting"}
    assert walked == set(STEPS)
    # Every function of the job's life is one of them; the others only read, or are its beginning.
    changing = {
        "cancel", "claim", "fail", "finish", "give_back", "give_up", "purge", "requeue",
        "serve_waiting", "take_back", "take_from",
    }  # fmt: skip
    functions = {name for name in jobs.__all__ if name.islower()}
    assert functions - changing == {
        "accept", "accept_alone", "accept_within", "expired", "finish_alone"
    }  # fmt: skip


def test_many_jobs_of_one_transaction_are_forgotten_at_once(
    db: Database, account: Account, kept: Snapshots
) -> None:
    ids = [accept(db, new_job(account)) for _ in range(3)]
    for job_id in ids:
        leave(kept, db, job_id)
    with db.transaction() as connection:
        for job_id in ids:
            jobs.claim(connection, job_id, lease_seconds=60)
    assert [kept.look(job_id).picture for job_id in ids] == [None] * 3


def test_a_finish_that_claims_the_next_job_is_seen_in_both(
    db: Database, account: Account, kept: Snapshots
) -> None:
    first, second = (accept(db, new_job(account)) for _ in range(2))
    made = claim(db, first)
    assert made is not None
    for job_id in (first, second):
        leave(kept, db, job_id)
    following = jobs.Next(job_id=second, lease_seconds=60, worker="stamp@a/1")
    assert jobs.finish_alone(db, made, RESULT, following).claim is not None
    assert [kept.look(job_id).picture for job_id in (first, second)] == [None] * 2


def test_a_reader_that_read_before_a_change_leaves_nothing_after_it(
    db: Database, account: Account, kept: Snapshots
) -> None:
    job_id = accept(db, new_job(account))
    slow = kept.look(job_id)
    old = read(db, job_id)
    assert claim(db, job_id) is not None
    assert slow.lease is not None
    kept.keep(old, slow.lease)
    assert kept.look(job_id).picture is None
    # Nor when somebody else reads in between.
    kept.forget(job_id)
    leave(kept, db, job_id)
    kept.keep(old, slow.lease)
    assert kept.look(job_id).picture == read(db, job_id)


def test_a_change_that_is_rolled_back_costs_a_look_and_no_more(
    db: Database, account: Account, kept: Snapshots
) -> None:
    job_id = accept(db, new_job(account))
    leave(kept, db, job_id)
    with suppress(RuntimeError), db.transaction() as connection:
        assert jobs.claim(connection, job_id, lease_seconds=60)
        raise RuntimeError
    leave(kept, db, job_id)
    # The connection that it used is somebody else's now, with nothing noted.
    with db.transaction() as connection:
        connection.execute(text("select 1"))
    assert kept.look(job_id).picture is not None


def test_readers_and_writers_together_never_leave_an_old_snapshot(
    db: Database, account: Account, web_settings: WebSettings, kept: Snapshots
) -> None:
    """Four look all the time while a job goes round and round; whenever it rests, all see it as it is."""
    job_id = accept(db, new_job(account))
    over = threading.Event()

    def look() -> None:
        mine = snapshots.connect(web_settings)
        while not over.is_set():
            glance = mine.look(job_id)
            if glance.lease is not None:
                mine.keep(read(db, job_id), glance.lease)
        mine.close()

    readers = [threading.Thread(target=look) for _ in range(4)]
    for reader in readers:
        reader.start()
    wrong = []
    try:
        for _ in range(20):
            for name in ("claim_", "give_back"):
                STEPS[name](db, job_id)
                found = kept.look(job_id).picture
                if found is not None and found != read(db, job_id):
                    wrong.append((name, found))
    finally:
        over.set()
        for reader in readers:
            reader.join()
    assert wrong == []


def changed_behind_our_back(db: Database, job_id: UUID) -> None:
    """Change a job as somebody did who died before the snapshot was forgotten."""
    with db.transaction() as connection:
        connection.execute(
            text(
                "update jobs set state = 'stamping', attempt = 1, lease_until = now() where id = :id"
            ),
            {"id": job_id},
        )


def test_a_queued_job_is_believed_to_be_so_only_until_its_turn_is_over(
    db: Database, account: Account, kept: Snapshots, valkey: redis.Redis, lane_pace: Pace
) -> None:
    lane = f"tests.{new_id()}"
    job_id = accept(db, new_job_in(account, lane, ticket=2))
    leave(kept, db, job_id)
    changed_behind_our_back(db, job_id)
    valkey.hset(f"pace:{lane}", "served", 1)
    # As good as due, by its time.
    valkey.hset(f"shown:{job_id}", "again", 1)
    assert kept.look(job_id).lease is None
    valkey.hset(f"pace:{lane}", "served", 2)
    looks = [kept.look(job_id) for _ in range(20)]
    assert [each.lease is not None for each in looks] == [True] + [False] * 19
    assert all(each.picture is not None for each in looks), "the others see what was, for a moment"
    assert looks[0].lease is not None
    kept.keep(read(db, job_id), looks[0].lease)
    again = kept.look(job_id)
    assert again.picture == read(db, job_id)
    assert again.lease is None, "and is not asked for again at once"


def new_job_in(account: Account, lane: str, *, ticket: int) -> jobs.NewJob:
    return replace(new_job(account), lane=lane, ticket=ticket)


@pytest.mark.parametrize(
    ("way", "seconds"),
    [
        (("claim_",), 1.5),
        (("claim_", "give_back"), 1.5),
        (("claim_", "park"), 10),
        (("cancel",), None),
    ],
)
def test_what_does_not_last_is_looked_at_again_in_its_time(
    way: tuple[str, ...],
    seconds: float | None,
    db: Database,
    account: Account,
    kept: Snapshots,
    valkey: redis.Redis,
) -> None:
    job_id = accept(db, new_job(account))
    for name in way:
        STEPS[name](db, job_id)
    leave(kept, db, job_id)
    again: Any = valkey.hget(f"shown:{job_id}", "again")
    now_s, now_us = valkey.time()  # type: ignore[misc]
    left = None if again == b"" else int(again) / 1000 - now_s - now_us / 1e6
    assert left == (None if seconds is None else pytest.approx(seconds, abs=0.7))
    assert 500 < valkey.ttl(f"shown:{job_id}") <= 800  # type: ignore[operator]


def test_nobody_who_reads_valkey_reads_what_was_sent(
    db: Database, account: Account, kept: Snapshots, valkey: redis.Redis
) -> None:
    job_id = accept(db, new_job(account))
    leave(kept, db, job_id)
    lying: Any = valkey.hgetall(f"shown:{job_id}")
    assert b"letter.pdf" not in b"".join(lying.values())
    # What is another job's is nobody's here.
    other = accept(db, new_job(account))
    leave(kept, db, other)
    valkey.hset(f"shown:{other}", "box", lying[b"box"])
    assert kept.look(other).picture is None


def test_no_more_snapshots_are_left_than_there_is_room_for(
    db: Database, account: Account, web_settings: WebSettings, valkey: redis.Redis
) -> None:
    made = int(valkey.get("shown:made") or 0)  # type: ignore[arg-type]
    few = snapshots.connect(web_settings, most=made + 1)
    ids = [accept(db, new_job(account)) for _ in range(2)]
    for job_id in ids:
        glance = few.look(job_id)
        assert glance.lease is not None
        few.keep(read(db, job_id), glance.lease)
    assert [few.look(job_id).picture is not None for job_id in ids] == [True, False]
    few.close()


def test_without_valkey_everybody_asks_the_database(web_settings: WebSettings) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    away = snapshots.connect(web_settings.model_copy(update={"broker_url": nowhere}))
    job_id = new_id()
    assert away.look(job_id, "a", "b") == Glance(beside=(None, None))
    away.forget(job_id)


@contextmanager
def own_postgres(folder: Path) -> Iterator[Postgres]:
    server = Postgres(folder / "postgres")
    server.start()
    try:
        database.migrate(server.url)
        yield server
    finally:
        server.stop()


def test_a_known_job_is_shown_while_the_database_is_down(
    web_settings: WebSettings,
    make_account_in: Callable[[Database], Account],
    tmp_path: Path,
    letter: bytes,
) -> None:
    with own_postgres(tmp_path) as server:
        settings = web_settings.model_copy(update={"database_url": server.url})
        client = create_app(settings).test_client()
        opened = Database(server.url)
        account = make_account_in(opened)
        job: Any = client.post(
            "/v1/jobs", data=letter, content_type="application/pdf", headers=account.test
        ).json
        here, page = f"/v1/jobs/{job['id']}", f"/j/{StatusLinks(settings).token(UUID(job['id']))}"
        wrong = {"Authorization": f"Bearer {account.test_key[:-4]}AAAA"}
        first = client.get(here, headers=account.test)
        assert client.get(here, headers=wrong).status_code == 401
        opened.close()
        server.stop()
        again = client.get(here, headers=account.test)
        assert (again.status_code, again.json) == (200, first.json)
        known = {**account.test, "If-None-Match": first.headers["ETag"]}
        unchanged = client.get(here, headers=known)
        assert (unchanged.status_code, unchanged.data) == (304, b"")
        assert int(unchanged.headers["Retry-After"]) >= 1
        assert client.get(f"{page}/live").status_code == 200
        assert client.get(page).status_code == 200
        # A wrong key that was tried before is still wrong; one that nobody knows cannot be looked up.
        assert client.get(here, headers=wrong).status_code == 401
        assert (
            client.get(here, headers={"Authorization": f"Bearer {account.live_key}"}).status_code
            == 503
        )
        assert client.get(f"/v1/jobs/{new_id()}", headers=account.test).status_code == 503


def test_who_has_the_newest_answer_gets_304_and_a_turn_later_a_new_one(
    client: FlaskClient, db: Database, account: Account, valkey: redis.Redis
) -> None:
    lane = f"tests.{new_id()}"
    job_id = accept(db, new_job_in(account, lane, ticket=54_321))
    valkey.hset(f"pace:{lane}", mapping={"accepted": 60_000, "served": 0})
    here = f"/v1/jobs/{job_id}"
    first = client.get(here, headers=account.live)
    assert first.json["position"] == 55_000
    known = {**account.live, "If-None-Match": first.headers["ETag"]}
    valkey.hset(f"pace:{lane}", "served", 100)
    assert client.get(here, headers=known).status_code == 304
    valkey.hset(f"pace:{lane}", "served", 5_000)
    later = client.get(here, headers=known)
    assert (later.status_code, later.json["position"]) == (200, 50_000)
    assert not later.headers["ETag"].startswith("W/")


def test_somebody_elses_job_is_not_found_though_its_snapshot_is_there(
    client: FlaskClient, db: Database, account: Account, make_account: Callable[..., Account]
) -> None:
    job_id = accept(db, new_job(account))
    assert client.get(f"/v1/jobs/{job_id}", headers=account.live).status_code == 200
    for key in (account.test, make_account().live):
        assert client.get(f"/v1/jobs/{job_id}", headers=key).status_code == 404
