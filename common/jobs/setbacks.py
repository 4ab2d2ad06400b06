"""The attempts of a job that did not end in a stamp: recorded by whoever ended them, and read.

A row is written in the transaction that ends the attempt; one that ends in a stamp writes none.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from common.jobs.life import Setback

# What a statement over `jobs` returns that is to be recorded; `attempt` is the one that ended.
RETURNING = "attempt, worker, claimed_at"
# How many of the newest its owner sees: an outage of days may leave hundreds.
SHOWN = 20

# The newest as a JSON array, in the select list of a statement over `jobs`. A job that was stamped, or
# is being stamped, at the first attempt has none, and nobody looks for them.
OF_JOB = f"""
case when attempt > case when state in ('stamping', 'stamped') then 1 else 0 end then (
    select jsonb_agg(jsonb_build_object('attempt', newest.attempt, 'kind', newest.kind,
                                        'at', newest.ended_at) order by newest.attempt)
    from (select * from setbacks where job_id = jobs.id order by attempt desc limit {SHOWN}) newest
) end as setbacks"""


def record(connection: Connection, ended: Row[Any], setback: Setback) -> None:
    """Write down how an attempt ended.

    Args:
        connection: the transaction that ends the attempt.
        ended: the job's row, with its id and what RETURNING names.
        setback: why there is no stamp.
    """
    connection.execute(
        text(
            "insert into setbacks (job_id, attempt, kind, reason, worker, started_at)"
            " values (:job_id, :attempt, :kind, :reason, :worker, :started_at)"
        ),
        {
            "job_id": ended.id,
            "attempt": ended.attempt,
            "kind": setback.kind,
            "reason": setback.reason,
            "worker": ended.worker,
            "started_at": ended.claimed_at,
        },
    )


def of_job(connection: Connection, job_id: UUID) -> list[dict[str, Any]]:
    """Return all of a job's setbacks for operators, oldest first."""
    rows = connection.execute(
        text(
            "select attempt, kind, reason, worker, started_at, ended_at from setbacks"
            " where job_id = :job_id order by attempt"
        ),
        {"job_id": job_id},
    )
    return [dict(row._mapping) for row in rows]
