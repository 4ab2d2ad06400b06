"""A process of the pool that died or was killed: its parent knows its jobs, and takes back the one it had.

Without this the job would wait for its lease, and nobody could tell a document that kills from a
machine that was switched off. What runs here runs in the parent, between its children: it opens a
connection of its own and closes it before the next one is forked. Where the database is away, the lease
does it.

The message of a process that died goes back to the broker, and so does one of several jobs whose process
was killed for its time: those behind the one that it had are stamped by whoever gets it next. What it
finds ended, or waiting after a fault, it leaves alone.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any
from uuid import UUID

from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery.worker import state
from celery.worker.request import Request
from sqlalchemy.exc import SQLAlchemyError

from common import jobs
from common.database import Database
from common.jobs import Setback, SetbackKind
from common.telemetry import FINISHED, about, logger
from workers import faults
from workers.hands import Hands

log = logger(__name__)

# By these a pool says that a process is gone; the last two are what some deaths arrive as.
_GONE = (WorkerLostError, TimeLimitExceeded, Terminated, SystemExit, KeyboardInterrupt)


def worker_name(hostname: str, pid: int) -> str:
    """Return the name under which a process of the pool claims jobs; its parent makes the same."""
    return f"{hostname}/{pid}"


def setback_of(error: BaseException, *, held: bool, ending: bool) -> tuple[Setback, bool]:
    """Return what became of an attempt whose process is gone, and whether the document may be at fault.

    Args:
        error: what the pool says.
        held: whether the process had the document in its hands.
        ending: whether the worker is being ended, and its processes with it.
    """
    reason = faults.reason_of(error)
    if ending or isinstance(error, Terminated):
        return Setback(SetbackKind.LOST, f"its worker was ended ({reason})"), False
    if held:
        return Setback(SetbackKind.KILLED, reason), True
    if isinstance(error, TimeLimitExceeded):
        return Setback(SetbackKind.PASSING, f"not the document took the time ({reason})"), False
    return Setback(SetbackKind.LOST, reason), True


def _ending() -> bool:
    # An exit code, which may be 0.
    return state.should_terminate is not None and state.should_terminate is not False


class Undertaker:
    """Takes jobs from processes that are gone; lives in the parent of the pool."""

    def __init__(
        self, *, hands: Hands, connect: Callable[[], Database], random: Random | None = None
    ) -> None:
        """Take what tells about the processes, and how to open the database; nothing is opened here."""
        self._hands = hands
        self._connect = connect
        self._random = random or Random()

    def take_from(
        self, job_ids: Sequence[UUID], hostname: str, pid: int, error: BaseException
    ) -> None:
        """Take the job of a message back that a process had which is gone, if it had one."""
        setback, counts = setback_of(error, held=self._hands.held(pid), ending=_ending())
        wait = faults.retry_seconds(1, self._random) if setback.kind is SetbackKind.PASSING else 0
        database = self._connect()
        try:
            with database.transaction() as connection:
                taken = jobs.take_from(
                    connection,
                    job_ids,
                    worker=worker_name(hostname, pid),
                    setback=setback,
                    counts=counts,
                    retry_after_seconds=wait,
                )
        except SQLAlchemyError as failure:
            log.warning("the lease takes the job back", reason=faults.reason_of(failure))
            return
        finally:
            database.close()
        if taken is None:
            return
        about_it = log.bind(job_id=str(taken.job_id))
        about_it.warning("process gone", kind=setback.kind, reason=setback.reason)
        if taken.failed is not None:
            # Its webhooks are sent by the relay: no connection to the broker is opened here.
            about_it.info("failed", code="document_unprocessable")
            FINISHED.labels("failed", "document_unprocessable").inc()


class WatchedRequest(Request):  # type: ignore[misc]
    """A message as its parent sees it, its arguments the jobs; `undertaker` is set by the app."""

    undertaker: Undertaker

    def revoked(self) -> bool:
        """Say no: a revoke may end an attempt, by terminating its process, but never a job.

        The first job's id is the message's: for hours every further one would be dropped unseen.
        """
        return False

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """End the process, as an operator asks; Celery acknowledges its message."""
        self._give_back_others()
        super().terminate(pool, signal)

    def on_failure(self, exc_info: Any, *arguments: Any, **named: Any) -> None:
        """Take the job back before the message goes back to the broker."""
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(error, _GONE):
            self._take_back(error)
        super().on_failure(exc_info, *arguments, **named)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Take the job back from a process that is about to be killed for its time."""
        if not soft:
            self._take_back(TimeLimitExceeded(timeout))
        super().on_timeout(soft, timeout)

    def _take_back(self, error: BaseException) -> None:
        if self.worker_pid is None:
            # It died before it began, and has claimed nothing.
            return
        job_ids = [UUID(job_id) for job_id in self.args]
        with about(message=self.id):
            try:
                self.undertaker.take_from(job_ids, self._hostname, self.worker_pid, error)
            except Exception:
                # A parent that falls would take every other job with it; the lease is left.
                log.exception("a job could not be taken back")
        self._give_back_others()

    def _give_back_others(self) -> None:
        """Give the message back for the jobs that the process had not begun; the relay comes later."""
        if len(self.args) > 1:
            self.reject(requeue=True)
