"""What is too much is refused before it is read, and whoever only asks is answered meanwhile."""

import io
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from flask import Flask
from flask.testing import FlaskClient

from common.settings import WebSettings
from deploy.servers import free_port
from tests.service.test_intake_api import assert_problem
from tests.stack import Account, eventually, serving
from web.app import create_app
from web.shedding import Shedding

PDF = {"Content-Type": "application/pdf"}


@pytest.fixture
def busy(web_settings: WebSettings) -> Iterator[FlaskClient]:
    """An app that has all the submissions under way that it may have."""
    app = create_app(web_settings)
    shedding = shedding_of(app)
    for number in range(shedding.under_way.limit):
        assert shedding.under_way.enter(str(number), submission=True) is not None
    yield app.test_client()
    assert shedding.under_way.count() == shedding.under_way.limit


def shedding_of(app: Flask) -> Shedding:
    assert isinstance(app.wsgi_app, Shedding)
    return app.wsgi_app


class Unread(io.BytesIO):
    """A body that nobody may read."""

    def read(self, _size: int | None = -1) -> bytes:
        raise AssertionError("the body was read")

    readline = read  # type: ignore[assignment]


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/batches"])
def test_one_too_many_is_told_to_come_back_and_its_body_is_not_read(
    busy: FlaskClient, path: str
) -> None:
    # Not even who asks: there is no key.
    answer = busy.post(path, input_stream=Unread(b"a document"), headers=PDF)
    assert_problem(answer, 503, "overloaded")
    assert 1 <= int(answer.headers["Retry-After"]) <= 3
    assert answer.headers["Connection"] == "close"
    assert "Retry-After" in (answer.json or {})["title"]
    indonesian = busy.post(path, headers=PDF | {"Accept-Language": "id-ID,id;q=0.9,en;q=0.8"})
    assert (indonesian.json or {})["title"].startswith("Terlalu banyak")


def test_whoever_asks_is_answered_meanwhile(busy: FlaskClient, account: Account) -> None:
    assert busy.get("/livez").status_code == 200
    assert busy.get("/v1/jobs", headers=account.test).status_code == 200
    # Nor are other requests with a body submissions.
    checked = busy.post("/v1/verifications", data=b"no document", headers=account.test | PDF)
    assert_problem(checked, 422, "document_not_pdf")


def test_a_person_gets_a_page(web_settings: WebSettings) -> None:
    few = web_settings.model_copy(update={"requests_at_once": 4})
    app = create_app(few)
    for number in range(4):
        assert shedding_of(app).under_way.enter(str(number), submission=False) is not None
    refused = app.test_client().post(
        "/verify", input_stream=Unread(b"a document"), headers=PDF | {"Accept": "text/html"}
    )
    assert (refused.status_code, refused.mimetype) == (503, "text/html")
    assert refused.headers["Connection"] == "close"
    assert "Terlalu banyak yang masuk" in refused.text


def asking(account: Account, letter: bytes) -> bytes:
    """Return the head of a submission that asks before it sends the document."""
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: {account.test['Authorization']}\r\n"
        f"Content-Type: application/pdf\r\nContent-Length: {len(letter)}\r\n"
        "Expect: 100-continue\r\n\r\n"
    )
    return head.encode()


@contextmanager
def sending(port: int, account: Account, letter: bytes) -> Iterator[socket.socket]:
    """Begin to submit a letter, be let in, and hold back its last bytes."""
    with socket.create_connection(("127.0.0.1", port), 10) as line:
        line.sendall(asking(account, letter))
        assert line.recv(1024).startswith(b"HTTP/1.1 100")
        line.sendall(letter[:-10])
        yield line


@contextmanager
def slow_senders(
    port: int, make_account: Callable[..., Account], letter: bytes, count: int
) -> Iterator[list[socket.socket]]:
    """Have so many partners send, whose documents do not end."""
    with ExitStack() as stack:
        yield [stack.enter_context(sending(port, make_account(), letter)) for _ in range(count)]


def test_slow_senders_keep_nobody_from_asking_or_submitting(
    environment: dict[str, str], tmp_path: Path, make_account: Callable[..., Account], letter: bytes
) -> None:
    port = free_port()
    limits = {"STAMPEDE_REQUESTS_AT_ONCE": "8", "STAMPEDE_SUBMISSIONS_AT_ONCE": "4"}
    headers = make_account().test | PDF
    with serving(environment | limits, port, tmp_path / "web.log") as (address, _):

        def submit() -> httpx.Response:
            return httpx.post(f"{address}/v1/jobs", content=letter, headers=headers, timeout=10)

        with slow_senders(port, make_account, letter, 4) as senders:
            # They take all the places, and are set aside because nothing arrives.
            assert eventually(lambda: submit().status_code == 202)
            with slow_senders(port, make_account, letter, 4):
                assert submit().json()["code"] == "overloaded"
                began = time.monotonic()
                assert httpx.get(f"{address}/livez", timeout=5).status_code == 200
                assert time.monotonic() - began < 4
            # What one of them had begun is taken as soon as it is all there.
            senders[0].sendall(letter[-10:])
            assert senders[0].recv(12) == b"HTTP/1.1 202"
        assert eventually(lambda: submit().status_code == 202)


def test_a_client_that_asks_first_never_sends_what_is_refused(
    environment: dict[str, str], tmp_path: Path, make_account: Callable[..., Account], letter: bytes
) -> None:
    port = free_port()
    limits = {"STAMPEDE_REQUESTS_AT_ONCE": "4", "STAMPEDE_SUBMISSIONS_AT_ONCE": "4"}
    head = asking(make_account(), letter)
    with serving(environment | limits, port, tmp_path / "web.log"):
        with socket.create_connection(("127.0.0.1", port), 10) as line:
            line.sendall(head)
            assert line.recv(1024).startswith(b"HTTP/1.1 100")
            line.sendall(letter)
            assert line.recv(12) == b"HTTP/1.1 202"
        with (
            slow_senders(port, make_account, letter, 4),
            socket.create_connection(("127.0.0.1", port), 10) as line,
        ):
            line.sendall(head)
            assert line.recv(1024).startswith(b"HTTP/1.1 503")


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many open files as a copy allows its front end; what is started meanwhile may have them too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_connections_that_are_kept_shut_nobody_out(
    environment: dict[str, str], tmp_path: Path
) -> None:
    port = free_port()
    with serving(environment, port, tmp_path / "web.log") as (address, _), ExitStack() as kept:
        for _ in range(1100):
            line = kept.enter_context(socket.create_connection(("127.0.0.1", port), 10))
            line.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert line.recv(4096).startswith(b"HTTP/1.1 200")
        assert httpx.get(f"{address}/livez", timeout=10).status_code == 200
