"""`/v1/jobs`: submit, look, list, cancel, and fetch the stamped file and the receipt."""

from io import BytesIO
from typing import Annotated

import orjson
from flask import Blueprint, Response, send_file
from pydantic import AwareDatetime, Field
from sqlalchemy import Connection

from common import jobs, lanes
from common.documents import MissingDocumentError
from common.idempotency import Answer
from common.jobs import Changed, State, records
from common.jobs.records import JobRecord
from common.pace import UNKNOWN
from common.problems import JOB_FAILURES, Code, ProblemError
from common.telemetry import about, logger
from web import gate, limits, once, seeing
from web.answers import json_answer, page_answer, polled
from web.api import intake, queries, submitting
from web.api.fields import JobFields, Line
from web.api.intake import MULTIPART, PDF
from web.api.queries import PageQuery
from web.api.representations import (
    AcceptedJob,
    Job,
    JobPage,
    job_json,
    rfc3339,
    stamped_name,
)
from web.callers import caller, require_still_valid
from web.openapi import Answers, Operation, described
from web.parts import parts
from web.seeing import wait_of

log = logger(__name__)
blueprint = Blueprint("jobs", __name__, url_prefix="/v1/jobs")

TAG = "Jobs"
JOSE = "application/jose"


class JobQuery(PageQuery):
    """Filters of the list of jobs."""

    state: Annotated[State | None, Field(description="Only jobs in this state.")] = None
    external_reference: Annotated[
        Line | None, Field(max_length=200, description="Only jobs of this reference.")
    ] = None
    accepted_from: Annotated[
        AwareDatetime | None, Field(description="Only jobs accepted at or after this (RFC 3339).")
    ] = None
    accepted_before: Annotated[
        AwareDatetime | None, Field(description="Only jobs accepted before this (RFC 3339).")
    ] = None


@blueprint.post("")
@described(
    Operation(
        tag=TAG,
        takes_vouchers=True,
        summary="Submit a document to be stamped",
        description="Send multipart/form-data with the part `document` and the fields as parts, or "
        "the bare PDF as application/pdf with the fields as query parameters. Without a placement "
        "the stamp goes to the lower right corner of the last page; `stamps` asks for several, each "
        "for one stamp of quota, under one signature. The answer comes when the "
        "document is stored and the job committed: whatever happens then, it will be stamped once. "
        "What only the reading of the document shows ends the job as `failed`, with a code of this "
        "list, and gives the quota back. A job that meets a fault of ours again and again is `parked`: "
        "nothing of it is lost, and an operator sends it back into its lane, or, when it cannot be "
        "stamped at all, ends it as `failed` with `stamping_failed`, quota given back. While more waits "
        "than can be stamped in good time, a partner is told by `intake_full` when to come back, and "
        "for a voucher a place is kept: `waiting_room` has it as `place`, a `RoomPlace`. Neither is "
        "said to a request whose Idempotency-Key has an answer already.",
        query=JobFields,
        body={MULTIPART: JobFields, PDF: None},
        files=(intake.DOCUMENT_PART,),
        headers=once.DESCRIBED,
        answers={
            202: Answers(
                description="Accepted.",
                model=AcceptedJob,
                headers=(
                    *("Location", "Retry-After", once.REPLAYED, "Stamps-Left"),
                    *("RateLimit-Policy", "RateLimit"),
                ),
            )
        },
        problems=(
            *once.PROBLEMS,
            *gate.PROBLEMS,
            Code.WAITING_ROOM,
            Code.BAD_REQUEST,
            Code.RATE_LIMITED,
            Code.QUOTA_TOO_SMALL,
            Code.VOUCHER_EXPIRED,
            Code.VOUCHER_VOID,
            Code.DOCUMENT_TOO_LARGE,
            Code.CONTENT_TYPE_UNSUPPORTED,
            Code.FIELD_UNKNOWN,
            Code.FIELD_INVALID,
            Code.DOCUMENT_MISSING,
            Code.DOCUMENT_EMPTY,
            *JOB_FAILURES,
        ),
    )
)
def create() -> Response:
    """Accept a document."""
    asking = caller(vouchers=True)
    limits.count_submission(asking)
    place = gate.enter(asking)
    submission = intake.read_submission(max_bytes=parts().settings.max_document_bytes)
    keyed = once.keyed(asking.account_id, submission.facts.fingerprint())
    answer, replay = submitting.submit(asking, submission, keyed)
    if place is not None and not replay:
        gate.note_job(place)
    return once.response(answer, replay=replay)


@blueprint.get("")
@described(
    Operation(
        tag=TAG,
        takes_vouchers=True,
        summary="List jobs, newest first",
        query=JobQuery,
        answers={200: Answers(description="Some jobs.", model=JobPage)},
        problems=queries.PROBLEMS,
    )
)
def list_jobs() -> Response:
    """Return a page of the caller's jobs."""
    asking = caller(vouchers=True)
    query = queries.read(JobQuery)
    with parts().database.transaction() as connection:
        page = records.page(
            connection,
            account_id=asking.account_id,
            limit=query.limit,
            cursor=query.cursor,
            state=query.state,
            external_reference=query.external_reference,
            accepted_from=query.accepted_from,
            accepted_before=query.accepted_before,
        )
    return page_answer([job_json(job, wait_of(job)) for job in page.jobs], page.next_cursor)


@blueprint.get("/<job_id>")
@described(
    Operation(
        tag=TAG,
        takes_vouchers=True,
        summary="Look at a job",
        description="While the job waits the answer carries Retry-After: the server chooses it so that "
        "all who wait ask no more often than it can answer, and sooner near the end. Send If-None-Match "
        "and an unchanged job is answered by 304. Beyond 1000, a position is rounded up to two digits, "
        "and beyond 100 so are the seconds left.",
        headers={"If-None-Match": "The ETag of the answer before."},
        answers={
            200: Answers(description="The job.", model=Job, headers=("ETag", "Retry-After")),
            304: Answers(description="Unchanged.", headers=("ETag", "Retry-After")),
        },
        problems=(Code.NOT_FOUND,),
    )
)
def show(job_id: str) -> Response:
    """Return one job."""
    seen = seeing.own(job_id)
    return polled(
        seen.validator(parts()),
        seen.retry_after(parts()),
        lambda: json_answer(job_json(seen.job, seen.wait)),
    )


@blueprint.post("/<job_id>/cancel")
@described(
    Operation(
        tag=TAG,
        takes_vouchers=True,
        summary="Cancel a queued job",
        description="Gives the quota back. Cancelling a cancelled job again changes nothing.",
        headers=once.DESCRIBED,
        answers={
            200: Answers(description="The cancelled job.", model=Job, headers=(once.REPLAYED,))
        },
        problems=(Code.NOT_FOUND, Code.JOB_NOT_CANCELLABLE, *once.PROBLEMS),
    )
)
def cancel(job_id: str) -> Response:
    """Cancel a job that is still queued."""
    asking = caller(vouchers=True)
    wanted = queries.id_of(job_id)
    changes: list[tuple[JobRecord, Changed]] = []

    def work(connection: Connection) -> Answer:
        require_still_valid(connection, asking)
        changed = jobs.cancel(connection, account_id=asking.account_id, job_id=wanted)
        job = records.show_own(connection, account_id=asking.account_id, job_id=wanted)
        if changed is not None:
            changes.append((job, changed))
        elif job.state is not State.CANCELLED:
            raise ProblemError(Code.JOB_NOT_CANCELLABLE, facts={"state": job.state})
        return Answer(200, {}, orjson.dumps(job_json(job, UNKNOWN)))

    keyed = once.keyed(asking.account_id, once.fingerprint())
    with about(job_id=str(wanted)):
        answer, replay = once.do(keyed, work)
    for job, changed in changes:
        log.info("cancelled", job_id=str(job.id))
        # One that never had a ticket, such as one that waited for serials, was never counted.
        if job.started_at is None and job.ticket is not None:
            parts().pace.withdraw(job.lane)
        lanes.publish_deliveries(parts().celery, changed.deliveries)
    return once.response(answer, replay=replay)


@blueprint.get("/<job_id>/document")
@described(
    Operation(
        tag=TAG,
        takes_vouchers=True,
        summary="Fetch the stamped document",
        headers={"Range": "A part of the file, such as bytes=0-1023."},
        answers={
            200: Answers(
                description="The stamped file.",
                content_type=PDF,
                headers=("ETag", "Content-Disposition", "Accept-Ranges"),
            ),
            206: Answers(description="The part asked for.", content_type=PDF),
            304: Answers(description="Unchanged."),
        },
        problems=(Code.NOT_FOUND, Code.DOCUMENT_NOT_READY, Code.DOCUMENT_PURGED),
    )
)
def document(job_id: str) -> Response:
    """Return the stamped file."""
    return stamped_file(_own(job_id))


def stamped_file(job: JobRecord) -> Response:
    """Return a job's stamped file as an attachment, or the part of it that was asked for.

    Raises:
        ProblemError: `document_not_ready`, `document_purged`.
    """
    if job.purged_at is not None:
        raise ProblemError(Code.DOCUMENT_PURGED, facts={"purged_at": rfc3339(job.purged_at)})
    if job.result_key is None or job.result_sha256 is None:
        headers = {"Retry-After": str(parts().polling.retry_after(wait_of(job), job.lane))}
        raise ProblemError(
            Code.DOCUMENT_NOT_READY,
            facts={"state": job.state},
            headers={} if job.state in jobs.FINAL else headers,
        )
    try:
        content = parts().documents.get(job.result_key)
    except MissingDocumentError:
        # Since the job was read, the file got its timestamp and another place, or was purged.
        with parts().database.transaction() as connection:
            newer = records.show(connection, job.id)
        if newer is None or (newer.result_key == job.result_key and newer.purged_at is None):
            raise
        return stamped_file(newer)
    response = send_file(
        BytesIO(content),
        mimetype=PDF,
        as_attachment=True,
        download_name=stamped_name(job.document_name),
        etag=job.result_sha256.hex(),
        last_modified=job.finished_at,
        conditional=True,
    )
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


@blueprint.get("/<job_id>/receipt")
@described(
    Operation(
        tag=TAG,
        takes_vouchers=True,
        summary="Fetch the receipt",
        description="The proof of arrival, a compact JWS (RFC 7515, EdDSA). Check it against "
        "/.well-known/jwks.json.",
        answers={200: Answers(description="The receipt.", content_type=JOSE)},
        problems=(Code.NOT_FOUND,),
    )
)
def receipt(job_id: str) -> Response:
    """Return the signed proof of arrival."""
    return Response(
        _own(job_id).receipt, content_type=JOSE, headers={"Cache-Control": "private, no-cache"}
    )


def _own(job_id: str) -> JobRecord:
    """Return the caller's job of this id; an id that is none is not found either."""
    asking = caller(vouchers=True)
    with parts().database.transaction() as connection:
        return records.show_own(
            connection, account_id=asking.account_id, job_id=queries.id_of(job_id)
        )
