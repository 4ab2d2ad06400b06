"""What a job's owner does: have it accepted, and cancel it while it is queued."""

from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from common import events, ledger, serials
from common.events import EventType, Happened
from common.jobs import ending
from common.jobs.life import Changed, NewJob, State
from common.partners import Mode


def accept(connection: Connection, job: NewJob, *, publish_after_seconds: int) -> list[str]:
    """Take the job: row, hold, serials and event; the caller's commit is the acceptance.

    Args:
        publish_after_seconds: when the relay sends the job to its lane if nobody claimed it by then.

    Returns:
        The serials that the job's stamps will carry, in the order of their placements.

    Raises:
        ProblemError: `quota_too_small`.
    """
    connection.execute(
        text(
            "insert into jobs (id, partner_id, mode, state, lane, ticket, placements,"
            " external_reference, metadata, document_name, document_bytes, document_sha256,"
            " receipt, accepted_at, publish_at)"
            " values (:id, :partner_id, :mode, 'queued', :lane, :ticket,"
            " cast(:placements as jsonb), :external_reference, cast(:metadata as jsonb),"
            " :document_name, :document_bytes, :document_sha256, :receipt, :accepted_at,"
            " now() + make_interval(secs => :publish_after))"
        ),
        {
            "id": job.id,
            "partner_id": job.partner_id,
            "mode": job.mode,
            "lane": job.lane,
            "ticket": job.ticket,
            "placements": orjson.dumps([p.as_json() for p in job.placements]).decode(),
            "external_reference": job.external_reference,
            "metadata": orjson.dumps(dict(job.metadata)).decode(),
            "document_name": job.document_name,
            "document_bytes": job.document_bytes,
            "document_sha256": job.document_sha256,
            "receipt": job.receipt,
            "accepted_at": job.accepted_at,
            "publish_after": publish_after_seconds,
        },
    )
    reserved = serials.reserve(connection, mode=job.mode, job_id=job.id, count=len(job.placements))
    events.record(
        connection,
        Happened(
            EventType.ACCEPTED,
            job.id,
            job.partner_id,
            job.mode,
            ending.facts_of(State.QUEUED, job.mode, reserved, job.external_reference),
        ),
    )
    # Last, because it locks the partner's account until the commit.
    if job.mode is Mode.LIVE:
        ledger.hold(connection, partner_id=job.partner_id, job_id=job.id, amount=len(reserved))
    return reserved


def cancel(connection: Connection, *, partner_id: UUID, mode: Mode, job_id: UUID) -> Changed | None:
    """End a queued job for its owner; the quota is given back.

    Returns:
        None when the job is not the caller's, or not queued any more.
    """
    row = connection.execute(
        text(
            "update jobs set state = 'cancelled', publish_at = null, finished_at = now()"
            " where id = :id and partner_id = :partner_id and mode = :mode and state = 'queued'"
            + ending.RETURNING
        ),
        {"id": job_id, "partner_id": partner_id, "mode": mode},
    ).one_or_none()
    return None if row is None else ending.settle_unstamped(connection, row, State.CANCELLED, None)
