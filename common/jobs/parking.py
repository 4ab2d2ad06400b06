"""Parked jobs: what went wrong too often by a fault of ours, kept until somebody has looked at it.

Nothing of a parked job is lost: its document, its hold and its serials stay. An operator sends it back
into its lane once the cause is mended, or gives it up; there is no third way out.
"""

from collections.abc import Sequence
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from common import aftermath
from common.jobs import ending
from common.jobs.life import Changed, State
from common.problems import Code


def requeue(connection: Connection, job_ids: Sequence[UUID] | None) -> list[UUID]:
    """Send parked jobs back into their lanes, with the same serials; their faults are forgotten.

    Args:
        connection: a transaction.
        job_ids: which; None: all that are parked.

    Returns:
        Those that were parked.
    """
    sent = list(
        connection.execute(
            text(
                "update jobs set state = 'queued', faults = 0, publish_at = now(),"
                " not_before = null where state = 'parked'"
                + ("" if job_ids is None else " and id = any(:ids)")
                + " returning id"
            ),
            {} if job_ids is None else {"ids": list(job_ids)},
        ).scalars()
    )
    aftermath.jobs_changed(connection, sent)
    return sent


def give_up(connection: Connection, job_id: UUID, *, reason: str) -> Changed | None:
    """End a job that nobody can stamp as failed; the quota is given back.

    Args:
        connection: a transaction.
        job_id: a job that is parked, or queued again after a fault.
        reason: one sentence that its owner reads.

    Returns:
        None when the job is neither.
    """
    code = Code.STAMPING_FAILED
    row = connection.execute(
        text(
            ending.FAIL
            + " where id = :id and (state = 'parked' or state = 'queued' and attempt > 0)"
            + ending.RETURNING
        ),
        {"id": job_id, "code": code, "facts": orjson.dumps({"reason": reason}).decode()},
    ).one_or_none()
    return None if row is None else ending.settle_unstamped(connection, row, State.FAILED, code)
