"""What a transaction changed that Valkey remembers: noted as it is changed, forgotten when it has ended.

Whoever changes a job notes it here, beside the statement; `Database` calls back after the commit. So no
caller can leave it out, and a transaction that changes many jobs costs one question to Valkey.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID
from weakref import WeakKeyDictionary

from sqlalchemy import Connection


@dataclass(slots=True)
class Changes:
    """The jobs that look different now, and whether a key or a voucher has lost its worth."""

    job_ids: list[UUID] = field(default_factory=list)
    callers: bool = False

    def __bool__(self) -> bool:
        """Say whether there is anything to forget."""
        return bool(self.job_ids) or self.callers


# Not in the connection's own `info`, which would connect anew to be read after a connection broke.
_NOTED: WeakKeyDictionary[Connection, Changes] = WeakKeyDictionary()


def jobs_changed(connection: Connection, job_ids: Iterable[UUID]) -> None:
    """Note that these jobs look different to their owners once this transaction has ended."""
    _of(connection).job_ids.extend(job_ids)


def callers_changed(connection: Connection) -> None:
    """Note that who somebody is, or may do, has changed once this transaction has ended."""
    _of(connection).callers = True


def take(connection: Connection) -> Changes:
    """Return what was noted of the transaction that has just ended, or is about to."""
    return _NOTED.pop(connection, None) or Changes()


def _of(connection: Connection) -> Changes:
    return _NOTED.setdefault(connection, Changes())
