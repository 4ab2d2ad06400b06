"""The CMS signature that PAdES B-B asks for, detached, over a document's digest.

RFC 5652 (CMS), RFC 5035 (signing-certificate-v2), ETSI EN 319 142-1, 6.3: content-type,
message-digest and signing-certificate-v2 are signed, and signing-time is left to the signature
dictionary's /M. Everything but the digest and the signature is encoded once per key.
"""

import hashlib
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from workers.sealing.signing.der import OCTET_STRING, integer, oid, sequence, set_of, tlv
from workers.sealing.signing.keys import Signer

_DATA = oid("1.2.840.113549.1.7.1")
_SIGNED_DATA = oid("1.2.840.113549.1.7.2")
_CONTENT_TYPE = oid("1.2.840.113549.1.9.3")
_MESSAGE_DIGEST = oid("1.2.840.113549.1.9.4")
_SIGNING_CERTIFICATE_V2 = oid("1.2.840.113549.1.9.16.2.47")

_EXPLICIT_0 = 0xA0
_IMPLICIT_SET_0 = 0xA0
_DIRECTORY_NAME = 0xA4


def sign_digest(digest: bytes, signer: Signer) -> bytes:
    """Return the DER of a ContentInfo that signs a document's digest, made as the key's algorithm asks."""
    attributes = _attributes(digest, signer)
    # Signed as a SET OF, stored as [0] IMPLICIT (RFC 5652, 5.4): only the tag differs.
    signature = signer.sign(attributes)
    stored = bytes((_IMPLICIT_SET_0,)) + attributes[1:]
    return _content_info(signer, stored, signature)


@lru_cache(maxsize=8)
def length(signer: Signer) -> int:
    """Return the most bytes that a signature of this key takes, the same for every document."""
    attributes = _attributes(hashlib.new(signer.algorithm.digest).digest(), signer)
    return len(_content_info(signer, attributes, bytes(signer.signature_bytes)))


def _attributes(digest: bytes, signer: Signer) -> bytes:
    content_type, certificate = _constant_attributes(signer.certificates[0])
    message_digest = sequence(_MESSAGE_DIGEST, set_of([tlv(OCTET_STRING, digest)]))
    return set_of([content_type, message_digest, certificate])


@lru_cache(maxsize=8)
def _constant_attributes(certificate: x509.Certificate) -> tuple[bytes, bytes]:
    digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
    issuer = sequence(tlv(_DIRECTORY_NAME, certificate.issuer.public_bytes()))
    issuer_serial = sequence(issuer, integer(certificate.serial_number))
    # ESSCertIDv2 with its default hash algorithm, SHA-256, left out as DER asks.
    essential = sequence(tlv(OCTET_STRING, digest), issuer_serial)
    return (
        sequence(_CONTENT_TYPE, set_of([_DATA])),
        sequence(_SIGNING_CERTIFICATE_V2, set_of([sequence(sequence(essential))])),
    )


@lru_cache(maxsize=8)
def _constant_parts(signer: Signer) -> tuple[bytes, bytes]:
    """Return what stands before the signer's information, and what it begins with."""
    leaf = signer.certificates[0]
    certificates = sorted(c.public_bytes(Encoding.DER) for c in signer.certificates)
    before = b"".join(
        (
            integer(1),
            set_of([signer.algorithm.digest_identifier]),
            sequence(_DATA),
            tlv(_IMPLICIT_SET_0, *certificates),
        )
    )
    identifier = sequence(leaf.issuer.public_bytes(), integer(leaf.serial_number))
    return before, b"".join((integer(1), identifier, signer.algorithm.digest_identifier))


def _content_info(signer: Signer, attributes: bytes, signature: bytes) -> bytes:
    before, begin = _constant_parts(signer)
    algorithm = signer.algorithm.signature_identifier
    information = sequence(begin, attributes, algorithm, tlv(OCTET_STRING, signature))
    signed_data = sequence(before, set_of([information]))
    return sequence(_SIGNED_DATA, tlv(_EXPLICIT_0, signed_data))
