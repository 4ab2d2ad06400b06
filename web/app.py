"""`create_app()`: the Flask application, put together from its parts and routes."""

import random
import time

from flask import Flask, Response, jsonify, request
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

from common import (
    allowances,
    database,
    documents,
    known_callers,
    lanes,
    pace,
    rates,
    snapshots,
)
from common.codes import PublishedKeys
from common.database import EDGE, OutcomeUnknownError
from common.demand import Demand
from common.documents import StoreAwayError
from common.gatekeeping import Gatekeeper
from common.links import PlaceLinks, StatusLinks
from common.problems import Code, ProblemError
from common.receipts import ReceiptSigner
from common.replies import Asker
from common.room import board
from common.settings import WebSettings
from common.telemetry import configure_logs, logger
from common.wire import Wire
from web import health, openapi, pages, shedding
from web.answers import problem_answer
from web.api import (
    batches,
    jobs,
    placements,
    public,
    quota,
    top_ups,
    verifications,
    waiting_room,
    webhook_endpoints,
)
from web.callers import CHALLENGE
from web.parts import Parts, parts
from web.polling import Polling
from web.publishing import Publisher
from web.quick import QuickLooks

log = logger(__name__)

# What werkzeug itself refuses, in our words.
_HTTP_CODES = {
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    413: Code.DOCUMENT_TOO_LARGE,
    415: Code.CONTENT_TYPE_UNSUPPORTED,
    503: Code.SERVICE_UNAVAILABLE,
}


def create_app(settings: WebSettings | None = None) -> Flask:
    """Return the application; connects to nothing until the first request.

    Args:
        settings: read from the environment and the settings file when not given.
    """
    settings = settings or WebSettings.load()
    configure_logs(settings)
    app = Flask(__name__, static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    if settings.trusted_proxies:
        # Of what proxies say only the client's address is believed: it is what limits go by.
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=settings.trusted_proxies, x_proto=0, x_host=0
        )
    app.before_request(shedding.refuse_page)
    store, celery = documents.connect(settings), lanes.make_celery(settings)
    wire, paces = Wire(settings.broker_url), pace.connect(settings)
    opened = database.connect(settings, patience=EDGE, wire=wire)
    limits, room = rates.connect(settings, wire), board.connect(settings)
    with app.app_context():
        Parts(
            settings=settings,
            database=opened,
            documents=store,
            pace=paces,
            demand=Demand(settings, paces),
            receipts=ReceiptSigner(
                settings.receipt_key_file.read_bytes(), issuer=settings.public_url
            ),
            codes=PublishedKeys(settings.code_public_keys_file.read_bytes()),
            links=StatusLinks(settings),
            celery=celery,
            publisher=Publisher(celery),
            supply=settings.serial_supply(),
            asker=Asker(settings=settings, documents=store, celery=celery),
            rates=limits,
            allowances=allowances.Allowances(opened, allowances.default(settings), time.monotonic),
            gatekeeper=Gatekeeper(
                settings=settings, database=opened, pace=paces, rates=limits, mirror=room
            ),
            room=room,
            place_links=PlaceLinks(settings),
            known=known_callers.connect(settings, wire),
            snapshots=snapshots.connect(settings, wire),
            polling=Polling(paces, budget=settings.polls_per_second),
        ).install()
    for blueprint in (
        jobs.blueprint,
        batches.blueprint,
        placements.blueprint,
        webhook_endpoints.blueprint,
        quota.blueprint,
        top_ups.blueprint,
        verifications.blueprint,
        waiting_room.blueprint,
        public.blueprint,
        health.blueprint,
    ):
        app.register_blueprint(blueprint)
    pages.register(app)
    app.register_error_handler(ProblemError, _answer_problem)
    app.register_error_handler(HTTPException, _http_problem)
    for away in (PoolTimeoutError, StoreAwayError):
        app.register_error_handler(away, _away)
    app.register_error_handler(DBAPIError, _database_error)
    app.register_error_handler(OutcomeUnknownError, _outcome_unknown)
    app.register_error_handler(Exception, _own_fault)
    with app.app_context():
        app.wsgi_app = shedding.Shedding(  # type: ignore[method-assign]
            QuickLooks(app.wsgi_app, parts()), settings
        )
    description = openapi.document(app, settings.public_url)
    app.add_url_rule("/openapi.json", "openapi", lambda: jsonify(description))
    return app


def _answer_problem(error: ProblemError) -> Response:
    """Answer a program with a problem document and a person with a page."""
    if error.problem.status == 401:
        error.headers.update(CHALLENGE)
    if error.problem.status == 503:
        # Not all at the same moment.
        error.headers.setdefault("Retry-After", str(random.randint(3, 8)))
    wants_page = (
        not request.path.startswith(("/v1/", "/.well-known/"))
        and request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"
    )
    return pages.render_problem(error) if wants_page else problem_answer(error)


def _http_problem(error: HTTPException) -> Response:
    """Turn what werkzeug raises into a problem; redirects stay what they are."""
    if error.code is not None and error.code < 400:
        return error.get_response()  # type: ignore[return-value]
    headers = {
        name: value
        for name, value in error.get_headers()
        if name.lower() in {"allow", "retry-after", "content-range"}
    }
    if error.code == 416:
        # A range beyond the file: RFC 9110, 15.5.17.
        return Response(status=416, headers=headers)
    code = _HTTP_CODES.get(error.code or 500, Code.BAD_REQUEST)
    return _answer_problem(ProblemError(code, headers=headers))


def _away(error: Exception) -> Response:
    """Answer for the database or the object store, which cannot be used: nothing was done."""
    log.error("away", what=type(error).__name__, error=str(error).partition("\n")[0])
    return _answer_problem(ProblemError(Code.SERVICE_UNAVAILABLE))


def _database_error(error: DBAPIError) -> Response:
    """Tell a database that cannot be used from a statement of ours that it refused."""
    return _away(error) if database.is_passing(error) else _own_fault(error)


def _outcome_unknown(error: OutcomeUnknownError) -> Response:
    """Say what is known: nothing. Only a request that changes nothing was certainly in vain."""
    log.error("outcome unknown", error=str(error.__cause__).partition("\n")[0])
    safe = request.method in {"GET", "HEAD", "OPTIONS"}
    return _answer_problem(ProblemError(Code.SERVICE_UNAVAILABLE if safe else Code.OUTCOME_UNKNOWN))


def _own_fault(error: Exception) -> Response:
    log.exception("request failed", method=request.method, path=request.path)
    return _answer_problem(ProblemError(Code.INTERNAL_ERROR))
