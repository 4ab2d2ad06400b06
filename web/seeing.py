"""A job as it is shown: from its snapshot, or from the database, which then leaves one."""

import hashlib
from dataclasses import dataclass
from uuid import UUID

from flask import request
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from common.jobs import FINAL, State, records
from common.jobs.records import JobPicture
from common.known_callers import Memory
from common.pace import HELD_UP, UNKNOWN, Pace, Wait
from common.problems import Code, ProblemError
from common.snapshots import Glance, packed
from web.callers import caller
from web.parts import Parts, parts

# Under this name in a request's environment: what Valkey said, which is asked once a request.
GLANCE = "stampede.glance"
# Exact up to here; beyond, two digits that matter. Who is far away sees the same for a while, and may be
# told by 304 that nothing has changed.
EXACT_POSITION = 1000
EXACT_SECONDS = 100
# In a lane, and Valkey is away: nothing tells the place, and everybody asks the database.
OUT_OF_SIGHT = Wait(None, None, ask_again=15)


@dataclass(frozen=True, slots=True)
class Seen:
    """A job and its wait, as they are now; `wait` is rounded as it is shown."""

    job: JobPicture
    wait: Wait
    packed: bytes

    def validator(self, shared: Parts) -> str:
        """Return what changes with anything that is shown of the job; known before it is rendered."""
        waits = f"{self.wait.position} {self.wait.seconds_left} {shared.settings.public_url} "
        return hashlib.sha256(waits.encode() + self.packed).hexdigest()[:32]

    def retry_after(self, shared: Parts) -> int | None:
        """Return after how many seconds to ask again; None: nothing will change."""
        if self.job.state in FINAL:
            return None
        return shared.polling.retry_after(self.wait, self.job.lane)


def own(wanted: str) -> Seen:
    """Return the caller's job; who asks and the job are looked up in one question to Valkey.

    Raises:
        ProblemError: what `caller` raises; `not_found`, also for a job of somebody else.
    """
    try:
        job_id = UUID(wanted)
    except ValueError as error:
        caller(vouchers=True)
        raise ProblemError(Code.NOT_FOUND) from error
    glance = Glance()

    def recall(secret: str) -> Memory:
        nonlocal glance
        known = parts().known
        names = known.names(secret)
        glance = _looked_at() or parts().snapshots.look(job_id, *names)
        return known.read(names[0], *glance.beside)

    asking = caller(vouchers=True, recall=recall)
    seen = _seen(job_id, glance)
    if seen is None or seen.job.account_id != asking.account_id:
        raise ProblemError(Code.NOT_FOUND)
    return seen


def anybodys(job_id: UUID) -> Seen | None:
    """Return a job for whoever has its link; None: there is none."""
    return _seen(job_id, _looked_at() or parts().snapshots.look(job_id))


def at_a_glance(glance: Glance, pace: Pace) -> Seen | None:
    """Return a job by its snapshot alone; None: somebody has to be asked."""
    job = glance.picture
    if job is None or glance.lease is not None:
        return None
    return Seen(job, wait_of(job, glance.served, pace), glance.packed)


def wait_of(job: JobPicture, served: int | None = None, pace: Pace | None = None) -> Wait:
    """Return a job's place and time left as they are now, rounded as they are shown.

    Args:
        job: the job.
        served: how many its lane has served, where that is known already.
        pace: the lanes' counters; those of the app that serves this request.
    """
    if job.state is State.PARKED or job.waiting_for is not None:
        return HELD_UP
    # One that comes back from an attempt waits for its time, and its ticket no longer tells its place.
    if not job.has_place or job.ticket is None:
        return OUT_OF_SIGHT if job.state is State.QUEUED and job.attempt == 0 else UNKNOWN
    pace = pace or parts().pace
    if served is None:
        now = pace.wait(job.lane, job.ticket)
    else:
        now = pace.wait_behind(job.lane, job.ticket, served=served)
    return OUT_OF_SIGHT if now.position is None else shown(now)


def shown(wait: Wait) -> Wait:
    """Round a wait up to what is worth telling: never less than the truth, a tenth more at the most."""
    return Wait(
        _rounded(wait.position, EXACT_POSITION),
        _rounded(wait.seconds_left, EXACT_SECONDS),
        wait.ask_again,
    )


def _looked_at() -> Glance | None:
    """Return what was looked up for this request before it came to us."""
    glance: Glance | None = request.environ.get(GLANCE)
    return glance


def _rounded(value: int | None, exact: int) -> int | None:
    if value is None or value <= exact:
        return value
    step: int = 10 ** (len(str(value)) - 2)
    return -(-value // step) * step


def _seen(job_id: UUID, glance: Glance) -> Seen | None:
    seen = at_a_glance(glance, parts().pace)
    if seen is not None:
        return seen
    job = glance.picture
    try:
        with parts().database.reading() as connection:
            found = records.show(connection, job_id)
    except (DBAPIError, PoolTimeoutError):
        if job is None:
            raise
        # What was true a moment ago, and cannot have changed much: who changes jobs needs it too.
        return Seen(job, wait_of(job, glance.served), glance.packed)
    if found is None:
        return None
    if glance.lease is not None:
        parts().snapshots.keep(found, glance.lease)
    return Seen(found, wait_of(found), packed(found))
