"""Beat's timetable: of several beats one leads, and only that one sends.

`celery -A workers.app beat -S workers.timetable:Timetable`. Start two or more, on different machines:
when the one that leads dies, freezes or is cut off, another one leads within ten seconds. Beat lives
through an absence of the database (it does not lead) and of the broker (it sends again later).

Times are counted by a clock that never goes back: beat's own schedulers compare times of day, and fall
silent for an hour when the clock is set back by one. What is sent carries no time either, so that a
machine whose clock is wrong drops nothing; instead nothing is added to a lane that nobody empties.
"""

import os
import socket
import time
from typing import Any

from celery import Celery
from celery.beat import Scheduler
from sqlalchemy.exc import SQLAlchemyError

from common import lanes, leadership
from common.database import EDGE, Database
from common.identifiers import new_id
from common.lanes import UPKEEP_LANE
from common.settings import Settings
from common.telemetry import logger
from workers.faults import reason_of

log = logger(__name__)

OFFICE = "beat"
# How often the lease is renewed or asked for: a quarter of its length.
RENEW_SECONDS = 2.0
# Rounds that may wait to be done; more would only repeat the first.
MOST_WAITING = 32


class Timetable(Scheduler):  # type: ignore[misc]
    """Sends the rounds of `beat_schedule` while it leads; its entries are seconds apart."""

    def __init__(
        self, app: Celery, *, settings: Settings | None = None, lazy: bool = False, **facts: Any
    ) -> None:
        """Take the app; nothing is opened here.

        Args:
            app: whose `beat_schedule` it is.
            settings: names the database; those of the environment by default, as beat gives none.
            lazy: only to be looked at.
            facts: what beat gives every scheduler.
        """
        self._settings = settings
        self._database: Database | None = None
        self._me = f"{socket.gethostname()}/{os.getpid()}/{new_id()}"
        self._leads = False
        self._due: dict[str, float] = {}
        super().__init__(app, lazy=lazy, **facts)
        self.max_interval = RENEW_SECONDS

    @property
    def holder(self) -> str:
        """Return the name under which this one leads."""
        return self._me

    def tick(self, **_: Any) -> float:
        """Send what is due, if this one leads; returns the seconds to the next look."""
        if not self._ask_to_lead():
            return RENEW_SECONDS
        now = time.monotonic()
        due = [name for name in self.schedule if self._due.get(name, now) <= now]
        if due:
            self._send(due, now)
        wait = min((at - now for at in self._due.values()), default=RENEW_SECONDS)
        return min(RENEW_SECONDS, max(0.1, wait))

    def close(self) -> None:
        """Leave the lead to another one at once, and close what was opened."""
        if self._database is not None:
            if self._leads:
                try:
                    with self._database.transaction() as connection:
                        leadership.resign(connection, OFFICE, self._me)
                except SQLAlchemyError as error:
                    log.warning("the lease runs out by itself", reason=reason_of(error))
                self._leads = False
            self._database.close()
            self._database = None
        super().close()

    @property
    def info(self) -> str:
        """Return what beat prints of it when it starts."""
        return f"    . leads -> only with the lease of '{OFFICE}' in the database"

    def _ask_to_lead(self) -> bool:
        try:
            if self._database is None:
                settings = self._settings or Settings.load()
                self._database = Database(settings.database_url, pool_size=1, patience=EDGE)
            with self._database.transaction() as connection:
                leads = leadership.lead(connection, OFFICE, self._me)
        except SQLAlchemyError as error:
            if self._leads:
                log.warning("leads no more: no database", reason=reason_of(error))
            self._leads = False
            return False
        if leads != self._leads:
            log.info("leads" if leads else "leads no more: another one does", holder=self._me)
        self._leads = leads
        return leads

    def _send(self, due: list[str], now: float) -> None:
        """Send rounds to their lane, as long as somebody takes them; what cannot be sent stays due."""
        try:
            room = MOST_WAITING - lanes.waiting(self.app, UPKEEP_LANE)
            for name in due:
                entry = self.schedule[name]
                if room > 0:
                    # Tried once: this process has a lease to renew.
                    self.app.send_task(entry.task, queue=UPKEEP_LANE, retry=False)
                self._due[name] = now + entry.schedule.run_every.total_seconds()
                room -= 1
        except Exception as error:
            # Whatever the broker's library raises while it is away.
            log.warning("rounds are sent later: no broker", reason=reason_of(error))
            for name in due:
                self._due[name] = max(self._due.get(name, now), now + RENEW_SECONDS / 2)
            return
        if room < 0:
            log.warning("nobody does the rounds", left_out=-room)
