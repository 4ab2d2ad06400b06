"""Timestamp authorities over a real network: the first that answers rightly is taken."""

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from asn1crypto import tsp
from werkzeug.wrappers import Request, Response

from common.breaker import FAILURES_ALLOWED, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Breaker
from tests.authorities import Pki, Unruly, hanging, serving
from workers.fetching import Fetcher, FetchError
from workers.timestamping import FIRST_ROOM, REPLY_TYPE, AuthoritiesDownError, Timestamper

VALUE = b"the value of a signature"


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fetcher() -> Iterator[Fetcher]:
    made = Fetcher(seconds=10)
    yield made
    made.close()


Make = Callable[..., Timestamper]


@pytest.fixture
def make(pki: Pki, clock: Clock, fetcher: Fetcher) -> Make:
    def make(*urls: str, fetcher: Fetcher = fetcher) -> Timestamper:
        return Timestamper(urls=urls, roots=[pki.certificate("root")], fetcher=fetcher, clock=clock)

    return make


def refused_address() -> str:
    """Return an address where nobody listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}/tsa"


@contextmanager
def dripping(pause: float = 0.05) -> Iterator[str]:
    """A server that sends a byte of an endless header now and then; yields its address."""
    ended = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection:
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
                while not ended.wait(pause):
                    connection.sendall(b"x")
            except OSError:
                return

    def accept(listener: socket.socket) -> None:
        while not ended.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=drip, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/tsa"
        finally:
            ended.set()


def saying(body: bytes, *, status: int = 200, type: str = REPLY_TYPE) -> Callable[..., Response]:
    def answer(request: Request) -> Response:
        return Response(body, status=status, mimetype=type)

    return answer


def test_the_question_and_the_answer_have_their_content_types(
    pki: Pki, unruly: Unruly, make: Make
) -> None:
    heard = []

    def listen(request: Request) -> Response:
        body = request.get_data()
        heard.append((request.method, request.headers["Content-Type"], request.headers["Accept"]))
        return Response(pki.answer(body), mimetype=REPLY_TYPE)

    unruly.misbehaves["/"] = listen
    token = make(pki.authority()).fetch(VALUE)
    assert token.certificates[0] == pki.certificate("tsa")
    assert heard == [("POST", "application/timestamp-query", "application/timestamp-reply")]


def another_nonce(pki: Pki) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        asked = tsp.TimeStampReq.load(request.get_data())
        asked["nonce"] = 4711
        return Response(pki.answer(asked.dump(force=True)), mimetype=REPLY_TYPE)

    return answer


@pytest.mark.parametrize(
    ("misbehave", "why"),
    [
        (lambda pki: saying(b"", status=500), "HTTP 500"),
        (lambda pki: saying(b"", status=404), "HTTP 404"),
        (lambda pki: saying(b"", status=302), "HTTP 302"),
        (lambda pki: saying(b"no"), "not DER"),
        (lambda pki: saying(b"<p>no", type="text/html"), "of type text/html"),
        (lambda pki: saying(bytes(10 * 1024 * 1024)), "more than 65536 bytes"),
        (another_nonce, "Nonce mismatch"),
    ],
    ids=["error", "not found", "elsewhere", "garbage", "a page", "10 MB", "another nonce"],
)
def test_the_next_authority_is_asked_when_one_does_not_answer_rightly(
    misbehave: Callable[[Pki], Callable[[Request], Response]],
    why: str,
    pki: Pki,
    unruly: Unruly,
    make: Make,
) -> None:
    unruly.misbehaves["/pki/tsa/tsa2"] = misbehave(pki)
    with pytest.raises(AuthoritiesDownError, match=why):
        make(pki.authority("tsa2")).fetch(VALUE)
    token = make(pki.authority("tsa2"), pki.authority("tsa")).fetch(VALUE)
    assert token.certificates[0] == pki.certificate("tsa")


@pytest.mark.parametrize(
    "authority", ["tsa-expired", "tsa-no-usage", "tsa-not-critical", "stranger"]
)
def test_the_next_authority_is_asked_when_one_may_not_stamp_time(
    authority: str, pki: Pki, make: Make
) -> None:
    token = make(pki.authority(authority), pki.authority("tsa")).fetch(VALUE)
    assert token.certificates[0] == pki.certificate("tsa")


def test_the_next_authority_is_asked_when_one_cannot_be_reached(pki: Pki, make: Make) -> None:
    token = make(refused_address(), "http://no.such.host.invalid/", pki.authority()).fetch(VALUE)
    assert token.certificates[0] == pki.certificate("tsa")


@pytest.mark.parametrize("server", [hanging, dripping])
def test_an_authority_that_hangs_costs_its_time_and_no_more(
    server: Callable[[], object], pki: Pki, make: Make
) -> None:
    impatient = Fetcher(seconds=0.5)
    started = time.monotonic()
    with server() as url:  # type: ignore[attr-defined]
        timestamper = make(url, fetcher=impatient)
        with pytest.raises(AuthoritiesDownError, match="Timeout"):
            timestamper.fetch(VALUE)
    assert time.monotonic() - started < 5
    # The same fetcher goes on with others.
    assert make(pki.authority(), fetcher=impatient).fetch(VALUE).der
    impatient.close()


def test_all_that_failed_is_told(pki: Pki, unruly: Unruly, make: Make) -> None:
    unruly.misbehaves["/"] = saying(b"", status=503)
    with pytest.raises(AuthoritiesDownError) as down:
        make(pki.authority("tsa"), pki.authority("tsa2")).fetch(VALUE)
    assert str(down.value) == "; ".join(
        f"{pki.authority(name)}: HTTP 503" for name in ("tsa", "tsa2")
    )


def test_an_authority_that_keeps_failing_is_left_alone_and_tried_again_later(
    pki: Pki, unruly: Unruly, make: Make, clock: Clock
) -> None:
    path = "/pki/tsa/tsa2"
    unruly.misbehaves[path] = saying(b"", status=500)
    timestamper = make(pki.authority("tsa2"), pki.authority("tsa"))
    for _ in range(FAILURES_ALLOWED + 4):
        timestamper.fetch(VALUE)
    assert unruly.asked.count(path) == FAILURES_ALLOWED
    clock.time += FIRST_PAUSE_SECONDS
    timestamper.fetch(VALUE)
    timestamper.fetch(VALUE)
    assert unruly.asked.count(path) == FAILURES_ALLOWED + 1, "one try, and it failed"
    unruly.misbehaves.clear()
    clock.time += 2 * FIRST_PAUSE_SECONDS
    assert timestamper.fetch(VALUE).certificates[0] == pki.certificate("tsa2")
    assert timestamper.fetch(VALUE).certificates[0] == pki.certificate("tsa2")


def test_the_room_is_what_the_longest_token_took(pki: Pki, make: Make) -> None:
    timestamper = make(pki.authority())
    assert timestamper.room == FIRST_ROOM
    token = timestamper.fetch(VALUE)
    assert len(token.der) < timestamper.room < len(token.der) + 512


def test_those_who_signed_tokens_are_remembered_once(pki: Pki, make: Make) -> None:
    timestamper = make(pki.authority("tsa"))
    for _ in range(3):
        timestamper.fetch(VALUE)
    assert timestamper.chains == ((pki.certificate("tsa"), pki.certificate("root")),)


def test_who_was_not_met_for_a_day_is_not_expected_any_more(
    pki: Pki, fetcher: Fetcher, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    times = [now - timedelta(days=2), now]
    memory = tmp_path / "authorities.json"

    def timestamper(name: str) -> Timestamper:
        return Timestamper(
            urls=[pki.authority(name)],
            roots=[pki.certificate("root")],
            fetcher=fetcher,
            memory=memory,
            now=lambda: now,
        )

    timestamper("tsa").fetch(VALUE)
    both = timestamper("tsa2")
    both.fetch(VALUE)
    assert {chain[0] for chain in both.chains} == {pki.certificate("tsa"), pki.certificate("tsa2")}
    known = json.loads(memory.read_text())
    for signer, at in zip(known["signers"], times, strict=True):
        signer["at"] = at.isoformat()
    memory.write_text(json.dumps(known))
    assert [chain[0] for chain in timestamper("tsa").chains] == [pki.certificate("tsa2")]
    for signer in known["signers"]:
        signer["at"] = times[0].isoformat()
    known["signers"][0]["at"] = (times[0] - timedelta(days=1)).isoformat()
    memory.write_text(json.dumps(known))
    assert [chain[0] for chain in timestamper("tsa").chains] == [pki.certificate("tsa2")]


def test_a_breaker_waits_twice_as_long_after_each_failed_try_up_to_a_limit(clock: Clock) -> None:
    breaker = Breaker(clock)
    pauses = []
    for _ in range(FAILURES_ALLOWED - 1):
        breaker.failed()
        assert breaker.lets_through
    for _ in range(12):
        breaker.failed()
        began = clock.time
        while not breaker.lets_through:
            clock.time += 1.0
        pauses.append(clock.time - began)
    assert pauses[:4] == [FIRST_PAUSE_SECONDS * factor for factor in (1, 2, 4, 8)]
    assert pauses[-1] == LONGEST_PAUSE_SECONDS
    breaker.succeeded()
    breaker.failed()
    assert breaker.lets_through, "one failure after a success is one failure"


def test_a_get_is_bounded_too(fetcher: Fetcher) -> None:
    def application(environ: dict[str, object], start: Callable[..., object]) -> list[bytes]:
        start("200 OK", [("Content-Type", "application/pkix-crl")])
        return [b"x" * 2000]

    with serving(application) as url:
        assert fetcher.get(url, max_bytes=2000) == b"x" * 2000
        with pytest.raises(FetchError, match="more than 1999 bytes"):
            fetcher.get(url, max_bytes=1999)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:99999/",
        "http://a\x01b/",
        "http://xn--/",
        "http://\u00e9..id/",
        "http://h:0",
    ],
)
def test_the_next_authority_is_asked_when_an_address_is_none(
    address: str, pki: Pki, make: Make, fetcher: Fetcher
) -> None:
    with pytest.raises(FetchError, match="not an address"):
        fetcher.get(address, max_bytes=1)
    assert make(address, pki.authority()).fetch(VALUE).certificates


def test_an_answer_is_not_unpacked(fetcher: Fetcher) -> None:
    asked: list[object] = []

    def application(environ: dict[str, object], start: Callable[..., object]) -> list[bytes]:
        asked.append(environ["HTTP_ACCEPT_ENCODING"])
        start("200 OK", [("Content-Encoding", "gzip")])
        return [gzip.compress(bytes(1000))]

    with serving(application) as url, pytest.raises(FetchError, match="packed with gzip"):
        fetcher.get(url, max_bytes=2000)
    assert asked == ["identity"]


def test_before_a_deadline_each_one_may_take_half_of_what_is_left(
    pki: Pki, make: Make, fetcher: Fetcher
) -> None:
    with hanging() as silent, fetcher.until(time.monotonic() + 2):
        began = time.monotonic()
        assert make(silent, pki.authority()).fetch(VALUE).certificates
        assert 0.8 < time.monotonic() - began < 1.8


def test_who_was_not_asked_for_lack_of_time_has_not_failed(
    pki: Pki, make: Make, fetcher: Fetcher
) -> None:
    timestamper = make(pki.authority())
    with fetcher.until(time.monotonic()):
        for _ in range(FAILURES_ALLOWED):
            with pytest.raises(AuthoritiesDownError, match="no time was left"):
                timestamper.fetch(VALUE)
    assert timestamper.fetch(VALUE).certificates


def test_a_fetcher_serves_threads_one_after_the_other(pki: Pki, make: Make) -> None:
    timestamper, found = make(pki.authority()), []

    def fetch(number: int) -> None:
        found.append(timestamper.fetch(b"value %d" % number))

    threads = [threading.Thread(target=fetch, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 6
