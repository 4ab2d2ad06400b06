"""What a job's owner does: have it accepted, and cancel it while it is queued."""

from collections.abc import Sequence
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from common import events, ledger
from common.events import EventType, Happened
from common.jobs import ending, waiting
from common.jobs.life import Changed, NewJob, State
from common.partners import Mode
from common.serials import GENERATED, Supply


def accept(
    connection: Connection,
    jobs: Sequence[NewJob],
    *,
    publish_after_seconds: int,
    supply: Supply = GENERATED,
) -> list[list[str]]:
    """Take jobs of one account, all or none: rows, serials, events and holds.

    The caller's commit is the acceptance. A job more is a row more in the same four statements.

    Args:
        supply: where their serials come from.
        publish_after_seconds: when the relay sends a job to its lane if nobody claimed it by then.

    Returns:
        For each job the serials that its stamps will carry, in the order of their placements; none
        when the stock has run out, and the job waits for some.

    Raises:
        ProblemError: `quota_too_small`.
    """
    account_id, partner_id, mode = _owner(jobs)
    connection.execute(
        text(
            "insert into jobs (id, account_id, partner_id, mode, batch_id, state, lane, ticket, placements,"
            " external_reference, metadata, document_name, document_bytes, document_sha256,"
            " receipt, accepted_at, publish_at)"
            " select id, :account_id, :partner_id, :mode, batch_id, 'queued', lane, ticket,"
            " cast(placements as jsonb), external_reference, cast(metadata as jsonb),"
            " document_name, document_bytes, document_sha256, receipt, accepted_at,"
            " now() + make_interval(secs => :publish_after)"
            " from unnest(cast(:ids as uuid[]), cast(:lanes as text[]), cast(:tickets as bigint[]),"
            " cast(:placements as text[]), cast(:references as text[]), cast(:metadata as text[]),"
            " cast(:names as text[]), cast(:lengths as bigint[]), cast(:hashes as bytea[]),"
            " cast(:receipts as text[]), cast(:arrivals as timestamptz[]), cast(:batches as uuid[]))"
            " as arrived (id, lane, ticket, placements, external_reference, metadata,"
            " document_name, document_bytes, document_sha256, receipt, accepted_at, batch_id)"
        ),
        {
            "account_id": account_id,
            "partner_id": partner_id,
            "mode": mode,
            "publish_after": publish_after_seconds,
            "ids": [job.id for job in jobs],
            "lanes": [job.lane for job in jobs],
            "tickets": [job.ticket for job in jobs],
            "placements": [
                orjson.dumps([p.as_json() for p in job.placements]).decode() for job in jobs
            ],
            "references": [job.external_reference for job in jobs],
            "metadata": [orjson.dumps(dict(job.metadata)).decode() for job in jobs],
            "names": [job.document_name for job in jobs],
            "lengths": [job.document_bytes for job in jobs],
            "hashes": [job.document_sha256 for job in jobs],
            "receipts": [job.receipt for job in jobs],
            "arrivals": [job.accepted_at for job in jobs],
            "batches": [job.batch_id for job in jobs],
        },
    )
    stamps = {job.id: len(job.placements) for job in jobs}
    reserved = supply.reserve(connection, mode=mode, stamps=stamps)
    waiting.hold_back(connection, [job_id for job_id, serials in reserved.items() if not serials])
    events.record_all(
        connection,
        [
            Happened(
                EventType.ACCEPTED,
                job.id,
                partner_id,
                mode,
                ending.facts_of(State.QUEUED, mode, reserved[job.id], job.external_reference),
            )
            for job in jobs
        ],
    )
    # Last, because it locks the account until the commit.
    ledger.hold(connection, account_id=account_id, stamps=stamps)
    return [reserved[job.id] for job in jobs]


def cancel(connection: Connection, *, account_id: UUID, job_id: UUID) -> Changed | None:
    """End a queued job for its owner, also while it waits for serials; the quota is given back.

    Returns:
        None when the job is not the account's, or not queued any more.
    """
    row = connection.execute(
        text(
            "update jobs set state = 'cancelled', publish_at = null, waiting_for = null,"
            " finished_at = now()"
            " where id = :id and account_id = :account_id and state = 'queued'" + ending.RETURNING
        ),
        {"id": job_id, "account_id": account_id},
    ).one_or_none()
    return None if row is None else ending.settle_unstamped(connection, row, State.CANCELLED, None)


def _owner(jobs: Sequence[NewJob]) -> tuple[UUID, UUID, Mode]:
    """Return account, partner and mode, which all of the jobs have in common.

    Raises:
        ValueError: they have not.
    """
    (owner,) = {(job.account_id, job.partner_id, job.mode) for job in jobs}
    return owner
