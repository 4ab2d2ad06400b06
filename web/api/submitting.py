"""Accepting a job: store the document, commit the acceptance, publish, answer.

The order is what makes "accepted" mean it. Dying after the store leaves an object that nobody knows;
after the commit, a job that the relay publishes; after publishing, a job whose owner asks again with
the same idempotency key and gets the answer that was kept (docs/durability.md has every line).
"""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import orjson

from common import documents, jobs, lanes
from common.database import OutcomeUnknownError
from common.idempotency import Answer, Keyed
from common.identifiers import new_id
from common.jobs import Acceptance, Accepted, NewJob, State
from common.jobs.records import JobRecord
from common.pace import HELD_UP, Entry
from common.partners import Caller
from common.problems import Code, ProblemError
from common.receipts import Arrival
from common.telemetry import ACCEPTED, about, logger
from common.vouchers.spending import Holder
from web import limits, once
from web.api.intake import Facts, Submission
from web.api.representations import job_json
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
    try:
        accepted = jobs.accept_alone(
            shared.database,
            Acceptance(
                jobs=[job],
                publish_after_seconds=shared.settings.republish_seconds,
                answering=partial(_answer, job, entry),
                keyed=keyed,
                voucher=isinstance(caller, Holder),
                key_id=None if isinstance(caller, Holder) else caller.key_id,
            ),
            supply=shared.supply,
        )
    except OutcomeUnknownError as error:
        log.error("outcome unknown", error=str(error.__cause__).partition("\n")[0])
        raise unknown("job", "/v1/jobs", job_id, keyed) from error
    except Exception:
        _undo(stored, entry)
        raise
    if accepted.replay:
        _undo(stored, entry)
        return accepted.answer, True
    _count(caller, entry)
    if all(accepted.serials):
        # Whatever goes wrong with the broker now, the relay publishes it later.
        shared.publisher.publish(entry.lane, [job_id])
        log.info("accepted", lane=entry.lane, bytes=len(submission.document), mode=caller.mode)
    else:
        # It is in no lane yet: upkeep sends it there when it has its serials.
        shared.pace.withdraw(entry.lane)
        log.warning("accepted, and waits for serials", mode=caller.mode)
    return _told(accepted), False


def _count(caller: Caller, entry: Entry) -> None:
    # It is accepted: a full disk below the metrics may not make that look like a failure.
    with suppress(OSError):
        ACCEPTED.labels(caller.mode, entry.lane).inc()


def _answer(job: NewJob, entry: Entry, serials: list[list[str]]) -> Answer:
    """Return what is answered, and kept for the idempotency key."""
    (own,) = serials
    wait = shown(entry.wait) if own else HELD_UP
    return Answer(
        202,
        {
            "Location": f"/v1/jobs/{job.id}",
            "Retry-After": str(parts().polling.retry_after(wait, job.lane)),
        },
        orjson.dumps(job_json(as_accepted(job, own), wait) | {"receipt": job.receipt}),
    )


def _told(accepted: Accepted) -> Answer:
    """Return the answer with the header that tells the holder of a voucher what is left on it now."""
    answer = accepted.answer
    if accepted.stamps_left is None:
        return answer
    left = {"Stamps-Left": str(accepted.stamps_left)}
    return replace(answer, headers={**answer.headers, **left})


def _lanes(caller: Caller) -> tuple[str, ...]:
    """Return the lanes that the caller's jobs may go to: an applicant waits behind no partner."""
    if isinstance(caller, Holder):
        return (lanes.APPLICANT_LANE,)
    return lanes.lanes_of(caller.partner_id, prompt=limits.is_prompt())


def _undo(stored: str, entry: Entry) -> None:
    """Remove what a refused submission left behind; only after a certain rollback."""
    with suppress(Exception):
        parts().documents.delete_stored(stored)
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
