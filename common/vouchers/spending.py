"""Who comes with a voucher: a caller like a partner's key, of an account of its own."""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, text

from common.partners import Caller, Mode
from common.problems import Code, ProblemError
from common.vouchers import code

_STANDING = (
    "v.expires_at, coalesce(v.expires_at <= now(), false) as expired,"
    " v.voided_at is not null as void"
)


@dataclass(frozen=True, slots=True)
class Holder(Caller):
    """Whoever has a voucher's code; the voucher is its own key.

    One that has expired or is void opens what was submitted with it, and submits nothing more.
    """

    expires_at: datetime | None
    expired: bool
    void: bool

    def require_spendable(self) -> None:
        """See that the voucher may still be spent.

        Raises:
            ProblemError: `voucher_void`, `voucher_expired`.
        """
        if self.void:
            raise ProblemError(Code.VOUCHER_VOID)
        if self.expired and self.expires_at is not None:
            raise ProblemError(
                Code.VOUCHER_EXPIRED, facts={"expired_at": self.expires_at.isoformat()}
            )


def as_it_stands(connection: Connection, holder: Holder) -> Holder:
    """Return the holder with the voucher as it is now, which may not be what was known of it."""
    row = connection.execute(
        text(f"select {_STANDING} from vouchers v where account_id = :id"),
        {"id": holder.account_id},
    ).one()
    return replace(holder, expires_at=row.expires_at, expired=row.expired, void=row.void)


def authenticate(connection: Connection, typed: str) -> Holder:
    """Return who holds the voucher of a typed code.

    A mistyped code is looked up as well, so that its answer takes as long as an unknown one's.

    Raises:
        ProblemError: `voucher_invalid`.
    """
    row = connection.execute(
        text(
            f"select a.id, a.partner_id, a.mode, {_STANDING}"
            " from vouchers v join accounts a on a.id = v.account_id where v.digest = :digest"
        ),
        {"digest": hashlib.sha256(code.as_written(typed).encode()).digest()},
    ).one_or_none()
    if row is None:
        raise ProblemError(Code.VOUCHER_INVALID)
    return Holder(
        partner_id=row.partner_id,
        mode=Mode(row.mode),
        key_id=row.id,
        account_id=row.id,
        expires_at=row.expires_at,
        expired=row.expired,
        void=row.void,
    )
