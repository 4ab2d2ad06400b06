"""An S3 store that is far away, slow, or breaks off: nothing is accepted that is not in it."""

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

import obstore
import pytest
from flask.testing import FlaskClient
from obstore.store import from_url
from sqlalchemy import text

from common import documents
from common.database import Database
from common.documents import Documents, MissingDocumentError, StoreAwayError
from common.identifiers import new_id
from common.pace import Pace
from common.settings import WebSettings, WorkerSettings
from deploy.sample import sample_of
from tests.faults import buckets
from tests.faults.copies import end_wait, front_end, stamper, submit
from tests.faults.proxy import Endpoint, Proxy, Way
from tests.stack import Account

# How long one request may take in these tests; two of them are the most that anybody waits.
PATIENCE_SECONDS = 1.5


@pytest.fixture(scope="module")
def letter() -> bytes:
    """A letter of the usual size: a small one is through before anything can break."""
    return sample_of(355_000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with buckets.bucket(tmp_path_factory.mktemp("s3")) as address:
        yield address


@pytest.fixture
def wire(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with Proxy(Endpoint.of(server)) as proxy:
        for name, value in buckets.VARIABLES.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url(server))
        yield proxy


@pytest.fixture
def remote(wire: Proxy) -> Documents:
    return Documents(buckets.URL, timeout_seconds=PATIENCE_SECONDS)


@pytest.fixture
def edge(web_settings: WebSettings, wire: Proxy) -> Iterator[FlaskClient]:
    with front_end(
        web_settings,
        object_store_url=buckets.URL,
        object_store_timeout_seconds=PATIENCE_SECONDS,
    ) as client:
        yield client


def assert_refused(client: FlaskClient, account: Account, letter: bytes) -> None:
    """The document is refused in bounded time, and nothing is charged."""
    began = time.monotonic()
    answer = submit(client, account.live, letter)
    assert (answer.status_code, answer.json["code"]) == (503, "service_unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    assert time.monotonic() - began < 2 * PATIENCE_SECONDS + 3
    quota = client.get("/v1/quota", headers=account.live).json
    assert (quota["available"], quota["held"]) == (100, 0)
    assert client.get("/v1/jobs", headers=account.live).json["data"] == []


def test_what_was_put_is_got_listed_replaced_and_deleted(remote: Documents) -> None:
    key = documents.original_key(new_id())
    remote.put(key, b"one")
    remote.put(key, (b"t", b"", b"wo" * 3_000_000))
    assert remote.get(key) == b"t" + b"wo" * 3_000_000
    remote.delete(key)
    remote.delete(key)
    with pytest.raises(MissingDocumentError):
        remote.get(key)
    remote.put(documents.inbox_key(new_id()), b"left", lasting=False)
    later = datetime.now(UTC) + timedelta(minutes=1)
    assert remote.clear_inbox(before=later - timedelta(hours=1), limit=10) == 0
    assert remote.clear_inbox(before=later, limit=10) == 1
    assert remote.answers(room=1)


def test_a_put_that_broke_off_once_is_tried_again_and_stands_once(
    remote: Documents, wire: Proxy
) -> None:
    key = documents.original_key(new_id())
    content = b"x" * 2_000_000
    for way, count in ((Way.TO_SERVER, 500_000), (Way.TO_CLIENT, 0)):
        wire.cut_after(count, way, times=1)
        remote.put(key, content)
        wire.forward()
        assert remote.get(key) == content
    listed = [o["path"] for o in next(iter(obstore.list(from_url(buckets.URL), prefix=key[:2])))]
    assert listed == [key]


def test_a_put_that_breaks_off_each_time_is_refused_and_leaves_no_part(
    edge: FlaskClient, wire: Proxy, account: Account, letter: bytes, remote: Documents
) -> None:
    wire.cut_after(100_000)
    assert_refused(edge, account, letter)
    wire.forward()
    objects = [o for page in obstore.list(from_url(buckets.URL)) for o in page]
    assert {o["size"] for o in objects} <= {len(letter), 2_000_000}, "whole ones only"
    assert submit(edge, account.live, letter).status_code == 202


def test_a_store_whose_acknowledgement_is_lost_leaves_an_object_that_no_job_has(
    edge: FlaskClient,
    wire: Proxy,
    account: Account,
    letter: bytes,
    remote: Documents,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job_id = new_id()
    monkeypatch.setattr("web.api.submitting.new_id", lambda: job_id)
    wire.cut_after(0, Way.TO_CLIENT)
    assert_refused(edge, account, letter)
    wire.forward()
    assert remote.get(documents.original_key(job_id)) == letter


@pytest.mark.parametrize("how", ["refuse", "stall", "delay"])
def test_a_store_that_is_away_or_too_slow_is_waited_for_within_bounds(
    edge: FlaskClient, wire: Proxy, account: Account, letter: bytes, how: str
) -> None:
    if how == "delay":
        # 16 KiB at a time: the letter would take some six seconds.
        wire.delay(0.3)
    else:
        getattr(wire, how)()
    assert_refused(edge, account, letter)
    if how != "delay":
        ready = edge.get("/readyz")
        assert (ready.status_code, ready.json["checks"]["documents"]) == (503, False)
    wire.forward()
    assert submit(edge, account.live, letter).status_code == 202
    assert edge.get("/readyz").status_code == 200


def test_a_bucket_that_is_not_there_is_no_store(
    wire: Proxy, edge: FlaskClient, account: Account, letter: bytes
) -> None:
    nowhere = Documents("s3://no-such-bucket/documents", timeout_seconds=PATIENCE_SECONDS)
    assert not nowhere.answers(room=1)
    with pytest.raises(StoreAwayError):
        nowhere.put("ab/file", b"x")


@pytest.mark.parametrize("broken", ["reading", "writing"])
def test_to_a_worker_it_is_a_passing_fault(
    edge: FlaskClient,
    wire: Proxy,
    worker_settings: WorkerSettings,
    account: Account,
    letter: bytes,
    db: Database,
    lane_pace: Pace,
    remote: Documents,
    broken: str,
) -> None:
    accepted = submit(edge, account.live, letter).json
    job_id = UUID(accepted["id"])
    worker = stamper(worker_settings, db, remote, lane_pace)
    if broken == "reading":
        wire.refuse()
    else:
        wire.cut_after(100_000)
    with suppress(Exception):
        worker.stamp(job_id)
    with db.transaction() as connection:
        row = connection.execute(
            text("select state, publish_at > now() as later from jobs where id = :id"),
            {"id": job_id},
        ).one()
    assert (row.state, row.later) == ("queued", True)
    wire.forward()
    end_wait(db, job_id)
    worker.stamp(job_id)
    shown = edge.get(f"/v1/jobs/{job_id}", headers=account.live).json
    assert (shown["state"], shown["serial"]) == ("stamped", accepted["serial"])
    file = edge.get(f"/v1/jobs/{job_id}/document", headers=account.live)
    assert file.status_code == 200
    wire.refuse()
    away = edge.get(f"/v1/jobs/{job_id}/document", headers=account.live)
    assert (away.status_code, away.json["code"]) == (503, "service_unavailable")
