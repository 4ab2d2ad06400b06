"""Imported serials that no job has yet: pick some, give them to a job, put them back, count them.

A row of `serial_stock` is deleted when its serial becomes a row of `serials`, in the transaction that
needs it: what is rolled back never left. Nobody waits for anybody: rows that others have in hand are
passed over.

Rows go out by their number. While somebody reads in a long snapshot, what was deleted stays in the index
and would be walked over at each pick; so each process begins behind the last row it took (`Place`), and
looks at what it may have passed over when it finds nothing more ahead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

# Counted exactly up to here; above it, PostgreSQL's own estimate is good enough.
COUNTED = 100_000
# While jobs wait, newcomers take from the stock what is left above this.
SPARE = 1000


@dataclass(frozen=True, slots=True)
class Picked:
    """A serial of the stock that this transaction has in hand."""

    number: int
    serial: str
    import_id: UUID


class Place:
    """Where in the stock one process goes on; wrong is harmless, it only costs a longer look."""

    def __init__(self) -> None:
        """Begin at the beginning."""
        self._behind = 0

    def take(
        self, connection: Connection, jobs: Mapping[UUID, int], *, returns: bool
    ) -> list[Picked]:
        """Give jobs what they need by one statement: all of it from what lies ahead, or nothing.

        Args:
            jobs: how many each job needs.
            returns: whether they come back into the stock when their job ends without a stamp.
        """
        taken = _taken(connection, jobs, above=self._behind, returns=returns)
        if taken:
            self._behind = taken[-1].number
        return taken

    def pick(self, connection: Connection, count: int) -> list[Picked]:
        """Take up to `count` serials in hand until the transaction ends; nobody else gets them.

        Fewer come back only when what lies ahead and what was passed over hold no more.
        """
        behind = self._behind
        picked = _locked(connection, count, above=behind)
        if len(picked) < count and behind:
            picked += _locked(connection, count - len(picked), up_to=behind)
        if picked:
            self._behind = picked[-1].number
        return picked


def _taken(
    connection: Connection, jobs: Mapping[UUID, int], *, above: int, returns: bool
) -> list[Picked]:
    # As in `_locked` the count is written out. Too few are left where they are.
    count = sum(jobs.values())
    rows = connection.execute(
        text(
            "with ahead as (select id from serial_stock where id > :above"
            f" order by id limit {count} for update skip locked),"
            " numbered as (select id, row_number() over (order by id) as place from ahead),"
            " gone as (delete from serial_stock where id = any(array(select id from ahead))"
            f" and (select count(*) from ahead) = {count} returning id, serial, import_id),"
            " given as (insert into serials"
            " (serial, mode, job_id, position, state, import_id, returns)"
            " select serial, 'live', job_id, position, 'reserved', import_id, :returns"
            " from gone join numbered using (id) join unnest(cast(:jobs as uuid[]),"
            " cast(:positions as smallint[])) with ordinality as to_job (job_id, position, place)"
            " using (place))"
            " select id, serial, import_id from gone order by id"
        ),
        {
            "above": above,
            "returns": returns,
            "jobs": [job_id for job_id, needed in jobs.items() for _ in range(needed)],
            "positions": [n for needed in jobs.values() for n in range(1, needed + 1)],
        },
    ).all()
    return [Picked(row.id, row.serial, row.import_id) for row in rows]


def _locked(
    connection: Connection, count: int, *, above: int = 0, up_to: int = 2**62
) -> list[Picked]:
    # The count is written out, so that the plan is made for it: one walk along the index.
    rows = connection.execute(
        text(
            "select id, serial, import_id from serial_stock where id > :above and id <= :up_to"
            f" order by id limit {int(count)} for update skip locked"
        ),
        {"above": above, "up_to": up_to},
    ).all()
    return [Picked(row.id, row.serial, row.import_id) for row in rows]


def give(connection: Connection, served: Mapping[UUID, Sequence[Picked]], *, returns: bool) -> None:
    """Move serials in hand from the stock to their jobs.

    Args:
        served: what each job gets, in the order of its stamps.
        returns: whether they come back into the stock when the job ends without a stamp.
    """
    rows = [
        (picked.number, job_id, position)
        for job_id, of_job in served.items()
        for position, picked in enumerate(of_job, start=1)
    ]
    connection.execute(
        text(
            "with gone as (delete from serial_stock where id = any(:numbers)"
            " returning id, serial, import_id)"
            " insert into serials (serial, mode, job_id, position, state, import_id, returns)"
            " select gone.serial, 'live', to_job.job_id, to_job.position, 'reserved',"
            " gone.import_id, :returns from gone join"
            " unnest(cast(:numbers as bigint[]), cast(:jobs as uuid[]),"
            " cast(:positions as smallint[])) as to_job (id, job_id, position) using (id)"
        ),
        {
            "numbers": [number for number, _, _ in rows],
            "jobs": [job_id for _, job_id, _ in rows],
            "positions": [position for _, _, position in rows],
            "returns": returns,
        },
    )


def put_back(connection: Connection, *, job_id: UUID) -> None:
    """Put what an ended job had reserved back into the stock, behind all that lies there."""
    connection.execute(
        text(
            "with left_over as (delete from serials where job_id = :job_id"
            " and state = 'reserved' and returns returning serial, import_id)"
            " insert into serial_stock (serial, import_id)"
            " select serial, import_id from left_over"
        ),
        {"job_id": job_id},
    )


def is_short(connection: Connection) -> bool:
    """Say whether jobs wait, and the stock has fewer than they need and a thousand to spare.

    Where a thousand jobs wait nothing is added up: it is short.
    """
    waiting, needed = connection.execute(
        text(
            "select count(*), coalesce(sum(jsonb_array_length(placements)), 0) from"
            " (select placements from jobs where waiting_for = 'serials' limit :most) waiting"
        ),
        {"most": SPARE},
    ).one()
    if waiting in (0, SPARE):
        return bool(waiting)
    enough = int(needed) + SPARE
    there = connection.execute(
        text("select count(*) from (select from serial_stock limit :enough) there"),
        {"enough": enough},
    ).scalar_one()
    return bool(there < enough)


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """How many serials lie in stock, whether that was counted to the end, and how many jobs wait."""

    in_stock: int
    exact: bool
    waiting_jobs: int


def level(connection: Connection, *, exact: bool = False) -> Level:
    """Return how full the stock is: counted up to 100,000 unless `exact`, above that estimated."""
    counted, estimated, waiting = connection.execute(
        text(
            "select (select count(*) from (select 1 from serial_stock"
            + (" limit :most)" if not exact else ")")
            + " counted), (select greatest(reltuples, 0)::bigint from pg_class"
            " where oid = 'serial_stock'::regclass),"
            " (select count(*) from jobs where waiting_for = 'serials')"
        ),
        {} if exact else {"most": COUNTED},
    ).one()
    if exact or counted < COUNTED:
        return Level(in_stock=counted, exact=True, waiting_jobs=waiting)
    return Level(in_stock=max(counted, estimated), exact=False, waiting_jobs=waiting)
