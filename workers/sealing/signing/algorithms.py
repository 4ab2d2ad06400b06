"""The algorithms that a stamping key may sign with, and how CMS names them.

| key                    | signature                    | digest  | named by            |
| RSA, 2048 bits or more | PKCS #1 v1.5, or PSS         | SHA-256 | RFC 4055, RFC 4056  |
| EC P-256               | ECDSA                        | SHA-256 | RFC 5754, 3.3       |
| EC P-384               | ECDSA                        | SHA-384 | RFC 5754, 3.3       |
| Ed25519                | PureEdDSA                    | SHA-512 | RFC 8419, 2.3, 3.1  |

The digest is both that of the document and that of the signed attributes (RFC 5652, 5.4); Ed25519
takes the attributes whole.
"""

from dataclasses import dataclass
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import PublicKeyAlgorithmOID

from workers.sealing.signing.der import NULL, bit_string, integer, oid, sequence, tlv

SMALLEST_RSA_BITS = 2048
PSS_SALT_BYTES = 32

_SHA256_OID = oid("2.16.840.1.101.3.4.2.1")
SHA256 = sequence(_SHA256_OID)
_SHA384 = sequence(oid("2.16.840.1.101.3.4.2.2"))
_SHA512 = sequence(oid("2.16.840.1.101.3.4.2.3"))
_SHA256_WITH_RSA = sequence(oid("1.2.840.113549.1.1.11"), NULL)
_ECDSA_WITH_SHA256 = sequence(oid("1.2.840.10045.4.3.2"))
_ECDSA_WITH_SHA384 = sequence(oid("1.2.840.10045.4.3.3"))
_ED25519 = sequence(oid("1.3.101.112"))
_MGF1 = oid("1.2.840.113549.1.1.8")
_PSS = oid("1.2.840.113549.1.1.10")
_EXPLICIT_0, _EXPLICIT_1, _EXPLICIT_2 = 0xA0, 0xA1, 0xA2


class KeyUnusableError(ValueError):
    """The key or its certificate cannot sign stamps; the text says why and what to do."""


class Scheme(StrEnum):
    """How a key signs; all that a token needs to know to choose its mechanism."""

    PKCS1 = "pkcs1"
    PSS = "pss"
    ECDSA = "ecdsa"
    ED25519 = "ed25519"


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """One algorithm for one key.

    Attributes:
        name: for people, such as `RSA-2048` or `ECDSA P-256`.
        scheme: how it signs.
        digest: hashlib's name of its digest.
        digest_identifier: the digest's AlgorithmIdentifier, DER.
        signature_identifier: the signature's AlgorithmIdentifier, DER.
        signature_bytes: the most that a signature takes; ECDSA's vary by a few bytes.
    """

    name: str
    scheme: Scheme
    digest: str
    digest_identifier: bytes
    signature_identifier: bytes
    signature_bytes: int


def _pss_identifier(sha256: bytes) -> bytes:
    """Return the identifier of PSS with SHA-256, MGF1 with SHA-256, 32 bytes of salt (RFC 4055, 3.1)."""
    parameters = sequence(
        tlv(_EXPLICIT_0, sha256),
        tlv(_EXPLICIT_1, sequence(_MGF1, sha256)),
        tlv(_EXPLICIT_2, integer(PSS_SALT_BYTES)),
    )
    return sequence(_PSS, parameters)


# Both ways to write SHA-256 are legal; with NULL is the one that RFC 4055, 2.1 wants written.
_PSS_SHA256 = _pss_identifier(sequence(_SHA256_OID, NULL))
_PSS_KEYS = (sequence(_PSS), _PSS_SHA256, _pss_identifier(SHA256))


def algorithm_of(certificate: x509.Certificate, *, pss: bool = False) -> Algorithm:
    """Return the algorithm that a certificate's key signs with.

    Args:
        certificate: the signing certificate.
        pss: sign with PSS although the certificate leaves the choice; RSA keys only. A certificate
            for id-RSASSA-PSS always does.

    Raises:
        KeyUnusableError: stamps are not signed with such a key.
    """
    key = certificate.public_key()
    if isinstance(key, RSAPublicKey):
        only_pss = certificate.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSASSA_PSS
        if only_pss:
            _refuse_other_pss(certificate, key)
        return _rsa(key, pss=pss or only_pss)
    if pss:
        raise KeyUnusableError("PSS is asked for, but the key is not an RSA key; leave it out")
    return _other(key)


def _rsa(key: RSAPublicKey, *, pss: bool) -> Algorithm:
    if key.key_size < SMALLEST_RSA_BITS:
        raise KeyUnusableError(
            f"the RSA key has {key.key_size} bits, which no longer protects a signature; use one of"
            f" {SMALLEST_RSA_BITS} bits or more"
        )
    return Algorithm(
        name=f"RSA-PSS-{key.key_size}" if pss else f"RSA-{key.key_size}",
        scheme=Scheme.PSS if pss else Scheme.PKCS1,
        digest="sha256",
        digest_identifier=SHA256,
        signature_identifier=_PSS_SHA256 if pss else _SHA256_WITH_RSA,
        signature_bytes=(key.key_size + 7) // 8,
    )


def _other(key: CertificatePublicKeyTypes) -> Algorithm:
    if isinstance(key, Ed25519PublicKey):
        return Algorithm(
            name="Ed25519",
            scheme=Scheme.ED25519,
            digest="sha512",
            digest_identifier=_SHA512,
            signature_identifier=_ED25519,
            signature_bytes=64,
        )
    if isinstance(key, EllipticCurvePublicKey):
        # DER around two numbers of the curve's size, each with at most one more byte for its sign.
        if isinstance(key.curve, SECP256R1):
            return Algorithm(
                name="ECDSA P-256",
                scheme=Scheme.ECDSA,
                digest="sha256",
                digest_identifier=SHA256,
                signature_identifier=_ECDSA_WITH_SHA256,
                signature_bytes=2 + 2 * (2 + 33),
            )
        if isinstance(key.curve, SECP384R1):
            return Algorithm(
                name="ECDSA P-384",
                scheme=Scheme.ECDSA,
                digest="sha384",
                digest_identifier=_SHA384,
                signature_identifier=_ECDSA_WITH_SHA384,
                signature_bytes=2 + 2 * (2 + 49),
            )
        raise KeyUnusableError(f"the key is on the curve {key.curve.name}; use P-256 or P-384")
    raise KeyUnusableError(
        "a stamping key is RSA of 2048 bits or more, EC P-256 or P-384, or Ed25519; this one is"
        f" {type(key).__name__.removesuffix('PublicKey')}"
    )


def _refuse_other_pss(certificate: x509.Certificate, key: RSAPublicKey) -> None:
    """Refuse a key that is bound to other parameters than ours (RFC 4055, 3.3)."""
    public = bit_string(key.public_bytes(Encoding.DER, PublicFormat.PKCS1))
    written = certificate.tbs_certificate_bytes
    if not any(sequence(identifier, public) in written for identifier in _PSS_KEYS):
        raise KeyUnusableError(
            "the certificate binds its RSA-PSS key to other parameters than SHA-256, MGF1 with"
            " SHA-256 and 32 bytes of salt; have it issued with these, or with none"
        )
