"""`workers.app`, made to die: `celery -A tests.faults.dying_worker`."""

import os
import signal
from collections.abc import Iterator, Sequence
from functools import wraps
from typing import Any, overload

from common import jobs
from common.documents import Documents
from common.jobs import Finished
from tests.faults.steps import (
    DEADLY,
    WorkerStep,
    after,
    after_commit_of,
    here,
    reach,
    watch_commits,
)
from workers.app import app
from workers.sealer import Sealer
from workers.stamping import Stamper

__all__ = ["app"]


class Torn(Sequence[bytes]):
    """Chunks that are half written when the writer dies."""

    def __init__(self, chunks: Sequence[bytes]) -> None:
        """Take the chunks as they would be written."""
        self._chunks = chunks

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        return self._chunks[index]

    def __len__(self) -> int:
        return len(self._chunks)

    def __iter__(self) -> Iterator[bytes]:
        for number, chunk in enumerate(self._chunks):
            if number == len(self._chunks) - 1:
                yield chunk[: len(chunk) // 2]
                here(WorkerStep.STORING)
                yield chunk[len(chunk) // 2 :]
            else:
                yield chunk


def _store_in_two_steps() -> None:
    put = Documents.put

    @wraps(put)
    def torn_put(store: Documents, key: str, content: Any, **named: Any) -> None:
        put(store, key, Torn([content] if isinstance(content, bytes) else content), **named)
        here(WorkerStep.STORED)

    setattr(Documents, "put", torn_put)  # noqa: B010


def _let_documents_kill() -> None:
    seal = Sealer.seal

    @wraps(seal)
    def deadly_seal(sealer: Sealer, document: bytes, *arguments: Any, **named: Any) -> Any:
        if DEADLY in document:
            os.kill(os.getpid(), signal.SIGKILL)
        return seal(sealer, document, *arguments, **named)

    setattr(Sealer, "seal", deadly_seal)  # noqa: B010


def _finished(finished: Finished) -> None:
    if finished.claim is not None:
        here(WorkerStep.FINISHED_AND_CLAIMED)
    if finished.changed is not None:
        here(WorkerStep.FINISHED)


after_commit_of(jobs, "claim", WorkerStep.CLAIMED)
after(Documents, "get", reach(WorkerStep.READ))
_let_documents_kill()
after(Sealer, "seal", reach(WorkerStep.SEALED))
_store_in_two_steps()
after(jobs, "finish_alone", _finished)
after(Stamper, "stamp", reach(WorkerStep.TOLD))
watch_commits()
# Beat's short rounds five times as often, so that a test waits for what they do and not for their turn.
# The search for orphans stays rare: it takes its 15 s of a store with many objects, and upkeep has
# four threads for everything.
for entry in app.conf.beat_schedule.values():
    if entry["schedule"] <= 30:
        entry["schedule"] /= 5
