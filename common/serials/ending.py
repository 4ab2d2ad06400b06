"""What becomes of a job's serials when it ends: affixed with it, or retired with it."""

from uuid import UUID

from sqlalchemy import Connection, text

from common.serials import stock

# The start of the statement that notes that serials now stand on a document; it says of which job.
AFFIX = "update serials set state = 'affixed', affixed_at = now()"


def retire(connection: Connection, *, job_id: UUID) -> list[str]:
    """Take the serials from a job that ended without a stamp: void, or back into the stock.

    Which of the two was decided when the job got them (`serials.returns`). Call it after the job's own
    change: the database gives up a serial of an ended job only.

    Returns:
        The serials that stay with the job, in order; they are void.
    """
    rows = connection.execute(
        text("select serial, returns from serials where job_id = :job_id order by position"),
        {"job_id": job_id},
    ).all()
    if any(row.returns for row in rows):
        stock.put_back(connection, job_id=job_id)
    connection.execute(
        text("update serials set state = 'void' where job_id = :job_id and state = 'reserved'"),
        {"job_id": job_id},
    )
    return [row.serial for row in rows if not row.returns]
