"""What upkeep does: take back jobs whose worker went away, and end those that keep losing theirs."""

from sqlalchemy import Connection, text

from common.jobs import ending
from common.jobs.life import Changed, State
from common.problems import Code

# A document whose worker vanished this often is taken to be the cause.
LOST_LEASES_ALLOWED = 2


def take_back_expired(connection: Connection, *, limit: int) -> tuple[int, list[Changed]]:
    """Requeue jobs whose lease ran out; fail those that lost their worker too often.

    Args:
        limit: how many jobs to look at in this call.

    Returns:
        How many were requeued, and the changes of those that failed.
    """
    requeued = connection.execute(
        text(
            "with expired as (select id from jobs where state = 'stamping'"
            " and lease_until < now() order by lease_until limit :limit for update skip locked)"
            " update jobs set lost_leases = lost_leases + 1, state = 'queued',"
            " lease_until = null, publish_at = now() from expired where jobs.id = expired.id"
            " returning jobs.id, jobs.lost_leases"
        ),
        {"limit": limit},
    ).all()
    blamed = [row.id for row in requeued if row.lost_leases >= LOST_LEASES_ALLOWED]
    failed = []
    for job_id in blamed:
        row = connection.execute(
            text(ending.FAIL + " where id = :id" + ending.RETURNING),
            {"id": job_id, "code": Code.DOCUMENT_UNPROCESSABLE, "facts": "{}"},
        ).one()
        failed.append(
            ending.settle_unstamped(connection, row, State.FAILED, Code.DOCUMENT_UNPROCESSABLE)
        )
    return len(requeued) - len(blamed), failed
