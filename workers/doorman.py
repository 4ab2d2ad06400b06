"""At the gate: opens it when its time has come, gives the waiting room its turns, keeps its board.

Beat asks every second. What is done twice, or by two at once, is done once: turns are given by one at
a time, who sees those that were given before.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from common import gates, lanes
from common.admission import Kind, Lane
from common.database import Database
from common.gatekeeping import horizon_seconds
from common.pace import Pace
from common.room import board, places
from common.room.board import Mirror
from common.settings import Settings
from common.telemetry import ROOM_WAITING, UPKEEP, logger

log = logger(__name__)

PURGED_AT_ONCE = 10_000
# Portions in one round; the next round goes on.
MOST_PORTIONS = 20


class Doorman:
    """Keeps the applicants' gate with the parts of one worker process."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        pace: Pace,
        mirror: Mirror,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Take the parts; nothing is opened here."""
        self._settings = settings
        self._database = database
        self._pace = pace
        self._mirror = mirror
        self._now = now

    def advance(self) -> int:
        """Give as many turns as the lane has room for, and put the board up; returns how many turns."""
        slot_seconds = self._settings.intake_slot_seconds
        with self._database.transaction() as connection:
            opened = gates.open_due(connection, slot_seconds=slot_seconds)
        for kind in opened:
            log.info("gate opened", gate=kind, by=gates.BY_ITSELF)
        lane = Lane.of(self._pace.lane(lanes.APPLICANT_LANE))
        horizon = horizon_seconds(self._settings, Kind.APPLICANT)
        with self._database.transaction() as connection:
            setting = gates.show(connection)[Kind.APPLICANT].setting
            given = places.give_turns(
                connection,
                setting=setting,
                lane=lane,
                horizon_seconds=horizon,
                slot_seconds=slot_seconds,
                now=self._now(),
            )
            made = board.make(
                connection,
                setting=setting,
                lane=lane,
                horizon_seconds=horizon,
                slot_seconds=slot_seconds,
            )
        # After the commit: what was mirrored is never taken back.
        self._mirror.write(made)
        ROOM_WAITING.set(made.waiting)
        if given:
            UPKEEP.labels("turn given").inc(given)
            log.info("turns given", count=given, waiting=made.waiting)
        return given

    def purge(self) -> int:
        """Delete places that have been over for a day, a bounded number of them; returns how many."""
        count = 0
        for _ in range(MOST_PORTIONS):
            with self._database.transaction() as connection:
                gone = places.purge(
                    connection,
                    slot_seconds=self._settings.intake_slot_seconds,
                    limit=PURGED_AT_ONCE,
                )
            count += gone
            if gone < PURGED_AT_ONCE:
                break
        if count:
            UPKEEP.labels("place purged").inc(count)
        return count
