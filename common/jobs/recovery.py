"""Jobs whose worker went away: taken back, and ended when it is the document that takes workers away.

Two ways lead here. A process dies, or is killed for its time, while its parent lives: the parent knows
the job, and says at once whether the process had the document in its hands; two such kills are the
document's doing. Or a lease runs out without a word, because a whole machine went away, froze or was
cut off; whoever ends machines does so more often than documents do, so four of these are allowed. A
document that takes its whole container along still ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from common import aftermath
from common.jobs import ending, setbacks
from common.jobs.life import Changed, Setback, SetbackKind, State
from common.problems import Code

KILLS_ALLOWED = 2
LOST_LEASES_ALLOWED = 4

# A lease longer than two from now was written before the database's clock went back.
_EXPIRED = (
    "state = 'stamping'"
    " and (lease_until < now() or lease_until > now() + make_interval(secs => 2 * :lease))"
)


@dataclass(frozen=True, slots=True)
class TakenBack:
    """A job that was taken back, and its change when that ended it."""

    job_id: UUID
    failed: Changed | None


def expired(connection: Connection, *, lease_seconds: float, limit: int) -> list[UUID]:
    """Return jobs whose lease ran out, the longest expired first."""
    return list(
        connection.execute(
            text(f"select id from jobs where {_EXPIRED} order by lease_until limit :limit"),
            {"lease": lease_seconds, "limit": limit},
        ).scalars()
    )


def take_back(connection: Connection, job_id: UUID, *, lease_seconds: float) -> TakenBack | None:
    """Take back one job whose lease ran out. One in a transaction: ending it moves its account.

    Returns:
        None when its lease has not run out, or somebody else has just taken it back.
    """
    return _take_back(
        connection,
        # Only where the time was up: a clock that went back says nothing of the document.
        "lost_leases = lost_leases + case when lease_until < now() then 1 else 0 end",
        f"id = :id and {_EXPIRED}",
        {"id": job_id, "lease": lease_seconds, "wait": 0},
        Setback(SetbackKind.LOST, "its lease ran out without a word"),
    )


def take_from(
    connection: Connection,
    job_ids: Sequence[UUID],
    *,
    worker: str,
    setback: Setback,
    counts: bool = True,
    retry_after_seconds: float = 0,
) -> TakenBack | None:
    """Take the job that a process had from it: the process is gone, as its parent saw.

    Args:
        connection: a transaction.
        job_ids: those that it may have had; a process has one at a time.
        worker: the name under which the process claimed it.
        setback: how the attempt ended; `killed` and `lost` are each counted by themselves.
        counts: whether it is held against the document.
        retry_after_seconds: how long to wait before the next attempt.

    Returns:
        None when the process has none of them: it never claimed it, or ended it.
    """
    kind = setback.kind if counts else None
    return _take_back(
        connection,
        f"kills = kills + {int(kind is SetbackKind.KILLED)},"
        f" lost_leases = lost_leases + {int(kind is SetbackKind.LOST)}",
        "id = any(:ids) and state = 'stamping' and worker = :worker",
        {"ids": list(job_ids), "worker": worker, "wait": retry_after_seconds},
        setback,
    )


def _take_back(
    connection: Connection,
    counting: str,
    where: str,
    values: Mapping[str, object],
    setback: Setback,
) -> TakenBack | None:
    row = connection.execute(
        text(
            f"update jobs set {counting}, state = 'queued', lease_until = null,"
            " publish_at = now() + make_interval(secs => :wait),"
            " not_before = now() + make_interval(secs => :wait)"
            f" where {where} returning id, kills, lost_leases, {setbacks.RETURNING}"
        ),
        values,
    ).one_or_none()
    if row is None:
        return None
    aftermath.jobs_changed(connection, [row.id])
    setbacks.record(connection, row, setback)
    if row.kills < KILLS_ALLOWED and row.lost_leases < LOST_LEASES_ALLOWED:
        return TakenBack(row.id, None)
    code = Code.DOCUMENT_UNPROCESSABLE
    ended: Any = connection.execute(
        text(ending.FAIL + " where id = :id" + ending.RETURNING),
        {"id": row.id, "code": code, "facts": '{"reason": "crash"}'},
    ).one()
    return TakenBack(row.id, ending.settle_unstamped(connection, ended, State.FAILED, code))
