"""Certificates and who issued them."""

import hashlib
from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

# Longer than any chain that is meant.
_LONGEST_PATH = 10


def der(certificate: x509.Certificate) -> bytes:
    """Return a certificate's DER."""
    return certificate.public_bytes(Encoding.DER)


def fingerprint(certificate: x509.Certificate) -> str:
    """Return a certificate's SHA-256, 64 hexadecimal digits."""
    return hashlib.sha256(der(certificate)).hexdigest()


def path(
    leaf: x509.Certificate,
    candidates: Iterable[x509.Certificate],
    anchors: Sequence[x509.Certificate],
) -> tuple[x509.Certificate, ...]:
    """Return a certificate and its issuers, up to an anchor, a root, or the last one that is known."""
    among = [*candidates, *anchors]
    found = [leaf]
    while found[-1] not in anchors and found[-1].issuer != found[-1].subject:
        issuer = next((each for each in among if _issued(each, found[-1])), None)
        if issuer is None or len(found) >= _LONGEST_PATH:
            break
        found.append(issuer)
    return tuple(found)


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    if issuer.subject != certificate.issuer:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:
        # cryptography raises a different error for each way in which it did not.
        return False
    return True
