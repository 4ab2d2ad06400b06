"""What happened: the outbox, written in the transaction of the change itself, that webhooks are fed from."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from common.identifiers import new_id


class EventType(StrEnum):
    """The names of what can happen to a job."""

    ACCEPTED = "job.accepted"
    STAMPED = "job.stamped"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"
    UPGRADED = "job.upgraded"


# A partner asked for the job, so its acceptance is not told again by webhook.
TOLD_BY_WEBHOOK = frozenset(set(EventType) - {EventType.ACCEPTED})


@dataclass(frozen=True, slots=True)
class Happened:
    """One event of one job, before it is recorded."""

    type: EventType
    job_id: UUID
    partner_id: UUID
    mode: str
    # What the receiver is told beside the ids: JSON values, no personal data.
    data: Mapping[str, Any]


def record(connection: Connection, happened: Happened) -> list[UUID]:
    """Write the event, and one delivery for each of the partner's endpoints.

    Returns:
        The deliveries' ids; the caller may publish them after its commit, and the relay sends
        whatever was not published.
    """
    event_id = new_id()
    connection.execute(
        text(
            "insert into events (id, partner_id, mode, type, job_id, payload)"
            " values (:id, :partner_id, :mode, :type, :job_id, cast(:payload as jsonb))"
        ),
        {
            "id": event_id,
            "partner_id": happened.partner_id,
            "mode": happened.mode,
            "type": happened.type,
            "job_id": happened.job_id,
            "payload": orjson.dumps(dict(happened.data)).decode(),
        },
    )
    if happened.type not in TOLD_BY_WEBHOOK:
        return []
    return list(
        connection.execute(
            text(
                "insert into deliveries (id, event_id, endpoint_id, next_attempt_at)"
                " select gen_random_uuid(), :event_id, id, now() from webhook_endpoints"
                " where partner_id = :partner_id and mode = :mode and deleted_at is null"
                " returning id"
            ),
            {
                "event_id": event_id,
                "partner_id": happened.partner_id,
                "mode": happened.mode,
            },
        ).scalars()
    )


def message(
    *, type: str, at: datetime, job_id: UUID, payload: Mapping[str, Any], public_url: str
) -> bytes:
    """Return the webhook's body: type, timestamp and data, as Standard Webhooks recommends.

    Built from stored values only, so that every attempt sends the same bytes.
    """
    links = {"job": f"{public_url}/v1/jobs/{job_id}"}
    if type in (EventType.STAMPED, EventType.UPGRADED):
        links["document"] = f"{public_url}/v1/jobs/{job_id}/document"
    return orjson.dumps(
        {
            "type": type,
            "timestamp": at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "data": {"job_id": str(job_id), **payload, "links": links},
        }
    )
