"""Revocation data on disk, shared by all worker processes of a machine.

A restart finds what was fetched before, and one process at a time asks for a certificate. What is
read here was only kept, not checked: whoever takes it checks it. A folder that cannot be written
makes every process keep its own.
"""

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.telemetry import logger
from workers.revocation_data import Kind

log = logger(__name__)

LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is kept for one certificate; `retry_at` is when to ask again after a failure."""

    kind: Kind | None = None
    der: bytes = b""
    retry_at: datetime = LONG_AGO
    revoked: bool = False
    reason: str = ""


class RevocationStore:
    """One file per certificate, named by its fingerprint."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; it is made when it is first needed."""
        self._folder = folder
        self._memory: dict[str, Kept] = {}

    def load(self, fingerprint: str) -> Kept:
        """Return what is kept; a file that is missing or damaged is nothing."""
        try:
            values = json.loads(self._file(fingerprint).read_bytes())
            return Kept(
                kind=values["kind"],
                der=bytes.fromhex(values["der"]),
                retry_at=datetime.fromisoformat(values["retry_at"]).astimezone(UTC),
                revoked=bool(values["revoked"]),
                reason=str(values["reason"]),
            )
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return self._memory.get(fingerprint, Kept())

    def keep(self, fingerprint: str, kept: Kept) -> None:
        """Keep something else from now on; it appears whole or not at all."""
        values: dict[str, Any] = {
            "kind": kept.kind,
            "der": kept.der.hex(),
            "retry_at": kept.retry_at.isoformat(),
            "revoked": kept.revoked,
            "reason": kept.reason,
        }
        self._memory[fingerprint] = kept
        building = self._folder / f".{fingerprint}.{os.getpid()}.{threading.get_ident()}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            building.write_text(json.dumps(values))
            building.replace(self._file(fingerprint))
        except OSError as error:
            log.warning("revocation data cannot be shared", reason=str(error))

    def put_off(self, fingerprint: str, retry_at: datetime, reason: str) -> None:
        """Note a failure: nobody asks again before a time; what is kept stays."""
        self.keep(fingerprint, replace(self.load(fingerprint), retry_at=retry_at, reason=reason))

    @contextmanager
    def asking(self, fingerprint: str, *, wait: bool) -> Iterator[bool]:
        """Hold the right to ask about a certificate; ends with the process that has it.

        Args:
            fingerprint: of the certificate.
            wait: for whoever has the right now; otherwise the block gets False.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = (self._folder / f"{fingerprint}.lock").open("w")
        except OSError:
            yield True
            return
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True

    def _file(self, fingerprint: str) -> Path:
        return self._folder / f"{fingerprint}.json"
