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
