"""How an attempt ends in a stamp: one statement, which may also claim the job that comes next.

State, serials, event, webhook deliveries and quota are changed by one statement, so a worker that has a
row of jobs before it asks the database once for each. It is all or nothing without a transaction
around it, and can be sent on a connection that commits by itself.
"""

from dataclasses import dataclass
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from common import events, ledger, serials
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
    claim: Claim | None


# The job first: what follows reads from it, so that nothing happens to anybody else's. It is won only
# with its hold, without which it could not be paid for.
_FINISH = f"""
with ended as (
    update jobs set state = 'stamped', lease_until = null, finished_at = now(),
        result_key = :key, result_bytes = :bytes, result_sha256 = :sha256,
        signature_level = :level, evidence_until = :evidence_until, specimen = :specimen,
        upgrade_at = case when :to_be_upgraded then now() end
    where id = :id and state = 'stamping' and attempt = :attempt
        and exists (select from ledger_entries entry where entry.job_id = jobs.id
            and entry.account_id is not distinct from jobs.account_id and entry.kind = 'hold')
    returning id, account_id, partner_id, mode
),
affixed as ({serials.AFFIX} from ended where job_id = ended.id and serials.state = 'reserved'),
happened as (
    insert into events (id, partner_id, mode, type, job_id, payload)
    select :event_id, partner_id, mode, :event_type, id, cast(:payload as jsonb) from ended
    returning id, partner_id, mode, job_id
),
told as ({events.TELL_FROM_HAPPENED}),
{ledger.CAPTURE_ENDED}"""

# What is locked is left alone: the finish would wait, and whoever holds it may wait for our account.
_CLAIM_NEXT = f""",
claimed as (
    {CLAIM}
    where id = (
        select id from jobs where id = :next_id and {CLAIMABLE} and exists (select from ended)
        for update skip locked
    )
    {CLAIMED}
)"""

_OUTCOME = """
select (select count(*) from ended) as won, array(select id from told) as deliveries"""

# Parsed once: it costs more than a tenth of sending them.
_FINISHING = text(_FINISH + _OUTCOME)
_FINISHING_AND_CLAIMING = text(
    _FINISH + _CLAIM_NEXT + _OUTCOME + ", claimed.* from (select) as one left join claimed on true"
)


def finish(connection: Connection, claim: Claim, result: Result) -> Changed | None:
    """Make the result the job's: serials affixed, hold captured, event recorded.

    Args:
        connection: a transaction, or one that commits by itself: it is one statement.
        claim: the claim that ends here.
        result: the stamped file.

    Returns:
        None when the claim is no longer the newest; the caller throws its result away.

    Raises:
        NothingHeldError: the job's hold is missing; nothing was changed.
    """
    return _finish(connection, claim, result, None).changed


def finish_and_claim(connection: Connection, claim: Claim, result: Result, next_: Next) -> Finished:
    """Finish as `finish` does, and claim the next job, in one statement.

    Where there is nothing to finish, nothing is claimed.
    """
    return _finish(connection, claim, result, next_)


def _finish(connection: Connection, claim: Claim, result: Result, next_: Next | None) -> Finished:
    facts = ending.facts_of(State.STAMPED, claim.mode, claim.serials, claim.external_reference) | {
        "document_sha256": result.sha256.hex(),
        "document_bytes": result.length,
    }
    values = {
        "id": claim.job_id,
        "attempt": claim.attempt,
        "key": result.key,
        "bytes": result.length,
        "sha256": result.sha256,
        "level": result.level,
        "evidence_until": result.evidence_until,
        "specimen": result.specimen,
        "to_be_upgraded": result.to_be_upgraded,
        "event_id": new_id(),
        "event_type": EventType.STAMPED,
        "payload": orjson.dumps(facts).decode(),
    }
    if next_ is None:
        row = connection.execute(_FINISHING, values).one()
    else:
        values |= {
            "next_id": next_.job_id,
            "lease": next_.lease_seconds,
            "worker": next_.worker,
        }
        row = connection.execute(_FINISHING_AND_CLAIMING, values).one()
    if not row.won:
        _require_hold(connection, claim)
        return Finished(None, None)
    next_claim = None if next_ is None or row.id is None else claim_of(row)
    return Finished(Changed(row.deliveries), next_claim)


def _require_hold(connection: Connection, claim: Claim) -> None:
    """See whether a job that was not won is somebody else's, or has lost its hold.

    Raises:
        NothingHeldError: it is still this claim's.
    """
    still_ours = connection.execute(
        text("select from jobs where id = :id and state = 'stamping' and attempt = :attempt"),
        {"id": claim.job_id, "attempt": claim.attempt},
    ).one_or_none()
    if still_ours is not None:
        raise ledger.NothingHeldError(f"nothing is held for job {claim.job_id}")
