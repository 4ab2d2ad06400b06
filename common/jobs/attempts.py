"""What a worker does: claim a job, and finish it, fail it or give it back.

A claim carries a fencing number (`attempt`); the other three hold only while it is still the newest.
Those that do not end in a stamp leave a setback behind.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from common import aftermath, events, ledger, serials
from common.events import EventType, Happened
from common.jobs import ending, setbacks
from common.jobs.life import Changed, Claim, ReservedStamp, Result, Setback, SetbackKind, State
from common.partners import Mode
from common.placements import Placement
from common.problems import Code

# Longer than any job waits after a fault. One that would wait longer was set back before the database's
# clock was, and waits no more.
_LONGEST_WAIT_SECONDS = 900


def claim(
    connection: Connection, job_id: UUID, *, lease_seconds: int, worker: str | None = None
) -> Claim | None:
    """Take a queued job for stamping, or return None when there is nothing to take.

    A second delivery of the same message, or one for a cancelled job, finds nothing; neither does an old
    message for a job that waits after a fault.

    Args:
        connection: a transaction.
        job_id: the job.
        lease_seconds: how long nobody else may take it.
        worker: the process that takes it, by the name that its parent knows it by.
    """
    row = connection.execute(
        text(
            "update jobs set state = 'stamping', attempt = attempt + 1,"
            " lease_until = now() + make_interval(secs => :lease), publish_at = null,"
            " publications = 0, not_before = null, worker = :worker, claimed_at = now(),"
            " started_at = coalesce(started_at, now())"
            " where id = :id and state = 'queued' and waiting_for is null"
            " and (not_before is null or not_before <= now()"
            " or not_before > now() + make_interval(secs => :longest))"
            " returning id, account_id, partner_id, mode, attempt, lane, placements, document_sha256,"
            " external_reference, extract(epoch from now() - accepted_at)::float8 as waited_seconds, "
            + serials.OF_JOB
        ),
        {
            "id": job_id,
            "lease": lease_seconds,
            "worker": worker,
            "longest": _LONGEST_WAIT_SECONDS,
        },
    ).one_or_none()
    if row is None:
        return None
    aftermath.jobs_changed(connection, [job_id])
    return Claim(
        job_id=row.id,
        account_id=row.account_id,
        partner_id=row.partner_id,
        mode=Mode(row.mode),
        attempt=row.attempt,
        lane=row.lane,
        stamps=[
            ReservedStamp(serial, Placement.model_validate(placement))
            for serial, placement in zip(row.serials, row.placements, strict=True)
        ],
        document_sha256=row.document_sha256,
        external_reference=row.external_reference,
        waited_seconds=row.waited_seconds,
    )


def finish(connection: Connection, claim: Claim, result: Result) -> Changed | None:
    """Make the result the job's: serials affixed, hold captured, event recorded.

    Returns:
        None when the claim is no longer the newest; the caller throws its result away.
    """
    won = connection.execute(
        text(
            "update jobs set state = 'stamped', lease_until = null, finished_at = now(),"
            " result_key = :key, result_bytes = :bytes, result_sha256 = :sha256,"
            " signature_level = :level, evidence_until = :evidence_until, specimen = :specimen,"
            " upgrade_at = case when :to_be_upgraded then now() end"
            " where id = :id and state = 'stamping' and attempt = :attempt"
        ),
        {
            "id": claim.job_id,
            "attempt": claim.attempt,
            "key": result.key,
            "bytes": result.length,
            "sha256": result.sha256,
            "level": result.level,
            "evidence_until": result.evidence_until,
            "specimen": result.specimen,
            "to_be_upgraded": result.to_be_upgraded,
        },
    ).rowcount
    if not won:
        return None
    aftermath.jobs_changed(connection, [claim.job_id])
    serials.affix(connection, job_id=claim.job_id)
    deliveries = events.record(
        connection,
        Happened(
            EventType.STAMPED,
            claim.job_id,
            claim.partner_id,
            claim.mode,
            ending.facts_of(State.STAMPED, claim.mode, claim.serials, claim.external_reference)
            | {"document_sha256": result.sha256.hex(), "document_bytes": result.length},
        ),
    )
    # Last, because it locks the account until the commit.
    ledger.capture(connection, account_id=claim.account_id, job_id=claim.job_id)
    return Changed(deliveries)


def fail(
    connection: Connection, claim: Claim, code: Code, facts: Mapping[str, Any]
) -> Changed | None:
    """End a job whose document cannot be stamped; the quota is given back.

    Returns:
        None when the claim is no longer the newest.
    """
    row = connection.execute(
        text(
            ending.FAIL
            + " where id = :id and state = 'stamping' and attempt = :attempt"
            + ending.RETURNING
            + f", {setbacks.RETURNING}"
        ),
        {
            "id": claim.job_id,
            "attempt": claim.attempt,
            "code": code,
            "facts": orjson.dumps(dict(facts)).decode(),
        },
    ).one_or_none()
    if row is None:
        return None
    setbacks.record(connection, row, Setback(SetbackKind.DOCUMENT, code))
    return ending.settle_unstamped(connection, row, State.FAILED, code)


def give_back(
    connection: Connection,
    claim: Claim,
    setback: Setback,
    *,
    retry_after_seconds: float,
    faults_allowed: int,
) -> State | None:
    """Put a job back into its lane after a fault, or park it after too many of ours.

    Args:
        connection: a transaction.
        claim: the claim that ends here.
        setback: `passing` faults are without number; those that are `ours` are counted.
        retry_after_seconds: how long nobody may claim it; the relay sends it then.
        faults_allowed: with this many faults of ours it is parked.

    Returns:
        The job's state now; None when the claim is no longer the newest.
    """
    row = connection.execute(
        text(
            "with counted as (select id, faults + :fault as faults, :fault > 0 and"
            " faults + :fault >= :allowed as enough from jobs"
            " where id = :id and state = 'stamping' and attempt = :attempt for update),"
            " due as (select now() + make_interval(secs => :wait) as at)"
            " update jobs set state = case when enough then 'parked' else 'queued' end,"
            " faults = counted.faults, lease_until = null,"
            " publish_at = case when enough then null else due.at end,"
            " not_before = case when enough then null else due.at end"
            " from counted, due where jobs.id = counted.id"
            f" returning jobs.id, state, {setbacks.RETURNING}"
        ),
        {
            "id": claim.job_id,
            "attempt": claim.attempt,
            "fault": int(setback.kind is SetbackKind.OURS),
            "allowed": faults_allowed,
            "wait": retry_after_seconds,
        },
    ).one_or_none()
    if row is None:
        return None
    aftermath.jobs_changed(connection, [row.id])
    setbacks.record(connection, row, setback)
    return State(row.state)
