"""Results that were stored without the timestamp that they should have: taken up later, one by one.

A file that is upgraded is as long as before and every byte that its signature covers is the same. The
job gets the new file only if its result is still the one that was read; whoever comes second throws
its file away. The earlier file's hash stays known: copies of it are as good.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from common import aftermath, events, serials
from common.events import EventType, Happened
from common.jobs import Changed, State
from common.levels import Level

# How long one who took a result up has for it, and how long it waits after a failure.
AGAIN_SECONDS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgradable:
    """A stored result that lacks its timestamp."""

    job_id: UUID
    attempt: int
    document_bytes: int
    result_key: str
    result_sha256: bytes
    evidence_until: datetime | None


def take_due(connection: Connection, *, limit: int) -> list[Upgradable]:
    """Return results that are due, the longest due first; nobody else gets them for two minutes."""
    rows = connection.execute(
        text(
            # One further ahead than it can be was taken up before the clock went back.
            "with due as (select id from jobs where upgrade_at <= now()"
            " or upgrade_at > now() + make_interval(secs => 2 * :again) order by upgrade_at"
            " limit :limit for update skip locked)"
            " update jobs set upgrade_at = now() + make_interval(secs => :again) from due"
            " where jobs.id = due.id returning jobs.id, attempt, document_bytes, result_key,"
            " result_sha256, evidence_until"
        ),
        {"limit": limit, "again": AGAIN_SECONDS},
    ).all()
    return [
        Upgradable(
            job_id=row.id,
            attempt=row.attempt,
            document_bytes=row.document_bytes,
            result_key=row.result_key,
            result_sha256=row.result_sha256,
            evidence_until=row.evidence_until,
        )
        for row in rows
    ]


def upgraded(
    connection: Connection, of: Upgradable, *, key: str, sha256: bytes, level: Level
) -> Changed | None:
    """Make another file the job's result, and tell its owner.

    Returns:
        None when the result is not the one that was read; the caller throws its file away.
    """
    row = connection.execute(
        text(
            "update jobs set result_key = :key, result_sha256 = :sha256,"
            " signature_level = :level, earlier_sha256 = result_sha256, upgrade_at = null"
            " where id = :id and state = 'stamped' and result_key = :before"
            " and upgrade_at is not null"
            f" returning partner_id, mode, external_reference, result_bytes, {serials.OF_JOB}"
        ),
        {"id": of.job_id, "before": of.result_key, "key": key, "sha256": sha256, "level": level},
    ).one_or_none()
    if row is None:
        return None
    aftermath.jobs_changed(connection, [of.job_id])
    data = {
        "state": State.STAMPED,
        "mode": row.mode,
        "serial": row.serials[0],
        "serials": row.serials,
        "external_reference": row.external_reference,
        "document_sha256": sha256.hex(),
        "document_bytes": row.result_bytes,
        "earlier_document_sha256": of.result_sha256.hex(),
        "level": level,
    }
    happened = Happened(EventType.UPGRADED, of.job_id, row.partner_id, row.mode, data)
    return Changed(events.record(connection, happened))


def give_up(connection: Connection, of: Upgradable) -> None:
    """Leave a result as it is for good."""
    connection.execute(
        text("update jobs set upgrade_at = null where id = :id and result_key = :key"),
        {"id": of.job_id, "key": of.result_key},
    )
