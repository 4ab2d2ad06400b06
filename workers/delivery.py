"""Webhooks: one attempt at one delivery, signed as Standard Webhooks says.

At least once: a worker that dies between sending and recording sends again, with the same
`webhook-id`. When to try again is kept in the database, not in the broker.
"""

from datetime import UTC, datetime
from uuid import UUID

import httpx
from standardwebhooks.webhooks import Webhook

from common import events, outbox, webhook_targets
from common.database import Database
from common.outbox import Due
from common.settings import WorkerSettings
from common.telemetry import DELIVERIES, about, logger

log = logger(__name__)

ERROR_LENGTH = 200


class Courier:
    """Delivers webhooks with the parts of one worker process."""

    def __init__(self, *, settings: WorkerSettings, database: Database) -> None:
        """Take the parts and prepare the HTTP client."""
        self._settings = settings
        self._database = database
        self._client = httpx.Client(
            timeout=settings.webhook_timeout_seconds,
            follow_redirects=False,
            trust_env=False,
            headers={"user-agent": "Stampede-Webhooks/1", "content-type": "application/json"},
        )

    def deliver(self, delivery_id: UUID) -> None:
        """Make one attempt, if the delivery is due, and record how it ended."""
        with self._database.transaction() as connection:
            due = outbox.claim(
                connection,
                delivery_id,
                lease_seconds=self._settings.webhook_timeout_seconds * 2 + 5,
            )
        if due is None:
            return
        job = {} if due.job_id is None else {"job_id": str(due.job_id)}
        with about(**job, event_id=str(due.event_id), attempt=due.attempt):
            status, error = self._send(due)
            with self._database.transaction() as connection:
                if error is None and status is not None:
                    outbox.delivered(connection, due, status=status)
                    again = False
                else:
                    again = outbox.missed(connection, due, status=status, error=error or "")
            DELIVERIES.labels("delivered" if error is None else "missed").inc()
            log.info("webhook", type=due.event_type, status=status, error=error, again=again)

    def _send(self, due: Due) -> tuple[int | None, str | None]:
        """Return the answer's status, if there was one, and what went wrong, if anything did."""
        body = events.message(
            type=due.event_type,
            at=due.event_at,
            job_id=due.job_id,
            payload=due.payload,
            public_url=self._settings.public_url,
        )
        now = datetime.now(UTC)
        message_id = str(due.event_id)
        try:
            webhook_targets.check(due.url, allow_private=self._settings.webhook_allow_private)
            # The answer's body is of no use to us and is not read.
            with self._client.stream(
                "POST",
                due.url,
                content=body,
                headers={
                    "webhook-id": message_id,
                    "webhook-timestamp": str(int(now.timestamp())),
                    "webhook-signature": Webhook(due.secret).sign(message_id, now, body.decode()),
                },
            ) as response:
                status = response.status_code
        except webhook_targets.RefusedTargetError as error:
            return None, f"address refused: {error}"
        except httpx.HTTPError as error:
            return None, f"{type(error).__name__}: {error}"[:ERROR_LENGTH]
        return status, None if 200 <= status < 300 else f"HTTP {status}"
