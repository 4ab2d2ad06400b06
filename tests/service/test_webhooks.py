"""Webhooks: registered, signed, sent from the outbox, tried again; judged by the public library."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import httpx
import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from standardwebhooks.webhooks import Webhook

from common import jobs, quota_notices
from common.database import Database
from common.partners import Mode
from common.settings import WebSettings, WorkerSettings
from tests.service.test_intake_api import assert_problem
from tests.service.test_job_states import accept, new_job
from tests.service.test_stamping import submit
from tests.stack import Account, eventually
from web.app import create_app
from workers.delivery import Courier


@dataclass
class Receiver:
    """A partner's server: keeps what it got, answers what it is told to."""

    url: str
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def of_job(self, job_id: str) -> list[tuple[dict[str, str], bytes]]:
        return [(h, b) for h, b in list(self.got) if json.loads(b)["data"]["job_id"] == job_id]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = here.answers.pop(0) if here.answers else 204
            here.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(status)
            if status == 302:
                self.send_header("Location", here.url)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here = Receiver(f"http://127.0.0.1:{server.server_port}/hook")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield here
    server.shutdown()
    server.server_close()


def register(client: FlaskClient, headers: dict[str, str], url: str) -> dict[str, Any]:
    response = client.post("/v1/webhook-endpoints", json={"url": url}, headers=headers)
    assert response.status_code == 201, response.get_data()
    return dict(response.json or {})


def deliveries(db: Database, job_id: str) -> list[Any]:
    with db.transaction() as connection:
        return list(
            connection.execute(
                text(
                    "select d.* from deliveries d join events e on e.id = d.event_id"
                    " where e.job_id = :id"
                ),
                {"id": job_id},
            ).all()
        )


@pytest.mark.usefixtures("workers")
def test_a_stamped_job_is_told_and_the_public_library_verifies_it(
    server: str, client: FlaskClient, account: Account, letter: bytes, receiver: Receiver
) -> None:
    endpoint = register(client, account.live, receiver.url)
    job = submit(server, account.live, letter, external_reference="letter 7")
    headers, body = eventually(lambda: receiver.of_job(job["id"]))[0]
    told = Webhook(endpoint["secret"]).verify(body, headers)
    assert told["type"] == "job.stamped"
    assert told["data"]["job_id"] == job["id"]
    assert told["data"]["serial"] == job["serial"]
    assert told["data"]["serials"] == [job["serial"]]
    assert told["data"]["external_reference"] == "letter 7"
    assert told["data"]["links"]["document"] == f"{server}/v1/jobs/{job['id']}/document"
    assert httpx.get(told["data"]["links"]["document"], headers=account.live).status_code == 200


@pytest.mark.usefixtures("workers")
def test_a_failed_job_is_told_with_its_reason(
    server: str, client: FlaskClient, account: Account, letter: bytes, receiver: Receiver
) -> None:
    register(client, account.test, receiver.url)
    job = submit(server, account.test, letter, page=99)
    _, body = eventually(lambda: receiver.of_job(job["id"]))[0]
    told = json.loads(body)
    assert told["type"] == "job.failed"
    assert told["data"]["problem"] == "page_out_of_range"


@pytest.mark.usefixtures("workers")
def test_a_cancelled_job_is_told(
    client: FlaskClient, account: Account, receiver: Receiver, db: Database
) -> None:
    endpoint = register(client, account.test, receiver.url)
    job = accepted_in_no_lane(account, db)
    client.post(f"/v1/jobs/{job}/cancel", headers=account.test)
    headers, body = eventually(lambda: receiver.of_job(job))[0]
    assert Webhook(endpoint["secret"]).verify(body, headers)["type"] == "job.cancelled"


def accepted_in_no_lane(account: Account, db: Database) -> str:
    """Accept a job that no worker takes, so that it is still queued when it is cancelled."""
    return str(accept(db, new_job(account, Mode.TEST)))


def cancel_untold(account: Account, db: Database, job: str) -> None:
    """Cancel a job without publishing its webhook: the test is the one that delivers it."""
    with db.transaction() as connection:
        jobs.cancel(connection, account_id=account.id(Mode.TEST), job_id=UUID(job))


@pytest.fixture
def courier(worker_settings: WorkerSettings, db: Database) -> Courier:
    return Courier(settings=worker_settings, database=db)


@pytest.mark.parametrize("status", [500, 404, 302])
def test_a_receiver_that_fails_is_tried_again_with_the_same_message(
    client: FlaskClient,
    account: Account,
    receiver: Receiver,
    db: Database,
    courier: Courier,
    status: int,
) -> None:
    endpoint = register(client, account.test, receiver.url)
    job = accepted_in_no_lane(account, db)
    receiver.answers = [status]
    cancel_untold(account, db, job)
    (delivery,) = deliveries(db, job)
    courier.deliver(delivery.id)
    (missed,) = deliveries(db, job)
    assert (missed.state, missed.attempts, missed.last_status) == ("pending", 1, status)
    courier.deliver(delivery.id)
    assert len(receiver.of_job(job)) == 1, "not due yet"
    make_due(db, job)
    courier.deliver(delivery.id)
    (done,) = deliveries(db, job)
    assert (done.state, done.attempts, done.last_status) == ("delivered", 2, 204)
    (first, first_body), (second, second_body) = receiver.of_job(job)
    assert first["webhook-id"] == second["webhook-id"]
    assert first_body == second_body
    Webhook(endpoint["secret"]).verify(second_body, second)
    courier.deliver(delivery.id)
    assert len(receiver.of_job(job)) == 2, "delivered once is enough"


def test_a_low_quota_is_told_without_a_job(
    client: FlaskClient, account: Account, receiver: Receiver, db: Database, courier: Courier
) -> None:
    endpoint = register(client, account.live, receiver.url)
    accept(db, new_job(account))
    with db.transaction() as connection:
        notice = quota_notices.look(connection, account.id(), low_at=100)
    assert notice is not None
    (delivery,) = notice.deliveries
    courier.deliver(delivery)
    ((headers, body),) = receiver.got
    told = Webhook(endpoint["secret"]).verify(body, headers)
    assert told["type"] == "quota.low"
    assert told["data"] == {"mode": "live", "available": 99, "low_at": 100}


def make_due(db: Database, job: str) -> None:
    with db.transaction() as connection:
        connection.execute(
            text(
                "update deliveries d set next_attempt_at = now() from events e"
                " where e.id = d.event_id and e.job_id = :id and d.state = 'pending'"
            ),
            {"id": job},
        )


def test_a_receiver_that_is_never_there_is_given_up_after_the_last_retry(
    client: FlaskClient, account: Account, db: Database, courier: Courier
) -> None:
    register(client, account.test, "http://127.0.0.1:9/hook")
    job = accepted_in_no_lane(account, db)
    cancel_untold(account, db, job)
    for attempts in range(1, 9):
        (delivery,) = deliveries(db, job)
        assert (delivery.state, delivery.attempts) == ("pending", attempts - 1)
        courier.deliver(delivery.id)
        make_due(db, job)
    (given_up,) = deliveries(db, job)
    assert (given_up.state, given_up.attempts) == ("failed", 8)
    assert "ConnectError" in given_up.last_error


def test_a_receiver_that_hangs_is_cut_off(
    client: FlaskClient, account: Account, db: Database, courier: Courier
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        register(client, account.test, f"http://127.0.0.1:{deaf.getsockname()[1]}/hook")
        job = accepted_in_no_lane(account, db)
        cancel_untold(account, db, job)
        courier.deliver(deliveries(db, job)[0].id)
    (missed,) = deliveries(db, job)
    assert missed.state == "pending"
    assert "Timeout" in missed.last_error


def test_a_receiver_that_answers_byte_by_byte_gets_no_more_time_than_others(
    client: FlaskClient,
    account: Account,
    db: Database,
    courier: Courier,
    worker_settings: WorkerSettings,
) -> None:
    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while True:
                connection.sendall(b"x")
                time.sleep(0.1)

    with socket.create_server(("127.0.0.1", 0)) as slow:
        threading.Thread(target=drip, args=[slow], daemon=True).start()
        register(client, account.test, f"http://127.0.0.1:{slow.getsockname()[1]}/hook")
        job = accepted_in_no_lane(account, db)
        cancel_untold(account, db, job)
        began = time.monotonic()
        courier.deliver(deliveries(db, job)[0].id)
    assert time.monotonic() - began < worker_settings.webhook_timeout_seconds + 2
    (missed,) = deliveries(db, job)
    assert (missed.state, missed.attempts) == ("pending", 1)
    assert "Timeout" in missed.last_error


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/\x01", f"http://{'a' * 70}.example/", "http://xn--a.example/"]
)
def test_an_address_that_a_library_stumbles_over_is_missed_like_any_other(
    client: FlaskClient, account: Account, db: Database, courier: Courier, url: str
) -> None:
    endpoint = register(client, account.test, "http://127.0.0.1:9/hook")
    job = accepted_in_no_lane(account, db)
    cancel_untold(account, db, job)
    with db.transaction() as connection:
        connection.execute(
            text("update webhook_endpoints set url = :url where id = :id"),
            {"url": url, "id": endpoint["id"]},
        )
    courier.deliver(deliveries(db, job)[0].id)
    (missed,) = deliveries(db, job)
    assert missed.state == "pending"
    assert missed.last_error


def test_test_and_live_keys_have_endpoints_of_their_own(
    client: FlaskClient, account: Account, make_account: Callable[..., Account]
) -> None:
    endpoint = register(client, account.test, "http://127.0.0.1:9/hook")
    assert [
        e["id"] for e in client.get("/v1/webhook-endpoints", headers=account.test).json["data"]
    ] == [endpoint["id"]]
    assert client.get("/v1/webhook-endpoints", headers=account.live).json["data"] == []
    url = f"/v1/webhook-endpoints/{endpoint['id']}"
    for stranger in (account.live, make_account().test):
        assert_problem(client.delete(url, headers=stranger), 404, "not_found")
    assert client.delete(url, headers=account.test).status_code == 204
    assert client.get("/v1/webhook-endpoints", headers=account.test).json["data"] == []
    assert_problem(client.delete(url, headers=account.test), 404, "not_found")


def test_the_secret_is_shown_once(client: FlaskClient, account: Account) -> None:
    endpoint = register(client, account.test, "http://127.0.0.1:9/hook")
    assert endpoint["secret"].startswith("whsec_")
    (listed,) = client.get("/v1/webhook-endpoints", headers=account.test).json["data"]
    assert "secret" not in listed


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"url": "ftp://example.com/"}, "webhook_url_refused"),
        ({"url": "nonsense"}, "webhook_url_refused"),
        ({"url": ""}, "field_invalid"),
        ({}, "field_invalid"),
        ([], "field_invalid"),
        ({"url": "https://93.184.216.34/", "events": ["*"]}, "field_unknown"),
    ],
)
def test_a_bad_endpoint_is_refused(
    client: FlaskClient, account: Account, body: Any, code: str
) -> None:
    response = client.post("/v1/webhook-endpoints", json=body, headers=account.test)
    assert_problem(response, 422, code)


def test_private_addresses_are_refused_in_production(
    web_settings: WebSettings, account: Account
) -> None:
    strict = create_app(web_settings.model_copy(update={"webhook_allow_private": False}))
    for url in ("http://93.184.216.34/", "https://127.0.0.1/", "https://localhost/"):
        response = strict.test_client().post(
            "/v1/webhook-endpoints", json={"url": url}, headers=account.test
        )
        assert_problem(response, 422, "webhook_url_refused")
