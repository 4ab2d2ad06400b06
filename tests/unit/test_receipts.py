"""Receipts, checked by libraries that did not make them."""

from datetime import UTC, datetime
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from common.receipts import RECEIPT_TYPE, Arrival, ReceiptSigner

ARRIVAL = Arrival(
    job_id=UUID("01a20da0-51b4-7111-907f-a8c5e5392a49"),
    arrived_at=datetime(2026, 11, 24, 12, 55, 40, 212_000, tzinfo=UTC),
    mode="live",
    document_sha256=bytes(range(32)),
    document_bytes=355_000,
    external_reference="letter-7",
    stamps=3,
)


def pem(key: Ed25519PrivateKey | EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture
def signer() -> ReceiptSigner:
    return ReceiptSigner(pem(Ed25519PrivateKey.generate()), issuer="https://stamp.example")


def test_a_receipt_is_checked_against_the_published_key_set(signer: ReceiptSigner) -> None:
    token = signer.sign(ARRIVAL)
    keys = jwt.PyJWKSet.from_dict(signer.jwks())
    header = jwt.get_unverified_header(token)
    assert header["typ"] == RECEIPT_TYPE
    claims = jwt.decode(token, keys[header["kid"]].key, algorithms=["EdDSA"])
    assert claims == {
        "iss": "https://stamp.example",
        "sub": "01a20da0-51b4-7111-907f-a8c5e5392a49",
        "iat": 1795524940,
        "arrived_at": "2026-11-24T12:55:40.212Z",
        "mode": "live",
        "document_sha256": bytes(range(32)).hex(),
        "document_bytes": 355_000,
        "stamps": 3,
        "external_reference": "letter-7",
    }


def test_a_changed_receipt_is_refused(signer: ReceiptSigner) -> None:
    head, body, signature = signer.sign(ARRIVAL).split(".")
    forged = ".".join((head, body[:-4] + "AAAA", signature))
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(forged, jwt.PyJWK(signer.public_jwk).key, algorithms=["EdDSA"])


def test_the_key_set_never_holds_the_private_part(signer: ReceiptSigner) -> None:
    assert "d" not in signer.jwks()["keys"][0]


def test_the_key_id_is_the_thumbprint_of_rfc_8037() -> None:
    """RFC 8037, appendix A.3, gives a key and its thumbprint."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    signer = ReceiptSigner(pem(Ed25519PrivateKey.from_private_bytes(seed)), issuer="x")
    assert signer.public_jwk["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert signer.public_jwk["kid"] == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_another_kind_of_key_is_refused() -> None:
    with pytest.raises(ValueError, match="Ed25519"):
        ReceiptSigner(pem(generate_private_key(SECP256R1())), issuer="x")
