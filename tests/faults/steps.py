"""Steps at which a process of ours is made to die when told to; the product knows nothing of it.

A file in `$FAULTS_FOLDER` named after a step arms it: the first process that gets there takes the file
away and sends itself the signal whose number the file holds. So a step is fired once.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from common.database import Database

# Documents with this in them kill whoever seals them, every time.
DEADLY = b"%kills its worker"


class WorkerStep(StrEnum):
    """Where a stamp worker can be stopped, in order."""

    CLAIMED = "claimed"
    READ = "read"
    SEALED = "sealed"
    STORING = "storing"
    STORED = "stored"
    FINISHED = "finished"
    # Only where a message has a further job.
    FINISHED_AND_CLAIMED = "finished and claimed the next"
    TOLD = "told"


class WebStep(StrEnum):
    """Where the front end can be stopped while it accepts, in order."""

    KEPT = "kept"
    ACCEPTING = "accepting"
    ACCEPTED = "accepted"
    PUBLISHED = "published"


_noted = threading.local()


def here(step: str) -> None:
    """Die, or stop, if this step is armed."""
    folder = Path(os.environ["FAULTS_FOLDER"])
    fired = folder / f"{step}.{os.getpid()}"
    try:
        (folder / step).rename(fired)
    except FileNotFoundError:
        return
    os.kill(os.getpid(), int(fired.read_text()))


def after(owner: Any, name: str, then: Callable[[Any], None]) -> None:
    """Call `then` with what a function returned, before its caller gets it."""
    original = getattr(owner, name)

    @wraps(original)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        result = original(*arguments, **named)
        then(result)
        return result

    setattr(owner, name, wrapped)


def reach(step: str) -> Callable[[Any], None]:
    """Return what reaches a step, whatever was returned before it."""
    return lambda _result: here(step)


def after_commit_of(owner: Any, name: str, step: str) -> None:
    """Reach a step when the transaction in which a function returned something has committed."""

    def note(result: Any) -> None:
        if result is not None:
            _noted.step = step

    after(owner, name, note)


def watch_commits() -> None:
    """Look after each commit whether a step was noted before it."""
    original = Database.transaction

    @contextmanager
    def transaction(database: Database) -> Iterator[Connection]:
        _noted.step = None
        with original(database) as connection:
            yield connection
        if _noted.step is not None:
            here(_noted.step)

    setattr(Database, "transaction", transaction)  # noqa: B010
