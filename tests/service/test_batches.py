"""Batches: many documents in one call, all accepted or none, and told of once when all have ended."""

import io
import json
import select
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import jwt
import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from common import audit, batches, documents, jobs, lanes, ledger
from common.database import Database
from common.documents import Documents
from common.identifiers import new_id
from common.jobs import Result
from common.pace import Pace
from common.partners import Mode
from common.settings import WebSettings, WorkerSettings
from deploy.servers import free_port
from tests.service.test_webhooks import Receiver, receiver, register
from tests.stack import Account, eventually
from web.api.batch_intake import FIELDS_BYTES
from web.app import create_app
from workers.upkeep import Caretaker

__all__ = ["receiver"]

MEGABYTE = 1024 * 1024


def asked(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"document": f"d{number}"} | fields for number in range(count)]


def send(
    client: FlaskClient,
    account: Account,
    documents_: Iterable[tuple[str, bytes]],
    wanted: Any,
    *,
    mode: Mode = Mode.LIVE,
    key: str | None = None,
    **parts: Any,
) -> Any:
    headers = account.live if mode is Mode.LIVE else account.test
    files = [(name, (io.BytesIO(body), f"{name}.pdf")) for name, body in documents_]
    form: dict[str, Any] = dict(parts)
    for name, file in files:
        form.setdefault(name, []).append(file)
    if wanted is not None:
        form["jobs"] = wanted if isinstance(wanted, str) else json.dumps(wanted)
    return client.post(
        "/v1/batches",
        data=form,
        content_type="multipart/form-data",
        headers=headers | ({} if key is None else {"Idempotency-Key": key}),
    )


def several(letter: bytes, count: int) -> list[tuple[str, bytes]]:
    return [(f"d{number}", letter + b"\n" * number) for number in range(count)]


def objects(settings: WebSettings) -> set[Path]:
    return set((settings.data_dir / "objects").rglob("*.pdf"))


def refused(response: Any, status: int, code: str) -> dict[str, Any]:
    assert (response.status_code, response.json["code"]) == (status, code), response.json
    assert response.content_type == "application/problem+json"
    return dict(response.json)


def jobs_of(db: Database, account: Account) -> int:
    with db.transaction() as connection:
        return int(
            connection.execute(
                text("select count(*) from jobs where partner_id = :id"),
                {"id": account.partner_id},
            ).scalar_one()
        )


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


def look_now(db: Database, batch_id: str) -> None:
    """Let the time come at which upkeep looks at the batch."""
    with db.transaction() as connection:
        connection.execute(
            text("update batches set look_at = now() where id = :id and look_at is not null"),
            {"id": batch_id},
        )


def end(db: Database, job_id: UUID) -> None:
    """Stamp a job, as a worker would."""
    with db.transaction() as connection:
        claim = jobs.claim(connection, job_id, lease_seconds=60)
        assert claim is not None
        assert jobs.finish(connection, claim, Result(key=f"k/{job_id}", length=1, sha256=b"r"))


def told(db: Database, batch_id: str) -> list[Any]:
    with db.transaction() as connection:
        return list(
            connection.execute(
                text("select * from events where batch_id = :id"), {"id": batch_id}
            ).all()
        )


def test_a_batch_is_accepted_whole(
    client: FlaskClient, account: Account, letter: bytes, store: Documents, db: Database
) -> None:
    wanted = [
        {"document": "d0", "page": 1, "x": 400, "y": 60, "external_reference": "letter 1"},
        {"document": "d1", "stamps": [{"page": 1}, {"page": 1, "position": "top-left"}]},
        {"document": "d2", "metadata": {"nip": "7"}, "document_name": "surat.pdf"},
    ]
    response = send(
        client, account, several(letter, 3), wanted, external_reference="payroll November"
    )
    assert response.status_code == 202, response.json
    batch = response.json
    assert response.headers["Location"] == f"/v1/batches/{batch['id']}"
    assert int(response.headers["Retry-After"]) >= 1
    assert (batch["total"], batch["counts"]["queued"]) == (3, 3)
    assert batch["external_reference"] == "payroll November"
    assert batch["finished_at"] is None
    first, second, third = batch["jobs"]
    assert first["placement"] == {"page": 1, "x": 400.0, "y": 60.0}
    assert first["external_reference"] == "letter 1"
    assert len({stamp["serial"] for stamp in second["stamps"]}) == 2
    assert third["metadata"] == {"nip": "7"}
    assert [job["document"]["name"] for job in batch["jobs"]] == ["d0.pdf", "d1.pdf", "surat.pdf"]
    for number, job in enumerate(batch["jobs"]):
        assert job["batch_id"] == batch["id"]
        assert store.get(documents.original_key(UUID(job["id"]))) == letter + b"\n" * number
        claims = jwt.decode(job["receipt"], options={"verify_signature": False})
        assert (claims["sub"], claims["stamps"]) == (job["id"], len(job["stamps"]))
    assert third["position"] == first["position"] + 2
    with db.transaction() as connection:
        balance = ledger.balance(connection, account.id())
        laid = connection.execute(
            text("select distinct lane from jobs where batch_id = :id"), {"id": batch["id"]}
        ).scalars()
        assert list(laid) == [lanes.BULK_LANE]
    assert (balance.available, balance.held) == (96, 4)


def test_a_batch_and_its_jobs_are_looked_at_by_their_owner_only(
    client: FlaskClient, account: Account, make_account: Callable[..., Account], letter: bytes
) -> None:
    batch = send(client, account, several(letter, 3), asked(3)).json
    url = f"/v1/batches/{batch['id']}"
    shown = client.get(url, headers=account.live)
    assert shown.json == {name: value for name, value in batch.items() if name != "jobs"}
    assert shown.headers["Retry-After"]
    unchanged = {"If-None-Match": shown.headers["ETag"]}
    assert client.get(url, headers=account.live | unchanged).status_code == 304

    first = client.get(f"{url}/jobs?limit=2", headers=account.live).json
    rest = client.get(f"{url}/jobs?cursor={first['next_cursor']}", headers=account.live).json
    listed = [job["id"] for job in [*first["data"], *rest["data"]]]
    assert listed == [job["id"] for job in reversed(batch["jobs"])]
    assert rest["next_cursor"] is None

    for other in (account.test, make_account().live):
        refused(client.get(url, headers=other), 404, "not_found")
        refused(client.get(f"{url}/jobs", headers=other), 404, "not_found")
    refused(client.get("/v1/batches/x", headers=account.live), 404, "not_found")
    refused(client.get(f"{url}/jobs?cursor=x", headers=account.live), 400, "cursor_invalid")


def test_batches_are_listed_newest_first_by_pages(
    client: FlaskClient, account: Account, letter: bytes
) -> None:
    made = [send(client, account, several(letter, 1), asked(1)).json["id"] for _ in range(3)]
    first = client.get("/v1/batches?limit=2", headers=account.live).json
    rest = client.get(f"/v1/batches?cursor={first['next_cursor']}", headers=account.live).json
    assert [batch["id"] for batch in first["data"] + rest["data"]] == made[::-1]
    assert client.get("/v1/batches", headers=account.test).json["data"] == []


def test_the_jobs_may_be_sent_as_a_file(
    client: FlaskClient, account: Account, letter: bytes
) -> None:
    file = (io.BytesIO(json.dumps(asked(1)).encode()), "jobs.json", "application/json")
    response = send(client, account, several(letter, 1), None, jobs=file)
    assert response.status_code == 202


def test_one_bad_document_refuses_all_and_each_fault_is_named(
    client: FlaskClient,
    account: Account,
    letter: bytes,
    web_settings: WebSettings,
    db: Database,
) -> None:
    before = objects(web_settings)
    sent = [
        ("good", letter),
        ("text", b"hello"),
        ("empty", b""),
        ("cut", letter[: letter.rfind(b"startxref")]),
        ("large", letter + b" " * MEGABYTE),
        ("twice", letter),
        ("twice", letter),
        ("shared", letter),
        ("stray", letter),
    ]
    wanted: list[dict[str, Any]] = [
        {"document": "good"},
        {"document": "text"},
        {"document": "empty"},
        {"document": "large"},
        {"document": "missing"},
        {"document": "twice"},
        {"document": "shared"},
        {"document": "shared"},
        {"document": "good2", "page": 0},
        {"document": "cut", "colour": "red"},
        {"page": 1},
        {"document": 7},
    ]
    problem = refused(send(client, account, sent, wanted, key="k"), 422, "batch_refused")
    found = [(e["document"], e["job"], e["code"]) for e in problem["errors"]]
    assert found == [
        ("text", 2, "document_not_pdf"),
        ("empty", 3, "document_empty"),
        ("large", 4, "document_too_large"),
        ("missing", 5, "document_missing"),
        ("twice", 6, "field_invalid"),
        ("shared", 7, "field_invalid"),
        ("shared", 8, "field_invalid"),
        ("good2", 9, "page_out_of_range"),
        ("cut", 10, "field_unknown"),
        (None, 11, "field_invalid"),
        (None, 12, "field_invalid"),
        ("stray", None, "field_unknown"),
    ]
    assert all(error["title"] for error in problem["errors"])
    assert problem["errors"][2]["max_bytes"] == MEGABYTE
    assert objects(web_settings) == before
    assert jobs_of(db, account) == 0


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (None, "field_invalid"),
        ("{", "field_invalid"),
        ("{}", "field_invalid"),
        ("[]", "field_invalid"),
        ("[1]", "field_invalid"),
        ("", "field_invalid"),
        ("NaN", "field_invalid"),
    ],
)
def test_jobs_that_are_no_list_of_jobs_are_refused(
    client: FlaskClient, account: Account, letter: bytes, wanted: str | None, code: str
) -> None:
    refused(send(client, account, several(letter, 1), wanted), 422, code)


def test_parts_and_parameters_that_mean_nothing_are_refused(
    client: FlaskClient, account: Account, letter: bytes
) -> None:
    stray = send(client, account, several(letter, 1), asked(1), page="1")
    refused(stray, 422, "field_unknown")
    long = send(client, account, several(letter, 1), asked(1), external_reference="x" * 201)
    refused(long, 422, "field_invalid")
    bare = client.post(
        "/v1/batches", data=letter, content_type="application/pdf", headers=account.live
    )
    assert refused(bare, 415, "content_type_unsupported")["accepted"] == ["multipart/form-data"]
    query = client.post(
        "/v1/batches?page=1",
        data={"jobs": "[]"},
        content_type="multipart/form-data",
        headers=account.live,
    )
    refused(query, 422, "field_unknown")


@pytest.mark.parametrize("file", ["", '; filename="a.pdf"'])
@pytest.mark.parametrize("path", ["/v1/batches", "/v1/jobs"])
def test_a_part_without_a_name_is_refused(
    client: FlaskClient, account: Account, file: str, path: str
) -> None:
    body = f"--edge\r\nContent-Disposition: form-data{file}\r\n\r\nx\r\n--edge--\r\n"
    response = client.post(
        path,
        data=body,
        content_type="multipart/form-data; boundary=edge",
        headers=account.live,
    )
    assert response.status_code == 422, response.json


def test_more_than_a_batch_may_have_is_refused(
    web_settings: WebSettings, account: Account, letter: bytes
) -> None:
    small = web_settings.model_copy(update={"batch_documents": 2, "max_batch_bytes": MEGABYTE})
    client = create_app(small).test_client()
    assert send(client, account, several(letter, 2), asked(2)).status_code == 202
    for sent in (several(letter, 3), several(letter + b" " * 700_000, 2)):
        problem = refused(send(client, account, sent, asked(len(sent))), 413, "batch_too_large")
        assert (problem["max_documents"], problem["max_bytes"]) == (2, MEGABYTE)
    # More jobs than documents count as well, also where none of them has one.
    refused(send(client, account, several(letter, 1), asked(3)), 413, "batch_too_large")


def test_an_oversized_batch_is_refused_while_it_is_still_being_sent(
    server: str, account: Account, web_settings: WebSettings
) -> None:
    """Without a Content-Length the server must count; it must not wait for the end."""
    head = b'--edge\r\nContent-Disposition: form-data; name="a"; filename="a.pdf"\r\n\r\n%PDF-1.7\n'
    address = urlsplit(server)
    with socket.create_connection((address.hostname, address.port), timeout=30) as wire:
        wire.sendall(
            "POST /v1/batches HTTP/1.1\r\nHost: x\r\n"
            "Content-Type: multipart/form-data; boundary=edge\r\n"
            f"Authorization: {account.live['Authorization']}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
            + b"%x\r\n%s\r\n" % (len(head), head)
        )
        chunk = b"%x\r\n%s\r\n" % (65536, b"x" * 65536)
        for _ in range(web_settings.max_batch_bytes // 65536):
            wire.sendall(chunk)
        for _ in range(FIELDS_BYTES * web_settings.batch_documents // 65536 + 8):
            wire.sendall(chunk)
            # An answer may come as soon as the limit is passed; sending on would cut it off.
            if select.select([wire], [], [], 0.02)[0]:
                break
        answer = b""
        while b"batch_too_large" not in answer:
            received = wire.recv(65536)
            assert received, answer
            answer += received
    assert answer.startswith(b"HTTP/1.1 413")


def test_a_quota_that_is_too_small_for_all_takes_none_and_the_key_may_be_sent_again(
    client: FlaskClient,
    make_account: Callable[..., Account],
    letter: bytes,
    web_settings: WebSettings,
    db: Database,
    lane_pace: Pace,
) -> None:
    poor = make_account(quota=2)
    before = objects(web_settings)
    lane = lane_pace.lane(lanes.BULK_LANE)
    problem = refused(
        send(client, poor, several(letter, 3), asked(3), key="k"), 402, "quota_too_small"
    )
    assert (problem["available"], problem["needed"]) == (2, 3)
    assert objects(web_settings) == before
    assert jobs_of(db, poor) == 0
    after = lane_pace.lane(lanes.BULK_LANE)
    assert lane is not None
    assert after is not None
    assert after.accepted - after.served == lane.accepted - lane.served
    with db.transaction() as connection:
        ledger.top_up(connection, account_id=poor.id(), amount=1, reference="paid", by="tests")
    taken = send(client, poor, several(letter, 3), asked(3), key="k")
    assert taken.status_code == 202
    assert "Idempotent-Replayed" not in taken.headers


def test_the_same_batch_under_one_key_is_one_batch(
    client: FlaskClient,
    account: Account,
    letter: bytes,
    web_settings: WebSettings,
    db: Database,
) -> None:
    first = send(client, account, several(letter, 2), asked(2), key="k")
    stored = objects(web_settings)
    again = send(client, account, several(letter, 2), asked(2), key='"k"')
    assert again.get_data() == first.get_data()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    for response in (
        send(client, account, several(letter + b"\n", 2), asked(2), key="k"),
        send(client, account, several(letter, 2), asked(2, page=1), key="k"),
        send(client, account, several(letter, 2), asked(2)[::-1], key="k"),
        send(client, account, several(letter, 2), asked(2), key="k", external_reference="x"),
        client.post(
            "/v1/jobs",
            data=letter,
            content_type="application/pdf",
            headers=account.live | {"Idempotency-Key": "k"},
        ),
    ):
        refused(response, 422, "idempotency_key_reused")
    assert objects(web_settings) == stored
    assert jobs_of(db, account) == 2


def test_a_batch_sent_many_times_at_once_is_one_batch(
    server: str, account: Account, letter: bytes, db: Database, web_settings: WebSettings
) -> None:
    before = objects(web_settings)

    def post(_: int) -> httpx.Response:
        return httpx.post(
            f"{server}/v1/batches",
            files=[(name, (f"{name}.pdf", body)) for name, body in several(letter, 5)],
            data={"jobs": json.dumps(asked(5))},
            headers=account.live | {"Idempotency-Key": "once"},
            timeout=60,
        )

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(post, range(6)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({a.json()["id"] for a in answers if a.status_code == 202}) == 1
    assert jobs_of(db, account) == 5
    # What the others stored was taken back.
    assert len(objects(web_settings) - before) == 5


def test_a_store_that_fails_in_the_middle_leaves_nothing_behind(
    web_settings: WebSettings, account: Account, letter: bytes, tmp_path: Path, db: Database
) -> None:
    folder = tmp_path / "objects"
    own = web_settings.model_copy(update={"object_store_url": folder.as_uri()})
    client = create_app(own).test_client()
    # Every other of the 256 folders is a file: of thirty documents some cannot be stored.
    for number in range(0, 256, 2):
        (folder / f"{number:02x}").rmdir()
        (folder / f"{number:02x}").write_bytes(b"")
    response = send(client, account, several(letter, 30), asked(30), key="k")
    assert response.status_code >= 500
    assert list(folder.rglob("*.pdf")) == []
    assert jobs_of(db, account) == 0
    with db.transaction() as connection:
        assert ledger.balance(connection, account.id()).held == 0


def test_a_batch_is_accepted_while_the_broker_is_away(
    web_settings: WebSettings, account: Account, letter: bytes, db: Database
) -> None:
    away = web_settings.model_copy(update={"broker_url": f"redis://127.0.0.1:{free_port()}/0"})
    client = create_app(away).test_client()
    batch = send(client, account, several(letter, 3), asked(3)).json
    assert [job["position"] for job in batch["jobs"]] == [None] * 3
    with db.transaction() as connection:
        due = connection.execute(
            text("select count(publish_at) from jobs where batch_id = :id"), {"id": batch["id"]}
        ).scalar_one()
    assert due == 3


def test_a_batch_is_finished_and_told_of_once_when_its_last_job_has_ended(
    client: FlaskClient, account: Account, letter: bytes, db: Database, caretaker: Caretaker
) -> None:
    register(client, account.live, "https://93.184.216.34/hook")
    batch = send(client, account, several(letter, 3), asked(3), external_reference="r").json
    stamped, cancelled, last = (UUID(job["id"]) for job in batch["jobs"])
    end(db, stamped)
    assert (
        client.post(f"/v1/jobs/{cancelled}/cancel", headers=account.live).json["state"]
        == "cancelled"
    )
    look_now(db, batch["id"])
    caretaker.finish_batches()
    assert told(db, batch["id"]) == []
    shown = client.get(f"/v1/batches/{batch['id']}", headers=account.live).json
    assert shown["finished_at"] is None
    assert {state: n for state, n in shown["counts"].items() if n} == {
        "queued": 1,
        "stamped": 1,
        "cancelled": 1,
    }

    end(db, last)
    # True at once for whoever asks; told by the next round.
    url = f"/v1/batches/{batch['id']}"
    finished_at = client.get(url, headers=account.live).json["finished_at"]
    assert finished_at is not None
    for _ in range(2):
        look_now(db, batch["id"])
        caretaker.finish_batches()
    (event,) = told(db, batch["id"])
    assert event.type == "batch.finished"
    assert event.payload["counts"] == {"stamped": 2, "cancelled": 1}
    assert (event.payload["batch_id"], event.payload["total"]) == (batch["id"], 3)
    assert event.payload["external_reference"] == "r"
    with db.transaction() as connection:
        sent = connection.execute(
            text("select count(*) from deliveries where event_id = :id"), {"id": event.id}
        ).scalar_one()
        batch_row = connection.execute(
            text("select * from batches where id = :id"), {"id": batch["id"]}
        ).one()
    assert sent == 1
    assert batch_row.look_at is None
    assert client.get(url, headers=account.live).json["finished_at"] == finished_at
    assert "Retry-After" not in client.get(url, headers=account.live).headers


def test_a_batch_is_told_of_though_the_clock_went_back(
    client: FlaskClient, account: Account, letter: bytes, db: Database, caretaker: Caretaker
) -> None:
    batch = send(client, account, several(letter, 1), asked(1)).json
    end(db, UUID(batch["jobs"][0]["id"]))
    with db.transaction() as connection:
        connection.execute(
            text("update batches set look_at = now() + interval '1 hour' where id = :id"),
            {"id": batch["id"]},
        )
    caretaker.finish_batches()
    assert len(told(db, batch["id"])) == 1


def test_rounds_beside_each_other_and_workers_that_finish_tell_of_each_batch_once(
    client: FlaskClient, account: Account, letter: bytes, db: Database
) -> None:
    made = [send(client, account, several(letter, 8), asked(8)).json for _ in range(4)]
    waiting = [UUID(job["id"]) for batch in made for job in batch["jobs"]]

    def round_(_: int) -> int:
        for batch in made:
            look_now(db, batch["id"])
        with db.transaction() as connection:
            return len(batches.finish_ended(connection, limit=100).finished)

    with ThreadPoolExecutor(6) as pool:
        workers = pool.map(lambda job_id: end(db, job_id), waiting)
        rounds = pool.map(round_, range(40))
        list(workers)
        list(rounds)
    round_(0)
    assert [len(told(db, batch["id"])) for batch in made] == [1] * 4
    assert all(
        event.payload["counts"] == {"stamped": 8} for b in made for event in told(db, b["id"])
    )


def test_a_batch_with_jobs_left_is_left_alone_for_longer_as_it_grows_older(
    client: FlaskClient, account: Account, letter: bytes, db: Database
) -> None:
    batch = send(client, account, several(letter, 1), asked(1)).json

    def left_alone(age: str) -> float:
        with db.transaction() as connection:
            connection.execute(
                text(
                    "update batches set look_at = now(), accepted_at = now() -"
                    " cast(:age as interval) where id = :id"
                ),
                {"age": age, "id": batch["id"]},
            )
            batches.finish_ended(connection, limit=1000)
            return float(
                connection.execute(
                    text("select extract(epoch from look_at - now()) from batches where id = :id"),
                    {"id": batch["id"]},
                ).scalar_one()
            )

    assert [round(left_alone(age)) for age in ("0", "400 seconds", "2 days")] == [5, 20, 60]


@pytest.mark.usefixtures("workers")
def test_a_batch_is_stamped_and_its_end_is_told_by_webhook(
    server: str,
    client: FlaskClient,
    account: Account,
    letter: bytes,
    receiver: Receiver,
    db: Database,
    caretaker: Caretaker,
) -> None:
    register(client, account.test, receiver.url)
    files = [(name, (f"{name}.pdf", body)) for name, body in several(letter, 6)]
    wanted = [*asked(5), {"document": "d5", "page": 99}]
    batch = httpx.post(
        f"{server}/v1/batches",
        files=files,
        data={"jobs": json.dumps(wanted)},
        headers=account.test,
        timeout=60,
    ).json()

    def finished() -> dict[str, Any] | None:
        shown = httpx.get(batch["links"]["self"], headers=account.test).json()
        return shown if shown["finished_at"] else None

    shown = eventually(finished)
    assert {state: n for state, n in shown["counts"].items() if n} == {"stamped": 5, "failed": 1}
    look_now(db, batch["id"])
    caretaker.finish_batches()

    def news() -> list[dict[str, Any]]:
        bodies = [json.loads(body) for _, body in list(receiver.got)]
        return [body for body in bodies if body["type"] == "batch.finished"]

    (body,) = eventually(news)
    assert body["data"]["batch_id"] == batch["id"]
    assert body["data"]["counts"] == {"stamped": 5, "failed": 1}
    assert body["data"]["links"] == {
        "batch": batch["links"]["self"],
        "jobs": batch["links"]["jobs"],
    }
    assert "job_id" not in body["data"]


def test_the_audit_names_batches_that_do_not_hold(
    client: FlaskClient, account: Account, letter: bytes, db: Database
) -> None:
    made = [send(client, account, several(letter, 2), asked(2)).json["id"] for _ in range(3)]

    def violations() -> dict[str, list[str]]:
        with db.transaction() as connection:
            found = audit.audit(connection, ids_shown=1000).violations
        return {v.rule: v.ids for v in found if "batch" in v.rule}

    assert violations() == {}
    broken = [
        ("update batches set total = 3 where id = :id", "as many jobs as it says"),
        (
            "update batches set finished_at = now(), look_at = null where id = :id",
            "all its jobs have ended",
        ),
        (
            "update jobs set state = 'cancelled', publish_at = null,"
            " finished_at = now() - interval '1 hour' where batch_id = :id",
            "forgotten",
        ),
    ]
    mended = [
        "update batches set total = 2 where id = :id",
        "update batches set finished_at = null, look_at = now() where id = :id",
        "update jobs set state = 'queued', publish_at = now(), finished_at = null"
        " where batch_id = :id",
    ]
    for batch_id, (change, rule), mend in zip(made, broken, mended, strict=True):
        with db.transaction() as connection:
            connection.execute(text(change), {"id": batch_id})
        try:
            ((name, ids),) = violations().items()
        finally:
            with db.transaction() as connection:
                connection.execute(text(mend), {"id": batch_id})
        assert rule in name
        assert ids == [batch_id]


def test_an_unknown_batch_cannot_be_told_of(db: Database, account: Account) -> None:
    """Foreign keys and checks hold also against a mistake of ours."""
    query = (
        "insert into events (id, partner_id, mode, type, batch_id, payload)"
        " values (:id, :partner, 'live', :type, :batch, '{}')"
    )
    for kind, batch in (("batch.finished", new_id()), ("batch.finished", None)):
        with pytest.raises(Exception, match="violates"), db.transaction() as connection:
            connection.execute(
                text(query),
                {"id": new_id(), "partner": account.partner_id, "type": kind, "batch": batch},
            )
