"""Quota as double entry: top up, hold, capture, release.

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
        ReferenceReusedError: the reference stands for another amount.
    """
    written = connection.execute(
        text(
            "with written as (insert into ledger_entries"
            " (account_id, kind, source, target, amount, reference, by)"
            " values (:account_id, 'top_up', 'outside', 'available', :amount, :reference, :by)"
            " on conflict (account_id, reference) where reference is not null do nothing"
            " returning account_id, amount)"
            " update accounts set topped_up = topped_up + amount, available = available + amount"
            " from written where id = account_id"
        ),
        {"account_id": account_id, "amount": amount, "reference": reference, "by": by},
    ).rowcount
    if not written:
        before = connection.execute(
            text(
                "select kind, amount from ledger_entries"
                " where account_id = :account_id and reference = :reference"
            ),
            {"account_id": account_id, "reference": reference},
        ).one()
        if (before.kind, before.amount) != ("top_up", amount):
            raise ReferenceReusedError(
                f"'{reference}' was used before, to {before.kind.replace('_', ' ')}"
                f" {before.amount} stamps"
            )
    return balance(connection, account_id)


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
        text(
            "with moved as (update accounts set available = available - :needed,"
            " held = held + :needed where id = :account_id and available >= :needed returning id)"
            " insert into ledger_entries (account_id, kind, source, target, amount, job_id)"
            " select moved.id, 'hold', 'available', 'held', amount, job_id from moved,"
            " unnest(cast(:jobs as uuid[]), cast(:amounts as bigint[])) as wanted (job_id, amount)"
        ),
        {
            "account_id": account_id,
            "needed": needed,
            "jobs": list(stamps),
            "amounts": list(stamps.values()),
        },
    ).rowcount
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
    _settle(connection, account_id, job_id, kind="capture", target="captured")


def release(connection: Connection, *, account_id: UUID, job_id: UUID) -> None:
    """Give back all that was held for a job.

    Raises:
        NothingHeldError: the account holds nothing for this job.
    """
    _settle(connection, account_id, job_id, kind="release", target="available")


def _settle(
    connection: Connection,
    account_id: UUID,
    job_id: UUID,
    *,
    kind: Literal["capture", "release"],
    target: Literal["captured", "available"],
) -> None:
    """Move what the job's hold says, so that no caller can settle another amount."""
    settled = connection.execute(
        text(
            "with hold as (select amount from ledger_entries"
            " where job_id = :job_id and account_id = :account_id and kind = 'hold'),"
            " moved as (update accounts set held = held - hold.amount,"
            f" {target} = {target} + hold.amount"
            " from hold where id = :account_id returning hold.amount)"
            " insert into ledger_entries (account_id, kind, source, target, amount, job_id)"
            " select :account_id, :kind, 'held', :target, amount, :job_id from moved"
        ),
        {"account_id": account_id, "job_id": job_id, "kind": kind, "target": target},
    ).rowcount
    if not settled:
        raise NothingHeldError(f"nothing is held for job {job_id}")
