"""The Celery app: the tasks, what a worker process loads once, and beat's timetable.

Tasks are thin: an id comes in, one function of the domain is called. `celery -A workers.app`.
"""

from functools import cached_property, partial
from typing import Any
from uuid import UUID

from celery import Task
from celery.signals import setup_logging, worker_init, worker_process_shutdown

from common import database, documents, lanes, pace
from common.codes import CodeSigner
from common.database import Database
from common.documents import Documents
from common.lanes import LanesApp
from common.pace import Pace
from common.settings import WorkerSettings
from common.telemetry import about, configure_logs
from workers import delivery, stamping, upkeep
from workers.keyring import Keyring
from workers.sealer import Sealer
from workers.sealing import Design
from workers.upgrading import Upgrader

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
    def upgrader(self) -> Upgrader:
        """Timestamps for files that had to do without."""
        return Upgrader(
            database=self.database,
            documents=self.documents,
            timestamper=self.sealer.timestamper,
            tell=partial(lanes.publish_deliveries, app),
        )


PARTS = Parts()
app: LanesApp = lanes.make_celery(SETTINGS)
app.conf.update(
    # A task that hangs is asked to stop, then stopped, before its lease runs out.
    task_soft_time_limit=SETTINGS.lease_seconds * 0.6,
    task_time_limit=SETTINGS.lease_seconds * 0.8,
    worker_max_memory_per_child=512 * 1024,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    # On a warm shutdown running tasks are waited for; only then are messages given back.
    worker_soft_shutdown_timeout=10,
    beat_schedule={
        "relay": {"task": "stampede.relay", "schedule": 5.0, "options": {"expires": 30}},
        "leases": {"task": "stampede.leases", "schedule": 5.0, "options": {"expires": 30}},
        "batches": {"task": "stampede.batches", "schedule": 5.0, "options": {"expires": 30}},
        "upgrade": {"task": "stampede.upgrade", "schedule": 5.0, "options": {"expires": 30}},
        "serials": {"task": "stampede.serials", "schedule": 5.0, "options": {"expires": 30}},
        "recount": {"task": "stampede.recount", "schedule": 30.0, "options": {"expires": 30}},
        "forget": {"task": "stampede.forget", "schedule": 600.0, "options": {"expires": 600}},
        "quotas": {"task": "stampede.quotas", "schedule": 30.0, "options": {"expires": 30}},
        "inbox": {"task": "stampede.inbox", "schedule": 300.0, "options": {"expires": 300}},
    },
)


@setup_logging.connect
def _logs(**_: Any) -> None:
    configure_logs(SETTINGS)


@worker_init.connect
def _look_at_files(**_: Any) -> None:
    """End with one sentence where each job would fail for the same reason."""
    try:
        for name in ("codes", "design"):
            getattr(PARTS, name)
    except (OSError, ValueError) as error:
        setting = {"codes": "CODE_KEY_FILE", "design": "STAMP_DESIGN_FILE"}[name]
        raise SystemExit(f"STAMPEDE_{setting} cannot be used: {error}") from error


@worker_process_shutdown.connect
def _close(**_: Any) -> None:
    if "database" in vars(PARTS):
        PARTS.database.close()
    if "keys" in vars(PARTS):
        PARTS.keys.close()


@app.task(name=lanes.STAMP_TASK, bind=True)
def stamp(task: Task, job_id: str) -> None:
    """Stamp one job, if it is still there to be claimed."""
    with about(job_id=job_id, lane=(task.request.delivery_info or {}).get("routing_key")):
        PARTS.stamper.stamp(UUID(job_id))


@app.task(name=lanes.DELIVER_TASK)
def deliver(delivery_id: str) -> None:
    """Make one attempt at one webhook delivery, if it is due."""
    with about(delivery_id=delivery_id):
        PARTS.courier.deliver(UUID(delivery_id))


@app.task(name="stampede.relay")
def relay() -> None:
    """Send what the broker lost or never got."""
    PARTS.caretaker.relay_jobs()
    PARTS.caretaker.relay_deliveries()


@app.task(name="stampede.leases")
def leases() -> None:
    """Take back jobs whose worker went away."""
    PARTS.caretaker.take_back_expired()


@app.task(name="stampede.batches")
def batches() -> None:
    """Tell of batches whose last job has ended."""
    PARTS.caretaker.finish_batches()


@app.task(name="stampede.upgrade")
def upgrade() -> None:
    """Bring stored files the timestamp that they had to do without."""
    PARTS.upgrader.upgrade_due()


@app.task(name="stampede.serials")
def serials() -> None:
    """Give serials to jobs that wait for them, and say when the stock runs low."""
    PARTS.caretaker.serve_waiting()
    PARTS.caretaker.watch_stock()


@app.task(name="stampede.recount")
def recount() -> None:
    """Set the lanes' counters right."""
    PARTS.caretaker.recount()


@app.task(name="stampede.forget")
def forget() -> None:
    """Drop idempotency keys that are too old to count."""
    PARTS.caretaker.forget_idempotency_keys()


@app.task(name="stampede.quotas")
def quotas() -> None:
    """Tell partners whose quota ran low."""
    PARTS.caretaker.look_at_quotas()


@app.task(name="stampede.inbox")
def inbox() -> None:
    """Remove uploads that a crash left behind."""
    PARTS.caretaker.clear_inbox()
