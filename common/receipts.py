"""The signed proof of arrival: a JWS (RFC 7515) with Ed25519 (RFC 8037).

It says which document (SHA-256) arrived when, for which job and how many stamps. Anybody checks it
against the key at `/.well-known/jwks.json`, also when the service is down: the receipt carries the
key's id (`kid`), the key's own thumbprint (RFC 7638).
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import jwt

from common import jwks

RECEIPT_TYPE = "stampede-receipt+jwt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What a receipt vouches for."""

    job_id: UUID
    arrived_at: datetime
    mode: str
    document_sha256: bytes
    document_bytes: int
    external_reference: str | None
    stamps: int


class ReceiptSigner:
    """Signs arrivals; made once per process, because parsing the key costs more than signing."""

    def __init__(self, private_key_pem: bytes, *, issuer: str) -> None:
        """Load the key.

        Args:
            private_key_pem: an Ed25519 private key, unencrypted PEM.
            issuer: the service's public address, which receipts name as `iss`.

        Raises:
            ValueError: the PEM holds no Ed25519 key.
        """
        self._key = jwks.private_key(private_key_pem)
        self._issuer = issuer
        self.public_jwk = jwks.public_jwk(self._key.public_key(), jwks.Use.RECEIPT)

    def sign(self, arrival: Arrival) -> str:
        """Return the receipt in compact form."""
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "sub": str(arrival.job_id),
            "iat": int(arrival.arrived_at.timestamp()),
            "arrived_at": arrival.arrived_at.astimezone(UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "mode": arrival.mode,
            "document_sha256": arrival.document_sha256.hex(),
            "document_bytes": arrival.document_bytes,
            "stamps": arrival.stamps,
        }
        if arrival.external_reference is not None:
            claims["external_reference"] = arrival.external_reference
        return jwt.encode(
            claims,
            self._key,
            algorithm="EdDSA",
            headers={"kid": self.public_jwk["kid"], "typ": RECEIPT_TYPE},
        )

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the key set that receipts are checked against (RFC 7517, 5)."""
        return {"keys": [self.public_jwk]}
