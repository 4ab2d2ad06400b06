"""Looks at jobs that Valkey can answer by itself are answered here, before Flask: one question, one answer.

A worried million asks every few seconds, and Flask's part of such an answer is larger than ours. What
is not plain goes on to Flask, which says the same in the same words and knows all the rest: a job that
nobody asked for yet, a caller who is not known or not right, a query, a page that changed.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import orjson
from werkzeug.http import parse_etags

from common.partners import Caller
from common.telemetry import logger
from common.vouchers import code
from web.answers import JSON, PRIVATE
from web.api.representations import job_json
from web.callers import bearer
from web.pages import HTML_HEADERS, fragments
from web.pages.language import LANGUAGES
from web.pages.status import PRIVATE_PAGE
from web.parts import Parts
from web.seeing import GLANCE, Seen, at_a_glance

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logger(__name__)

_JOBS = "/v1/jobs/"
_JOB_LENGTH = len(_JOBS) + 36
_PAGES, _LIVE = "/j/", "/live"
_LANGUAGES = {"": LANGUAGES[0]} | {f"lang={language}": language for language in LANGUAGES}
HTML = "text/html; charset=utf-8"
_NO_SNIFFING = ("X-Content-Type-Options", "nosniff")


class _Answer(NamedTuple):
    status: str
    headers: list[tuple[str, str]]
    body: bytes


class QuickLooks:
    """A WSGI application around another one."""

    def __init__(self, app: "WSGIApplication", shared: Parts) -> None:
        """Take the application that answers all else, and its parts."""
        self._app = app
        self._shared = shared

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer, or let the application do it."""
        answer = self._answer(environ) if environ["REQUEST_METHOD"] == "GET" else None
        if answer is None:
            return self._app(environ, start_response)
        start_response(answer.status, answer.headers)
        return [answer.body]

    def _answer(self, environ: "WSGIEnvironment") -> _Answer | None:
        path, query = environ["PATH_INFO"], environ.get("QUERY_STRING", "")
        try:
            if path.startswith(_JOBS) and len(path) == _JOB_LENGTH and not query:
                return self._job(path[len(_JOBS) :], environ)
            if path.startswith(_PAGES) and path.endswith(_LIVE) and query in _LANGUAGES:
                return self._page(path[len(_PAGES) : -len(_LIVE)], _LANGUAGES[query], environ)
        except Exception:
            # Flask has words for whatever it is.
            log.exception("no quick answer")
        return None

    def _job(self, wanted: str, environ: "WSGIEnvironment") -> _Answer | None:
        """Answer the API for a known caller's own job."""
        secret = bearer(environ.get("HTTP_AUTHORIZATION", ""))
        try:
            job_id = UUID(wanted)
        except ValueError:
            return None
        if not secret:
            return None
        if code.is_meant_as_code(secret):
            secret = code.as_written(secret)
        known = self._shared.known
        names = known.names(secret)
        glance = environ[GLANCE] = self._shared.snapshots.look(job_id, *names)
        asking = known.read(names[0], *glance.beside).known
        seen = at_a_glance(glance, self._shared.pace)
        if seen is None or not isinstance(asking, Caller):
            return None
        if seen.job.account_id != asking.account_id:
            return None
        validator = seen.validator(self._shared)
        headers = self._common(seen, validator, PRIVATE)
        if _has_it(environ, validator):
            return _Answer("304 NOT MODIFIED", headers, b"")
        body = orjson.dumps(job_json(seen.job, seen.wait, self._shared))
        headers += [("Content-Type", JSON), ("Content-Length", str(len(body)))]
        return _Answer("200 OK", headers, body)

    def _page(self, token: str, language: str, environ: "WSGIEnvironment") -> _Answer | None:
        """Answer a page, unless no job that looks like this one was drawn yet."""
        job_id = self._shared.links.open(token)
        if job_id is None:
            return None
        glance = environ[GLANCE] = self._shared.snapshots.look(job_id)
        seen = at_a_glance(glance, self._shared.pace)
        if seen is None:
            return None
        validator = f"{seen.validator(self._shared)}-{language}"
        headers = self._common(seen, validator, PRIVATE_PAGE["Cache-Control"])
        headers += [("X-Robots-Tag", PRIVATE_PAGE["X-Robots-Tag"]), ("Vary", "Accept")]
        if _has_it(environ, validator):
            return _Answer("304 NOT MODIFIED", headers, b"")
        drawn = fragments.find(seen, language)
        if drawn is None:
            return None
        body = drawn.encode()
        headers += [each for each in HTML_HEADERS.items() if each != _NO_SNIFFING]
        headers += [("Content-Type", HTML), ("Content-Length", str(len(body)))]
        return _Answer("200 OK", headers, body)

    def _common(self, seen: Seen, validator: str, cache: str) -> list[tuple[str, str]]:
        headers = [("Cache-Control", cache), ("ETag", f'"{validator}"'), _NO_SNIFFING]
        again_in = seen.retry_after(self._shared)
        if again_in is not None:
            headers.append(("Retry-After", str(again_in)))
        return headers


def _has_it(environ: "WSGIEnvironment", validator: str) -> bool:
    known = environ.get("HTTP_IF_NONE_MATCH")
    return known is not None and parse_etags(known).contains(validator)
