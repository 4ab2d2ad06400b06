"""`/v1/batches`: many documents in one call, all accepted or none; how a batch stands, and its jobs."""

from flask import Blueprint, Response

from common import batches
from common.batches import Batch
from common.jobs import records
from common.problems import DOCUMENT_PROBLEMS, Code
from web import gate, limits, once
from web.answers import json_answer, page_answer, with_validator
from web.api import queries, submitting_batches
from web.api.batch_intake import BatchForm, read_batch
from web.api.intake import MULTIPART
from web.api.queries import PageQuery
from web.api.representations import (
    AcceptedBatch,
    BatchPage,
    BatchState,
    JobPage,
    batch_json,
    job_json,
)
from web.callers import caller
from web.openapi import Answers, Operation, described
from web.parts import parts
from web.seeing import wait_of

blueprint = Blueprint("batches", __name__, url_prefix="/v1/batches")

TAG = "Batches"
# After how many seconds to ask again for a batch that has not finished.
RETRY_AFTER = 5


@blueprint.post("")
@described(
    Operation(
        tag=TAG,
        summary="Submit many documents at once",
        description="Send multipart/form-data: each document as a part with a file name, under a "
        "part name of your own, and the part `jobs`, which names each document once and says the "
        "same of it as `POST /v1/jobs` takes. All are accepted, with one serial number, receipt and "
        "price a stamp as if they had come alone, or none is: then `errors` of the problem "
        "`batch_refused` names each document that cannot be taken, with a code of its own "
        f"({', '.join(f'`{code}`' for code in DOCUMENT_PROBLEMS)}, or one of a field). A service "
        "takes up to 50 documents and 100 MiB in one batch, unless it is set otherwise. The jobs go to "
        "the lane for bulk, behind which no single document waits. When the last one has ended, "
        "the webhook `batch.finished` says so.",
        body={MULTIPART: BatchForm},
        headers=once.DESCRIBED,
        answers={
            202: Answers(
                description="Accepted.",
                model=AcceptedBatch,
                headers=(
                    *("Location", "Retry-After", once.REPLAYED),
                    *("RateLimit-Policy", "RateLimit"),
                ),
            )
        },
        problems=(
            *once.PROBLEMS,
            *gate.PROBLEMS,
            Code.BAD_REQUEST,
            Code.RATE_LIMITED,
            Code.QUOTA_TOO_SMALL,
            Code.BATCH_TOO_LARGE,
            Code.CONTENT_TYPE_UNSUPPORTED,
            Code.FIELD_UNKNOWN,
            Code.FIELD_INVALID,
            Code.BATCH_REFUSED,
        ),
    )
)
def create() -> Response:
    """Accept a batch of documents."""
    asking = caller()
    limits.count_submission(asking)
    gate.enter(asking, batch=True)
    batch = read_batch(parts().settings)
    limits.count_further_documents(asking, len(batch.items))
    keyed = once.keyed(asking.account_id, batch.fingerprint())
    answer, replay = submitting_batches.submit(asking, batch, keyed)
    return once.response(answer, replay=replay)


@blueprint.get("")
@described(
    Operation(
        tag=TAG,
        summary="List batches, newest first",
        query=PageQuery,
        answers={200: Answers(description="Some batches.", model=BatchPage)},
        problems=queries.PROBLEMS,
    )
)
def list_batches() -> Response:
    """Return a page of the caller's batches."""
    asking = caller()
    query = queries.read(PageQuery)
    with parts().database.transaction() as connection:
        page = batches.page(
            connection, account_id=asking.account_id, limit=query.limit, cursor=query.cursor
        )
    return page_answer([batch_json(batch) for batch in page.batches], page.next_cursor)


@blueprint.get("/<batch_id>")
@described(
    Operation(
        tag=TAG,
        summary="Look at a batch",
        description="While jobs of it wait the answer carries Retry-After; send If-None-Match and an "
        "unchanged batch is answered by 304.",
        headers={"If-None-Match": "The ETag of the answer before."},
        answers={
            200: Answers(
                description="The batch.", model=BatchState, headers=("ETag", "Retry-After")
            ),
            304: Answers(description="Unchanged.", headers=("ETag", "Retry-After")),
        },
        problems=(Code.NOT_FOUND,),
    )
)
def show(batch_id: str) -> Response:
    """Return one batch."""
    batch = _own(batch_id)
    response = with_validator(json_answer(batch_json(batch)))
    if batch.finished_at is None:
        response.headers["Retry-After"] = str(RETRY_AFTER)
    return response


@blueprint.get("/<batch_id>/jobs")
@described(
    Operation(
        tag=TAG,
        summary="List the jobs of a batch, the last of it first",
        query=PageQuery,
        answers={200: Answers(description="Some jobs.", model=JobPage)},
        problems=(Code.NOT_FOUND, *queries.PROBLEMS),
    )
)
def list_jobs(batch_id: str) -> Response:
    """Return a page of the batch's jobs."""
    batch = _own(batch_id)
    query = queries.read(PageQuery)
    with parts().database.transaction() as connection:
        page = records.page(
            connection,
            account_id=batch.account_id,
            batch_id=batch.id,
            limit=query.limit,
            cursor=query.cursor,
        )
    return page_answer([job_json(job, wait_of(job)) for job in page.jobs], page.next_cursor)


def _own(batch_id: str) -> Batch:
    """Return the caller's batch of this id; an id that is none is not found either."""
    asking = caller()
    wanted = queries.id_of(batch_id)
    with parts().database.transaction() as connection:
        return batches.show_own(connection, account_id=asking.account_id, batch_id=wanted)
