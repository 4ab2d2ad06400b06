"""How an attempt ends in a stamp: one statement, which may also claim the job that comes next.

State, serials, event, webhook deliveries and quota are changed by one statement. It is all or nothing
without a transaction around it, so a worker that has a row of jobs before it asks the database once for
each of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from common import aftermath, events, ledger, serials
from common.aftermath import Changes
from common.database import Database
from common.events import EventType
from common.identifiers import new_id
from common.jobs import ending
from common.jobs.attempts import CLAIM, CLAIMABLE, CLAIMED, claim_of
from common.jobs.life import Changed, Claim, Result, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """What to claim with the finish of another job, as `claim` is told it."""

    job_id: UUID
    lease_seconds: int
    worker: str | None


@dataclass(frozen=True, slots=True)
class Finished:
    """What came of a finish: the change, unless the claim was no longer the newest; and the next claim.

    The next one is None where nothing was there to be claimed, or somebody else has his hands on it.
    """

    changed: Changed | None
    claim: Claim | None = None


# The job first, as `ended`: what follows reads from it, so that nothing happens to anybody else's. It
# ends only with its hold, without which it could not be paid for.
_FINISH = f"""
with ended as (
    update jobs set state = 'stamped', lease_until = null, finished_at = now(),
        result_key = %s, result_bytes = %s, result_sha256 = %s, signature_level = %s,
        evidence_until = %s, specimen = %s, upgrade_at = case when %s then now() end
    where id = %s and state = 'stamping' and attempt = %s
        and exists (select from ledger_entries entry where entry.job_id = jobs.id
            and entry.account_id is not distinct from jobs.account_id and entry.kind = 'hold')
    returning id, account_id, partner_id, mode
),
affixed as ({serials.AFFIX} from ended where job_id = ended.id and serials.state = 'reserved'),
happened as (
    insert into events (id, partner_id, mode, type, job_id, payload)
    select %s, partner_id, mode, %s, id, cast(%s as jsonb) from ended
    returning id, partner_id, mode, job_id
),
told as ({events.TELL_FROM_HAPPENED}),
{ledger.CAPTURE_ENDED}"""

# What is locked is left alone: the finish would wait, and whoever holds it may wait for our account.
_CLAIM_NEXT = f""",
claimed as (
    {CLAIM}
    where id = (
        select id from jobs where id = %s and {CLAIMABLE} and exists (select from ended)
        for update skip locked
    )
    {CLAIMED}
)"""

_OUTCOME = "select exists (select from ended), array(select id from told)"
_FINISHING = f"{_FINISH} {_OUTCOME}"
_FINISHING_AND_CLAIMING = (
    f"{_FINISH} {_CLAIM_NEXT} {_OUTCOME}, claimed.* from (select) as one left join claimed on true"
)


def finish(connection: Connection, claim: Claim, result: Result) -> Changed | None:
    """Make the result the job's: serials affixed, hold captured, event recorded.

    Args:
        connection: a transaction.
        claim: the claim that ends here.
        result: the stamped file.

    Returns:
        None when the claim is no longer the newest; the caller throws its result away.

    Raises:
        NothingHeldError: the job's hold is missing; nothing was changed.
    """
    row = connection.exec_driver_sql(_FINISHING, _parameters(claim, result)).one()
    finished = _outcome(row)
    aftermath.jobs_changed(connection, [claim.job_id])
    if finished.changed is None:
        _require_hold(connection, claim)
    return finished.changed


def finish_alone(
    database: Database, claim: Claim, result: Result, next_: Next | None = None
) -> Finished:
    """Finish as `finish` does, in a transaction of its own, and claim the next job: one round trip.

    Where there is nothing to finish, nothing is claimed.

    Raises:
        NothingHeldError: the job's hold is missing; nothing was changed.
        OutcomeUnknownError: the connection broke before the answer came.
    """
    statement, parameters = _FINISHING, _parameters(claim, result)
    changes = Changes([claim.job_id])
    if next_ is not None:
        statement = _FINISHING_AND_CLAIMING
        parameters += (next_.lease_seconds, next_.worker, next_.job_id)
        changes.job_ids.append(next_.job_id)
    finished = _outcome(database.call(statement, parameters, changes=changes))
    if finished.changed is None:
        with database.transaction() as connection:
            _require_hold(connection, claim)
    return finished


def _parameters(claim: Claim, result: Result) -> tuple[object, ...]:
    facts = ending.facts_of(State.STAMPED, claim.mode, claim.serials, claim.external_reference) | {
        "document_sha256": result.sha256.hex(),
        "document_bytes": result.length,
    }
    of_result = (
        *(result.key, result.length, result.sha256, result.level),
        *(result.evidence_until, result.specimen, result.to_be_upgraded),
    )
    of_event = (new_id(), EventType.STAMPED, orjson.dumps(facts).decode())
    return (*of_result, claim.job_id, claim.attempt, *of_event)


def _outcome(row: Sequence[Any]) -> Finished:
    done, deliveries, *claimed = row
    if not done:
        return Finished(None)
    nothing_claimed = not claimed or claimed[0] is None
    return Finished(Changed(deliveries), None if nothing_claimed else claim_of(claimed))


def _require_hold(connection: Connection, claim: Claim) -> None:
    """See whether a job that was not finished is somebody else's, or has lost its hold.

    Raises:
        NothingHeldError: it is still this claim's.
    """
    still_ours = connection.execute(
        text("select from jobs where id = :id and state = 'stamping' and attempt = :attempt"),
        {"id": claim.job_id, "attempt": claim.attempt},
    ).one_or_none()
    if still_ours is not None:
        raise ledger.NothingHeldError(f"nothing is held for job {claim.job_id}")
