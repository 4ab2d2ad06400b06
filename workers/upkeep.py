"""What beat runs: send what the broker lost, take back what workers lost, count anew, forget, purge.

Every round is bounded in time or number, safe to run twice and beside itself, and goes on where one
item cannot be mended. `docs/retries.md` has them in a table.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from common import batches, jobs, lanes, outbox, quota_notices
from common.database import Database
from common.documents import Documents
from common.lanes import LanesApp
from common.pace import Entry, Pace
from common.serials import low
from common.settings import WorkerSettings
from common.telemetry import FINISHED, UPKEEP, UPKEEP_RAN, about, logger
from workers.faults import reason_of
from workers.recounting import Recounter
from workers.relay import ROUND, ROUND_SECONDS, Relay

log = logger(__name__)

# One that has jobs left costs one look into an index.
BATCHES_LOOKED_AT = 2000
LONG_ROUND_SECONDS = 20.0
PURGED_AT_ONCE = 100
KEYS_FORGOTTEN_AT_ONCE = 10_000
IDEMPOTENCY_KEY_HOURS = 24
DELIVERY_RESEND_SECONDS = 5.0
# Far longer than any client waits for an answer about its file.
INBOX_SECONDS = 600


@contextmanager
def round_of(name: str) -> Iterator[None]:
    """Note when a round was last done to its end."""
    yield
    UPKEEP_RAN.labels(name).set_to_current_time()


class Caretaker:
    """Mends with the parts of one worker process."""

    def __init__(
        self,
        *,
        settings: WorkerSettings,
        database: Database,
        documents: Documents,
        pace: Pace,
        app: LanesApp,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Take the parts; nothing is opened here."""
        self._settings = settings
        self._database = database
        self._documents = documents
        self._pace = pace
        self._app = app
        self._clock = clock
        self._now = now
        self._supply = settings.serial_supply()
        self._relay = Relay(
            republish_seconds=settings.republish_seconds,
            database=database,
            pace=pace,
            app=app,
            clock=clock,
        )
        self._recounter = Recounter(database=database, pace=pace, clock=clock)

    def relay_jobs(self) -> int:
        """Send queued jobs again whose message was lost; returns how many."""
        count = self._relay.run()
        self._note("job republished", count)
        return count

    def relay_deliveries(self) -> int:
        """Send webhook deliveries that are due; returns how many.

        What waits in the lane is not lost. Sent again each time, the deliveries of a slow lane would
        fill it faster than it empties, for ever.
        """
        room = ROUND - lanes.waiting(self._app, lanes.WEBHOOK_LANE)
        if room <= 0:
            return 0
        with self._database.transaction() as connection:
            outbox.pull_in(connection, lease_seconds=self._settings.webhook_timeout_seconds * 2 + 5)
            due = outbox.take_due(connection, limit=room, resend_seconds=DELIVERY_RESEND_SECONDS)
        lanes.publish_deliveries(self._app, due)
        self._note("delivery published", len(due))
        return len(due)

    def take_back_expired(self) -> int:
        """Take back jobs whose lease ran out, each in a transaction of its own; returns how many.

        A job that cannot be taken back (its books are damaged, say) keeps no other from its turn.
        """
        lease = self._settings.lease_seconds
        with self._database.transaction() as connection:
            ids = jobs.expired(connection, lease_seconds=lease, limit=ROUND)
        taken = []
        for job_id in ids:
            with about(job_id=str(job_id)):
                try:
                    with self._database.transaction() as connection:
                        taken.append(jobs.take_back(connection, job_id, lease_seconds=lease))
                except Exception as error:
                    log.error("a lease cannot be taken back", reason=reason_of(error))
                    UPKEEP.labels("lease cannot be taken back").inc()
        found = [each for each in taken if each is not None]
        for each in found:
            if each.failed is not None:
                FINISHED.labels("failed", "document_unprocessable").inc()
                lanes.publish_deliveries(self._app, each.failed.deliveries)
        self._note("lease expired", len(found))
        if any(each.failed is None for each in found):
            self.relay_jobs()
        return len(found)

    def serve_waiting(self) -> int:
        """Give serials to jobs that wait for them, for a few seconds; returns how many got theirs."""
        until, count = self._clock() + ROUND_SECONDS, 0
        while self._clock() < until:
            served = self._serve_some()
            if not served:
                break
            count += served
            self.relay_jobs()
        self._note("job got its serials", count)
        return count

    def _serve_some(self) -> int:
        """Serve some jobs; their lanes count them from now on, unless that is rolled back."""
        entered: list[Entry] = []

        def enter(lane: str) -> int | None:
            entry = self._pace.enter((lane,))
            entered.append(entry)
            return entry.ticket

        try:
            with self._database.transaction() as connection:
                return jobs.serve_waiting(connection, self._supply, limit=ROUND, enter=enter)
        except Exception:
            for entry in entered:
                if entry.ticket is not None:
                    self._pace.withdraw(entry.lane)
            raise

    def watch_stock(self) -> bool:
        """Tell once that imported serials run low; returns whether this call did."""
        if self._settings.serial_source != "imported":
            return False
        below = self._settings.serial_stock_low
        with self._database.transaction() as connection:
            found = low.tell(connection, below=below)
        if found is None:
            return False
        log.warning(
            "serials run low",
            in_stock=found.in_stock,
            below=below,
            waiting_jobs=found.waiting_jobs,
        )
        return True

    def finish_batches(self) -> int:
        """Tell of batches whose last job has ended; returns how many."""
        with self._database.transaction() as connection:
            found = batches.finish_ended(connection, limit=BATCHES_LOOKED_AT)
        lanes.publish_deliveries(self._app, found.deliveries)
        self._note("batch finished", len(found.finished))
        return len(found.finished)

    def recount(self) -> None:
        """Set the lanes' counters right from the database."""
        self._note("lane recounted", self._recounter.run())

    def forget_idempotency_keys(self) -> int:
        """Drop keys older than a day; returns how many."""
        return self._again_and_again(
            "idempotency key forgotten",
            self._forget_some_keys,
            KEYS_FORGOTTEN_AT_ONCE,
            LONG_ROUND_SECONDS,
        )

    def _forget_some_keys(self) -> int:
        with self._database.transaction() as connection:
            return connection.execute(
                text(
                    "delete from idempotency_keys where ctid in (select ctid from idempotency_keys"
                    " where created_at < now() - make_interval(hours => :hours) limit :limit)"
                ),
                {"hours": IDEMPOTENCY_KEY_HOURS, "limit": KEYS_FORGOTTEN_AT_ONCE},
            ).rowcount

    def purge(self) -> int:
        """Delete documents whose retention time is over; returns of how many jobs."""
        if not self._settings.retention_days:
            return 0
        return self._again_and_again(
            "job purged", self._purge_some, PURGED_AT_ONCE, LONG_ROUND_SECONDS
        )

    def _purge_some(self) -> int:
        with self._database.transaction() as connection:
            purged = jobs.purge(
                connection, retention_days=self._settings.retention_days, limit=PURGED_AT_ONCE
            )
        for job_id in purged.job_ids:
            self._documents.delete_job(job_id)
        lanes.publish_deliveries(self._app, purged.deliveries)
        return len(purged.job_ids)

    def look_at_quotas(self) -> int:
        """Tell partners whose quota ran low, once each; returns how many."""
        low_at = self._settings.quota_low_stamps
        with self._database.transaction() as connection:
            due = quota_notices.out_of_date(connection, low_at=low_at, limit=ROUND)
        told = 0
        for account_id in due:
            try:
                with self._database.transaction() as connection:
                    notice = quota_notices.look(connection, account_id, low_at=low_at)
            except Exception as error:
                # Somebody holds it for long, say: the others have their turn.
                log.error("no look at a quota", account_id=str(account_id), reason=reason_of(error))
                UPKEEP.labels("quota not looked at").inc()
                continue
            if notice is None:
                continue
            told += 1
            log.warning(
                "quota low",
                partner_id=str(notice.partner_id),
                available=notice.available,
                low_at=notice.low_at,
            )
            lanes.publish_deliveries(self._app, notice.deliveries)
        self._note("quota low", told)
        return told

    def clear_inbox(self) -> int:
        """Remove uploads whose client has long left, and which a crash left behind; returns how many."""
        with self._database.transaction() as connection:
            theirs: datetime = connection.execute(text("select now()")).scalar_one()
        # By the earlier of two clocks: one that jumps makes no upload old that is being written.
        before = min(theirs, self._now()) - timedelta(seconds=INBOX_SECONDS)
        removed = self._documents.clear_inbox(before=before, limit=ROUND)
        self._note("upload left behind", removed)
        return removed

    def _again_and_again(
        self, what: str, some: Callable[[], int], full: int, seconds: float
    ) -> int:
        """Do what is done in portions until one is not full, or the time is up; returns the sum."""
        until, count = self._clock() + seconds, 0
        while True:
            done = some()
            self._note(what, done)
            count += done
            if done < full or self._clock() >= until:
                return count

    def _note(self, what: str, count: int) -> None:
        if count:
            UPKEEP.labels(what).inc(count)
            log.info("upkeep", what=what, count=count)
