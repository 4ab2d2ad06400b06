"""Refusing what is too much, before anything is read, asked or looked up: 503 and when to come back.

A WSGI application around the front end's own. Requests without a body (status polls, /livez, pages) go
through, and always find a thread: those with one may take only some of them. A refusal reads nothing of
the body and closes the connection: reading 355 KB only to throw them away costs more than refusing, and
a client that asks first (`Expect: 100-continue`) never sends them.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from uuid import UUID
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import orjson
from flask import request
from prometheus_client import Gauge

from common.problems import PROBLEMS, Code, ProblemError
from common.settings import WebSettings
from common.telemetry import REFUSED
from web.answers import PROBLEM_JSON
from web.underway import Bounds, UnderWay, Visit

# What takes part in the limit on submissions: where documents come in to be stamped.
SUBMISSIONS = frozenset({"/v1/jobs", "/v1/batches"})
# Submissions at once, however long they take: where a machine is busy with other things, refusing more
# of them makes none of them quicker.
LEAST = 8
_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})
_VISIT = "stampede.visit"
_REFUSED_PAGE = "stampede.refused"

UNDER_WAY = Gauge(
    "stampede_requests_under_way",
    "Requests with a body that the front end has under way, as of the last refusal",
    multiprocess_mode="livesum",
)
LIMIT = Gauge(
    "stampede_submissions_limit",
    "Submissions that the front end works on at once, as of the last refusal",
    multiprocess_mode="livesum",
)


class Shedding:
    """A WSGI application that lets another do what can be done in time."""

    def __init__(
        self,
        inner: WSGIApplication,
        settings: WebSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Take the application, and the settings that say how much is under way at once."""
        self._inner = inner
        self._draw = draw
        self.under_way = UnderWay(
            Bounds(
                all=settings.requests_at_once,
                most=settings.submissions_at_once,
                least=min(LEAST, settings.submissions_at_once),
            ),
            clock,
        )
        self._clock = clock
        problem = PROBLEMS[Code.OVERLOADED]
        self._bodies = {
            language: orjson.dumps(
                {
                    "type": f"{settings.public_url}/problems#{Code.OVERLOADED}",
                    "title": title,
                    "status": problem.status,
                    "code": Code.OVERLOADED,
                }
            )
            for language, title in (("en", problem.english), ("id", problem.indonesian))
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, or refuse it."""
        if environ["REQUEST_METHOD"] in _WITHOUT_BODY:
            return self._inner(environ, start_response)
        path = environ["PATH_INFO"]
        sender = environ.get("HTTP_AUTHORIZATION", "")
        visit = self.under_way.enter(sender, submission=path in SUBMISSIONS)
        if visit is None:
            return self._refuse(path, environ, start_response)
        environ[_VISIT] = self.under_way, visit
        environ["wsgi.input"] = _Arriving(environ["wsgi.input"], visit, self._clock)
        status = ""

        def starting(said: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            nonlocal status
            status = said
            return start_response(said, headers, *rest)

        try:
            return self._inner(environ, starting)
        finally:
            self.under_way.leave(visit, accepted=status.startswith("2"))

    def _refuse(
        self, path: str, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        headers = {
            "Retry-After": str(self.under_way.come_back(self._draw())),
            "Connection": "close",
        }
        UNDER_WAY.set(self.under_way.count())
        LIMIT.set(self.under_way.limit)
        if not path.startswith("/v1/"):
            # A person gets a page, from the application: it knows how pages look.
            environ[_REFUSED_PAGE] = headers
            return self._inner(environ, start_response)
        REFUSED.labels(Code.OVERLOADED).inc()
        body = self._bodies[_language(environ.get("HTTP_ACCEPT_LANGUAGE", ""))]
        start_response(
            f"{PROBLEMS[Code.OVERLOADED].status} Service Unavailable",
            [
                ("Content-Type", PROBLEM_JSON),
                ("Content-Length", str(len(body))),
                ("Cache-Control", "no-store"),
                *headers.items(),
            ],
        )
        return [body]


class _Arriving:
    """A request's body (PEP 3333, "Input and Error Streams") that notes how long its reader waited."""

    def __init__(self, stream: Any, visit: Visit, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._visit = visit
        self._clock = clock

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes, or all that there are."""
        return self._wait(lambda: self._stream.read(size))

    def readline(self, size: int = -1) -> bytes:
        """Return a line."""
        return self._wait(lambda: self._stream.readline(size))

    def readlines(self, _hint: int = -1) -> list[bytes]:
        """Return all lines there are; the hint may be left alone."""
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the lines as they come."""
        return iter(self.readline, b"")

    def _wait(self, read: Callable[[], bytes]) -> bytes:
        began = self._visit.waits_since = self._clock()
        try:
            return read()
        finally:
            self._visit.waits_since = None
            self._visit.waited += self._clock() - began


def may_have_another(partner_id: UUID, most: int) -> bool:
    """Note whose this request is, and say whether that partner may have one more under way here."""
    under_way, visit = request.environ[_VISIT]
    return bool(under_way.belongs_to(visit, partner_id, most))


def refuse_page() -> None:
    """Refuse a request that was one too many, where a person waits for a page; before each request.

    Raises:
        ProblemError: `overloaded`.
    """
    headers = request.environ.get(_REFUSED_PAGE)
    if headers is not None:
        raise ProblemError(Code.OVERLOADED, headers=dict(headers))


def _language(accepted: str) -> str:
    """Return the language of a refusal: the one named first, English if it is not ours."""
    return "id" if accepted.strip().lower().startswith("id") else "en"
