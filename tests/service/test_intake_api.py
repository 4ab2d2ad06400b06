"""POST /v1/jobs: what is taken, and what is refused with nothing stored or charged."""

import io
import json
import select
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import jwt
import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from common import documents, partners
from common.database import Database
from common.documents import Documents
from common.settings import WebSettings
from tests.stack import Account

PDF = "application/pdf"


def post(
    client: FlaskClient, account: Account, body: bytes, query: str = "", **headers: str
) -> Any:
    return client.post(
        f"/v1/jobs?{query}", data=body, content_type=PDF, headers=account.live | headers
    )


@pytest.fixture
def untouched(db: Database, account: Account, web_settings: WebSettings) -> Iterator[None]:
    """Check that the test stored nothing, charged nothing and left no object behind."""

    def state() -> tuple[Any, ...]:
        with db.transaction() as connection:
            counted = connection.execute(
                text(
                    "select (select count(*) from jobs where partner_id = :id),"
                    " (select count(*) from ledger_entries where account_id = :account),"
                    " (select count(*) from idempotency_keys where owner_id = :account),"
                    " (select available from accounts where id = :account)"
                ),
                {"id": account.partner_id, "account": account.id()},
            ).one()
        folder = web_settings.data_dir / "objects"
        return (*counted, sum(1 for path in folder.rglob("*") if path.is_file()))

    before = state()
    yield
    assert state() == before


def assert_problem(response: Any, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.get_data()
    assert response.content_type == "application/problem+json"
    body: dict[str, Any] = response.json
    assert body["code"] == code
    assert body["status"] == status
    assert body["title"]
    assert body["type"].endswith(f"/problems#{code}")
    return body


def test_a_multipart_submission_is_accepted(
    client: FlaskClient, account: Account, letter: bytes, store: Documents
) -> None:
    response = client.post(
        "/v1/jobs",
        data={
            "document": (io.BytesIO(letter), "../surat/lamaran.pdf"),
            "page": "1",
            "x": "400",
            "y": "60",
            "external_reference": "letter 7",
            "metadata": json.dumps({"nip": "7"}),
        },
        headers=account.live,
    )
    assert response.status_code == 202
    job = response.json
    assert response.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert int(response.headers["Retry-After"]) >= 1
    assert job["state"] == "queued"
    # Other tests may have left jobs in the lane.
    assert job["position"] >= 1
    assert job["document"]["name"] == "lamaran.pdf"
    assert job["document"]["bytes"] == len(letter)
    assert job["external_reference"] == "letter 7"
    assert job["metadata"] == {"nip": "7"}
    assert job["placement"] == {"page": 1, "x": 400.0, "y": 60.0}
    assert "/j/" in job["links"]["status_page"]
    assert store.get(documents.original_key(UUID(job["id"]))) == letter


def test_a_bare_pdf_is_accepted_with_its_fields_in_the_query(
    client: FlaskClient, account: Account, letter: bytes
) -> None:
    response = post(client, account, letter, "page=last&corner=top-left&document_name=a.pdf")
    assert response.status_code == 202
    assert response.json["placement"]["corner"] == "top-left"
    assert response.json["document"]["name"] == "a.pdf"


def test_the_receipt_proves_the_arrival_and_the_document(
    client: FlaskClient, account: Account, letter: bytes
) -> None:
    job = post(client, account, letter).json
    keys = jwt.PyJWKSet.from_dict(client.get("/.well-known/jwks.json").json or {})
    kid = jwt.get_unverified_header(job["receipt"])["kid"]
    claims = jwt.decode(job["receipt"], keys[kid].key, algorithms=["EdDSA"])
    assert claims["sub"] == job["id"]
    assert claims["document_sha256"] == job["document"]["sha256"]
    assert claims["arrived_at"] == job["accepted_at"]
    fetched = client.get(f"/v1/jobs/{job['id']}/receipt", headers=account.live)
    assert fetched.get_data(as_text=True) == job["receipt"]


def test_the_same_key_and_request_is_one_job(
    client: FlaskClient, account: Account, letter: bytes, db: Database
) -> None:
    first = post(client, account, letter, "page=1", **{"Idempotency-Key": "k"})
    again = post(client, account, letter, "page=1", **{"Idempotency-Key": "k"})
    assert first.status_code == again.status_code == 202
    assert again.get_data() == first.get_data()
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    with db.transaction() as connection:
        held = connection.execute(
            text("select held from accounts where id = :id"), {"id": account.id()}
        ).scalar_one()
    assert held == 1


def test_clicking_many_times_at_once_is_one_job(
    app: Any, account: Account, letter: bytes, db: Database
) -> None:
    statuses: list[int] = []
    start = threading.Barrier(6)

    def click() -> None:
        start.wait()
        response = post(app.test_client(), account, letter, **{"Idempotency-Key": "click"})
        statuses.append(response.status_code)

    threads = [threading.Thread(target=click) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {202, 409}
    assert 202 in statuses
    with db.transaction() as connection:
        made = connection.execute(
            text("select count(*) from jobs where partner_id = :id"), {"id": account.partner_id}
        ).scalar_one()
    assert made == 1


def test_the_same_key_for_another_partner_is_another_request(
    client: FlaskClient, make_account: Callable[..., Account], letter: bytes
) -> None:
    first = post(client, make_account(), letter, **{"Idempotency-Key": "shared"})
    second = post(client, make_account(), letter, **{"Idempotency-Key": "shared"})
    assert first.json["id"] != second.json["id"]


@pytest.mark.parametrize("changed", ["page=2", "page=1&external_reference=x"])
def test_the_same_key_with_other_fields_is_refused(
    client: FlaskClient, account: Account, letter: bytes, changed: str
) -> None:
    post(client, account, letter, "page=1", **{"Idempotency-Key": "k"})
    response = post(client, account, letter, changed, **{"Idempotency-Key": "k"})
    assert_problem(response, 422, "idempotency_key_reused")


def test_the_same_key_with_another_document_is_refused(
    client: FlaskClient, account: Account, letter: bytes
) -> None:
    post(client, account, letter, **{"Idempotency-Key": "k"})
    response = post(client, account, letter + b"\n", **{"Idempotency-Key": "k"})
    assert_problem(response, 422, "idempotency_key_reused")


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("key", ["", "x" * 256, "ünïcode"])
def test_a_malformed_idempotency_key_is_refused(
    client: FlaskClient, account: Account, letter: bytes, key: str
) -> None:
    response = post(client, account, letter, **{"Idempotency-Key": key})
    assert_problem(response, 400, "idempotency_key_invalid")


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "document_empty"),
        (b"hello, I am a letter", 422, "document_not_pdf"),
        (b"%PDF-1.7\nand then nothing", 422, "document_unreadable"),
        (
            b"%PDF-1.7\ntrailer<</Encrypt 5 0 R/Root 1 0 R>>\nstartxref\n9\n%%EOF",
            422,
            "document_encrypted",
        ),
        (b"%PDF-1.7" + b"x" * (1024 * 1024), 413, "document_too_large"),
    ],
)
@pytest.mark.parametrize("multipart", [False, True])
def test_a_bad_document_is_refused(
    client: FlaskClient, account: Account, body: bytes, status: int, code: str, multipart: bool
) -> None:
    response = (
        client.post(
            "/v1/jobs", data={"document": (io.BytesIO(body), "a.pdf")}, headers=account.live
        )
        if multipart
        else post(client, account, body)
    )
    problem = assert_problem(response, status, code)
    if code == "document_too_large":
        assert problem["max_bytes"] == 1024 * 1024


@pytest.mark.parametrize("at", range(64 * 1024 - 250, 64 * 1024 - 150, 20))
@pytest.mark.parametrize("line_end", [b"\r", b"\n"])
def test_a_line_may_end_anywhere_in_a_document_that_is_sent_as_a_form(
    client: FlaskClient, account: Account, letter: bytes, at: int, line_end: bytes
) -> None:
    # Where the server reads in chunks of 64 KiB, one of these ends right behind the line.
    padding = b"%" + b"x" * at + line_end * 20 + b"%" + b"x" * 150_000 + b"\n"
    document = letter[:9] + padding + letter[9:]
    response = client.post(
        "/v1/jobs", data={"document": (io.BytesIO(document), "a.pdf")}, headers=account.test
    )
    assert response.status_code == 202, response.text


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("page=0", "page_out_of_range"),
        ("page=-3", "page_out_of_range"),
        ("x=-1&y=5", "box_off_page"),
        ("colour=red", "field_unknown"),
        ("page=one", "field_invalid"),
        ("x=5", "field_invalid"),
        ("x=5&y=5&corner=top-left", "field_invalid"),
        ("corner=centre", "field_invalid"),
        ("width=0", "field_invalid"),
        ("width=nan", "field_invalid"),
        ("metadata=notjson", "field_invalid"),
        ("external_reference=a%00b", "field_invalid"),
        ("page=1&page=2", "field_invalid"),
    ],
)
@pytest.mark.parametrize("multipart", [False, True])
def test_a_bad_field_is_refused(
    client: FlaskClient, account: Account, letter: bytes, query: str, code: str, multipart: bool
) -> None:
    if multipart:
        parts: dict[str, Any] = {"document": (io.BytesIO(letter), "a.pdf")}
        for name, value in httpx.QueryParams(query).multi_items():
            parts.setdefault(name, []).append(value)
        response = client.post("/v1/jobs", data=parts, headers=account.live)
    else:
        response = post(client, account, letter, query)
    assert_problem(response, 422, code)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("content_type", ["text/plain", "application/json", ""])
def test_another_content_type_is_refused(
    client: FlaskClient, account: Account, letter: bytes, content_type: str
) -> None:
    response = client.post(
        "/v1/jobs", data=letter, headers=account.live | {"Content-Type": content_type}
    )
    problem = assert_problem(response, 415, "content_type_unsupported")
    assert problem["accepted"] == ["application/pdf", "multipart/form-data"]


@pytest.mark.usefixtures("untouched")
def test_a_form_without_a_document_is_refused(client: FlaskClient, account: Account) -> None:
    response = client.post(
        "/v1/jobs", data={"page": "1"}, content_type="multipart/form-data", headers=account.live
    )
    assert_problem(response, 422, "document_missing")


@pytest.mark.usefixtures("untouched")
def test_two_documents_in_one_request_are_refused(
    client: FlaskClient, account: Account, letter: bytes
) -> None:
    two = [(io.BytesIO(letter), "a.pdf"), (io.BytesIO(letter), "b.pdf")]
    response = client.post("/v1/jobs", data={"document": two}, headers=account.live)
    assert_problem(response, 422, "field_invalid")


@pytest.mark.usefixtures("untouched")
def test_a_file_under_another_name_is_refused(
    client: FlaskClient, account: Account, letter: bytes
) -> None:
    response = client.post(
        "/v1/jobs", data={"dokument": (io.BytesIO(letter), "a.pdf")}, headers=account.live
    )
    assert_problem(response, 422, "field_unknown")


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "key_missing"),
        ("Basic dXNlcjpwYXNz", "key_missing"),
        ("Bearer ", "key_missing"),
        ("Bearer sk_live_wrong", "key_invalid"),
        ("Bearer \u00e9", "key_invalid"),
    ],
)
def test_without_a_good_key_nothing_is_taken(
    client: FlaskClient, account: Account, letter: bytes, header: str | None, code: str
) -> None:
    headers = {} if header is None else {"Authorization": header}
    response = client.post("/v1/jobs", data=letter, content_type=PDF, headers=headers)
    assert_problem(response, 401, code)
    assert "Bearer" in response.headers["WWW-Authenticate"]


def test_a_revoked_key_is_refused_at_once(
    client: FlaskClient, account: Account, letter: bytes, db: Database
) -> None:
    request = {"data": letter, "content_type": PDF, "headers": account.test}
    assert client.post("/v1/jobs", **request).status_code == 202  # type: ignore[arg-type]
    with db.transaction() as connection:
        partners.revoke_key(connection, account.test_key_id)
    assert_problem(client.post("/v1/jobs", **request), 401, "key_revoked")  # type: ignore[arg-type]


def test_a_quota_too_small_leaves_nothing_behind(
    client: FlaskClient,
    make_account: Callable[..., Account],
    letter: bytes,
    web_settings: WebSettings,
) -> None:
    poor = make_account(quota=1)
    assert post(client, poor, letter).status_code == 202
    objects = list((web_settings.data_dir / "objects").rglob("*.pdf"))
    response = post(client, poor, letter, **{"Idempotency-Key": "k"})
    problem = assert_problem(response, 402, "quota_too_small")
    assert (problem["available"], problem["needed"]) == (0, 1)
    assert list((web_settings.data_dir / "objects").rglob("*.pdf")) == objects
    # The test key costs nothing, and the refused key may be used again after a top-up.
    free = client.post("/v1/jobs", data=letter, content_type=PDF, headers=poor.test)
    assert free.status_code == 202


def test_problems_speak_indonesian_when_asked(client: FlaskClient, account: Account) -> None:
    response = client.post(
        "/v1/jobs", data=b"", content_type=PDF, headers=account.live | {"Accept-Language": "id"}
    )
    assert response.json["title"] == "Dokumen kosong (0 byte)."


@pytest.mark.parametrize("multipart", [False, True])
def test_an_oversized_body_is_refused_while_it_is_still_being_sent(
    server: str, account: Account, multipart: bool
) -> None:
    """Without a Content-Length the server must count; it must not wait for the end."""
    content_type = "multipart/form-data; boundary=edge" if multipart else PDF
    opening = b'--edge\r\nContent-Disposition: form-data; name="document"; filename="a.pdf"\r\n\r\n'
    address = urlsplit(server)
    with socket.create_connection((address.hostname, address.port), timeout=10) as wire:
        wire.sendall(
            f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\n"
            f"Authorization: {account.live['Authorization']}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        first = (opening if multipart else b"") + b"%PDF-1.7\n"
        wire.sendall(b"%x\r\n%s\r\n" % (len(first), first))
        chunk = b"%x\r\n%s\r\n" % (65536, b"x" * 65536)
        for _ in range(20):
            wire.sendall(chunk)
            # An answer may come as soon as the limit is passed; sending on would cut it off.
            if select.select([wire], [], [], 0.02)[0]:
                break
        # The body has no end: only an answer given while reading can arrive.
        answer = b""
        while b"document_too_large" not in answer:
            received = wire.recv(65536)
            assert received, answer
            answer += received
    assert answer.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(("extra", "status"), [(0, 202), (1, 413)])
def test_the_limit_is_exact_also_for_a_body_of_no_declared_length(
    server: str, make_account: Callable[..., Account], letter: bytes, extra: int, status: int
) -> None:
    body = letter.replace(b"%\xe2", b"%" * (1024 * 1024 - len(letter) + 1 + extra) + b"\xe2", 1)
    assert len(body) == 1024 * 1024 + extra
    # The offsets of the padded letter are wrong; the test key accepts it and the worker refuses it.
    response = httpx.post(
        f"{server}/v1/jobs",
        content=iter([body[:500_000], body[500_000:]]),
        headers=make_account().test | {"Content-Type": PDF},
    )
    assert response.status_code == status, response.text


def test_a_declared_oversize_is_refused_before_the_body_comes(
    server: str, account: Account
) -> None:
    address = urlsplit(server)
    with socket.create_connection((address.hostname, address.port), timeout=10) as wire:
        wire.sendall(
            f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: {PDF}\r\n"
            f"Authorization: {account.live['Authorization']}\r\n"
            "Content-Length: 999999999\r\n\r\n".encode()
        )
        answer = wire.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413")
