"""The Celery app: the tasks, what a worker process loads once, and beat's timetable.

Tasks are thin: an id comes in, one function of the domain is called. `celery -A workers.app`.
"""

import os
from functools import cached_property, partial
from typing import Any
from uuid import UUID

from celery import Task
from celery.exceptions import Reject
from celery.signals import (
    setup_logging,
    worker_init,
    worker_process_shutdown,
    worker_shutting_down,
)

from common import database, documents, lanes, others, pace
from common.codes import CodeSigner
from common.database import EDGE, Database
from common.documents import Documents
from common.lanes import LanesApp
from common.others import Others
from common.pace import Pace
from common.room import board
from common.settings import WorkerSettings
from common.telemetry import about, configure_logs, logger
from workers import delivery, stamping, upkeep
from workers.doorman import Doorman
from workers.faults import reason_of
from workers.hands import Hands
from workers.keyring import Keyring
from workers.lost import Undertaker, WatchedRequest, worker_name
from workers.messages import Leaving, Turn
from workers.orphans import Sweeper
from workers.sealer import Sealer
from workers.sealing import Design
from workers.upgrading import Upgrader

log = logger(__name__)

SETTINGS = WorkerSettings.load()


class Parts:
    """What the tasks of one process share, each made at its first use, after the fork."""

    @cached_property
    def database(self) -> Database:
        """The database's connections."""
        return database.connect(SETTINGS)

    @cached_property
    def documents(self) -> Documents:
        """The object store."""
        return documents.connect(SETTINGS)

    @cached_property
    def pace(self) -> Pace:
        """The lanes' counters."""
        return pace.connect(SETTINGS)

    @cached_property
    def others(self) -> Others:
        """Who else waits."""
        return others.connect(SETTINGS)

    @cached_property
    def keys(self) -> Keyring:
        """The stamping keys, each read once."""
        return Keyring(SETTINGS)

    @cached_property
    def sealer(self) -> Sealer:
        """Signature levels: timestamp authorities and revocation data."""
        return Sealer.from_settings(SETTINGS)

    @cached_property
    def codes(self) -> CodeSigner:
        """The key of QR codes, parsed once."""
        return CodeSigner.from_pem(
            SETTINGS.code_key_file.read_bytes(), public_url=SETTINGS.public_url
        )

    @cached_property
    def design(self) -> Design | None:
        """The issuer's own design, read once."""
        file = SETTINGS.stamp_design_file
        return None if file is None else Design.load(file.read_bytes())

    @cached_property
    def stamper(self) -> stamping.Stamper:
        """The work of the stamp lanes."""
        return stamping.Stamper(
            settings=SETTINGS,
            database=self.database,
            documents=self.documents,
            pace=self.pace,
            keys=self.keys,
            sealer=self.sealer,
            codes=self.codes,
            design=self.design,
            tell=partial(lanes.publish_deliveries, app),
            hands=HANDS,
        )

    @cached_property
    def courier(self) -> delivery.Courier:
        """The work of the webhook lane."""
        return delivery.Courier(settings=SETTINGS, database=self.database)

    @cached_property
    def caretaker(self) -> upkeep.Caretaker:
        """The work of the upkeep lane."""
        return upkeep.Caretaker(
            settings=SETTINGS,
            database=self.database,
            documents=self.documents,
            pace=self.pace,
            app=app,
        )

    @cached_property
    def doorman(self) -> Doorman:
        """The gate and the waiting room before it."""
        return Doorman(
            settings=SETTINGS,
            database=self.database,
            pace=self.pace,
            mirror=board.connect(SETTINGS),
        )

    @cached_property
    def sweeper(self) -> Sweeper:
        """The search for objects that no job names."""
        return Sweeper(database=self.database, documents=self.documents)

    @cached_property
    def upgrader(self) -> Upgrader:
        """Timestamps for files that had to do without."""
        return Upgrader(
            database=self.database,
            documents=self.documents,
            timestamper=self.sealer.timestamper,
            tell=partial(lanes.publish_deliveries, app),
        )


PARTS = Parts()
# Before the pool's processes are forked, which share them.
HANDS = Hands()
LEAVING = Leaving()
app: LanesApp = lanes.make_celery(SETTINGS)
app.conf.update(
    # A task that hangs is asked to stop, then stopped, before its lease runs out.
    task_soft_time_limit=SETTINGS.soft_limit_seconds,
    task_time_limit=SETTINGS.hard_limit_seconds,
    worker_max_memory_per_child=512 * 1024,
    worker_autoscaler="workers.autoscale:LaneAutoscaler",
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    # On a warm shutdown running tasks are waited for; only then are messages given back.
    worker_soft_shutdown_timeout=10,
    beat_schedule={
        name: {"task": f"stampede.{name}", "schedule": seconds}
        for name, seconds in {
            "room": 1.0,
            "relay": 5.0,
            "relay_deliveries": 5.0,
            "leases": 5.0,
            "batches": 5.0,
            "upgrade": 5.0,
            "serials": 5.0,
            "recount": 30.0,
            "quotas": 30.0,
            "purge": 60.0,
            "orphans": 60.0,
            "inbox": 300.0,
            "forget": 600.0,
        }.items()
    },
)


@setup_logging.connect
def _logs(**_: Any) -> None:
    configure_logs(SETTINGS)


@worker_init.connect
def _look_at_files(sender: Any, **_: Any) -> None:
    """End with one sentence where each job would fail for the same reason; only who stamps has keys."""
    if not set(lanes.STAMP_LANES) & set(sender.app.amqp.queues.consume_from):
        return
    try:
        for name in ("codes", "design"):
            getattr(PARTS, name)
    except (OSError, ValueError) as error:
        setting = {"codes": "CODE_KEY_FILE", "design": "STAMP_DESIGN_FILE"}[name]
        raise SystemExit(f"STAMPEDE_{setting} cannot be used: {error}") from error


@worker_shutting_down.connect
def _leave(**_: Any) -> None:
    LEAVING.begin()


@worker_process_shutdown.connect
def _close(**_: Any) -> None:
    if "database" in vars(PARTS):
        PARTS.database.close()
    if "keys" in vars(PARTS):
        PARTS.keys.close()


class StampRequest(WatchedRequest):
    """A stamping as the parent of the pool sees it."""

    undertaker = Undertaker(
        hands=HANDS,
        # While the parent waits, all of its processes do: a silent database is left to the lease.
        connect=lambda: database.connect(SETTINGS, patience=EDGE, pool_size=1),
    )


class StampTask(Task):  # type: ignore[misc]
    """A task whose job is taken back when its process is gone."""

    Request = StampRequest


@app.task(name=lanes.STAMP_TASK, bind=True, base=StampTask)
def stamp(task: Task, *job_ids: str) -> None:
    """Stamp jobs of one lane, where they are still there to be claimed."""
    lane = task.request.delivery_info["routing_key"]
    # From its other end when it comes again: those that stand behind a document that kills are stamped
    # before that gets its second try.
    again = task.request.delivery_info["redelivered"]
    with about(lane=lane):
        try:
            PARTS.stamper.stamp(
                *map(UUID, reversed(job_ids) if again else job_ids),
                worker=worker_name(task.request.hostname, os.getpid()),
                may_go_on=Turn(LEAVING, others_wait=partial(PARTS.others.wait, lane)).lasts,
                put_back=lambda left: lanes.publish_stamps(app, left, lane),
            )
        except stamping.AttemptEndedError:
            # Each of its jobs has had its turn.
            raise
        except stamping.NotClaimedError as error:
            # Acknowledged, it would be missing until the relay looks at the job again.
            raise Reject(str(error), requeue=True) from error
        except Exception as error:
            if len(job_ids) == 1:
                raise
            # Neither may those be missing that stand behind the one that went wrong.
            log.exception("a message of several jobs goes back")
            raise Reject(reason_of(error), requeue=True) from error


@app.task(name=lanes.DELIVER_TASK)
def deliver(delivery_id: str) -> None:
    """Make one attempt at one webhook delivery, if it is due."""
    with about(delivery_id=delivery_id):
        PARTS.courier.deliver(UUID(delivery_id))


@app.task(name="stampede.room")
def room() -> None:
    """Give the waiting room its turns, and open gates whose time has come."""
    with upkeep.round_of("room"):
        PARTS.doorman.advance()


@app.task(name="stampede.relay")
def relay() -> None:
    """Send jobs that the broker lost or never got."""
    with upkeep.round_of("relay"):
        PARTS.caretaker.relay_jobs()


@app.task(name="stampede.relay_deliveries")
def relay_deliveries() -> None:
    """Send webhook deliveries that are due."""
    with upkeep.round_of("relay_deliveries"):
        PARTS.caretaker.relay_deliveries()


@app.task(name="stampede.leases")
def leases() -> None:
    """Take back jobs whose worker went away."""
    with upkeep.round_of("leases"):
        PARTS.caretaker.take_back_expired()


@app.task(name="stampede.batches")
def batches() -> None:
    """Tell of batches whose last job has ended."""
    with upkeep.round_of("batches"):
        PARTS.caretaker.finish_batches()


@app.task(name="stampede.upgrade")
def upgrade() -> None:
    """Bring stored files the timestamp that they had to do without."""
    with upkeep.round_of("upgrade"):
        PARTS.upgrader.upgrade_due()


@app.task(name="stampede.serials")
def serials() -> None:
    """Give serials to jobs that wait for them, and say when the stock runs low."""
    with upkeep.round_of("serials"):
        PARTS.caretaker.serve_waiting()
        PARTS.caretaker.watch_stock()


@app.task(name="stampede.recount")
def recount() -> None:
    """Set the lanes' counters right."""
    with upkeep.round_of("recount"):
        PARTS.caretaker.recount()


@app.task(name="stampede.purge")
def purge() -> None:
    """Delete documents whose retention time is over."""
    with upkeep.round_of("purge"):
        PARTS.caretaker.purge()


@app.task(name="stampede.orphans")
def orphans() -> None:
    """Remove objects that no job names."""
    with upkeep.round_of("orphans"):
        PARTS.sweeper.sweep()


@app.task(name="stampede.quotas")
def quotas() -> None:
    """Tell partners whose quota ran low."""
    with upkeep.round_of("quotas"):
        PARTS.caretaker.look_at_quotas()


@app.task(name="stampede.inbox")
def inbox() -> None:
    """Remove uploads that a crash left behind."""
    with upkeep.round_of("inbox"):
        PARTS.caretaker.clear_inbox()


@app.task(name="stampede.forget")
def forget() -> None:
    """Drop idempotency keys and places in the waiting room that are too old to count."""
    with upkeep.round_of("forget"):
        PARTS.caretaker.forget_idempotency_keys()
        PARTS.doorman.purge()
