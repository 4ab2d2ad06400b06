"""What beat runs: send what the broker lost, take back what workers lost, count anew, forget.

Every round is bounded, safe to run twice and beside itself.
"""

from datetime import UTC, datetime, timedelta

from celery import Celery
from sqlalchemy import text

from common import jobs, lanes, outbox, quota_notices
from common.database import Database
from common.documents import Documents
from common.pace import LanePace, Pace
from common.settings import WorkerSettings
from common.telemetry import FINISHED, UPKEEP, logger

log = logger(__name__)

ROUND = 500
IDEMPOTENCY_KEY_HOURS = 24
DELIVERY_RESEND_SECONDS = 5.0
# Far longer than any client waits for an answer about its file.
INBOX_SECONDS = 600


class Caretaker:
    """Mends with the parts of one worker process."""

    def __init__(
        self,
        *,
        settings: WorkerSettings,
        database: Database,
        documents: Documents,
        pace: Pace,
        app: Celery,
    ) -> None:
        """Take the parts; nothing is opened here."""
        self._settings = settings
        self._database = database
        self._documents = documents
        self._pace = pace
        self._app = app
        self._seen: dict[str, LanePace] = {}

    def relay_jobs(self) -> int:
        """Send queued jobs again whose message may be lost; returns how many.

        The next look at a job comes later each time. A message too many does no harm: the second
        finds nothing to claim.
        """
        with self._database.transaction() as connection:
            due = connection.execute(
                text(
                    "with due as (select id from jobs where state = 'queued'"
                    " and publish_at <= now() order by publish_at limit :limit"
                    " for update skip locked)"
                    " update jobs set publications = publications + 1, publish_at = now()"
                    " + make_interval(secs => least(:again * 2 ^ publications, 3600))"
                    " from due where jobs.id = due.id returning jobs.id, jobs.lane"
                ),
                {"limit": ROUND, "again": self._settings.republish_seconds},
            ).all()
            # Within the transaction: when the broker is away, the jobs stay due.
            for job in due:
                lanes.publish_stamp(self._app, job.id, job.lane)
        self._note("job republished", len(due))
        return len(due)

    def relay_deliveries(self) -> int:
        """Send webhook deliveries that are due; returns how many.

        What waits in the lane is not lost. Sent again each time, the deliveries of a slow lane would
        fill it faster than it empties, for ever.
        """
        room = ROUND - lanes.waiting(self._app, lanes.WEBHOOK_LANE)
        if room <= 0:
            return 0
        with self._database.transaction() as connection:
            due = outbox.take_due(connection, limit=room, resend_seconds=DELIVERY_RESEND_SECONDS)
        lanes.publish_deliveries(self._app, due)
        self._note("delivery published", len(due))
        return len(due)

    def take_back_expired(self) -> int:
        """Requeue jobs whose lease ran out and fail repeat offenders; returns how many in all."""
        with self._database.transaction() as connection:
            requeued, failed = jobs.take_back_expired(connection, limit=ROUND)
        for changed in failed:
            FINISHED.labels("failed", "document_unprocessable").inc()
            lanes.publish_deliveries(self._app, changed.deliveries)
        self._note("lease expired", requeued + len(failed))
        if requeued:
            self.relay_jobs()
        return requeued + len(failed)

    def recount(self) -> None:
        """Set the lanes' counters right from the database."""
        with self._database.transaction() as connection:
            counted = connection.execute(
                text(
                    "select lane, count(*) filter (where started_at is null) as queued,"
                    " max(ticket) as ticket from jobs where state = 'queued' group by lane"
                )
            ).all()
        known = {row.lane: (row.queued, row.ticket or 0) for row in counted}
        for lane in lanes.STAMP_LANES:
            pace = self._pace.lane(lane)
            queued, ticket = known.get(lane, (0, 0))
            if pace is None:
                return
            # Jobs come and go while we count: a difference counts as a fault when it is too large
            # to be theirs, or when nothing moved in the lane since the last round.
            off = abs(pace.waiting - queued)
            still = self._seen.get(lane) == pace
            self._seen[lane] = pace
            if off > max(5, queued // 10) or (off and still) or ticket > pace.accepted:
                self._pace.recount(lane, queued=queued, highest_ticket=ticket)
                self._note("lane recounted", 1)

    def forget_idempotency_keys(self) -> int:
        """Drop keys older than a day; returns how many."""
        with self._database.transaction() as connection:
            dropped = connection.execute(
                text(
                    "delete from idempotency_keys where ctid in (select ctid from idempotency_keys"
                    " where created_at < now() - make_interval(hours => :hours) limit 10000)"
                ),
                {"hours": IDEMPOTENCY_KEY_HOURS},
            ).rowcount
        self._note("idempotency key forgotten", dropped)
        return dropped

    def look_at_quotas(self) -> int:
        """Tell partners whose quota ran low, once each; returns how many."""
        low_at = self._settings.quota_low_stamps
        with self._database.transaction() as connection:
            due = quota_notices.out_of_date(connection, low_at=low_at, limit=ROUND)
        told = 0
        for account_id in due:
            with self._database.transaction() as connection:
                notice = quota_notices.look(connection, account_id, low_at=low_at)
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
        before = datetime.now(UTC) - timedelta(seconds=INBOX_SECONDS)
        removed = self._documents.clear_inbox(before=before, limit=ROUND)
        self._note("upload left behind", removed)
        return removed

    def _note(self, what: str, count: int) -> None:
        if count:
            UPKEEP.labels(what).inc(count)
            log.info("upkeep", what=what, count=count)
