"""An account's statement: its entries, newest first, by cursor. Nothing here changes any."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from common import cursors
from common.problems import Code, ProblemError


class EntryKind(StrEnum):
    """Why stamps moved."""

    TOP_UP = "top_up"
    ADJUST = "adjust"
    HOLD = "hold"
    CAPTURE = "capture"
    RELEASE = "release"


class Side(StrEnum):
    """Where stamps are: three sides of an account, and the world outside of it."""

    OUTSIDE = "outside"
    AVAILABLE = "available"
    HELD = "held"
    CAPTURED = "captured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """`amount` stamps that went from `source` to `target`."""

    id: int
    kind: EntryKind
    source: Side
    target: Side
    amount: int
    job_id: UUID | None
    reference: str | None
    reason: str | None
    by: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries, newest first, and the cursor that asks for the ones after them."""

    entries: Sequence[Entry]
    next_cursor: str | None


# A job has two entries at the most, and each is found by its own index.
_OF_JOB = (
    "id in (select id from ledger_entries where job_id = :job_id and kind = 'hold' union all"
    " select id from ledger_entries where job_id = :job_id and kind in ('capture', 'release'))"
)


_SELECT = "select id, kind, source, target, amount, job_id, reference, reason, by, at from ledger_entries "


def of_reference(connection: Connection, *, account_id: UUID, reference: str) -> Entry:
    """Return the account's entry of this reference, which is there."""
    row = connection.execute(
        text(_SELECT + "where account_id = :account_id and reference = :reference"),
        {"account_id": account_id, "reference": reference},
    ).one()
    return _entry(row)


def page(
    connection: Connection,
    *,
    account_id: UUID,
    limit: int,
    cursor: str | None = None,
    at_from: datetime | None = None,
    at_before: datetime | None = None,
    kind: EntryKind | None = None,
    job_id: UUID | None = None,
) -> Page:
    """Return an account's entries, newest first.

    Raises:
        ProblemError: `cursor_invalid`.
    """
    rows = cursors.rows(
        connection,
        _SELECT,
        account_id=account_id,
        limit=limit,
        filters=(
            ("id < :below", "below", None if cursor is None else _open_cursor(cursor)),
            ("at >= :at_from", "at_from", at_from),
            ("at < :at_before", "at_before", at_before),
            ("kind = :kind", "kind", kind),
            (_OF_JOB, "job_id", job_id),
        ),
    )
    entries = [_entry(row) for row in rows[:limit]]
    return Page(entries, _cursor(entries[-1].id) if len(rows) > limit else None)


def _entry(row: Row[Any]) -> Entry:
    return Entry(
        **dict(row._mapping)
        | {
            "kind": EntryKind(row.kind),
            "source": Side(row.source),
            "target": Side(row.target),
        }
    )


def _cursor(last: int) -> str:
    return base64.urlsafe_b64encode(last.to_bytes(8)).decode().rstrip("=")


def _open_cursor(cursor: str) -> int:
    try:
        raw = base64.b64decode(cursor + "=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProblemError(Code.CURSOR_INVALID) from error
    last = int.from_bytes(raw, signed=True)
    if len(raw) != 8 or last < 0:
        raise ProblemError(Code.CURSOR_INVALID)
    return last
