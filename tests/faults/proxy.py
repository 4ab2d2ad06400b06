"""A TCP proxy between our processes and a server they need, which breaks the wire on command.

    with Proxy(Endpoint.of(database_url)) as wire:
        database = Database(wire.url(database_url))
        wire.stall()        # connections are taken and stay open; no byte passes
        wire.forward()      # a plain wire again; what was held back passes now

Each command replaces the one before it and holds for connections that there are and that come.
Words are looked for in one piece of what was read; put no words into it that a client sends in two.
"""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

_PIECE = 16 * 1024
# Linger for no time: the close is a reset (RST), and what was not sent yet is dropped.
_RESET = struct.pack("ii", 1, 0)


class Way(StrEnum):
    """The two directions of a wire."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Self:
        """Return where the server of a URL listens."""
        parts = urlsplit(url)
        if parts.hostname is None or parts.port is None:
            raise ValueError(f"no host and port in {url!r}")
        return cls(parts.hostname, parts.port)


class _CutError(Exception):
    """The connection is to be reset now."""


@dataclass(eq=False, slots=True)
class _Connection:
    """One client and the server's side of it."""

    client: socket.socket
    server: socket.socket
    passed: dict[Way, int] = field(default_factory=lambda: dict.fromkeys(Way, 0))
    # The words whose answer is to be lost went to the server; the next bytes back are the answer.
    asked: bool = False
    # Nothing passes to this client for the time being.
    held: bool = False
    ended: set[Way] = field(default_factory=set)

    def reset(self) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            # Wakes the thread that reads from it, which a close alone does not.
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RD)
            end.close()


# What happens to a piece before it passes; raises _CutError to end the connection.
_Rule = Callable[[_Connection, Way, bytes], None]


class Proxy:
    """Listens on a port of the loopback and forwards to one server, until told otherwise."""

    def __init__(self, server: Endpoint) -> None:
        """Take the server; `start` or a `with` block begins to listen."""
        self._server = server
        self._lock = threading.Condition()
        self._rule: _Rule = _let_pass
        self._stalled: frozenset[Way] = frozenset()
        self._listener: socket.socket | None = None
        self._open: set[_Connection] = set()
        self._taken = 0
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def endpoint(self) -> Endpoint:
        """Return where clients connect to."""
        return Endpoint("127.0.0.1", self.port)

    @property
    def taken(self) -> int:
        """Return how many connections were taken so far."""
        return self._taken

    def url(self, of: str) -> str:
        """Return a URL of the server as it is through this proxy."""
        parts = urlsplit(of)
        login, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{self.port}"))

    def start(self) -> None:
        """Listen; on the same port as before after a `stop` or `refuse`."""
        if self._listener is not None:
            return
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._take, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        """Listen no more, and reset every connection."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    # The commands.

    def forward(self) -> None:
        """Be a plain wire again; what a stall held back passes now."""
        self._command(_let_pass)
        self.start()

    def refuse(self) -> None:
        """Reset every connection and refuse new ones, as a host does whose server is gone."""
        self._command(_let_pass)
        self.stop()

    def stall(self, *ways: Way) -> None:
        """Take connections and keep them, but let nothing pass (in these directions only)."""
        self._command(_let_pass, stalled=frozenset(ways or Way))
        self.start()

    def delay(self, seconds: float) -> None:
        """Hold every piece (16 KiB at the most) for so long, in both directions."""

        def late(connection: _Connection, way: Way, piece: bytes) -> None:
            time.sleep(seconds)

        self._command(late)
        self.start()

    def cut(self) -> None:
        """Reset every connection that there is now; new ones pass as before."""
        with self._lock:
            found = list(self._open)
            self._lock.notify_all()
        for connection in found:
            connection.reset()

    def cut_after(self, count: int, way: Way = Way.TO_SERVER, *, times: int | None = None) -> None:
        """Reset a connection once more than `count` bytes of it passed this way, from now on.

        Args:
            count: bytes; the piece that exceeds them does not pass.
            way: the direction in which they are counted.
            times: how many connections are cut; all when not given.
        """
        left = [times]

        def counted(connection: _Connection, going: Way, piece: bytes) -> None:
            if going is not way or connection.passed[way] + len(piece) <= count:
                return
            self._cut_if_any_left(left)

        self._command(counted)
        self.start()

    def cut_before(self, words: bytes, *, times: int | None = None) -> None:
        """Reset a connection instead of passing these words to the server."""
        left = [times]

        def watched(connection: _Connection, way: Way, piece: bytes) -> None:
            if way is Way.TO_SERVER and words in piece:
                self._cut_if_any_left(left)

        self._command(watched)
        self.start()

    def lose_answer_to(self, words: bytes, *, times: int | None = None) -> None:
        """Pass these words to the server, and reset the connection when its answer comes.

        The server has done then what it was told, and the client cannot know.
        """
        left = [times]

        def watched(connection: _Connection, way: Way, piece: bytes) -> None:
            if way is Way.TO_CLIENT and connection.asked:
                connection.asked = False
                self._cut_if_any_left(left)
            if way is Way.TO_SERVER and words in piece:
                connection.asked = True

        self._command(watched)
        self.start()

    def hold_answer_to(self, words: bytes) -> None:
        """Pass these words to the server, and then nothing back on that connection: it waits."""

        def watched(connection: _Connection, way: Way, piece: bytes) -> None:
            if way is Way.TO_SERVER and words in piece:
                with self._lock:
                    connection.held = True

        self._command(watched)
        self.start()

    # The wire.

    def _command(self, rule: _Rule, *, stalled: frozenset[Way] = frozenset()) -> None:
        with self._lock:
            self._rule, self._stalled = rule, stalled
            for connection in self._open:
                connection.passed = dict.fromkeys(Way, 0)
                connection.asked = connection.held = False
            self._lock.notify_all()

    def _cut_if_any_left(self, left: list[int | None]) -> None:
        with self._lock:
            if left[0] is not None:
                if left[0] == 0:
                    return
                left[0] -= 1
        raise _CutError

    def _take(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((self._server.host, self._server.port), 5)
            except OSError:
                # Nobody listens behind: as good as refused.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()
                continue
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(client, server)
            with self._lock:
                self._taken += 1
                self._open.add(connection)
                gone = self._listener is not listener
            if gone:
                connection.reset()
            for way in Way:
                threading.Thread(target=self._pump, args=(connection, way), daemon=True).start()

    def _pump(self, connection: _Connection, way: Way) -> None:
        ends = (connection.client, connection.server)
        source, sink = ends if way is Way.TO_SERVER else ends[::-1]
        try:
            while piece := source.recv(_PIECE):
                self._pass_on(connection, way, piece, sink)
            # The other direction may go on: a half-closed connection is one still.
            sink.shutdown(socket.SHUT_WR)
        except (OSError, _CutError):
            connection.reset()
        finally:
            with self._lock:
                connection.ended.add(way)
                if len(connection.ended) == len(Way):
                    self._open.discard(connection)
                    connection.client.close()
                    connection.server.close()
                # Whoever waits for the other end of a connection that is gone looks again.
                self._lock.notify_all()

    def _pass_on(
        self, connection: _Connection, way: Way, piece: bytes, sink: socket.socket
    ) -> None:
        with self._lock:
            rule = self._rule
        rule(connection, way, piece)
        with self._lock:
            while sink.fileno() != -1 and (
                way in self._stalled or (connection.held and way is Way.TO_CLIENT)
            ):
                self._lock.wait(0.5)
        sink.sendall(piece)
        connection.passed[way] += len(piece)


def _let_pass(connection: _Connection, way: Way, piece: bytes) -> None:
    """Do nothing to a piece."""
