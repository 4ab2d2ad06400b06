"""The alarm of a stock that runs low: told once, and armed again by an import."""

from sqlalchemy import Connection, text

from common import events
from common.events import EventType, Happened
from common.partners import Mode
from common.serials import stock
from common.serials.stock import Level


def tell(connection: Connection, *, below: int) -> Level | None:
    """Record the event of a stock that holds fewer than `below` serials, unless it was told before.

    Returns:
        How full the stock is, when this call told it.
    """
    found = stock.level(connection)
    if found.in_stock >= below:
        return None
    told = connection.execute(
        text(
            "update serial_alarms set told_at = now() where mode = 'live' and told_at is null"
            " returning mode"
        )
    ).one_or_none()
    if told is None:
        return None
    events.record(
        connection,
        Happened(
            EventType.SERIALS_LOW,
            job_id=None,
            partner_id=None,
            mode=Mode.LIVE,
            data={
                "in_stock": found.in_stock,
                "below": below,
                "waiting_jobs": found.waiting_jobs,
            },
        ),
    )
    return found


def arm(connection: Connection) -> None:
    """Let the alarm be told again."""
    connection.execute(
        text("update serial_alarms set told_at = null where mode = 'live' and told_at is not null")
    )
