"""The signed proof of arrival: a JWS (RFC 7515) with Ed25519 (RFC 8037).

It says which document (SHA-256) arrived when, for which job and how many stamps. Anybody checks it
against the key at `/.well-known/jwks.json`, also when the service is down: the receipt carries the
key's id (`kid`), the key's own thumbprint (RFC 7638).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from common import jwks

RECEIPT_TYPE = "stampede-receipt+jwt"
# A clock that ran ahead makes no receipt false, and none ever expires.
_ONLY_THE_SIGNATURE: Any = {"verify_iat": False, "verify_exp": False, "verify_nbf": False}


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

    def as_claims(self) -> dict[str, Any]:
        """Return what a receipt says of it, without who signed when."""
        claims: dict[str, Any] = {
            "sub": str(self.job_id),
            "arrived_at": self.arrived_at.astimezone(UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "mode": self.mode,
            "document_sha256": self.document_sha256.hex(),
            "document_bytes": self.document_bytes,
            "stamps": self.stamps,
        }
        if self.external_reference is not None:
            claims["external_reference"] = self.external_reference
        return claims


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
        return jwt.encode(
            {
                "iss": self._issuer,
                "iat": int(arrival.arrived_at.timestamp()),
                **arrival.as_claims(),
            },
            self._key,
            algorithm="EdDSA",
            headers={"kid": self.public_jwk["kid"], "typ": RECEIPT_TYPE},
        )

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the key set that receipts are checked against (RFC 7517, 5)."""
        return {"keys": [self.public_jwk]}


class Fault(StrEnum):
    """Why a receipt proves nothing."""

    NOT_A_RECEIPT = "not_a_receipt"
    KEY_UNKNOWN = "key_unknown"
    TAMPERED = "tampered"


class ReceiptError(ValueError):
    """What was shown proves nothing; the text is one sentence for people."""

    def __init__(self, fault: Fault, said: str) -> None:
        super().__init__(said)
        self.fault = fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a genuine receipt says, and by which of the keys."""

    issuer: str
    key_id: str
    arrival: Arrival


class ReceiptChecker:
    """Checks receipts against published keys: today's and earlier ones."""

    def __init__(self, keys: Iterable[Ed25519PublicKey]) -> None:
        """Take the keys."""
        self._keys = {jwks.public_jwk(key, jwks.Use.RECEIPT)["kid"]: key for key in keys}

    def read(self, receipt: str) -> Proof:
        """Return what a receipt of one of these keys says.

        Raises:
            ReceiptError: it is none, or of another key, or was changed.
        """
        try:
            header = jwt.get_unverified_header(receipt)
        except jwt.InvalidTokenError as error:
            raise ReceiptError(Fault.NOT_A_RECEIPT, "this is no JWS") from error
        if header.get("typ") != RECEIPT_TYPE or header.get("alg") != "EdDSA":
            raise ReceiptError(
                Fault.NOT_A_RECEIPT,
                f"this is a JWS, but no receipt: {RECEIPT_TYPE} with EdDSA is one",
            )
        key = self._keys.get(str(header.get("kid")))
        if key is None:
            raise ReceiptError(
                Fault.KEY_UNKNOWN,
                f"it names the key '{str(header.get('kid'))[:64]}', which is not one of those given",
            )
        try:
            claims: Mapping[str, Any] = jwt.decode(
                receipt, key, algorithms=["EdDSA"], options=_ONLY_THE_SIGNATURE
            )
        except jwt.InvalidTokenError as error:
            raise ReceiptError(
                Fault.TAMPERED,
                "its signature is not that of the key it names: it was changed, or is forged",
            ) from error
        try:
            return Proof(issuer=str(claims["iss"]), key_id=header["kid"], arrival=_arrival(claims))
        except (KeyError, TypeError, ValueError) as error:
            raise ReceiptError(
                Fault.NOT_A_RECEIPT, f"it is signed, but does not say what a receipt says: {error}"
            ) from error

    def vouches(self, receipt: str, arrival: Arrival) -> bool:
        """Say whether the receipt is one of these keys', and what it says is true of this arrival."""
        try:
            header = jwt.get_unverified_header(receipt)
            claims: Mapping[str, Any] = jwt.decode(
                receipt,
                self._keys[header["kid"]],
                algorithms=["EdDSA"],
                options=_ONLY_THE_SIGNATURE,
            )
        except (jwt.InvalidTokenError, KeyError):
            return False
        expected = arrival.as_claims()
        # The first receipts did not count stamps; there was always one.
        said = {"stamps": 1} | {name: claims.get(name) for name in expected.keys() & claims.keys()}
        return header.get("typ") == RECEIPT_TYPE and said == expected


def _arrival(claims: Mapping[str, Any]) -> Arrival:
    """Return what the claims say; the first receipts did not count stamps, there was always one."""
    digest = bytes.fromhex(claims["document_sha256"])
    at = datetime.fromisoformat(claims["arrived_at"])
    if len(digest) != 32 or at.tzinfo is None:
        raise ValueError("no SHA-256, or no time with its zone")
    return Arrival(
        job_id=UUID(claims["sub"]),
        arrived_at=at,
        mode=str(claims["mode"]),
        document_sha256=digest,
        document_bytes=int(claims["document_bytes"]),
        external_reference=claims.get("external_reference"),
        stamps=int(claims.get("stamps", 1)),
    )
