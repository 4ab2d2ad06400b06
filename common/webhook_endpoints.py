"""Webhook endpoints: where a partner wants to be told, one set for test and one for live."""

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from common.identifiers import new_id
from common.partners import Caller

# Standard Webhooks: 24 to 64 random bytes, base64, after this prefix.
SECRET_PREFIX = "whsec_"  # noqa: S105
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint, without its secret."""

    id: UUID
    url: str
    description: str
    created_at: datetime


def register(
    connection: Connection, owner: Caller, *, url: str, description: str
) -> tuple[Endpoint, str]:
    """Add an endpoint; the secret is returned this once."""
    secret = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    endpoint_id = new_id()
    created_at: datetime = connection.execute(
        text(
            "insert into webhook_endpoints (id, partner_id, mode, url, secret, description)"
            " values (:id, :partner_id, :mode, :url, :secret, :description) returning created_at"
        ),
        {
            "id": endpoint_id,
            "partner_id": owner.partner_id,
            "mode": owner.mode,
            "url": url,
            "secret": secret,
            "description": description,
        },
    ).scalar_one()
    return Endpoint(endpoint_id, url, description, created_at), secret


def of(connection: Connection, owner: Caller) -> Sequence[Endpoint]:
    """Return the owner's endpoints, oldest first."""
    rows = connection.execute(
        text(
            "select id, url, description, created_at from webhook_endpoints"
            " where partner_id = :partner_id and mode = :mode and deleted_at is null order by id"
        ),
        {"partner_id": owner.partner_id, "mode": owner.mode},
    )
    return [Endpoint(row.id, row.url, row.description, row.created_at) for row in rows]


def delete(connection: Connection, owner: Caller, endpoint_id: UUID) -> bool:
    """Stop telling an endpoint; returns whether the owner had it."""
    return bool(
        connection.execute(
            text(
                "update webhook_endpoints set deleted_at = now() where id = :id"
                " and partner_id = :partner_id and mode = :mode and deleted_at is null"
            ),
            {"id": endpoint_id, "partner_id": owner.partner_id, "mode": owner.mode},
        ).rowcount
    )
