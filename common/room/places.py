"""Places and turns in the database, which is the record: what is kept here survives every crash.

A place is one row, numbered as it came. A turn is one row too: all places up to a number have had
theirs, and since when. So a turn costs the same whether one place comes in with it or a thousand, and
whose turn has come follows from two numbers.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from common.admission import Lane, Setting, Standing
from common.room import policy
from common.room.policy import Room

# For how long back slots that are over say how many jobs come of one, in seconds.
_MEASURED_SECONDS = 3600
# Of the transaction that gives turns: one at a time.
_LOCK = int.from_bytes(b"the room", signed=True)
KEPT_HOURS = 24


@dataclass(frozen=True, slots=True)
class Place:
    """An open place: its number, and the turn it came in with, once that has come."""

    number: int
    turn: int | None = None

    @property
    def standing(self) -> Standing:
        """Return what the gate asks of a place."""
        return Standing.WAITING if self.turn is None else Standing.TURN


def find(connection: Connection, account_id: UUID, *, slot_seconds: float) -> Place | None:
    """Return the open place of a voucher's account, unless its slot is over."""
    place, over = _open(connection, account_id, slot_seconds)
    return None if over else place


def join(connection: Connection, account_id: UUID, *, slot_seconds: float) -> Place:
    """Return the open place of a voucher's account, a new one at the end if it has none.

    Asked for twice at once, also on two machines, it is the same place.
    """
    found, over = _open(connection, account_id, slot_seconds)
    if found is not None and not over:
        return found
    if found is not None:
        connection.execute(
            text(
                "update waiting_places set ended_at = now()"
                " where number = :number and ended_at is null"
            ),
            {"number": found.number},
        )
    number = connection.execute(
        text(
            "insert into waiting_places (account_id) values (:account_id)"
            " on conflict (account_id) where ended_at is null do nothing returning number"
        ),
        {"account_id": account_id},
    ).scalar()
    if number is not None:
        return Place(number)
    # Somebody else was at it with the same voucher, and has committed.
    found, _ = _open(connection, account_id, slot_seconds)
    assert found is not None, "the row that was in the way is there"
    return found


def _open(
    connection: Connection, account_id: UUID, slot_seconds: float
) -> tuple[Place | None, bool]:
    """Return the open place of an account, and whether its slot is over.

    The clock of slots stands still while the gate is closed.
    """
    row = connection.execute(
        text(
            "select p.number, t.up_to, coalesce(t.at + make_interval(secs => :slot) <="
            " case when g.state = 'closed' then least(g.since, now()) else now() end, false) as over"
            " from waiting_places p join gates g on g.kind = 'applicant'"
            " left join lateral (select up_to, at from waiting_turns where up_to >= p.number"
            " order by up_to limit 1) t on true"
            " where p.account_id = :account_id and p.ended_at is null"
        ),
        {"account_id": account_id, "slot": slot_seconds},
    ).one_or_none()
    return (None, False) if row is None else (Place(row.number, row.up_to), row.over)


def note_job(connection: Connection, place: Place) -> bool:
    """Note that a job came of a place's slot; says whether the place has ended, its stamps spent."""
    connection.execute(
        text("update waiting_turns set jobs = jobs + 1 where up_to = :turn"), {"turn": place.turn}
    )
    ended = connection.execute(
        text(
            "update waiting_places p set ended_at = now() from accounts a"
            " where p.number = :number and p.ended_at is null"
            " and a.id = p.account_id and a.available = 0"
        ),
        {"number": place.number},
    ).rowcount
    return bool(ended)


def waiting(connection: Connection) -> int:
    """Return how many places have not had their turn; a gap in the numbers counts as one."""
    row = connection.execute(text(f"select {_COUNTERS}")).one()
    return int(max(0, row.last - row.served))


def any_slot_runs(connection: Connection, *, slot_seconds: float) -> bool:
    """Say whether a turn came so lately that its slots are not over."""
    return bool(
        connection.execute(
            text(
                "select exists (select from waiting_turns t join gates g on g.kind = 'applicant'"
                " where t.at > case when g.state = 'closed' then least(g.since, now())"
                " else now() end - make_interval(secs => :slot))"
            ),
            {"slot": slot_seconds},
        ).scalar_one()
    )


def look(connection: Connection, *, slot_seconds: float) -> Room:
    """Return what the next turns depend on."""
    row = connection.execute(
        text(
            f"select {_COUNTERS}, extract(epoch from now() - max(at)) as since,"
            " coalesce(sum(slots) filter (where at <= now() - make_interval(secs => :slot)"
            " and at > now() - make_interval(secs => :slot + :measured)), 0) as slots,"
            " coalesce(sum(jobs) filter (where at <= now() - make_interval(secs => :slot)"
            " and at > now() - make_interval(secs => :slot + :measured)), 0) as jobs"
            " from waiting_turns where at > now() - make_interval(secs => :slot + :measured)"
        ),
        {"slot": slot_seconds, "measured": _MEASURED_SECONDS},
    ).one()
    each = policy.jobs_per_slot(slots=row.slots, jobs=row.jobs)
    expected = connection.execute(
        text(
            "select coalesce(sum(greatest(0, slots * cast(:each as double precision) - jobs)), 0)"
            " from waiting_turns where at > now() - make_interval(secs => :slot)"
        ),
        {"each": each, "slot": slot_seconds},
    ).scalar_one()
    # Below zero when the clock went back: it says nothing then.
    since = None if row.since is None or row.since < 0 else float(row.since)
    return Room(
        waiting=max(0, row.last - row.served),
        expected_jobs=expected,
        jobs_per_slot=each,
        seconds_since_turns=since,
    )


_COUNTERS = (
    "coalesce((select max(number) from waiting_places), 0) as last,"
    " coalesce((select max(up_to) from waiting_turns), 0) as served"
)


def give_turns(
    connection: Connection,
    *,
    setting: Setting,
    lane: Lane,
    horizon_seconds: float,
    slot_seconds: float,
    now: datetime,
) -> int:
    """Give as many turns as the policy allows, one caller at a time; returns how many."""
    if not waiting(connection):
        return 0
    alone = connection.execute(
        text("select pg_try_advisory_xact_lock(:lock)"), {"lock": _LOCK}
    ).scalar_one()
    if not alone:
        return 0
    room = look(connection, slot_seconds=slot_seconds)
    count = policy.turns(room, setting=setting, lane=lane, horizon_seconds=horizon_seconds, now=now)
    if not count:
        return 0
    given: int = connection.execute(
        text(
            "with next as (select number from waiting_places where number >"
            " coalesce((select max(up_to) from waiting_turns), 0) order by number limit :count)"
            " insert into waiting_turns (up_to, slots)"
            " select max(number), count(*) from next having count(*) > 0 returning slots"
        ),
        {"count": count},
    ).scalar_one()
    return given


def purge(connection: Connection, *, slot_seconds: float, limit: int) -> int:
    """Delete places whose slot has been over for a day, and the turns that nobody needs any more.

    A turn goes after all places that came in with it: one that stayed would pass for a later turn's.
    The newest turn stays, because it says how far the room has come.

    Returns:
        How many places are gone.
    """
    old = connection.execute(
        text(
            "select max(up_to) from waiting_turns"
            " where at < now() - make_interval(secs => :slot, hours => :hours)"
            " and not exists (select from gates where kind = 'applicant' and state = 'closed')"
        ),
        {"slot": slot_seconds, "hours": KEPT_HOURS},
    ).scalar()
    if old is None:
        return 0
    gone = connection.execute(
        text(
            "delete from waiting_places where number in (select number from waiting_places"
            " where number <= :old order by number limit :limit)"
        ),
        {"old": old, "limit": limit},
    ).rowcount
    if gone < limit:
        connection.execute(
            text(
                "delete from waiting_turns where up_to <= :old"
                " and up_to < (select max(up_to) from waiting_turns)"
            ),
            {"old": old},
        )
    return gone
