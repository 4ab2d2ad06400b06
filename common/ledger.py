"""Quota as double entry: top up, adjust, hold, capture, release.

An entry moves stamps from one side of an account to another, and is never changed or deleted. The
account's columns say what its entries add up to (`topped_up = available + held + captured`, none
negative); both are written by one statement. A job holds once, one for each of its stamps, and
settles all of it once. The database itself sees to each of these: checks, unique indexes, a trigger.
"""

from collections.abc import Mapping
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
    """This reference was used before in this account, for something else."""


class OverdrawnError(ValueError):
    """More is to be taken from an account than is available in it."""

    def __init__(self, available: int, wanted: int) -> None:
        super().__init__(f"{wanted} stamps cannot be taken away, only {available} are available")
        self.available = available
        self.wanted = wanted


def _settling(kind: Literal["capture", "release"], target: Literal["captured", "available"]) -> str:
    """Return what settles a job within a statement that has its id and account as `ended`.

    It moves what the job's hold says, so that no caller can settle another amount.
    """
    return (
        # By itself, and by the job alone: the planner knows no account that has a million entries.
        "held as materialized (select ended.id as job_id, entry.account_id, entry.amount"
        " from ended join ledger_entries entry on entry.job_id = ended.id and entry.kind = 'hold'"
        " where entry.account_id is not distinct from ended.account_id),"
        " moved as (update accounts set held = accounts.held - held.amount,"
        f" {target} = accounts.{target} + held.amount"
        " from held where accounts.id = held.account_id"
        " returning held.job_id, accounts.id, held.amount),"
        " settled as (insert into ledger_entries (account_id, kind, source, target, amount, job_id)"
        f" select id, '{kind}', 'held', '{target}', amount, job_id from moved returning id)"
    )


CAPTURE_ENDED = _settling("capture", "captured")
_RELEASE_ENDED = _settling("release", "available")


def balance(connection: Connection, account_id: UUID) -> Balance:
    """Return where the account stands."""
    row = connection.execute(
        text("select topped_up, available, held, captured from accounts where id = :id"),
        {"id": account_id},
    ).one()
    return Balance(row.topped_up, row.available, row.held, row.captured)


def top_up(
    connection: Connection, *, account_id: UUID, amount: int, reference: str, by: str
) -> Balance:
    """Add `amount` stamps once per `reference`: the same call again changes nothing.

    Args:
        by: who does it; kept with the entry.

    Raises:
        ReferenceReusedError: the reference stands for something else.
    """
    return _change(connection, account_id, "top_up", amount, reference, reason=None, by=by)


def adjust(
    connection: Connection, *, account_id: UUID, amount: int, reference: str, reason: str, by: str
) -> Balance:
    """Correct what is available by `amount`, up or down, once per `reference`.

    Args:
        amount: stamps to add, or below zero to take away; not zero.
        reason: why, for the owner to read.
        by: who does it; kept with the entry, and not shown to the owner.

    Raises:
        OverdrawnError: less is available than is to be taken away.
        ReferenceReusedError: the reference stands for something else.
        ValueError: the amount is zero, which would be no correction.
    """
    if amount == 0:
        raise ValueError("an adjustment by zero changes nothing")
    return _change(connection, account_id, "adjust", amount, reference, reason=reason, by=by)


def hold(connection: Connection, *, account_id: UUID, stamps: Mapping[UUID, int]) -> None:
    """Set stamps aside for jobs: for all of them, or for none.

    One update of the account, however many jobs: it locks the account until the commit.

    Args:
        stamps: how many each job needs, by its id.

    Raises:
        ProblemError: `quota_too_small`, with what is available and what is needed.
    """
    needed = sum(stamps.values())
    held = connection.execute(
        text("select hold_stamps(:account_id, cast(:jobs as uuid[]), cast(:amounts as bigint[]))"),
        {"account_id": account_id, "jobs": list(stamps), "amounts": list(stamps.values())},
    ).scalar_one()
    if not held:
        raise ProblemError(
            Code.QUOTA_TOO_SMALL,
            facts={"available": balance(connection, account_id).available, "needed": needed},
        )


def capture(connection: Connection, *, account_id: UUID, job_id: UUID) -> None:
    """Spend all that was held for a job.

    Raises:
        NothingHeldError: the account holds nothing for this job.
    """
    _settle(connection, CAPTURE_ENDED, account_id, job_id)


def release(connection: Connection, *, account_id: UUID, job_id: UUID) -> None:
    """Give back all that was held for a job.

    Raises:
        NothingHeldError: the account holds nothing for this job.
    """
    _settle(connection, _RELEASE_ENDED, account_id, job_id)


def _settle(connection: Connection, settling: str, account_id: UUID, job_id: UUID) -> None:
    settled: int = connection.execute(
        text(
            "with ended as (select cast(:job_id as uuid) as id,"
            f" cast(:account_id as uuid) as account_id), {settling} select count(*) from settled"
        ),
        {"account_id": account_id, "job_id": job_id},
    ).scalar_one()
    if not settled:
        raise NothingHeldError(f"nothing is held for job {job_id}")


def _change(
    connection: Connection,
    account_id: UUID,
    kind: Literal["top_up", "adjust"],
    amount: int,
    reference: str,
    *,
    reason: str | None,
    by: str,
) -> Balance:
    """Let stamps come in from outside, or go there; the account is locked before anything is asked."""
    available: int = connection.execute(
        text("select available from accounts where id = :id for no key update"),
        {"id": account_id},
    ).scalar_one()
    before = connection.execute(
        text(
            "select kind, case target when 'outside' then -amount else amount end as amount"
            " from ledger_entries where account_id = :id and reference = :reference"
        ),
        {"id": account_id, "reference": reference},
    ).one_or_none()
    if before is None:
        if available + amount < 0:
            raise OverdrawnError(available, -amount)
        connection.execute(
            text(
                "with moved as (update accounts set topped_up = topped_up + :amount,"
                " available = available + :amount where id = :id returning id)"
                " insert into ledger_entries"
                " (account_id, kind, source, target, amount, reference, reason, by)"
                " select id, :kind, :source, :target, abs(:amount), :reference, :reason, :by"
                " from moved"
            ),
            {
                "id": account_id,
                "kind": kind,
                "source": "outside" if amount > 0 else "available",
                "target": "available" if amount > 0 else "outside",
                "amount": amount,
                "reference": reference,
                "reason": reason,
                "by": by,
            },
        )
    elif (before.kind, before.amount) != (kind, amount):
        raise ReferenceReusedError(
            f"'{reference}' was used before: {before.kind.replace('_', ' ')} of {before.amount}"
        )
    return balance(connection, account_id)
