"""What happened: the outbox, written in the transaction of the change itself, that webhooks are fed from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from common.identifiers import new_id


class EventType(StrEnum):
    """What can happen: to a job, a batch of them, a partner's quota, or to the stock of serials."""

    ACCEPTED = "job.accepted"
    STAMPED = "job.stamped"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"
    UPGRADED = "job.upgraded"
    BATCH_FINISHED = "batch.finished"
    PURGED = "job.purged"
    QUOTA_LOW = "quota.low"
    # Of no job and no partner: for whoever runs the service.
    SERIALS_LOW = "serials.low"


# A partner asked for the job, so its acceptance is not told again by webhook.
TOLD_BY_WEBHOOK = frozenset(set(EventType) - {EventType.ACCEPTED})


# One delivery for each endpoint that is to hear of an event; the events stand behind it, as `happened`.
TELL_FROM_HAPPENED = (
    "insert into deliveries (id, event_id, endpoint_id, next_attempt_at)"
    " select gen_random_uuid(), e.id, w.id, now() from happened e"
    " join webhook_endpoints w on w.partner_id = e.partner_id and w.mode = e.mode"
    " where w.deleted_at is null"
    # What is submitted with a voucher is not the business of whoever sold it.
    " and not exists (select from jobs j join accounts a on a.id = j.account_id"
    " where j.id = e.job_id and a.kind = 'voucher') returning id"
)


@dataclass(frozen=True, slots=True)
class Happened:
    """One event, before it is recorded; those of a job or a batch have it and a partner."""

    type: EventType
    job_id: UUID | None
    partner_id: UUID | None
    mode: str
    # What the receiver is told beside the ids: JSON values, no personal data.
    data: Mapping[str, Any]
    batch_id: UUID | None = None


def record(connection: Connection, happened: Happened) -> list[UUID]:
    """Write the event, and one delivery for each of the partner's endpoints.

    Returns:
        The deliveries' ids; the caller may publish them after its commit, and the relay sends
        whatever was not published.
    """
    return record_all(connection, [happened])


def record_all(connection: Connection, happened: Sequence[Happened]) -> list[UUID]:
    """Write several events as `record` does one, in no more statements."""
    ids = [new_id() for _ in happened]
    connection.execute(
        text(
            "insert into events (id, partner_id, mode, type, job_id, batch_id, payload)"
            " select id, partner_id, mode, type, job_id, batch_id, cast(payload as jsonb) from unnest("
            "cast(:ids as uuid[]), cast(:partners as uuid[]), cast(:modes as text[]),"
            " cast(:types as text[]), cast(:jobs as uuid[]), cast(:batches as uuid[]),"
            " cast(:payloads as text[]))"
            " as happened (id, partner_id, mode, type, job_id, batch_id, payload)"
        ),
        {
            "ids": ids,
            "partners": [one.partner_id for one in happened],
            "modes": [str(one.mode) for one in happened],
            "types": [str(one.type) for one in happened],
            "jobs": [one.job_id for one in happened],
            "batches": [one.batch_id for one in happened],
            "payloads": [orjson.dumps(dict(one.data)).decode() for one in happened],
        },
    )
    told = [
        event_id for event_id, one in zip(ids, happened, strict=True) if one.type in TOLD_BY_WEBHOOK
    ]
    if not told:
        return []
    return list(
        connection.execute(
            text(
                "with happened as (select * from events where id = any(:told)) "
                + TELL_FROM_HAPPENED
            ),
            {"told": told},
        ).scalars()
    )


def message(
    *, type: str, at: datetime, job_id: UUID | None, payload: Mapping[str, Any], public_url: str
) -> bytes:
    """Return the webhook's body: type, timestamp and data, as Standard Webhooks recommends.

    Built from stored values only, so that every attempt sends the same bytes.
    """
    data = dict(payload)
    if job_id is not None:
        links = {"job": f"{public_url}/v1/jobs/{job_id}"}
        if type in (EventType.STAMPED, EventType.UPGRADED):
            links["document"] = f"{public_url}/v1/jobs/{job_id}/document"
        data = {"job_id": str(job_id), **payload, "links": links}
    elif type == EventType.BATCH_FINISHED:
        batch = f"{public_url}/v1/batches/{payload['batch_id']}"
        data["links"] = {"batch": batch, "jobs": f"{batch}/jobs"}
    return orjson.dumps(
        {
            "type": type,
            "timestamp": at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "data": data,
        }
    )
