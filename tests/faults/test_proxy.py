"""The proxy itself: a wire that breaks otherwise than it says would prove nothing."""

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.faults.proxy import Endpoint, Proxy, Way


@pytest.fixture
def echo() -> Iterator[tuple[Endpoint, bytearray]]:
    """A server that sends back what it gets, and what it got so far."""
    listener = socket.create_server(("127.0.0.1", 0))
    got = bytearray()

    def serve(connection: socket.socket) -> None:
        try:
            while piece := connection.recv(1024 * 1024):
                got.extend(piece)
                connection.sendall(piece)
        except OSError:
            return
        finally:
            connection.close()

    def take() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=take, daemon=True).start()
    yield Endpoint("127.0.0.1", listener.getsockname()[1]), got
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def wire(echo: tuple[Endpoint, bytearray]) -> Iterator[Proxy]:
    with Proxy(echo[0]) as proxy:
        yield proxy


def dial(wire: Proxy) -> socket.socket:
    connection = socket.create_connection((wire.endpoint.host, wire.endpoint.port), 2)
    connection.settimeout(1)
    return connection


def said(connection: socket.socket, words: bytes) -> bytes:
    connection.sendall(words)
    return connection.recv(1024)


def test_a_plain_wire_passes_everything_both_ways(wire: Proxy) -> None:
    with dial(wire) as one, dial(wire) as two:
        assert (said(one, b"a"), said(two, b"b"), said(one, b"c")) == (b"a", b"b", b"c")
    assert wire.taken == 2


def test_a_url_keeps_all_but_host_and_port(wire: Proxy) -> None:
    assert wire.url("postgresql://u:p@db:5432/n?x=1") == (
        f"postgresql://u:p@127.0.0.1:{wire.port}/n?x=1"
    )


def test_refusing_resets_what_is_open_and_takes_nobody_until_it_forwards_again(wire: Proxy) -> None:
    with dial(wire) as open_one:
        assert said(open_one, b"a") == b"a"
        wire.refuse()
        with pytest.raises(ConnectionError):
            open_one.recv(10)
        with pytest.raises(ConnectionRefusedError):
            dial(wire)
    wire.forward()
    with dial(wire) as later:
        assert said(later, b"b") == b"b"


def test_a_stall_holds_back_what_passes_later(wire: Proxy) -> None:
    with dial(wire) as before:
        assert said(before, b"a") == b"a"
        wire.stall()
        with dial(wire) as new:
            for connection in (before, new):
                connection.sendall(b"b")
                with pytest.raises(TimeoutError):
                    connection.recv(10)
            wire.forward()
            assert (before.recv(10), new.recv(10)) == (b"b", b"b")


def test_a_connection_is_cut_after_so_many_bytes_and_so_many_times(
    wire: Proxy, echo: tuple[Endpoint, bytearray]
) -> None:
    wire.cut_after(100_000, times=1)
    with dial(wire) as first, pytest.raises(ConnectionError):
        said(first, b"x" * 5_000_000)
    assert len(echo[1]) <= 100_000
    with dial(wire) as second:
        second.sendall(b"y" * 200_000)
        received = 0
        while received < 200_000:
            received += len(second.recv(100_000))


def test_a_cut_on_the_way_back_lets_the_server_have_it_all(
    wire: Proxy, echo: tuple[Endpoint, bytearray]
) -> None:
    wire.cut_after(0, Way.TO_CLIENT)
    with dial(wire) as connection:
        connection.sendall(b"all of it")
        with pytest.raises(ConnectionError):
            connection.recv(10)
    assert bytes(echo[1]) == b"all of it"


def test_words_are_kept_from_the_server_or_their_answer_from_the_client(
    wire: Proxy, echo: tuple[Endpoint, bytearray]
) -> None:
    wire.cut_before(b"COMMIT")
    with dial(wire) as connection:
        assert said(connection, b"BEGIN") == b"BEGIN"
        with pytest.raises(ConnectionError):
            said(connection, b"COMMIT")
    assert bytes(echo[1]) == b"BEGIN"
    wire.lose_answer_to(b"COMMIT")
    with dial(wire) as connection, pytest.raises(ConnectionError):
        said(connection, b"COMMIT")
    assert bytes(echo[1]) == b"BEGINCOMMIT"
    wire.hold_answer_to(b"COMMIT")
    with dial(wire) as connection, dial(wire) as other:
        with pytest.raises(TimeoutError):
            said(connection, b"COMMIT")
        assert said(other, b"SELECT") == b"SELECT"
        wire.forward()
        assert connection.recv(10) == b"COMMIT"
