"""The stamping key and its certificates, parsed once per process."""

from dataclasses import dataclass
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key


# Compared by identity: hashing a key and its certificates for every look-up would cost.
@dataclass(frozen=True, slots=True, eq=False)
class Signer:
    """An RSA key that signs with PKCS #1 v1.5 and SHA-256, and its certificates, leaf first.

    A class, because parsing and checking a private key costs far more than one signature.
    """

    key: RSAPrivateKey
    certificates: tuple[x509.Certificate, ...]

    @classmethod
    def from_pem(cls, key_pem: bytes, chain_pem: bytes, passphrase: bytes | None = None) -> Self:
        """Load a key and its certificates.

        Args:
            key_pem: the private key, PKCS #8 or traditional.
            chain_pem: the signing certificate, then its issuers.
            passphrase: of the key, if it has one.

        Raises:
            ValueError: the key is not RSA, or the first certificate is not the key's.
        """
        key = load_pem_private_key(key_pem, passphrase)
        if not isinstance(key, RSAPrivateKey):
            raise ValueError("the stamping key must be an RSA key")  # noqa: TRY004
        certificates = tuple(x509.load_pem_x509_certificates(chain_pem))
        if certificates[0].public_key() != key.public_key():
            raise ValueError("the first certificate of the chain is not the stamping key's")
        return cls(key, certificates)

    def sign(self, data: bytes) -> bytes:
        """Return the signature over `data`."""
        return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())

    @property
    def signature_bytes(self) -> int:
        """Return the length of every signature."""
        return self.key.key_size // 8
