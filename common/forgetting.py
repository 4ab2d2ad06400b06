"""What Valkey remembers of jobs and callers goes when the database says otherwise.

The names under which it is remembered are here, so that `Database` need know nothing else of it.
"""

from uuid import UUID, uuid4

from common.aftermath import Changes
from common.settings import Settings
from common.telemetry import logger
from common.wire import Wire

log = logger(__name__)

# How long a caller is remembered, whatever is heard of him.
KNOWN_SECONDS = 30
# What is remembered of callers belongs to the time that is written here.
CALLERS_TIME = "callers:time"


def snapshot_name(job_id: UUID) -> str:
    """Return the name of a job's snapshot."""
    return f"shown:{job_id}"


def forget_jobs(wire: Wire, *job_ids: UUID) -> None:
    """Let go of the snapshots of jobs that were changed."""
    if job_ids:
        wire.tell("UNLINK", *map(snapshot_name, job_ids))


def forget_callers(wire: Wire) -> bool:
    """Forget everybody who is known; returns whether Valkey was there to do it."""
    return wire.tell("SET", CALLERS_TIME, uuid4().hex) is not None


class Forgetting:
    """Lets go of what a transaction has changed, after it has ended, however it did."""

    def __init__(self, settings: Settings, wire: Wire | None = None) -> None:
        """Prepare; connects at the first use, over a wire of its own unless one is given."""
        self._wire = wire or Wire(settings.broker_url)

    def forget(self, changes: Changes) -> None:
        """Forget what was changed; a Valkey that is away keeps it for its time, and no longer."""
        forget_jobs(self._wire, *changes.job_ids)
        if changes.callers and not forget_callers(self._wire):
            log.warning(
                "Valkey is away: who was known may be taken for who it was", seconds=KNOWN_SECONDS
            )

    def close(self) -> None:
        """Give the connections back."""
        self._wire.close()
