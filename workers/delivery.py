"""Webhooks: one attempt at one delivery, signed as Standard Webhooks says.

At least once: a worker that dies between sending and recording sends again, with the same
`webhook-id`. When to try again is kept in the database, not in the broker.

httpx bounds each step of an exchange, not the whole: a receiver that sends a byte now and then would
hold the thread that waits for it, and a few of them the upkeep that shares these threads. So the
whole is bounded, in an event loop of its own.
"""

import asyncio
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

import httpx
from standardwebhooks.webhooks import Webhook

from common import events, outbox, webhook_targets
from common.database import Database
from common.outbox import Due
from common.settings import WorkerSettings
from common.telemetry import DELIVERIES, about, logger
from workers.faults import reason_of

log = logger(__name__)

ERROR_LENGTH = 200


class Courier:
    """Delivers webhooks with the parts of one worker process."""

    def __init__(self, *, settings: WorkerSettings, database: Database) -> None:
        """Take the parts, prepare the HTTP client and start its loop, which all threads share."""
        self._settings = settings
        self._database = database
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="webhooks", daemon=True).start()
        self._client = httpx.AsyncClient(
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
        headers = {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
        }
        try:
            webhook_targets.check(due.url, allow_private=self._settings.webhook_allow_private)
            headers["webhook-signature"] = Webhook(due.secret).sign(message_id, now, body.decode())
            exchange = self._post(due.url, body, headers)
            status = asyncio.run_coroutine_threadsafe(exchange, self._loop).result()
        except webhook_targets.RefusedTargetError as error:
            return None, f"address refused: {error}"
        except Exception as error:
            # Whatever a library raises about an address or an answer: an attempt that ended without
            # being recorded would be made again every few seconds, for ever.
            return None, reason_of(error)[:ERROR_LENGTH]
        return status, None if 200 <= status < 300 else f"HTTP {status}"

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Return the answer's status; its body is of no use to us and is not read."""
        async with (
            asyncio.timeout(self._settings.webhook_timeout_seconds),
            self._client.stream("POST", url, content=body, headers=headers) as response,
        ):
            return response.status_code
