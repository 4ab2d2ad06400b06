"""Whom signatures are checked against: roots of signers, and roots of timestamp authorities.

Two lists, because a public authority's root vouches for far more than timestamps: anybody may hold a
certificate below it, and would pass for a signer of stamps.
"""

from dataclasses import dataclass
from typing import Any, Self

from asn1crypto.x509 import Certificate
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko_certvalidator import ValidationContext


@dataclass(frozen=True, slots=True)
class Trust:
    """Certificates to trust; `authorities` count for timestamps only, beside those of signers."""

    signers: tuple[Certificate, ...]
    authorities: tuple[Certificate, ...]

    @classmethod
    def from_pem(cls, signers_pem: bytes, authorities_pem: bytes | None = None) -> Self:
        """Read both lists; without the second, timestamps are checked against the first alone.

        Raises:
            ValueError: a list holds no certificate, or one that cannot be read.
        """
        return cls(
            _certificates(signers_pem),
            () if authorities_pem is None else _certificates(authorities_pem),
        )

    @property
    def for_timestamps(self) -> list[Certificate]:
        """Return whom a timestamp may lead to."""
        return [*self.signers, *self.authorities]

    def signer_context(self, **terms: Any) -> ValidationContext:
        """Return what pyHanko checks signers by, `moment` and the like in `terms`; nothing is fetched."""
        return ValidationContext(trust_roots=list(self.signers), allow_fetching=False, **terms)

    def timestamp_context(self) -> ValidationContext:
        """Return what pyHanko checks timestamps by; nothing is fetched."""
        return ValidationContext(trust_roots=self.for_timestamps, allow_fetching=False)


def _certificates(pem: bytes) -> tuple[Certificate, ...]:
    return tuple(
        Certificate.load(certificate.public_bytes(Encoding.DER))
        for certificate in x509.load_pem_x509_certificates(pem)
    )
