"""Accepting a job: store the document, commit the acceptance, publish, answer.

The order is what makes "accepted" mean it. Dying after the store leaves an object that nobody knows;
after the commit, a job that the relay publishes; after publishing, a job whose owner asks again with
the same idempotency key and gets the answer that was kept (docs/durability.md has every line).
"""

from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import orjson
from sqlalchemy import Connection

from common import documents, jobs, lanes, ledger
from common.database import OutcomeUnknownError
from common.idempotency import Answer, Keyed
from common.identifiers import new_id
from common.jobs import NewJob, State
from common.jobs.records import JobRecord
from common.pace import HELD_UP, Entry
from common.partners import Caller
from common.problems import Code, ProblemError
from common.receipts import Arrival
from common.telemetry import ACCEPTED, about, logger
from common.vouchers import spending
from common.vouchers.spending import Holder
from web import once
from web.api.intake import Facts, Submission
from web.api.representations import job_json
from web.callers import require_still_valid
from web.parts import parts
from web.seeing import shown

log = logger(__name__)


def submit(caller: Caller, submission: Submission, keyed: Keyed | None) -> tuple[Answer, bool]:
    """Accept a submission, or return what was answered to the same request before.

    Returns:
        The answer, and whether it is a replay.

    Raises:
        ProblemError: `quota_too_small`, `voucher_expired`, `voucher_void`, `idempotency_key_reused`,
            `idempotency_key_in_use`; nothing is stored or charged then. `outcome_unknown`: the
            connection broke during the commit; the document stays where it is.
    """
    earlier = once.earlier(keyed)
    if earlier is not None:
        return earlier, True
    if isinstance(caller, Holder):
        caller.require_spendable()
    job_id = new_id()
    with about(job_id=str(job_id)):
        return _accept(caller, submission, keyed, job_id)


def _accept(
    caller: Caller, submission: Submission, keyed: Keyed | None, job_id: UUID
) -> tuple[Answer, bool]:
    shared = parts()
    arrived_at = datetime.now(UTC)
    stored = documents.original_key(job_id)
    shared.documents.put(stored, submission.document)
    entry = shared.pace.enter(_lanes(caller))
    job = new_job(caller, submission.facts, job_id, arrived_at, entry)
    waiting: list[UUID] = []
    try:
        answer, replay = once.do(keyed, partial(_commit, caller, job, entry, waiting))
    except OutcomeUnknownError as error:
        log.error("outcome unknown", error=str(error.__cause__).partition("\n")[0])
        raise unknown("job", "/v1/jobs", job_id, keyed) from error
    except Exception:
        _undo(stored, entry)
        raise
    if replay:
        _undo(stored, entry)
        return answer, True
    if waiting:
        # It is in no lane yet: upkeep sends it there when it has its serials.
        shared.pace.withdraw(entry.lane)
        _count(caller, entry)
        log.warning("accepted, and waits for serials", mode=caller.mode)
        return answer, False
    # The job is accepted: whatever goes wrong with the broker now, the relay publishes it later.
    try:
        lanes.publish_stamp(shared.celery, job_id, entry.lane)
    except Exception as error:
        log.warning("not published; the relay will", lane=entry.lane, error=str(error))
    _count(caller, entry)
    log.info("accepted", lane=entry.lane, bytes=len(submission.document), mode=caller.mode)
    return answer, False


def _count(caller: Caller, entry: Entry) -> None:
    # It is accepted: a full disk below the metrics may not make that look like a failure.
    with suppress(OSError):
        ACCEPTED.labels(caller.mode, entry.lane).inc()


def _commit(
    caller: Caller, job: NewJob, entry: Entry, waiting: list[UUID], connection: Connection
) -> Answer:
    """Do all that the acceptance is, in the caller's transaction.

    Args:
        waiting: takes the job's id when it waits for serials.
    """
    if isinstance(caller, Holder):
        spending.require_spendable_until_commit(connection, caller)
    require_still_valid(connection, caller)
    (serials,) = jobs.accept(
        connection,
        [job],
        publish_after_seconds=parts().settings.republish_seconds,
        supply=parts().supply,
    )
    wait = shown(entry.wait)
    if not serials:
        wait = HELD_UP
        waiting.append(job.id)
    return Answer(
        202,
        {
            "Location": f"/v1/jobs/{job.id}",
            "Retry-After": str(parts().polling.retry_after(wait, job.lane)),
        }
        | _stamps_left(connection, caller),
        orjson.dumps(job_json(as_accepted(job, serials), wait) | {"receipt": job.receipt}),
    )


def _stamps_left(connection: Connection, caller: Caller) -> dict[str, str]:
    """Return the header that tells the holder of a voucher what is left on it now."""
    if not isinstance(caller, Holder):
        return {}
    return {"Stamps-Left": str(ledger.balance(connection, caller.account_id).available)}


def _lanes(caller: Caller) -> tuple[str, ...]:
    """Return the lanes that the caller's jobs may go to: an applicant waits behind no partner."""
    if isinstance(caller, Holder):
        return (lanes.APPLICANT_LANE,)
    return lanes.partner_lanes(caller.partner_id)


def _undo(stored: str, entry: Entry) -> None:
    """Remove what a refused submission left behind; only after a certain rollback."""
    with suppress(Exception):
        parts().documents.delete(stored)
    parts().pace.withdraw(entry.lane)


def unknown(what: str, address: str, made: UUID, keyed: Keyed | None) -> ProblemError:
    """Return what can honestly be said when nobody knows whether a job or a batch was accepted."""
    again = "" if keyed is None else " The same request with the same Idempotency-Key is safe."
    return ProblemError(
        Code.OUTCOME_UNKNOWN,
        f"After Retry-After, GET {address}/{made} shows the {what} if it was accepted; 404 means that"
        f" nothing was accepted or charged.{again}",
        {f"{what}_id": str(made)},
    )


def new_job(
    caller: Caller,
    facts: Facts,
    job_id: UUID,
    arrived_at: datetime,
    entry: Entry,
    batch_id: UUID | None = None,
) -> NewJob:
    """Return the job that is about to be accepted, with its receipt."""
    fields = facts.fields
    placements = fields.placements()
    receipt = parts().receipts.sign(
        Arrival(
            job_id=job_id,
            arrived_at=arrived_at,
            mode=caller.mode,
            document_sha256=facts.sha256,
            document_bytes=facts.length,
            external_reference=fields.external_reference,
            stamps=len(placements),
        )
    )
    return NewJob(
        id=job_id,
        account_id=caller.account_id,
        partner_id=caller.partner_id,
        mode=caller.mode,
        lane=entry.lane,
        ticket=entry.ticket,
        placements=placements,
        external_reference=fields.external_reference,
        metadata=fields.metadata,
        document_name=facts.name,
        document_bytes=facts.length,
        document_sha256=facts.sha256,
        accepted_at=arrived_at,
        receipt=receipt,
        batch_id=batch_id,
    )


def as_accepted(job: NewJob, serials: list[str]) -> JobRecord:
    """Return the job as it stands at its acceptance, without asking the database again."""
    return JobRecord(
        id=job.id,
        account_id=job.account_id,
        partner_id=job.partner_id,
        mode=job.mode,
        state=State.QUEUED,
        lane=job.lane,
        ticket=job.ticket if serials else None,
        waiting_for=None if serials else "serials",
        attempt=0,
        lost_leases=0,
        serials=serials,
        placements=[placement.as_json() for placement in job.placements],
        external_reference=job.external_reference,
        metadata=job.metadata,
        document_name=job.document_name,
        document_bytes=job.document_bytes,
        document_sha256=job.document_sha256,
        result_key=None,
        result_bytes=None,
        result_sha256=None,
        problem_code=None,
        problem_facts={},
        receipt=job.receipt,
        batch_id=job.batch_id,
        accepted_at=job.accepted_at,
        started_at=None,
        finished_at=None,
    )
