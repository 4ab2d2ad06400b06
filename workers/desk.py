"""The Celery app of the lane `check`: looks into files of strangers, and holds nothing of value.

A worker of its own, because its files are hostile until shown otherwise: it has no stamping key and
no database, its processes are bounded in time and memory, and when one dies no stamping dies with it.
`celery -A workers.desk worker -Q check`.
"""

from functools import cached_property, partial
from typing import Any
from uuid import UUID

from billiard.exceptions import TimeLimitExceeded
from celery import Celery, Task
from celery.signals import setup_logging, worker_init

from common import documents, lanes
from common.replies import Answerer
from common.settings import CheckSettings
from common.telemetry import about, configure_logs
from workers import checking, previewing
from workers.answering import Desk, limit_memory
from workers.sealing import Design
from workers.trust import Trust

SETTINGS = CheckSettings.load()
# How long after the soft limit, which the file's own code may swallow, the process is killed.
KILL_AFTER_SECONDS = 2.0


class Parts:
    """What the tasks of one process share, each made at its first use, after the fork."""

    @cached_property
    def desk(self) -> Desk:
        """Takes questions and answers them."""
        return Desk(documents=documents.connect(SETTINGS), answerer=Answerer(SETTINGS))

    @cached_property
    def bounded_desk(self) -> Desk:
        """The same, for a process that opens the files itself."""
        limit_memory(SETTINGS.check_memory_bytes)
        return self.desk

    @cached_property
    def design(self) -> Design | None:
        """The issuer's own design, read once."""
        file = SETTINGS.stamp_design_file
        return None if file is None else Design.load(file.read_bytes())


PARTS = Parts()
app: Celery = lanes.make_celery(SETTINGS)
app.conf.update(
    task_soft_time_limit=SETTINGS.check_seconds,
    task_time_limit=SETTINGS.check_seconds + KILL_AFTER_SECONDS,
    # In KiB: a process that a file made large is replaced after its answer.
    worker_max_memory_per_child=SETTINGS.check_memory_bytes // 2048,
    # By the files that wait: each has a client who waits for seconds only.
    worker_autoscaler="workers.autoscale:CarefulAutoscaler",
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
)


@setup_logging.connect
def _logs(**_: Any) -> None:
    configure_logs(SETTINGS)


@worker_init.connect
def _look_at_files(**_facts: Any) -> None:
    """End with one sentence where each question would fail for the same reason."""
    try:
        name = "TRUST_ROOTS_FILE"
        Trust.from_pem(SETTINGS.trust_roots_file.read_bytes())
        if SETTINGS.timestamp_roots_file is not None:
            name = "TIMESTAMP_ROOTS_FILE"
            Trust.from_pem(SETTINGS.timestamp_roots_file.read_bytes())
        name = "STAMP_DESIGN_FILE"
        _ = PARTS.design
    except (OSError, ValueError) as error:
        raise SystemExit(f"STAMPEDE_{name} cannot be used: {error}") from error


class Answered(Task):  # type: ignore[misc]
    """A task whose client is told also when its process was killed."""

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called in the main process when the hard time limit has killed a child."""
        if isinstance(exc, TimeLimitExceeded):
            PARTS.desk.killed(UUID(task_id))


@app.task(name=lanes.CHECK_TASK, base=Answered)
def check(question_id: str) -> None:
    """Check the signatures of one file."""
    with about(question_id=question_id):
        work = partial(
            checking.answer,
            trust_roots_file=SETTINGS.trust_roots_file,
            timestamp_roots_file=SETTINGS.timestamp_roots_file,
        )
        PARTS.bounded_desk.serve(UUID(question_id), work)


@app.task(name=lanes.PREVIEW_TASK, base=Answered)
def preview(question_id: str) -> None:
    """Draw stamps on one file, unsigned."""
    with about(question_id=question_id):
        work = partial(
            previewing.answer,
            face_value=SETTINGS.face_value,
            serial_length=SETTINGS.serial_length,
            design=PARTS.design,
        )
        PARTS.bounded_desk.serve(UUID(question_id), work)
