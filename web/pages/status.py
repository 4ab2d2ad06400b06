"""`/j/<token>`: one job for the person who waits for it, behind a link that nobody can guess."""

from typing import Any
from uuid import UUID

from flask import Blueprint, Response, make_response, render_template

from common import jobs
from common.jobs import records
from common.jobs.records import JobPicture, JobRecord
from common.problems import PROBLEMS, Code, ProblemError
from web import limits
from web.answers import language_of, polled
from web.api.jobs import JOSE, stamped_file
from web.pages import fragments, progress
from web.pages.language import selected
from web.parts import parts
from web.seeing import Seen, anybodys

blueprint = Blueprint("status", __name__, url_prefix="/j", template_folder="templates")

PRIVATE_PAGE = {"Cache-Control": "private, no-store", "X-Robots-Tag": "noindex"}


@blueprint.get("/<token>")
def page(token: str) -> Response:
    """Show the whole page."""
    seen = _seen(token)
    again_in = seen.retry_after(parts())
    response = make_response(_text("status.html", token, seen, seen.job, refresh=again_in))
    if again_in is not None:
        response.headers["Retry-After"] = str(again_in)
    return response


@blueprint.get("/<token>/live")
def live(token: str) -> Response:
    """Return the part of the page that changes; the page's script asks for it."""
    seen = _seen(token)
    # What is shown in words of a language is another thing than the same in another's.
    validator = f"{seen.validator(parts())}-{selected()}"
    again_in = seen.retry_after(parts())

    def render() -> Response:
        def draw(job: JobPicture, **helpers: Any) -> str:
            return _text("status_live.html", token, seen, job, **helpers)

        return make_response(fragments.find_or_draw(seen, selected(), draw))

    return polled(validator, again_in, render)


@blueprint.get("/<token>/document")
def document(token: str) -> Response:
    """Return the stamped file, as an attachment."""
    return stamped_file(_job(token))


@blueprint.get("/<token>/receipt")
def receipt(token: str) -> Response:
    """Return the signed proof of arrival."""
    job = _job(token)
    return Response(
        job.receipt,
        content_type=JOSE,
        headers={"Content-Disposition": f'attachment; filename="receipt-{job.id}.jws"'},
    )


@blueprint.after_request
def keep_private(response: Response) -> Response:
    """Leave nothing of a job in a cache or a search engine."""
    response.headers.update(PRIVATE_PAGE)
    return response


def _job(token: str) -> JobRecord:
    """Return the job of a link as the database has it, for what no snapshot has."""
    job_id = _job_id(token)
    with parts().database.transaction() as connection:
        job = records.show(connection, job_id)
    if job is None:
        raise ProblemError(Code.NOT_FOUND)
    return job


def _seen(token: str) -> Seen:
    seen = anybodys(_job_id(token))
    if seen is None:
        raise ProblemError(Code.NOT_FOUND)
    return seen


def _job_id(token: str) -> UUID:
    job_id = parts().links.open(token)
    if job_id is None:
        limits.count_wrong_link()
        raise ProblemError(Code.NOT_FOUND)
    return job_id


def _text(template: str, token: str, seen: Seen, job: JobPicture, **also: Any) -> str:
    """Render a job; `also` takes the place of what templates usually have."""
    code = job.problem_code
    return render_template(
        template,
        job=job,
        token=token,
        headline=progress.headline(job),
        steps=progress.steps(job),
        again=progress.tried_before(job),
        now=seen.wait,
        final=job.state in jobs.FINAL,
        reason=None if code is None else PROBLEMS[code].title(language_of(selected())),
        # What an operator said who gave the job up.
        told=job.problem_facts.get("reason") if code is Code.STAMPING_FAILED else None,
        advice=None if code is None else progress.advice(code, job.problem_facts),
        **also,
    )
