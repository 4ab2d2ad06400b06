"""Sends queued jobs again whose message the broker lost, and no others, however many wait.

A lane is first-in, first-out, so a job whose turn has not come has its message still before it. Sent again
are jobs whose turn has passed without anybody taking them, and whatever waits in a lane that the broker has
next to nothing of. So a round's work follows from what was lost, not from how long a lane is.
"""

import time
from collections.abc import Callable
from uuid import UUID

from celery.exceptions import QueueNotFound
from sqlalchemy import Connection, text

from common import lanes
from common.database import Database
from common.lanes import LanesApp
from common.pace import Pace
from common.telemetry import UPKEEP, logger

log = logger(__name__)

ROUND = 500
# A round that finds its full number again and again goes on for so long; beat calls again soon.
ROUND_SECONDS = 3.0
MADE_DUE_AT_ONCE = 20_000
# A broker that holds fewer messages of a lane has lost those of the jobs that are due in it. More than
# none, so that a lane that is being filled again does not stand still between two rounds.
NEARLY_EMPTY = 100
# A queued job is never out of the relay's sight for longer once its turn has passed. Well under an hour, by
# which clocks are set wrong: a time that lies almost an hour ahead is then known to be from before the
# clock went back.
LONGEST_REPUBLISH_SECONDS = 1800
_EVERY_TICKET = 2**62

# One step of the index a lane, however many jobs each has.
_LANES = """
with recursive found(lane) as (
    (select lane from jobs where state = 'queued' order by lane limit 1)
    union all
    select (select lane from jobs where state = 'queued' and lane > found.lane order by lane limit 1)
    from found where found.lane is not null)
select lane from found where lane is not null
"""

_SENT = (
    " update jobs set publications = publications + 1, publish_at = now()"
    " + make_interval(secs => least(:again * 2 ^ least(publications, 16), :longest))"
)


class Relay:
    """Sends again with the parts of one worker process."""

    def __init__(
        self,
        *,
        republish_seconds: int,
        database: Database,
        pace: Pace,
        app: LanesApp,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the parts; `republish_seconds` after its acceptance a job is looked at for the first time."""
        self._again = {"again": republish_seconds, "longest": LONGEST_REPUBLISH_SECONDS}
        self._database = database
        self._pace = pace
        self._app = app
        self._clock = clock

    def run(self) -> int:
        """Send what was lost, for a few seconds at the most; returns how many jobs.

        The next look at a job comes later each time. A message too many does no harm: the second
        finds nothing to claim.

        Raises:
            kombu.exceptions.OperationalError: the broker cannot be reached; the jobs stay due.
        """
        if self._pace.is_new():
            self._make_all_due()
        until, count = self._clock() + ROUND_SECONDS, 0
        with self._database.transaction() as connection:
            self._pull_in(connection)
            names = list(connection.execute(text(_LANES)).scalars())
        open_lanes = {lane: self._passed(lane) for lane in names}
        # One portion a lane at a time: no lane waits for the end of another.
        while open_lanes and self._clock() < until:
            for lane, passed in list(open_lanes.items()):
                sent = self._send_some(lane, passed)
                count += sent
                if sent < ROUND:
                    del open_lanes[lane]
        return count

    def _make_all_due(self) -> None:
        """Make all queued jobs due: the broker began anew, and has lost every message.

        Those that wait after a fault go on waiting. Where there are more than one round may touch, the
        next one goes on; the mark is set by the one that found the last.
        """
        with self._database.transaction() as connection:
            made_due = connection.execute(
                text(
                    "with lost as (select id from jobs where state = 'queued'"
                    " and publish_at > now() and (not_before is null or not_before <= now())"
                    " limit :limit for update skip locked)"
                    " update jobs set publish_at = now(), publications = 0"
                    " from lost where jobs.id = lost.id"
                ),
                {"limit": MADE_DUE_AT_ONCE},
            ).rowcount
        if made_due < MADE_DUE_AT_ONCE:
            self._pace.remember()
        if made_due:
            UPKEEP.labels("job whose message was lost with the broker").inc(made_due)
            log.warning("the broker began anew", made_due=made_due)

    def _pull_in(self, connection: Connection) -> None:
        """Make jobs due whose time lies further ahead than any can: the clock went back since."""
        connection.execute(
            text(
                "with ahead as (select id from jobs where state = 'queued'"
                " and publish_at > now() + make_interval(secs => greatest(:again, :longest))"
                " order by publish_at limit :limit for update skip locked)"
                " update jobs set publish_at = now() from ahead where jobs.id = ahead.id"
            ),
            self._again | {"limit": ROUND},
        )

    def _passed(self, lane: str) -> int:
        """Return up to which ticket a due job of a lane has lost its message."""
        if lanes.waiting(self._app, lane) < NEARLY_EMPTY:
            return _EVERY_TICKET
        numbers = self._pace.lane(lane)
        return 0 if numbers is None else numbers.served

    def _send_some(self, lane: str, passed: int) -> int:
        """Send up to `ROUND` due jobs whose turn has passed, the longest waiting first."""
        # Within the transaction: when the broker is away, the jobs stay due.
        with self._database.transaction() as connection:
            due = connection.execute(
                text(
                    "with due as (select id from jobs where state = 'queued' and lane = :lane"
                    " and ticket <= :passed and publish_at <= now()"
                    f" order by ticket limit :limit for update skip locked){_SENT}"
                    " from due where jobs.id = due.id returning jobs.id, jobs.ticket"
                ),
                self._again | {"lane": lane, "passed": passed, "limit": ROUND},
            ).all()
            in_order = sorted(due, key=lambda job: job.ticket)
            self._publish(lane, [job.id for job in in_order])
            if len(due) == ROUND:
                return ROUND
            return len(due) + self._send_without_ticket(connection, lane, ROUND - len(due))

    def _send_without_ticket(self, connection: Connection, lane: str, limit: int) -> int:
        """Send jobs that were accepted while nobody could give them a place; now they get one."""
        due = list(
            connection.execute(
                text(
                    "select id from jobs where state = 'queued' and lane = :lane and ticket is null"
                    " and publish_at <= now() order by id limit :limit for update skip locked"
                ),
                {"lane": lane, "limit": limit},
            ).scalars()
        )
        if not due:
            return 0
        entries = self._pace.enter_several(lane, len(due))
        try:
            connection.execute(
                text(
                    f"{_SENT}, ticket = now_in.ticket"
                    " from unnest(cast(:ids as uuid[]), cast(:tickets as bigint[]))"
                    " as now_in (id, ticket) where jobs.id = now_in.id"
                ),
                self._again | {"ids": due, "tickets": [entry.ticket for entry in entries]},
            )
            self._publish(lane, due)
        except Exception:
            if entries[0].ticket is not None:
                self._pace.withdraw(lane, len(entries))
            raise
        return len(due)

    def _publish(self, lane: str, job_ids: list[UUID]) -> None:
        try:
            for job_id in job_ids:
                lanes.publish_stamp(self._app, job_id, lane)
        except QueueNotFound:
            # A lane that this version does not know: the others have their turn.
            log.error("no such lane", lane=lane, jobs=len(job_ids))
            UPKEEP.labels("job in no known lane").inc(len(job_ids))
