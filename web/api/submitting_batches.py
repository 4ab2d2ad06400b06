"""Accepting a batch: store every document, commit all of it at once, publish, answer.

The order is that of a single job. Dying while storing leaves objects that nobody knows; after the
commit, jobs that the relay publishes and an answer that the same idempotency key gets.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import orjson
from sqlalchemy import Connection

from common import batches, documents, jobs, lanes
from common.database import OutcomeUnknownError
from common.idempotency import Answer, Keyed
from common.identifiers import new_id
from common.jobs import Acceptance, NewJob
from common.pace import HELD_UP, Entry
from common.partners import Caller
from common.telemetry import ACCEPTED, about, logger
from web import once
from web.api.batch_intake import BatchSubmission, Item
from web.api.representations import batch_json, job_json
from web.api.submitting import as_accepted, new_job, unknown
from web.parts import parts
from web.seeing import shown

log = logger(__name__)


def submit(caller: Caller, batch: BatchSubmission, keyed: Keyed | None) -> tuple[Answer, bool]:
    """Accept a batch, or return what was answered to the same request before.

    Returns:
        The answer, and whether it is a replay.

    Raises:
        ProblemError: `quota_too_small`, `idempotency_key_reused`, `idempotency_key_in_use`; nothing
            is stored or charged then. `outcome_unknown`: the connection broke during the commit;
            the documents stay where they are.
    """
    earlier = once.earlier(keyed)
    if earlier is not None:
        return earlier, True
    batch_id = new_id()
    with about(batch_id=str(batch_id)):
        return _accept(caller, batch, keyed, batch_id)


def _accept(
    caller: Caller, batch: BatchSubmission, keyed: Keyed | None, batch_id: UUID
) -> tuple[Answer, bool]:
    shared = parts()
    arrived_at = datetime.now(UTC)
    job_ids = [new_id() for _ in batch.items]
    _store(batch.items, job_ids)
    entries = shared.pace.enter_several(lanes.BULK_LANE, len(job_ids))
    wanted = [
        new_job(caller, item.facts, job_id, arrived_at, entry, batch_id)
        for item, job_id, entry in zip(batch.items, job_ids, entries, strict=True)
    ]
    waiting: set[UUID] = set()
    commit = partial(_commit, caller, batch, batch_id, arrived_at, wanted, entries, keyed, waiting)
    try:
        answer, replay = once.do_keeping(keyed, commit)
    except OutcomeUnknownError as error:
        # They may be accepted: the documents stay where they are.
        log.error("outcome unknown", error=str(error.__cause__).partition("\n")[0])
        raise unknown("batch", "/v1/batches", batch_id, keyed) from error
    except Exception:
        _undo(job_ids, entries)
        raise
    if replay:
        _undo(job_ids, entries)
        return answer, True
    # Those that the broker does not take, the relay sends later.
    shared.publisher.publish(
        lanes.BULK_LANE, [job_id for job_id in job_ids if job_id not in waiting]
    )
    if waiting:
        # They are in no lane yet: upkeep sends them there when they have their serials.
        _withdraw(entries[: len(waiting)])
        log.warning("some of the batch wait for serials", jobs=len(waiting), mode=caller.mode)
    # They are accepted: a full disk below the metrics may not make that look like a failure.
    with suppress(OSError):
        ACCEPTED.labels(caller.mode, lanes.BULK_LANE).inc(len(job_ids))
    log.info("batch accepted", jobs=len(job_ids), mode=caller.mode)
    return answer, False


def _store(items: Sequence[Item], job_ids: Sequence[UUID]) -> None:
    """Store every document; when one cannot be, take back those that were."""
    try:
        for item, job_id in zip(items, job_ids, strict=True):
            parts().documents.put(documents.original_key(job_id), item.read())
    except Exception:
        _remove(job_ids)
        raise


def _commit(
    caller: Caller,
    batch: BatchSubmission,
    batch_id: UUID,
    arrived_at: datetime,
    wanted: Sequence[NewJob],
    entries: Sequence[Entry],
    keyed: Keyed | None,
    waiting: set[UUID],
    connection: Connection,
) -> Answer:
    """Do all that the acceptance is, in one transaction.

    Args:
        waiting: takes the ids of jobs that wait for serials.
    """
    made = batches.create(
        connection,
        caller,
        batch_id=batch_id,
        total=len(wanted),
        external_reference=batch.external_reference,
        accepted_at=arrived_at,
    )

    def answering(serials: list[list[str]]) -> Answer:
        waits = [shown(e.wait) if own else HELD_UP for own, e in zip(serials, entries, strict=True)]
        members = [
            job_json(as_accepted(job, own), wait) | {"receipt": job.receipt}
            for job, own, wait in zip(wanted, serials, waits, strict=True)
        ]
        return Answer(
            202,
            {
                "Location": f"/v1/batches/{batch_id}",
                "Retry-After": str(parts().polling.retry_after(waits[-1], lanes.BULK_LANE)),
            },
            orjson.dumps(batch_json(made) | {"jobs": members}),
        )

    accepted = jobs.accept_within(
        connection,
        Acceptance(
            jobs=wanted,
            publish_after_seconds=parts().settings.republish_seconds,
            answering=answering,
            keyed=keyed,
            key_id=caller.key_id,
        ),
        supply=parts().supply,
    )
    waiting.update(job.id for job, own in zip(wanted, accepted.serials, strict=True) if not own)
    return accepted.answer


def _undo(job_ids: Sequence[UUID], entries: Sequence[Entry]) -> None:
    """Remove what a refused batch left behind; only after a certain rollback."""
    _remove(job_ids)
    _withdraw(entries)


def _withdraw(entries: Sequence[Entry]) -> None:
    tickets = sum(entry.ticket is not None for entry in entries)
    if tickets:
        parts().pace.withdraw(lanes.BULK_LANE, tickets)


def _remove(job_ids: Sequence[UUID]) -> None:
    for job_id in job_ids:
        with suppress(Exception):
            parts().documents.delete_stored(documents.original_key(job_id))
