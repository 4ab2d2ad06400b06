"""Making vouchers, thousands in one transaction; a batch is made once under its reference.

Who calls writes the codes down before the commit: here they are known for the last time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from common import aftermath
from common.accounts import Kind
from common.identifiers import new_id
from common.partners import Mode
from common.vouchers.code import VoucherCode

# Rows of one statement.
_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBatch:
    """What is issued: vouchers of so many stamps each, sold by a partner.

    Without `expires_at` they can be used for ever. `by` says who issues them.
    """

    reference: str
    partner_id: UUID
    mode: Mode
    stamps: int
    expires_at: datetime | None
    by: str


class ReferenceUsedError(ValueError):
    """A batch of this reference was issued before, at `issued_at`."""

    def __init__(self, reference: str, issued_at: datetime) -> None:
        """Say which and when."""
        super().__init__(f"batch '{reference}' was issued at {issued_at:%Y-%m-%d %H:%M} UTC")
        self.reference = reference
        self.issued_at = issued_at


def require_unused(connection: Connection, reference: str) -> None:
    """See that no batch has this reference yet.

    Raises:
        ReferenceUsedError: one has.
    """
    issued_at = connection.execute(
        text("select created_at from voucher_batches where reference = :reference"),
        {"reference": reference},
    ).scalar_one_or_none()
    if issued_at is not None:
        raise ReferenceUsedError(reference, issued_at)


def issue(connection: Connection, batch: NewBatch, codes: Sequence[VoucherCode]) -> None:
    """Make a voucher of each code; the caller's commit makes all of them, or none.

    Raises:
        ReferenceUsedError: the batch exists already, also when another run commits it meanwhile.
    """
    made = connection.execute(
        text(
            "insert into voucher_batches (reference, partner_id, mode, stamps, count, by)"
            " values (:reference, :partner_id, :mode, :stamps, :count, :by)"
            " on conflict (reference) do nothing"
        ),
        _facts(batch) | {"count": len(codes)},
    ).rowcount
    if not made:
        require_unused(connection, batch.reference)
    # Codes are known before they count: somebody may have tried one, and been told that it is wrong.
    aftermath.callers_changed(connection)
    for some in _in_parts(codes):
        _issue_some(connection, batch, some)


def _issue_some(connection: Connection, batch: NewBatch, codes: Sequence[VoucherCode]) -> None:
    """Insert accounts that are topped up, the entries that say so, and the vouchers."""
    values = _facts(batch) | {
        "kind": Kind.VOUCHER,
        "accounts": [new_id() for _ in codes],
        "digests": [code.digest for code in codes],
        "expires_at": batch.expires_at,
    }
    connection.execute(
        text(
            "insert into accounts (id, kind, partner_id, mode, topped_up, available)"
            " select id, :kind, :partner_id, :mode, :stamps, :stamps"
            " from unnest(cast(:accounts as uuid[])) as made (id)"
        ),
        values,
    )
    connection.execute(
        text(
            "insert into ledger_entries"
            " (account_id, kind, source, target, amount, reference, by)"
            " select id, 'top_up', 'outside', 'available', :stamps, :reference, :by"
            " from unnest(cast(:accounts as uuid[])) as made (id)"
        ),
        values,
    )
    connection.execute(
        text(
            "insert into vouchers (account_id, digest, reference, expires_at)"
            " select id, digest, :reference, :expires_at"
            " from unnest(cast(:accounts as uuid[]), cast(:digests as bytea[]))"
            " as made (id, digest)"
        ),
        values,
    )


def _facts(batch: NewBatch) -> dict[str, object]:
    return {
        "reference": batch.reference,
        "partner_id": batch.partner_id,
        "mode": batch.mode,
        "stamps": batch.stamps,
        "by": batch.by,
    }


def _in_parts(codes: Sequence[VoucherCode]) -> Iterator[Sequence[VoucherCode]]:
    for start in range(0, len(codes), _AT_ONCE):
        yield codes[start : start + _AT_ONCE]
