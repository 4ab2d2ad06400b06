"""Looking at vouchers and batches, and making them void."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from common import aftermath
from common.identifiers import new_id
from common.partners import Mode
from common.vouchers.code import VoucherCode


@dataclass(frozen=True, slots=True, kw_only=True)
class VoucherRecord:
    """A voucher as it stands: `stamps` it was worth, and where they are now."""

    account: UUID
    partner: str
    mode: Mode
    reference: str
    stamps: int
    available: int
    held: int
    captured: int
    created_at: datetime
    expires_at: datetime | None
    voided_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecord:
    """A batch as it stands.

    Attributes:
        stamps: what each of its vouchers was worth.
        issued: vouchers in it.
        touched: those that some job was submitted with.
        spent: those that have nothing left and nothing held.
        void: those that were made void.
        available, held, captured: stamps of all of them.
    """

    reference: str
    partner: str
    mode: Mode
    stamps: int
    issued: int
    touched: int
    spent: int
    void: int
    available: int
    held: int
    captured: int
    by: str
    created_at: datetime


class UnknownVoucherError(LookupError):
    """There is no voucher of this code, or no batch of this reference."""


def show(connection: Connection, code: VoucherCode) -> VoucherRecord:
    """Return a voucher.

    Raises:
        UnknownVoucherError: there is none.
    """
    row = connection.execute(
        text(
            "select a.id as account, p.name as partner, a.mode, v.reference, b.stamps,"
            " a.available, a.held, a.captured, v.created_at, v.expires_at, v.voided_at"
            " from vouchers v join accounts a on a.id = v.account_id"
            " join partners p on p.id = a.partner_id"
            " join voucher_batches b on b.reference = v.reference where v.digest = :digest"
        ),
        {"digest": code.digest},
    ).one_or_none()
    if row is None:
        raise UnknownVoucherError("there is no voucher of this code")
    return VoucherRecord(**dict(row._mapping) | {"mode": Mode(row.mode)})


def batches(connection: Connection, *, reference: str | None = None) -> list[BatchRecord]:
    """Return every batch, or the one of this reference; newest first.

    Raises:
        UnknownVoucherError: there is none of this reference.
    """
    rows = connection.execute(
        text(
            "select b.reference, p.name as partner, b.mode, b.stamps, count(*) as issued,"
            " count(*) filter (where exists"
            " (select from jobs j where j.account_id = a.id)) as touched,"
            " count(*) filter (where a.captured > 0 and a.available + a.held = 0) as spent,"
            " count(v.voided_at) as void, sum(a.available)::bigint as available,"
            " sum(a.held)::bigint as held, sum(a.captured)::bigint as captured, b.by, b.created_at"
            " from voucher_batches b join partners p on p.id = b.partner_id"
            " join vouchers v on v.reference = b.reference join accounts a on a.id = v.account_id"
            " where cast(:reference as text) is null or b.reference = :reference"
            " group by b.reference, p.name order by b.created_at desc"
        ),
        {"reference": reference},
    ).all()
    if reference is not None and not rows:
        raise UnknownVoucherError(f"there is no batch '{reference}'")
    return [BatchRecord(**dict(row._mapping) | {"mode": Mode(row.mode)}) for row in rows]


def void(connection: Connection, code: VoucherCode, *, reason: str, by: str) -> int:
    """Make one voucher void and take what is available out of its account.

    What is held for a job stays held: the job ends as if nothing had happened. Should it fail, its
    stamps come back to an account that nobody can spend from; voiding again takes these out too.

    Returns:
        How many stamps were taken out.

    Raises:
        UnknownVoucherError: there is none.
    """
    return _void(connection, "digest = :wanted", code.digest, reason=reason, by=by)


def void_batch(connection: Connection, reference: str, *, reason: str, by: str) -> int:
    """Make every voucher of a batch void, as `void` does one.

    Raises:
        UnknownVoucherError: there is no such batch.
    """
    try:
        return _void(connection, "reference = :wanted", reference, reason=reason, by=by)
    except UnknownVoucherError as error:
        raise UnknownVoucherError(f"there is no batch '{reference}'") from error


def _void(connection: Connection, which: str, wanted: Any, *, reason: str, by: str) -> int:
    """Mark the vouchers, and write one entry for each account that has something available.

    The accounts are locked by a statement of their own: only the next one sees what a job that ended
    meanwhile gave back. A submission of the same moment holds its stamps either before, and keeps
    them, or finds the voucher void.
    """
    # A batch of a million takes longer than statements usually may.
    connection.execute(text("set local statement_timeout = '10min'"))
    marked = connection.execute(
        text(f"update vouchers set voided_at = coalesce(voided_at, now()) where {which}"),
        {"wanted": wanted},
    ).rowcount
    if not marked:
        raise UnknownVoucherError("there is no voucher of this code")
    aftermath.callers_changed(connection)
    accounts = f"(select account_id from vouchers where {which})"
    connection.execute(
        text(
            "select count(*) from (select from accounts"
            f" where id in {accounts} order by id for no key update) locked"
        ),
        {"wanted": wanted},
    )
    taken: int = connection.execute(
        text(
            "with before as (select id, available from accounts"
            f" where id in {accounts} and available > 0),"
            " emptied as (update accounts a set available = 0,"
            " topped_up = topped_up - before.available from before where a.id = before.id"
            " returning a.id, before.available),"
            " written as (insert into ledger_entries"
            " (account_id, kind, source, target, amount, reference, reason, by)"
            " select id, 'adjust', 'available', 'outside', available, :reference, :reason, :by"
            " from emptied)"
            " select coalesce(sum(available), 0)::bigint from emptied"
        ),
        # Of its own in every account each time, so that voiding again can write a further entry.
        {"wanted": wanted, "reference": f"void {new_id()}", "reason": reason, "by": by},
    ).scalar_one()
    return taken
