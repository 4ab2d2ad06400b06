"""The stamp worker with a store and an engine that do what the document says: die, hang, or sleep.

A document says it by its last line. Everything else is the worker as it is.
"""

import hashlib
import os
import signal
import time
from pathlib import Path
from typing import Any

from common.documents import Documents
from workers.app import SETTINGS, app
from workers.sealer import Outcome, Sealer

app.conf.task_create_missing_queues = True

_read = Documents.get
_seal = Sealer.seal


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _dies_once(document: bytes) -> None:
    been_here = Path(SETTINGS.data_dir, hashlib.sha256(document).hexdigest())
    if not been_here.exists():
        been_here.touch()
        _die()


def _hang() -> None:
    while True:
        try:
            time.sleep(60)
        except Exception:
            continue


def get(self: Documents, key: str) -> bytes:
    document = _read(self, key)
    if document.endswith(b"%dies while it is read, once"):
        _dies_once(document)
    if document.endswith(b"%hangs while it is read"):
        _hang()
    return document


def seal(self: Sealer, document: bytes, *arguments: Any, **named: Any) -> Outcome:
    if document.endswith(b"%dies"):
        _die()
    if document.endswith(b"%dies once"):
        _dies_once(document)
    if document.endswith(b"%hangs"):
        _hang()
    if document.endswith(b"%sleeps"):
        time.sleep(60)
    if document.endswith(b"%takes a while"):
        time.sleep(0.3)
    while document.endswith(b"%burns"):
        pass
    return _seal(self, document, *arguments, **named)


Documents.get = get  # type: ignore[method-assign]
Sealer.seal = seal  # type: ignore[method-assign]
