"""Batches: many jobs that are accepted in one transaction, and told of once more when all have ended.

The jobs of a batch end on many workers at once, so none of them touches the batch's row. Upkeep looks
at unfinished batches instead, the longest unseen first, and leaves each for a while that grows with
its age: the news of the end comes within 5 seconds, or a twentieth of the batch's age, at most 60.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from common import cursors, events
from common.events import EventType, Happened
from common.jobs import State
from common.partners import Caller, Mode
from common.problems import Code, ProblemError

_FIRST_LOOK_SECONDS = 5
_LONGEST_LOOK_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch as it stands: how many jobs it has, and how many of them are in each state."""

    id: UUID
    account_id: UUID
    mode: Mode
    external_reference: str | None
    total: int
    counts: Mapping[str, int]
    accepted_at: datetime
    # When the last of its jobs ended; none while one has not.
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Page:
    """Some batches, newest first, and the cursor that asks for the ones after them."""

    batches: Sequence[Batch]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Round:
    """What a round of upkeep found: batches that are finished, and the webhooks that tell of them."""

    finished: Sequence[UUID]
    deliveries: Sequence[UUID]


# The states are counted anew for each answer: a count that is kept would be a row that every
# worker waits for.
_SELECT = """
select b.id, b.account_id, b.mode, b.external_reference, b.total, b.accepted_at,
       counted.counts, counted.finished_at
from batches b cross join lateral (
    select jsonb_object_agg(state, number) as counts,
           case when bool_and(ended) then max(last) end as finished_at
    from (select state, count(*) as number, bool_and(finished_at is not null) as ended,
                 max(finished_at) as last
          from jobs where batch_id = b.id group by state) states) counted
"""


def create(
    connection: Connection,
    owner: Caller,
    *,
    batch_id: UUID,
    total: int,
    external_reference: str | None,
    accepted_at: datetime,
) -> Batch:
    """Write a batch whose jobs are accepted in the same transaction, all of them queued."""
    connection.execute(
        text(
            "insert into batches (id, account_id, partner_id, mode, external_reference, total,"
            " accepted_at, look_at) values (:id, :account_id, :partner_id, :mode, :reference,"
            " :total, :accepted_at, now() + make_interval(secs => :first_look))"
        ),
        {
            "id": batch_id,
            "account_id": owner.account_id,
            "partner_id": owner.partner_id,
            "mode": owner.mode,
            "reference": external_reference,
            "total": total,
            "accepted_at": accepted_at,
            "first_look": _FIRST_LOOK_SECONDS,
        },
    )
    return Batch(
        id=batch_id,
        account_id=owner.account_id,
        mode=owner.mode,
        external_reference=external_reference,
        total=total,
        counts={State.QUEUED: total},
        accepted_at=accepted_at,
        finished_at=None,
    )


def show_own(connection: Connection, *, account_id: UUID, batch_id: UUID) -> Batch:
    """Return a batch of this account.

    Raises:
        ProblemError: `not_found`, also for a batch of somebody else: its existence is not told.
    """
    row = connection.execute(
        text(_SELECT + "where b.id = :id and b.account_id = :account_id"),
        {"id": batch_id, "account_id": account_id},
    ).one_or_none()
    if row is None:
        raise ProblemError(Code.NOT_FOUND)
    return _batch(row)


def page(
    connection: Connection, *, account_id: UUID, limit: int, cursor: str | None = None
) -> Page:
    """Return an account's batches, newest first.

    Raises:
        ProblemError: `cursor_invalid`.
    """
    rows = connection.execute(
        text(
            _SELECT + "where b.account_id = :account_id"
            " and (cast(:before as uuid) is null or b.id < :before)"
            " order by b.id desc limit :limit"
        ),
        {
            "account_id": account_id,
            "limit": limit + 1,
            "before": None if cursor is None else cursors.open_(cursor),
        },
    ).all()
    found = [_batch(row) for row in rows[:limit]]
    return Page(found, cursors.after(found[-1].id) if len(rows) > limit else None)


def finish_ended(connection: Connection, *, limit: int) -> Round:
    """Look at unfinished batches, and finish and tell of those whose jobs have all ended.

    Safe to run twice and beside itself: a batch that somebody looks at is passed over, and one that
    is finished is not looked at again.

    Args:
        connection: a transaction.
        limit: how many batches to look at in this call.
    """
    ended = connection.execute(
        text(
            # A look further ahead than any can be was put off before the clock went back.
            "with due as (select id, accepted_at from batches where look_at <= now()"
            " or look_at > now() + make_interval(secs => 2 * :longest)"
            " order by look_at limit :limit for update skip locked),"
            " looked as (select id, accepted_at, exists (select from jobs"
            " where jobs.batch_id = due.id and jobs.finished_at is null) as open from due),"
            " noted as (update batches b set look_at = case when open then now() + make_interval("
            "secs => least(:longest, greatest(:first, extract(epoch from now() - b.accepted_at) / 20))) end,"
            " finished_at = case when not open then"
            " (select max(finished_at) from jobs where batch_id = b.id) end"
            " from looked where b.id = looked.id"
            " returning b.id, b.partner_id, b.mode, b.external_reference, b.total, open)"
            " select id, partner_id, mode, external_reference, total, (select jsonb_object_agg("
            "state, number) from (select state, count(*) as number from jobs"
            " where batch_id = noted.id group by state) states) as counts"
            " from noted where not open"
        ),
        {"limit": limit, "first": _FIRST_LOOK_SECONDS, "longest": _LONGEST_LOOK_SECONDS},
    ).all()
    if not ended:
        return Round([], [])
    told = [
        Happened(
            EventType.BATCH_FINISHED,
            None,
            row.partner_id,
            row.mode,
            {
                "batch_id": str(row.id),
                "mode": row.mode,
                "external_reference": row.external_reference,
                "total": row.total,
                "counts": row.counts,
            },
            batch_id=row.id,
        )
        for row in ended
    ]
    return Round([row.id for row in ended], events.record_all(connection, told))


def _batch(row: Row[Any]) -> Batch:
    return Batch(**dict(row._mapping) | {"mode": Mode(row.mode)})
