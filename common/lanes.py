"""The queues by name, who goes into which, and publishing to them.

A partner is hashed onto two of the partner lanes and uses the shorter (shuffle sharding), so that
one partner's flood shares at most both lanes with a few others. The Celery task id is the job id.
"""

import hashlib
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

from celery import Celery
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError

from common.breaker import Breaker, Pauses
from common.settings import Settings

PARTNER_LANES = tuple(f"stamp.partner.{number}" for number in range(8))
APPLICANT_LANE = "stamp.applicant"
BULK_LANE = "stamp.bulk"
STAMP_LANES = (APPLICANT_LANE, *PARTNER_LANES, BULK_LANE)
WEBHOOK_LANE = "webhook"
UPKEEP_LANE = "upkeep"
# Questions that a client waits for; served by a worker of its own, with limits.
CHECK_LANE = "check"
ALL_LANES = (*STAMP_LANES, WEBHOOK_LANE, UPKEEP_LANE, CHECK_LANE)

STAMP_TASK = "stampede.stamp"
DELIVER_TASK = "stampede.deliver"
CHECK_TASK = "stampede.check"
PREVIEW_TASK = "stampede.preview"

# Longer than any task may run: within it the broker does not hand a message to a second worker.
# A lost message does not wait for it; the lease in the database is what brings a job back.
VISIBILITY_TIMEOUT_SECONDS = 3600


def partner_lanes(partner_id: UUID) -> tuple[str, str]:
    """Return the partner's two lanes, always the same and always different from each other."""
    digest = hashlib.sha256(partner_id.bytes).digest()
    first = digest[0] % len(PARTNER_LANES)
    second = (first + 1 + digest[1] % (len(PARTNER_LANES) - 1)) % len(PARTNER_LANES)
    return PARTNER_LANES[first], PARTNER_LANES[second]


def lanes_of(partner_id: UUID, *, prompt: bool) -> tuple[str, ...]:
    """Return the lanes that a partner's single document may go to.

    Args:
        partner_id: whose it is.
        prompt: the partner keeps to its pace (common/allowances.py).
    """
    return partner_lanes(partner_id) if prompt else (BULK_LANE,)


def _queue(name: str) -> Queue:
    return Queue(name, exchange=Exchange(name, type="direct"), routing_key=name)  # type: ignore[no-untyped-call]


class LanesApp(Celery):  # type: ignore[misc]
    """A Celery app that leaves a broker alone for a while which did not take a message."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.breaker = Breaker(
            time.monotonic,
            Pauses(failures_allowed=1, first=2, longest=2, longest_try=5, bearable=0.1),
        )


def make_celery(settings: Settings) -> LanesApp:
    """Return a Celery app that knows the broker and the lanes, and no task."""
    app = LanesApp("stampede", broker=settings.broker_url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure_or_timeout=True,
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        task_send_sent_event=False,
        task_queues=[_queue(name) for name in ALL_LANES],
        task_default_queue=UPKEEP_LANE,
        task_create_missing_queues=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_TIMEOUT_SECONDS,
            # Longer than a worker waits for a message at a time (1 s).
            "socket_timeout": 3,
            "socket_connect_timeout": 2,
            # Publishing tries once; a worker's own connection is retried by its own settings.
            "max_retries": 0,
            "queue_order_strategy": "common.turns:WeightedTurns",
            "priority_steps": [0],
        },
        timezone="UTC",
    )
    return app


def publish_stamp(app: LanesApp, job_id: UUID, lane: str) -> None:
    """Send a job to its lane. Sending twice is harmless: the second finds nothing to claim.

    Raises:
        kombu.exceptions.OperationalError: the broker cannot be reached.
    """
    publish_stamps(app, [job_id], lane)


def publish_stamps(app: LanesApp, job_ids: Sequence[UUID], lane: str) -> None:
    """Send jobs of one lane in one message, which has the id of the first; one worker takes them all.

    Raises:
        kombu.exceptions.OperationalError: the broker cannot be reached.
    """
    _send(app, STAMP_TASK, job_ids, lane)


def publish_deliveries(app: LanesApp, delivery_ids: Iterable[UUID]) -> None:
    """Send webhook deliveries to their lane; what the broker does not take, the relay sends.

    Called after a commit, so nothing that goes wrong here may look like a failure of what was done.
    """
    with suppress(Exception):
        for delivery_id in delivery_ids:
            _send(app, DELIVER_TASK, [delivery_id], WEBHOOK_LANE)


def publish_question(
    app: LanesApp, task: str, question_id: UUID, *, expires_seconds: float
) -> None:
    """Send a question to the workers; none takes it up once its client has left.

    Raises:
        kombu.exceptions.OperationalError: the broker cannot be reached.
    """
    _send(app, task, [question_id], CHECK_LANE, expires=expires_seconds)


def waiting(app: LanesApp, lane: str) -> int:
    """Return how many messages of a lane wait in the broker.

    Raises:
        kombu.exceptions.OperationalError: the broker cannot be reached.
    """
    with app.connection_for_write() as connection:
        try:
            declared = connection.default_channel.queue_declare(lane, passive=True)
        except connection.channel_errors:
            # Redis has no empty lists.
            return 0
        return int(declared.message_count)


def _send(app: LanesApp, task: str, items: Sequence[UUID], lane: str, **options: Any) -> None:
    if not app.breaker.take_turn():
        raise OperationalError("the broker did not answer a moment ago")
    # No retry here: whoever waits for an answer is not held up, and the relay sends it later.
    with app.breaker.watch(Exception):
        app.send_task(
            task,
            args=tuple(map(str, items)),
            task_id=str(items[0]),
            queue=lane,
            retry=False,
            **options,
        )
