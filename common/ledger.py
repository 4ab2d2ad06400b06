"""Quota: top up, hold, capture, release.

An account counts stamps in four columns that the database itself keeps in balance
(`topped_up = available + held + captured`, none negative); every change also writes an entry that
is never changed. A job holds once and settles once: unique indexes see to it.
"""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from common.problems import Code, ProblemError


@dataclass(frozen=True, slots=True)
class Balance:
    """An account's stamps: `topped_up = available + held + captured`."""

    topped_up: int
    available: int
    held: int
    captured: int


class ReferenceReusedError(ValueError):
    """This top-up reference was used before, with another amount."""


def balance(connection: Connection, partner_id: UUID) -> Balance:
    """Return where the account stands."""
    row = connection.execute(
        text("select topped_up, available, held, captured from accounts where partner_id = :id"),
        {"id": partner_id},
    ).one()
    return Balance(row.topped_up, row.available, row.held, row.captured)


def top_up(connection: Connection, *, partner_id: UUID, amount: int, reference: str) -> Balance:
    """Add `amount` stamps once per `reference`: the same call again changes nothing.

    Raises:
        ReferenceReusedError: the reference stands for another amount.
    """
    written = connection.execute(
        text(
            "insert into ledger_entries (partner_id, kind, amount, reference)"
            " values (:partner_id, 'top_up', :amount, :reference)"
            " on conflict (partner_id, reference) where kind = 'top_up' do nothing"
        ),
        {"partner_id": partner_id, "amount": amount, "reference": reference},
    ).rowcount
    if written:
        connection.execute(
            text(
                "update accounts set topped_up = topped_up + :amount,"
                " available = available + :amount where partner_id = :partner_id"
            ),
            {"partner_id": partner_id, "amount": amount},
        )
    else:
        before = connection.execute(
            text(
                "select amount from ledger_entries where partner_id = :partner_id"
                " and reference = :reference and kind = 'top_up'"
            ),
            {"partner_id": partner_id, "reference": reference},
        ).scalar_one()
        if before != amount:
            raise ReferenceReusedError(f"{reference} was used for {before} stamps")
    return balance(connection, partner_id)


def hold(connection: Connection, *, partner_id: UUID, job_id: UUID) -> None:
    """Set one stamp aside for a job.

    Raises:
        ProblemError: `quota_too_small`, with what is available.
    """
    held = connection.execute(
        text(
            "update accounts set available = available - 1, held = held + 1"
            " where partner_id = :partner_id and available >= 1"
        ),
        {"partner_id": partner_id},
    ).rowcount
    if not held:
        raise ProblemError(
            Code.QUOTA_TOO_SMALL,
            facts={"available": balance(connection, partner_id).available, "needed": 1},
        )
    _enter(connection, partner_id, "hold", job_id)


def capture(connection: Connection, *, partner_id: UUID, job_id: UUID) -> None:
    """Spend what was held for a job."""
    connection.execute(
        text(
            "update accounts set held = held - 1, captured = captured + 1"
            " where partner_id = :partner_id"
        ),
        {"partner_id": partner_id},
    )
    _enter(connection, partner_id, "capture", job_id)


def release(connection: Connection, *, partner_id: UUID, job_id: UUID) -> None:
    """Give back what was held for a job."""
    connection.execute(
        text(
            "update accounts set held = held - 1, available = available + 1"
            " where partner_id = :partner_id"
        ),
        {"partner_id": partner_id},
    )
    _enter(connection, partner_id, "release", job_id)


def _enter(connection: Connection, partner_id: UUID, kind: str, job_id: UUID) -> None:
    connection.execute(
        text(
            "insert into ledger_entries (partner_id, kind, amount, job_id)"
            " values (:partner_id, :kind, 1, :job_id)"
        ),
        {"partner_id": partner_id, "kind": kind, "job_id": job_id},
    )
