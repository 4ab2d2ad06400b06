"""Quota: top up, hold, capture, release.

An account counts stamps in four columns that the database itself keeps in balance
(`topped_up = available + held + captured`, none negative); every change also writes an entry that
is never changed. A job holds once, one for each of its stamps, and settles all of it once: unique
indexes see to it.
"""

from dataclasses import dataclass
from typing import Literal
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


class NothingHeldError(LookupError):
    """A job is settled that holds nothing: its books are damaged, and `stampede audit` names it."""


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


def hold(connection: Connection, *, partner_id: UUID, job_id: UUID, amount: int) -> None:
    """Set stamps aside for a job: all of them, or none.

    Raises:
        ProblemError: `quota_too_small`, with what is available and what is needed.
    """
    held = connection.execute(
        text(
            "with moved as (update accounts set available = available - :amount,"
            " held = held + :amount where partner_id = :partner_id and available >= :amount"
            " returning partner_id)"
            " insert into ledger_entries (partner_id, kind, amount, job_id)"
            " select partner_id, 'hold', :amount, :job_id from moved"
        ),
        {"partner_id": partner_id, "job_id": job_id, "amount": amount},
    ).rowcount
    if not held:
        raise ProblemError(
            Code.QUOTA_TOO_SMALL,
            facts={"available": balance(connection, partner_id).available, "needed": amount},
        )


def capture(connection: Connection, *, partner_id: UUID, job_id: UUID) -> None:
    """Spend all that was held for a job.

    Raises:
        NothingHeldError: the partner holds nothing for this job.
    """
    _settle(connection, partner_id, job_id, kind="capture", to="captured")


def release(connection: Connection, *, partner_id: UUID, job_id: UUID) -> None:
    """Give back all that was held for a job.

    Raises:
        NothingHeldError: the partner holds nothing for this job.
    """
    _settle(connection, partner_id, job_id, kind="release", to="available")


def _settle(
    connection: Connection,
    partner_id: UUID,
    job_id: UUID,
    *,
    kind: Literal["capture", "release"],
    to: Literal["captured", "available"],
) -> None:
    """Move what the job's hold says, so that no caller can settle another amount."""
    settled = connection.execute(
        text(
            "with hold as (select amount from ledger_entries"
            " where job_id = :job_id and partner_id = :partner_id and kind = 'hold'),"
            f" moved as (update accounts set held = held - hold.amount, {to} = {to} + hold.amount"
            " from hold where partner_id = :partner_id returning hold.amount)"
            " insert into ledger_entries (partner_id, kind, amount, job_id)"
            " select :partner_id, :kind, amount, :job_id from moved"
        ),
        {"partner_id": partner_id, "job_id": job_id, "kind": kind},
    ).rowcount
    if not settled:
        raise NothingHeldError(f"nothing is held for job {job_id}")
