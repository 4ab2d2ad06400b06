"""Sets the lanes' counters right from the database, at a cost that does not grow with the lanes.

A short lane is counted in every round. Of a long one the lowest and the highest ticket are looked up, which
bound how many can wait in it; it is counted only when its counters lie outside, and otherwise seldom.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, text

from common import lanes
from common.database import Database
from common.pace import LanePace, Pace

# Up to so many jobs a lane is counted in every round.
SHORT = 200
# A long lane is counted this often, whatever its counters say.
SELDOM_SECONDS = 900.0

# Jobs that come back from an attempt wait for their own time, and have no place any more.
_WAITING = "from jobs where state = 'queued' and lane = :lane and ticket is not null"
_FIRST = " and started_at is null"
_BOUNDS = f"""
select (select count(*) from (select {_WAITING}{_FIRST} limit :short) counted) as queued,
    (select max(ticket) {_WAITING}) as highest, first.ticket as lowest, first.age
from (values (1)) one left join lateral (
    select ticket, extract(epoch from now() - accepted_at)::float8 as age {_WAITING}{_FIRST}
    order by ticket limit 1) first on true
"""
_COUNT = f"select count(*) {_WAITING}{_FIRST}"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is known of a lane without counting all of it."""

    # Exact when it is below `SHORT`; otherwise at least so many.
    queued: int
    highest: int
    lowest: int
    oldest_seconds: float


def off_by_far(bounds: Bounds, pace: LanePace) -> bool:
    """Say whether the counters of a long lane cannot be right, but for what moves while one looks."""
    most = max(pace.accepted, bounds.highest) - bounds.lowest + 1
    return (
        pace.accepted < bounds.highest
        or pace.waiting < bounds.queued
        or pace.waiting > most + SHORT
    )


def differs(queued: int, pace: LanePace, before: LanePace | None) -> bool:
    """Say whether counters are off that should agree with a count.

    Jobs come and go meanwhile: a difference is a fault when it is too large to be theirs, or when nothing
    moved in the lane since the last round.
    """
    off = abs(pace.waiting - queued)
    return off > max(5, queued // 10) or (off > 0 and before == _counters(pace))


def _counters(pace: LanePace) -> LanePace:
    return LanePace(pace.accepted, pace.served)


class Recounter:
    """Counts with the parts of one worker process."""

    def __init__(
        self, *, database: Database, pace: Pace, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take the parts; nothing is opened here."""
        self._database = database
        self._pace = pace
        self._clock = clock
        self._before: dict[str, LanePace] = {}
        self._counted: dict[str, float] = {}

    def run(self) -> int:
        """Look at every stamp lane; returns how many were set right."""
        return sum(self._look_at(lane) for lane in lanes.STAMP_LANES)

    def _look_at(self, lane: str) -> bool:
        with self._database.transaction() as connection:
            # Read within the snapshot's reach: what moves between the two is noise.
            pace = self._pace.lane(lane)
            if pace is None:
                return False
            row = connection.execute(text(_BOUNDS), {"lane": lane, "short": SHORT}).one()
            bounds = Bounds(row.queued, row.highest or 0, row.lowest or 0, row.age or 0.0)
            before = self._before.get(lane)
            self._before[lane] = _counters(pace)
            if bounds.queued < SHORT:
                queued = bounds.queued
            elif off_by_far(bounds, pace) or self._is_time(lane):
                queued = self._count(connection, lane)
            else:
                return False
        if not differs(queued, pace, before) and bounds.highest <= pace.accepted:
            return False
        self._pace.recount(
            lane,
            queued=queued,
            highest_ticket=bounds.highest,
            seen=pace,
            oldest_seconds=bounds.oldest_seconds,
        )
        return True

    def _is_time(self, lane: str) -> bool:
        counted = self._counted.setdefault(lane, self._clock())
        return self._clock() - counted >= SELDOM_SECONDS

    def _count(self, connection: Connection, lane: str) -> int:
        self._counted[lane] = self._clock()
        return int(connection.execute(text(_COUNT), {"lane": lane}).scalar_one())
