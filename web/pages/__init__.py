"""Pages for people: rendered on the server, Indonesian first, working without JavaScript.

home.py           what this is, the API's description, the catalogue of problems
status.py         one job, behind a link that nobody can guess
fragments.py      the moving part of that page, rendered once for all jobs that look alike
room.py           one place in the waiting room, behind such a link too
intake.py         how the intake stands: open, slowed or closed, and how long it takes
progress.py       what a job's state means to the person who waits
verification.py   one serial, one scanned code, one file: what is true of it
language.py       which language, and how times, waits and numbers are said
assets.py         style, script and picture, kept by browsers until they change
"""

from pathlib import Path

from flask import Flask, Response, make_response, render_template, request
from flask_babel import Babel

from common.problems import Code, ProblemError
from common.telemetry import REFUSED
from web.answers import language_of
from web.pages import assets, home, language, room, status, verification

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "script-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

# What keeps a page from being framed, sniffed or told on.
HTML_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
}

# What the status page of the job says more about.
ABOUT_ITS_FILE = (Code.DOCUMENT_NOT_READY, Code.DOCUMENT_PURGED)


def register(app: Flask) -> None:
    """Add the pages, their language and their headers to the app."""
    Babel(
        app,
        locale_selector=language.selected,
        default_locale="id",
        default_translation_directories=str(Path(__file__).parent / "translations"),
    )
    for blueprint in (
        assets.blueprint,
        home.blueprint,
        room.blueprint,
        status.blueprint,
        verification.blueprint,
    ):
        app.register_blueprint(blueprint)
    app.context_processor(language.helpers)
    app.context_processor(lambda: {"asset": assets.address})
    app.after_request(_harden)


def render_problem(error: ProblemError) -> Response:
    """Return a problem as a page that says what happened and what to do next."""
    REFUSED.labels(error.code).inc()
    page = render_template(
        "problem.html",
        title=error.problem.title(language_of(language.selected())),
        code=error.code,
        status=error.problem.status,
        status_page=_status_page() if error.code in ABOUT_ITS_FILE else None,
        again_in=int(error.headers.get("Retry-After", 0)),
    )
    response = make_response(page, error.problem.status)
    response.headers.update(error.headers)
    response.headers["Cache-Control"] = "no-store"
    return response


def _status_page() -> str | None:
    """Return the status page that this request's address belongs to."""
    token = (request.view_args or {}).get("token")
    return None if token is None else language.to("status.page", token=token)


def _harden(response: Response) -> Response:
    """Set what every answer has, and every page."""
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    if response.mimetype == "text/html":
        response.headers.update(HTML_HEADERS)
        response.vary.add("Accept")
    return response
