"""The same POST sent twice is done once, whatever it asks for and however it comes."""

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from common import idempotency, ledger
from common.database import Database
from common.partners import Mode
from deploy.servers import free_port
from tests.faults.steps import WebStep
from tests.stack import Account, serving

PDF = "application/pdf"
HOOK = {"url": "https://93.184.216.34/hook", "description": "all"}


def submit(client: FlaskClient, account: Account, body: bytes, key: str, query: str = "") -> Any:
    return client.post(
        f"/v1/jobs?{query}",
        data=body,
        content_type=PDF,
        headers=account.live | {"Idempotency-Key": key},
    )


def post(client: FlaskClient, account: Account, path: str, key: str, body: Any = None) -> Any:
    return client.post(path, json=body, headers=account.live | {"Idempotency-Key": key})


def code_of(response: Any) -> str:
    return str(response.json["code"])


def counted(db: Database, query: str, account: Account) -> int:
    with db.transaction() as connection:
        return int(connection.execute(text(query), {"id": account.partner_id}).scalar_one())


def only_job(db: Database, account: Account) -> UUID | None:
    with db.transaction() as connection:
        found: UUID | None = connection.execute(
            text("select id from jobs where partner_id = :id"), {"id": account.partner_id}
        ).scalar_one_or_none()
    return found


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("k", "k"),
        ('"k"', "k"),
        ('"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (r'"a\"b\\c"', r'a"b\c'),
        ('""', ""),
        ('a"b', 'a"b'),
    ],
)
def test_a_key_is_the_same_with_and_without_quotes(header: str, key: str) -> None:
    assert idempotency.key_of(header) == key


@pytest.mark.parametrize("header", ['"', '"k', '"k"x', '"k";v=1', r'"a\b"', '"a","b"', '""'])
def test_quotes_that_do_not_hold_a_key_are_refused(
    client: FlaskClient, account: Account, letter: bytes, header: str
) -> None:
    response = submit(client, account, letter, header)
    assert (response.status_code, code_of(response)) == (400, "idempotency_key_invalid")


def test_a_quoted_key_replays_what_the_bare_one_was_answered(
    client: FlaskClient, account: Account, letter: bytes
) -> None:
    first = submit(client, account, letter, "letter 7")
    again = submit(client, account, letter, '"letter 7"')
    assert again.get_data() == first.get_data()
    assert again.headers["Idempotent-Replayed"] == "true"


def test_cancelling_twice_under_one_key_is_answered_alike(
    client: FlaskClient, account: Account, letter: bytes
) -> None:
    job = submit(client, account, letter, "job").json
    path = f"/v1/jobs/{job['id']}/cancel"
    first = post(client, account, path, "cancel")
    again = post(client, account, path, "cancel")
    assert first.status_code == again.status_code == 200
    assert again.get_data() == first.get_data()
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"


def test_a_cancellation_that_was_refused_may_be_sent_again(
    client: FlaskClient, account: Account, letter: bytes, db: Database
) -> None:
    job = submit(client, account, letter, "job").json
    path = f"/v1/jobs/{job['id']}/cancel"

    def put(state: str, lease: str) -> None:
        with db.transaction() as connection:
            connection.execute(
                text(f"update jobs set state = '{state}', lease_until = {lease} where id = :id"),
                {"id": job["id"]},
            )

    put("stamping", "now()")
    assert code_of(post(client, account, path, "cancel")) == "job_not_cancellable"
    put("queued", "null")
    assert post(client, account, path, "cancel").json["state"] == "cancelled"


def test_registering_an_endpoint_twice_under_one_key_makes_one_with_one_secret(
    client: FlaskClient, account: Account
) -> None:
    first = post(client, account, "/v1/webhook-endpoints", "hook", HOOK)
    # Another order of the members is the same request.
    again = post(
        client, account, "/v1/webhook-endpoints", "hook", dict(reversed(list(HOOK.items())))
    )
    assert first.status_code == again.status_code == 201
    assert again.json == first.json
    listed = client.get("/v1/webhook-endpoints", headers=account.live).json["data"]
    assert [endpoint["id"] for endpoint in listed] == [first.json["id"]]
    other = post(client, account, "/v1/webhook-endpoints", "hook", HOOK | {"description": "b"})
    assert (other.status_code, code_of(other)) == (422, "idempotency_key_reused")


def test_a_key_stands_for_one_request_wherever_it_is_sent(
    client: FlaskClient, account: Account, letter: bytes
) -> None:
    job = submit(client, account, letter, "k").json
    other = submit(client, account, letter, "other").json
    for path, body in [
        (f"/v1/jobs/{job['id']}/cancel", None),
        ("/v1/webhook-endpoints", HOOK),
    ]:
        response = post(client, account, path, "k", body)
        assert (response.status_code, code_of(response)) == (422, "idempotency_key_reused")
    assert post(client, account, f"/v1/jobs/{job['id']}/cancel", "c").status_code == 200
    response = post(client, account, f"/v1/jobs/{other['id']}/cancel", "c")
    assert (response.status_code, code_of(response)) == (422, "idempotency_key_reused")


def test_a_key_whose_request_is_still_running_is_refused_for_a_moment(
    client: FlaskClient, account: Account, letter: bytes, db: Database
) -> None:
    running = idempotency.Keyed(account.id(Mode.TEST), "k", b"")
    with db.transaction() as connection:
        assert idempotency.begin(connection, running) is None
        response = client.post(
            "/v1/jobs",
            data=letter,
            content_type=PDF,
            headers=account.test | {"Idempotency-Key": "k"},
        )
        assert (response.status_code, code_of(response)) == (409, "idempotency_key_in_use")
        assert int(response.headers["Retry-After"]) >= 1
    # It ended and did nothing: the key is free.
    response = client.post(
        "/v1/jobs", data=letter, content_type=PDF, headers=account.test | {"Idempotency-Key": "k"}
    )
    assert response.status_code == 202


def test_after_a_top_up_the_refused_key_is_taken(
    client: FlaskClient,
    make_account: Callable[..., Account],
    letter: bytes,
    db: Database,
) -> None:
    poor = make_account(quota=0)
    assert submit(client, poor, letter, "k").status_code == 402
    with db.transaction() as connection:
        ledger.top_up(connection, account_id=poor.id(), amount=1, reference="paid", by="tests")
    taken = submit(client, poor, letter, "k")
    assert taken.status_code == 202
    assert "Idempotent-Replayed" not in taken.headers


@pytest.fixture
def two_servers(
    server: str, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    log: Path = tmp_path_factory.mktemp("second") / "web.log"
    with serving(environment, free_port(), log) as (second, _):
        yield server, second


def test_one_key_racing_on_two_servers_is_one_job(
    two_servers: tuple[str, str], account: Account, letter: bytes, db: Database
) -> None:
    start = threading.Barrier(8)

    def send(number: int, key: str) -> httpx.Response:
        start.wait()
        return httpx.post(
            f"{two_servers[number % 2]}/v1/jobs",
            content=letter,
            headers=account.live | {"Content-Type": PDF, "Idempotency-Key": key},
            timeout=30,
        )

    answered: set[str] = set()
    with ThreadPoolExecutor(8) as pool:
        for key in (str(uuid4()) for _ in range(10)):
            responses = list(pool.map(send, range(8), [key] * 8))
            assert {r.status_code for r in responses} <= {202, 409}
            first = [
                r
                for r in responses
                if r.status_code == 202 and "Idempotent-Replayed" not in r.headers
            ]
            assert len(first) == 1
            assert {r.json()["id"] for r in responses if r.status_code == 202} == {
                first[0].json()["id"]
            }
            assert all(
                r.json()["code"] == "idempotency_key_in_use"
                for r in responses
                if r.status_code == 409
            )
            # Whoever was refused asks again and is told of the one job.
            again = httpx.post(
                f"{two_servers[1]}/v1/jobs",
                content=letter,
                headers=account.live | {"Content-Type": PDF, "Idempotency-Key": f'"{key}"'},
                timeout=30,
            )
            assert again.content == first[0].content
            answered.add(first[0].json()["id"])
    assert counted(db, "select count(*) from jobs where partner_id = :id", account) == 10
    assert len(answered) == 10


def test_a_server_that_dies_between_the_commit_and_its_answer_has_answered(
    environment: dict[str, str],
    tmp_path: Path,
    client: FlaskClient,
    account: Account,
    letter: bytes,
    db: Database,
) -> None:
    (tmp_path / WebStep.ACCEPTED).write_text(str(int(signal.SIGKILL)))
    dying = environment | {"FAULTS_FOLDER": str(tmp_path)}
    headers = account.live | {"Content-Type": PDF, "Idempotency-Key": "k"}
    with serving(dying, free_port(), tmp_path / "web.log", app="tests.faults.dying_web") as (at, _):
        with pytest.raises(httpx.TransportError):
            httpx.post(f"{at}/v1/jobs", content=letter, headers=headers, timeout=30)
        job_id = only_job(db, account)
    assert job_id is not None
    again = submit(client, account, letter, "k")
    assert again.status_code == 202
    assert again.headers["Idempotent-Replayed"] == "true"
    assert UUID(again.json["id"]) == job_id == only_job(db, account)
