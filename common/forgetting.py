"""What Valkey remembers of jobs and callers goes when the database says otherwise."""

from common import known_callers, snapshots
from common.aftermath import Changes
from common.settings import Settings
from common.telemetry import logger
from common.wire import Wire

log = logger(__name__)


class Forgetting:
    """Lets go of what a transaction has changed, after it has ended, however it did."""

    def __init__(self, settings: Settings, wire: Wire | None = None) -> None:
        """Prepare; connects at the first use, over a wire of its own unless one is given."""
        self._wire = wire or Wire(settings.broker_url)
        self._snapshots = snapshots.connect(settings, self._wire)
        self._known = known_callers.connect(settings, self._wire)

    def forget(self, changes: Changes) -> None:
        """Forget what was changed; a Valkey that is away keeps it for its time, and no longer."""
        self._snapshots.forget(*changes.job_ids)
        if changes.callers and not self._known.forget_all():
            log.warning(
                "Valkey is away: who was known may be taken for who it was",
                seconds=known_callers.KNOWN_SECONDS,
            )

    def close(self) -> None:
        """Give the connections back."""
        self._wire.close()
