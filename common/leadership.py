"""Who of several processes may do what only one should: a lease in the database, by its clock.

A session's advisory lock would have been the other way. It is let go when a process dies, but not
when it freezes or its machine is cut off: the server would wait for hours. A lease that nobody renews
is over within seconds, whatever became of who had it. Whoever wakes up later asks again before it
does anything, and learns that it was replaced.
"""

from sqlalchemy import Connection, text

LEASE_SECONDS = 8.0


def lead(connection: Connection, office: str, holder: str) -> bool:
    """Take an office that is free, or renew one's own lease; says whether the holder has it now.

    A lease that ends further ahead than any can was written before the clock went back: it is over.
    """
    return bool(
        connection.execute(
            text(
                "insert into leaders (office, holder, lease_until)"
                " values (:office, :holder, now() + make_interval(secs => :lease))"
                " on conflict (office) do update"
                " set holder = excluded.holder, lease_until = excluded.lease_until"
                " where leaders.holder = excluded.holder or leaders.lease_until < now()"
                " or leaders.lease_until > now() + make_interval(secs => 2 * :lease)"
            ),
            {"office": office, "holder": holder, "lease": LEASE_SECONDS},
        ).rowcount
    )


def resign(connection: Connection, office: str, holder: str) -> None:
    """Leave an office to whoever asks next, without the wait for the lease."""
    connection.execute(
        text("delete from leaders where office = :office and holder = :holder"),
        {"office": office, "holder": holder},
    )
