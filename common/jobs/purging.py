"""The end of the retention time: a job's documents are given up, its record and its serials stay."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from common import aftermath, events
from common.events import EventType, Happened


@dataclass(frozen=True, slots=True)
class Purged:
    """Jobs whose objects may be removed once the transaction is committed, and who is told."""

    job_ids: Sequence[UUID]
    deliveries: Sequence[UUID]


def purge(connection: Connection, *, retention_days: int, limit: int) -> Purged:
    """Give up documents of jobs that ended long enough ago, the oldest first.

    The objects are removed by the caller, after its commit: whoever dies in between leaves them to the
    search for orphans, and nobody is shown a document that is half there.
    """
    rows = connection.execute(
        text(
            "with old as (select id from jobs where finished_at is not null and purged_at is null"
            " and finished_at < now() - make_interval(days => :days) order by finished_at"
            " limit :limit for update skip locked)"
            " update jobs set purged_at = now(), upgrade_at = null from old where jobs.id = old.id"
            " returning jobs.id, partner_id, mode, state, external_reference"
        ),
        {"days": retention_days, "limit": limit},
    ).all()
    happened = [
        Happened(
            EventType.PURGED,
            row.id,
            row.partner_id,
            row.mode,
            {
                "state": row.state,
                "mode": row.mode,
                "external_reference": row.external_reference,
            },
        )
        for row in rows
    ]
    purged = [row.id for row in rows]
    aftermath.jobs_changed(connection, purged)
    deliveries = events.record_all(connection, happened) if happened else []
    return Purged(purged, deliveries)
