"""Webhook deliveries in the outbox: claim one that is due, record how the attempt ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

# Seconds from one attempt to the next, as Standard Webhooks recommends; after the last the delivery
# has failed. The first attempt is made at once.
RETRY_SECONDS = (5, 300, 1_800, 7_200, 18_000, 36_000, 36_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One delivery whose time has come, with all that an attempt needs."""

    id: UUID
    attempt: int
    event_id: UUID
    event_type: str
    event_at: datetime
    job_id: UUID | None
    payload: Mapping[str, Any]
    url: str
    secret: str


def claim(connection: Connection, delivery_id: UUID, *, lease_seconds: float) -> Due | None:
    """Take a due delivery for one attempt; nobody else gets it within the lease.

    Returns:
        None when it is not due, already done, or its endpoint was deleted.
    """
    row = connection.execute(
        text(
            "update deliveries d set attempts = d.attempts + 1, last_attempt_at = now(),"
            " next_attempt_at = now() + make_interval(secs => :lease)"
            " from events e, webhook_endpoints w"
            " where d.id = :id and d.state = 'pending' and d.next_attempt_at <= now()"
            " and e.id = d.event_id and w.id = d.endpoint_id and w.deleted_at is null"
            " returning d.id, d.attempts, e.id as event_id, e.type, e.created_at, e.job_id,"
            " e.payload, w.url, w.secret"
        ),
        {"id": delivery_id, "lease": lease_seconds},
    ).one_or_none()
    if row is None:
        return None
    return Due(
        id=row.id,
        attempt=row.attempts,
        event_id=row.event_id,
        event_type=row.type,
        event_at=row.created_at,
        job_id=row.job_id,
        payload=row.payload,
        url=row.url,
        secret=row.secret,
    )


def delivered(connection: Connection, due: Due, *, status: int) -> None:
    """Record that the receiver took the delivery."""
    connection.execute(
        text(
            "update deliveries set state = 'delivered', next_attempt_at = null,"
            " last_status = :status, last_error = null where id = :id"
        ),
        {"id": due.id, "status": status},
    )


def missed(connection: Connection, due: Due, *, status: int | None, error: str) -> bool:
    """Record a failed attempt of a delivery that is still pending.

    Returns:
        Whether it will be tried again.
    """
    again = due.attempt <= len(RETRY_SECONDS)
    connection.execute(
        text(
            "update deliveries set state = :state, last_status = :status, last_error = :error,"
            " next_attempt_at = case when :again then now() + make_interval(secs => :wait) end"
            " where id = :id and state = 'pending' and attempts = :attempt"
        ),
        {
            "id": due.id,
            "attempt": due.attempt,
            "state": "pending" if again else "failed",
            "again": again,
            "wait": RETRY_SECONDS[due.attempt - 1] if again else 0,
            "status": status,
            "error": error,
        },
    )
    return again


def pull_in(connection: Connection, *, lease_seconds: float) -> None:
    """Make deliveries due that lie further ahead than any can: the database's clock went back.

    Args:
        connection: a transaction.
        lease_seconds: how long one attempt may take.
    """
    # By the attempts made: at once, then what `claim` and `missed` write.
    lease = float(lease_seconds)
    longest = [lease, *(max(lease, float(wait)) for wait in RETRY_SECONDS), lease]
    connection.execute(
        text(
            "update deliveries set next_attempt_at = now() where state = 'pending'"
            " and next_attempt_at > now() + make_interval(secs => 2 *"
            " (cast(:longest as float[]))[least(attempts, :most) + 1])"
        ),
        {"longest": longest, "most": len(RETRY_SECONDS) + 1},
    )


def take_due(connection: Connection, *, limit: int, resend_seconds: float) -> list[UUID]:
    """Return deliveries that are due and were not taken up for a while.

    One that was just published is about to be claimed; it is left alone until it is
    `resend_seconds` late. Deliveries of deleted endpoints are closed here.
    """
    connection.execute(
        text(
            "update deliveries d set state = 'failed', next_attempt_at = null,"
            " last_error = 'endpoint deleted' from webhook_endpoints w"
            " where w.id = d.endpoint_id and w.deleted_at is not null and d.state = 'pending'"
        )
    )
    return list(
        connection.execute(
            text(
                "select id from deliveries where state = 'pending' and next_attempt_at <= now()"
                " - make_interval(secs => case when attempts = 0 then :resend else 0 end)"
                " order by next_attempt_at limit :limit"
            ),
            {"limit": limit, "resend": resend_seconds},
        ).scalars()
    )
