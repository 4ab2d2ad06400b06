"""A partner's server: keeps every webhook that it gets, and fails now and then."""

import json
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

# Of a hundred messages one is refused when it first comes, so that it comes again.
REFUSED_EVERY = 100


@dataclass(slots=True)
class Told:
    """What was told of one job: the message ids with their types, and how often each came."""

    types: dict[str, str] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    taken: set[str] = field(default_factory=set)


class Receiver:
    """Listens on the loopback while its block runs."""

    def __init__(self) -> None:
        """Take a port; nothing is answered before the block begins."""
        here = self
        self._lock = threading.Lock()
        self._messages: set[str] = set()
        self._jobs: dict[str, Told] = defaultdict(Told)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(here._take(self.headers["webhook-id"], json.loads(body)))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """Say nothing: a courier that is killed hangs up."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def of_job(self, job_id: str) -> Told:
        """Return what was told of a job so far."""
        with self._lock:
            return self._jobs[job_id]

    def _take(self, message_id: str, message: dict[str, Any]) -> int:
        with self._lock:
            told = self._jobs[message["data"]["job_id"]]
            told.types[message_id] = message["type"]
            told.times[message_id] += 1
            first = message_id not in self._messages
            self._messages.add(message_id)
            if first and len(self._messages) % REFUSED_EVERY == 0:
                return 503
            told.taken.add(message_id)
            return 204
