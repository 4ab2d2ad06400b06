"""Public Ed25519 keys as the world gets them: JSON Web Keys (RFC 7517, RFC 8037), and PEM.

The service publishes keys of two uses in one set; `stampede_use` tells them apart, and `kid` is the
key's own thumbprint (RFC 7638).
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

_END = b"-----END PUBLIC KEY-----"


class Use(StrEnum):
    """What a key signs."""

    RECEIPT = "receipt"
    CODE = "code"


def public_jwk(key: Ed25519PublicKey, use: Use) -> dict[str, str]:
    """Return a key as a member of the published set."""
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    members = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(raw)}
    thumbprint = hashlib.sha256(
        json.dumps(members, separators=(",", ":"), sort_keys=True).encode()
    ).digest()
    return members | {
        "kid": _base64url(thumbprint),
        "use": "sig",
        "alg": "EdDSA",
        "stampede_use": use.value,
    }


def private_key(pem: bytes) -> Ed25519PrivateKey:
    """Load a private key.

    Raises:
        ValueError: the PEM holds no unencrypted Ed25519 key.
    """
    try:
        key = load_pem_private_key(pem, password=None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("not an unencrypted private key in PEM") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("not an Ed25519 key")  # noqa: TRY004
    return key


def public_keys(content: bytes, use: Use) -> list[Ed25519PublicKey]:
    """Load public keys from a key set (those of one use) or from PEM, one or several.

    Args:
        content: a file's content, JSON or PEM.
        use: which keys of a set are wanted; members without `stampede_use` are left out.

    Raises:
        ValueError: it is neither, or it holds no such key.
    """
    found = (
        list(_from_set(content, use))
        if content.lstrip().startswith(b"{")
        else list(_from_pem(content))
    )
    if not found:
        raise ValueError("no Ed25519 public key in it")
    return found


def public_pem(key: Ed25519PublicKey) -> bytes:
    """Return a key as PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _from_pem(content: bytes) -> Iterable[Ed25519PublicKey]:
    for part in content.split(_END)[:-1]:
        try:
            key = load_pem_public_key(part[part.find(b"-----BEGIN") :] + _END)
        except UnsupportedAlgorithm as error:
            raise ValueError("not an Ed25519 key") from error
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError("not an Ed25519 key")  # noqa: TRY004
        yield key


def _from_set(content: bytes, use: Use) -> Iterable[Ed25519PublicKey]:
    try:
        members: Any = json.loads(content)["keys"]
        for member in members:
            if member.get("stampede_use") == use and member.get("crv") == "Ed25519":
                raw = base64.urlsafe_b64decode(member["x"] + "=" * (-len(member["x"]) % 4))
                yield Ed25519PublicKey.from_public_bytes(raw)
    except (
        KeyError,
        TypeError,
        AttributeError,
        binascii.Error,
        UnicodeDecodeError,
        RecursionError,
    ) as error:
        raise ValueError("not a JSON Web Key Set") from error


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
