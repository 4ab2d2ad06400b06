"""Accounts: who owns jobs and the stamps that they cost.

A partner has one account for each mode, a voucher one of its own. What moves in an account is the
ledger's business.
"""

from enum import StrEnum
from uuid import UUID

from sqlalchemy import Connection, text

from common.identifiers import new_id


class Kind(StrEnum):
    """Whose the stamps are: a partner's, or whoever's has the voucher."""

    PARTNER = "partner"
    VOUCHER = "voucher"


def create(connection: Connection, *, kind: Kind, partner_id: UUID, mode: str) -> UUID:
    """Make an empty account and return its id."""
    account_id = new_id()
    connection.execute(
        text(
            "insert into accounts (id, kind, partner_id, mode)"
            " values (:id, :kind, :partner_id, :mode)"
        ),
        {"id": account_id, "kind": kind, "partner_id": partner_id, "mode": mode},
    )
    return account_id


def of_partner(connection: Connection, *, partner_id: UUID, mode: str) -> UUID:
    """Return the id of the account that the partner's keys of this mode use."""
    found: UUID = connection.execute(
        text(
            "select id from accounts"
            " where partner_id = :partner_id and mode = :mode and kind = 'partner'"
        ),
        {"partner_id": partner_id, "mode": mode},
    ).scalar_one()
    return found


def set_low_at(connection: Connection, account_id: UUID, low_at: int | None) -> None:
    """Say below how many available stamps the owner is told; None: as the settings say; 0: never."""
    connection.execute(
        text("update accounts set low_at = :low_at where id = :id"),
        {"id": account_id, "low_at": low_at},
    )


def low_at(connection: Connection, account_id: UUID) -> int | None:
    """Return the account's own threshold; None when it goes by the settings."""
    found: int | None = connection.execute(
        text("select low_at from accounts where id = :id"), {"id": account_id}
    ).scalar_one()
    return found
