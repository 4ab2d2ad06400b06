"""What a worker does: claim a job, and fail it or give it back; `finishing.py` has how it finishes.

A claim carries a fencing number (`attempt`); the others hold only while it is still the newest. Those
that do not end in a stamp leave a setback behind.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from common import aftermath, serials
from common.jobs import ending, setbacks
from common.jobs.life import Changed, Claim, ReservedStamp, Setback, SetbackKind, State
from common.partners import Mode
from common.placements import Placement
from common.problems import Code

# What takes a queued job, given the seconds of its lease and the process; the caller says which job.
CLAIM = (
    "update jobs set state = 'stamping', attempt = attempt + 1,"
    " lease_until = now() + make_interval(secs => %s), publish_at = null,"
    " publications = 0, not_before = null, worker = %s, claimed_at = now(),"
    " started_at = coalesce(started_at, now())"
)
# What a claim holds, in the order in which `claim_of` takes it.
CLAIMED = (
    " returning id, account_id, partner_id, mode, attempt, lane, placements, document_sha256,"
    " external_reference, extract(epoch from now() - accepted_at)::float8 as waited_seconds, "
    + serials.OF_JOB
)
# Longer than any job waits after a fault. One that would wait longer was set back before the database's
# clock was, and waits no more.
_LONGEST_WAIT_SECONDS = 900
CLAIMABLE = (
    "state = 'queued' and waiting_for is null and (not_before is null or not_before <= now()"
    f" or not_before > now() + make_interval(secs => {_LONGEST_WAIT_SECONDS}))"
)


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
    row = connection.exec_driver_sql(
        f"{CLAIM} where id = %s and {CLAIMABLE}{CLAIMED}", (lease_seconds, worker, job_id)
    ).one_or_none()
    if row is None:
        return None
    aftermath.jobs_changed(connection, [job_id])
    return claim_of(row)


def claim_of(row: Sequence[Any]) -> Claim:
    """Return the claim that the values of CLAIMED are."""
    (
        job_id,
        account_id,
        partner_id,
        mode,
        attempt,
        lane,
        placements,
        document_sha256,
        external_reference,
        waited_seconds,
        its_serials,
    ) = row
    return Claim(
        job_id=job_id,
        account_id=account_id,
        partner_id=partner_id,
        mode=Mode(mode),
        attempt=attempt,
        lane=lane,
        stamps=[
            ReservedStamp(serial, Placement.model_validate(placement))
            for serial, placement in zip(its_serials, placements, strict=True)
        ],
        document_sha256=document_sha256,
        external_reference=external_reference,
        waited_seconds=waited_seconds,
    )


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
