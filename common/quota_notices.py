"""Low balance: each partner is told once when a live account runs low, and again after it recovered.

Looked for by upkeep, so that a hold pays nothing for it. Between two looks a balance may fall and
rise unseen; what counts is where it stands at the look. An account that never had a stamp is not low.
"""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from common import events
from common.events import EventType, Happened
from common.partners import Mode

_LOW = "topped_up > 0 and available < coalesce(low_at, :low_at)"


@dataclass(frozen=True, slots=True)
class Notice:
    """A partner to be told: what is available, below which threshold, and by which deliveries."""

    partner_id: UUID
    available: int
    low_at: int
    deliveries: list[UUID]


def out_of_date(connection: Connection, *, low_at: int, limit: int) -> list[UUID]:
    """Return live accounts that ran low or recovered since the last look; locks nothing.

    Args:
        low_at: the threshold, in stamps, of accounts that name none of their own.
        limit: how many at the most; the others come with the next look.
    """
    return list(
        connection.execute(
            text(
                "select id from accounts where kind = 'partner' and mode = 'live'"
                f" and (low_noticed_at is null) = ({_LOW}) order by id limit :limit"
            ),
            {"low_at": low_at, "limit": limit},
        ).scalars()
    )


def look(connection: Connection, account_id: UUID, *, low_at: int) -> Notice | None:
    """Bring one account up to date: tell that it ran low, or note that it recovered.

    A transaction of its own for each account: whoever else moves it waits for one event at the most.

    Returns:
        None when there is nothing to tell, also because somebody else has told it.
    """
    low = connection.execute(
        text(
            "update accounts set low_noticed_at = now()"
            f" where id = :id and low_noticed_at is null and {_LOW}"
            " returning partner_id, available, coalesce(low_at, :low_at) as low_at"
        ),
        {"id": account_id, "low_at": low_at},
    ).one_or_none()
    if low is None:
        connection.execute(
            text(
                "update accounts set low_noticed_at = null"
                f" where id = :id and low_noticed_at is not null and not ({_LOW})"
            ),
            {"id": account_id, "low_at": low_at},
        )
        return None
    data = {"mode": Mode.LIVE, "available": low.available, "low_at": low.low_at}
    happened = Happened(EventType.QUOTA_LOW, None, low.partner_id, Mode.LIVE, data)
    deliveries = events.record(connection, happened)
    return Notice(low.partner_id, low.available, low.low_at, deliveries)
