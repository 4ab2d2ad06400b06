"""Jobs that wait for serials: accepted, holding their quota, and in no lane until they have some."""

from collections.abc import Callable

from sqlalchemy import Connection, text

from common import aftermath
from common.serials import Supply

# Any number that nothing else in the database locks: one round at a time keeps the order.
_ROUND_LOCK = 5_705_022_025


def serve(
    connection: Connection, supply: Supply, *, limit: int, enter: Callable[[str], int | None]
) -> int:
    """Give waiting jobs their serials, oldest first, and make them due for the relay.

    A job that needs more than there are keeps those behind it waiting: else many small ones would starve
    it. While another round is at work this one does nothing.

    Args:
        connection: a transaction.
        supply: where serials come from.
        limit: how many jobs to look at in this call.
        enter: gives a job a ticket in its lane, or None where tickets cannot be had.

    Returns:
        How many jobs got theirs.
    """
    if not connection.execute(
        text("select pg_try_advisory_xact_lock(:lock)"), {"lock": _ROUND_LOCK}
    ).scalar_one():
        return 0
    waiting = connection.execute(
        text(
            "select id, lane, jsonb_array_length(placements) as stamps from jobs"
            " where waiting_for = 'serials' order by id limit :limit for update skip locked"
        ),
        {"limit": limit},
    ).all()
    if not waiting:
        return 0
    given = supply.give(connection, {job.id: job.stamps for job in waiting})
    served = waiting[: len(given)]
    if served:
        connection.execute(
            text(
                "update jobs set waiting_for = null, publish_at = now(), ticket = now_in.ticket"
                " from unnest(cast(:ids as uuid[]), cast(:tickets as bigint[]))"
                " as now_in (id, ticket) where jobs.id = now_in.id"
            ),
            {"ids": [job.id for job in served], "tickets": [enter(job.lane) for job in served]},
        )
        aftermath.jobs_changed(connection, [job.id for job in served])
    return len(served)
