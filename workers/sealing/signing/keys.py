"""A stamping key as the engine sees it: certificates, an algorithm, and something that signs.

Made once per process and kept: parsing and checking a private key costs far more than a signature.
Here are the keys that lie in files, PEM or PKCS #12; `hsm.py` has those that a token keeps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from workers.sealing.signing.algorithms import (
    PSS_SALT_BYTES,
    Algorithm,
    KeyUnusableError,
    Scheme,
    algorithm_of,
)

HASHES = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384()}
PSS = padding.PSS(padding.MGF1(hashes.SHA256()), PSS_SALT_BYTES)


# Compared by identity: hashing certificates for every look-up would cost.
@dataclass(frozen=True, slots=True, eq=False)
class Signer:
    """What the engine needs of a key.

    Attributes:
        certificates: the key's own, then its issuers.
        algorithm: how it signs, and how CMS names that.
        sign: returns the signature over some bytes, at most `signature_bytes` long.
    """

    certificates: tuple[x509.Certificate, ...]
    algorithm: Algorithm
    sign: Callable[[bytes], bytes]

    @classmethod
    def from_pem(
        cls,
        key_pem: bytes,
        chain_pem: bytes,
        passphrase: bytes | None = None,
        *,
        pss: bool = False,
    ) -> Self:
        """Load a key and its certificates.

        Args:
            key_pem: the private key, PKCS #8 or traditional.
            chain_pem: the signing certificate, then its issuers.
            passphrase: of the key, if it has one.
            pss: sign with PSS instead of PKCS #1 v1.5; RSA keys only.

        Raises:
            KeyUnusableError: says what is wrong with the key or its certificate, and what to do.
        """
        try:
            key = load_pem_private_key(key_pem, passphrase)
        except TypeError as error:
            raise KeyUnusableError(
                "the key is encrypted; name a file with its passphrase"
                if passphrase is None
                else "the key is not encrypted; leave its passphrase out"
            ) from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeyUnusableError(f"the key cannot be read; is it PEM? {error}") from error
        return cls.from_key(key, certificates_from_pem(chain_pem), pss=pss)

    @classmethod
    def from_pkcs12(
        cls, content: bytes, passphrase: bytes | None = None, *, pss: bool = False
    ) -> Self:
        """Load a key and its certificates from a PKCS #12 file (`.p12`, `.pfx`).

        Raises:
            KeyUnusableError: says what is wrong with the file, and what to do.
        """
        try:
            held = load_pkcs12(content, passphrase)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeyUnusableError(
                f"the PKCS #12 file cannot be read; is its passphrase right? {error}"
            ) from error
        if held.key is None or held.cert is None:
            raise KeyUnusableError(
                "the PKCS #12 file lacks the key or its certificate; export both into it"
            )
        issuers = (other.certificate for other in held.additional_certs)
        return cls.from_key(held.key, (held.cert.certificate, *issuers), pss=pss)

    @classmethod
    def from_key(
        cls, key: PrivateKeyTypes, certificates: Sequence[x509.Certificate], *, pss: bool = False
    ) -> Self:
        """Take a private key that is in memory, and its certificates, leaf first.

        Raises:
            KeyUnusableError: the key is of no use for stamps, or not the first certificate's.
        """
        algorithm = usable(certificates[0], pss=pss)
        if certificates[0].public_key() != key.public_key():
            raise KeyUnusableError(
                "the first certificate of the chain is not the stamping key's; put the key's own"
                " certificate first, or take the key that belongs to it"
            )
        return cls(tuple(certificates), algorithm, _signing(key, algorithm))

    @property
    def signature_bytes(self) -> int:
        """Return the most that a signature takes."""
        return self.algorithm.signature_bytes


def certificates_from_pem(chain_pem: bytes) -> tuple[x509.Certificate, ...]:
    """Return the certificates of a PEM file, in its order.

    Raises:
        KeyUnusableError: there are none, or they cannot be read.
    """
    try:
        return tuple(x509.load_pem_x509_certificates(chain_pem))
    except ValueError as error:
        raise KeyUnusableError(f"the certificates cannot be read; are they PEM? {error}") from error


def usable(certificate: x509.Certificate, *, pss: bool) -> Algorithm:
    """Return the algorithm of a signing certificate, unless it is of no use for stamps.

    Raises:
        KeyUnusableError: says why, and what to do.
    """
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        usage = None
    except ValueError as error:
        raise KeyUnusableError(f"the signing certificate cannot be read: {error}") from error
    if usage is not None and not (usage.digital_signature or usage.content_commitment):
        raise KeyUnusableError(
            "the first certificate of the chain may not sign documents: its key usage lacks"
            " digitalSignature and nonRepudiation; put the signing certificate first"
        )
    try:
        return algorithm_of(certificate, pss=pss)
    except (ValueError, UnsupportedAlgorithm) as error:
        if isinstance(error, KeyUnusableError):
            raise
        raise KeyUnusableError(f"the key of the signing certificate is unknown: {error}") from error


def _signing(key: PrivateKeyTypes, algorithm: Algorithm) -> Callable[[bytes], bytes]:
    if isinstance(key, RSAPrivateKey):
        around = PSS if algorithm.scheme is Scheme.PSS else padding.PKCS1v15()
        return partial(_sign_rsa, key, around, HASHES[algorithm.digest])
    if isinstance(key, EllipticCurvePrivateKey):
        return partial(_sign_ecdsa, key, ECDSA(HASHES[algorithm.digest]))
    if isinstance(key, Ed25519PrivateKey):
        return key.sign
    raise AssertionError(type(key).__name__)


def _sign_rsa(
    key: RSAPrivateKey,
    around: padding.PKCS1v15 | padding.PSS,
    digest: hashes.HashAlgorithm,
    data: bytes,
) -> bytes:
    return key.sign(data, around, digest)


def _sign_ecdsa(key: EllipticCurvePrivateKey, algorithm: ECDSA, data: bytes) -> bytes:
    return key.sign(data, algorithm)
