"""Partners, and the API keys of partners and operators.

A partner's key acts for the partner in one mode. An operator's key acts for whoever runs the
service: it tops up quota, and submits nothing.
"""

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Connection, text

from common import accounts, aftermath, ledger
from common.accounts import Kind
from common.identifiers import new_id
from common.problems import Code, ProblemError

# Stamps that a test account is given at its creation.
SPECIMENS = 1_000_000_000
_FORM_OF_KEY = re.compile(r"sk_(test|live|ops)_[A-Za-z0-9_-]{43}")


class Mode(StrEnum):
    """Test stamps cost nothing and never touch the live quota; live stamps are paid for."""

    TEST = "test"
    LIVE = "live"


@dataclass(frozen=True, slots=True)
class Partner:
    """Somebody who submits documents by API."""

    id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key; `secret` is shown once and kept only as a digest."""

    id: UUID
    secret: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request comes from, as its key says."""

    partner_id: UUID
    mode: Mode
    key_id: UUID
    # The owner of all that is done with the key: the partner's account of this mode.
    account_id: UUID


@dataclass(frozen=True, slots=True)
class Operator:
    """Whoever runs the service, as an operator's key says; the label is who did what."""

    key_id: UUID
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A key as a list shows it; `partner` and `mode` are none for an operator's."""

    id: UUID
    hint: str
    partner: str | None
    mode: Mode | None
    label: str
    created_at: datetime
    revoked_at: datetime | None


class UnknownPartnerError(LookupError):
    """No partner has this name."""


class UnknownKeyError(LookupError):
    """No key has this id."""


def create(connection: Connection, *, name: str) -> Partner:
    """Make a partner with its two accounts; an existing one of this name is returned as it is.

    The live account is empty; the test account has more specimens than will ever be used.
    """
    made = connection.execute(
        text(
            "insert into partners (id, name) values (:id, :name)"
            " on conflict (name) do nothing returning id"
        ),
        {"id": new_id(), "name": name},
    ).scalar_one_or_none()
    if made is None:
        return find_by_name(connection, name)
    accounts.create(connection, kind=Kind.PARTNER, partner_id=made, mode=Mode.LIVE)
    specimens = accounts.create(connection, kind=Kind.PARTNER, partner_id=made, mode=Mode.TEST)
    ledger.top_up(
        connection,
        account_id=specimens,
        amount=SPECIMENS,
        reference="specimen",
        by="stampede",
    )
    return Partner(made, name)


def find_by_name(connection: Connection, name: str) -> Partner:
    """Return the partner of this name.

    Raises:
        UnknownPartnerError: there is none.
    """
    found = connection.execute(
        text("select id from partners where name = :name"), {"name": name}
    ).scalar_one_or_none()
    if found is None:
        raise UnknownPartnerError(name)
    return Partner(found, name)


def find(connection: Connection, wanted: str) -> Partner:
    """Return the partner of this id or name.

    Raises:
        UnknownPartnerError: there is none.
    """
    try:
        partner_id = UUID(wanted)
    except ValueError:
        return find_by_name(connection, wanted)
    name = connection.execute(
        text("select name from partners where id = :id"), {"id": partner_id}
    ).scalar_one_or_none()
    return find_by_name(connection, wanted) if name is None else Partner(partner_id, name)


def issue_key(connection: Connection, *, partner_id: UUID, mode: Mode, label: str) -> IssuedKey:
    """Make a partner's key of 256 random bits; the secret can never be read again."""
    return _issue(connection, f"sk_{mode}_", label, partner_id=partner_id, mode=mode)


def issue_operator_key(connection: Connection, *, label: str) -> IssuedKey:
    """Make an operator's key of 256 random bits; the secret can never be read again."""
    return _issue(connection, "sk_ops_", label, partner_id=None, mode=None)


def _issue(
    connection: Connection, prefix: str, label: str, *, partner_id: UUID | None, mode: Mode | None
) -> IssuedKey:
    secret = prefix + secrets.token_urlsafe(32)
    key_id = new_id()
    connection.execute(
        text(
            "insert into api_keys (id, scope, partner_id, mode, digest, hint, label)"
            " values (:id, :scope, :partner_id, :mode, :digest, :hint, :label)"
        ),
        {
            "id": key_id,
            "scope": "operator" if partner_id is None else "partner",
            "partner_id": partner_id,
            "mode": mode,
            "digest": _digest(secret),
            "hint": secret[:12],
            "label": label,
        },
    )
    return IssuedKey(key_id, secret)


def list_keys(connection: Connection, *, partner_id: UUID | None = None) -> Sequence[KeyRecord]:
    """Return the keys of a partner, or all there are, oldest first."""
    rows = connection.execute(
        text(
            "select k.id, k.hint, p.name as partner, k.mode, k.label, k.created_at, k.revoked_at"
            " from api_keys k left join partners p on p.id = k.partner_id"
            " where cast(:partner_id as uuid) is null or k.partner_id = :partner_id order by k.id"
        ),
        {"partner_id": partner_id},
    )
    return [
        KeyRecord(**dict(row._mapping) | {"mode": None if row.mode is None else Mode(row.mode)})
        for row in rows
    ]


def revoke_key(connection: Connection, key_id: UUID) -> None:
    """Make a key useless from now on; harmless when it already is.

    Raises:
        UnknownKeyError: there is no such key.
    """
    touched = connection.execute(
        text("update api_keys set revoked_at = coalesce(revoked_at, now()) where id = :id"),
        {"id": key_id},
    )
    if touched.rowcount == 0:
        raise UnknownKeyError(str(key_id))
    aftermath.callers_changed(connection)


def may_be_key(secret: str) -> bool:
    """Say whether a secret has the form of a key; nobody is asked about one that has not."""
    return _FORM_OF_KEY.fullmatch(secret) is not None


def is_revoked(connection: Connection, key_id: UUID) -> bool:
    """Say whether a key is revoked now, or gone."""
    return (
        connection.execute(
            text("select 1 from api_keys where id = :id and revoked_at is null"), {"id": key_id}
        ).one_or_none()
        is None
    )


def authenticate(connection: Connection, secret: str) -> Caller | Operator:
    """Return whom a key belongs to.

    Raises:
        ProblemError: `key_invalid`, `key_revoked`.
    """
    row = connection.execute(
        text(
            "select k.id, k.partner_id, k.mode, k.label, k.revoked_at, a.id as account_id"
            " from api_keys k left join accounts a on a.partner_id = k.partner_id"
            " and a.mode = k.mode and a.kind = 'partner' where k.digest = :digest"
        ),
        {"digest": _digest(secret)},
    ).one_or_none()
    if row is None:
        raise ProblemError(Code.KEY_INVALID)
    if row.revoked_at is not None:
        raise ProblemError(Code.KEY_REVOKED)
    if row.partner_id is None:
        return Operator(row.id, row.label)
    return Caller(row.partner_id, Mode(row.mode), row.id, row.account_id)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
