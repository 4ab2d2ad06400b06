"""A timestamp over a signature: the question, the checked answer, and its place in the signature.

RFC 3161. The token goes into the signature as the unsigned attribute id-aa-signatureTimeStampToken
(RFC 3161, appendix A; ETSI EN 319 122-1, 5.3), which no signature covers: it can be put there later
too. Nothing here talks to anybody; who carries question and answer is the caller's choice.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from asn1crypto import cms, tsp
from cryptography import x509
from rfc3161_client import (
    HashAlgorithm,
    TimeStampRequest,
    TimestampRequestBuilder,
    TimeStampResponse,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from workers.sealing.signing.certificates import path
from workers.sealing.signing.der import (
    CONTEXT_0,
    CONTEXT_1,
    OCTET_STRING,
    append_to_last,
    last_member,
    members,
    oid,
    sequence,
    set_of,
    tlv,
)

_SIGNATURE_TIMESTAMP = oid("1.2.840.113549.1.9.16.2.14")
_NAMES_CERTIFICATE = {
    "1.2.840.113549.1.9.16.2.12": tsp.SigningCertificate,
    "1.2.840.113549.1.9.16.2.47": tsp.SigningCertificateV2,
}
_SHA256 = x509.ObjectIdentifier("2.16.840.1.101.3.4.2.1")
# RFC 5652, 5.1 and 5.3.
_VERSIONS = ("v1", "v3", "v4", "v5")
# From ContentInfo down to SignerInfo, each the last member of the one before (RFC 5652, 3 to 5).
_LEVELS_DOWN = 4
# What the attribute takes beside the token, and the lengths around it that grow by some bytes.
_AROUND_TOKEN = 64
# An authority's clock may differ from ours by so much; a token from further away is not about now.
_CLOCKS_APART = timedelta(minutes=10)
_WHY_OF_STATUS = 200
_SIGNATURE_ALGORITHMS = ("rsassa_pkcs1v15", "rsassa_pss", "ecdsa", "ed25519")


class TimestampError(ValueError):
    """An authority's answer cannot be used; the text says why."""


class TokenTooLongError(Exception):
    """The token does not fit into the room that was kept free; `needed` is the room it takes, in bytes."""

    def __init__(self, needed: int) -> None:
        """Take the room that would do."""
        super().__init__(f"the timestamp needs {needed} bytes")
        self.needed = needed


@dataclass(frozen=True, slots=True)
class Token:
    """A checked TimeStampToken (DER), the time it states, and its signer's certificates, leaf first."""

    der: bytes
    at: datetime
    certificates: tuple[x509.Certificate, ...]


def question(signature_value: bytes) -> TimeStampRequest:
    """Return the request for a timestamp over a signature: SHA-256, a nonce, certificates wanted."""
    return (
        TimestampRequestBuilder()
        .data(signature_value)
        .hash_algorithm(HashAlgorithm.SHA256)
        .nonce(nonce=True)
        .cert_request(cert_request=True)
        .build()
    )


def read_answer(
    answer: bytes,
    asked: TimeStampRequest,
    signature_value: bytes,
    *,
    roots: Sequence[x509.Certificate],
    now: datetime,
) -> Token:
    """Return the token of an answer that is right in every respect (RFC 3161, 2.4.2).

    Right are: the status 'granted', the nonce, the imprint and its algorithm, a time near `now`, the
    token's signature, a chain from a certificate for timestamping alone to one of the roots, and the
    signed name of that certificate (RFC 5816).

    Raises:
        TimestampError: something is not; says what.
    """
    try:
        response = decode_timestamp_response(_in_order(answer))
        _require_granted(response)
        verifier = VerifierBuilder.from_request(asked)
        for root in roots:
            verifier = verifier.add_root_certificate(root)
        verifier.build().verify(response, hashlib.sha256(signature_value).digest())
        information = response.tst_info
        der = response.time_stamp_token()
        chain = _chain(der, response.signed_data.certificates, roots)
    except TimestampError:
        raise
    except (VerificationError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise TimestampError(str(error) or type(error).__name__) from error
    if information.message_imprint.hash_algorithm != _SHA256:
        raise TimestampError("the imprint is of another algorithm")
    if abs(information.gen_time - now) > _CLOCKS_APART:
        raise TimestampError(f"the token is of {information.gen_time:%Y-%m-%d %H:%M} UTC")
    return Token(der, information.gen_time, chain)


def room_for(token_bytes: int) -> int:
    """Return the room that a token of a length takes within a signature, in bytes."""
    return token_bytes + _AROUND_TOKEN


def signature_value(signature: bytes) -> bytes:
    """Return what a timestamp is about: the signature value of a CMS with one signer.

    Raises:
        ValueError: it is not such a CMS, or its signer has unsigned attributes already.
    """
    tag, value = last_member(signature, _LEVELS_DOWN)
    if tag != OCTET_STRING:
        raise ValueError("not a signature without unsigned attributes")
    return value


def attach(signature: bytes, token: bytes, *, room: int) -> bytes:
    """Return the CMS with a timestamp token as its signer's only unsigned attribute.

    Args:
        signature: the CMS without it (DER).
        token: the TimeStampToken (DER).
        room: how many bytes the result may be longer.

    Raises:
        TokenTooLongError: it would be longer.
    """
    attribute = sequence(_SIGNATURE_TIMESTAMP, set_of([token]))
    stamped = append_to_last(signature, _LEVELS_DOWN, tlv(CONTEXT_1, attribute))
    if len(stamped) > len(signature) + room:
        raise TokenTooLongError(room_for(len(token)))
    return stamped


def _in_order(answer: bytes) -> bytes:
    """Return an answer with the certificates of its token in the order of DER.

    OpenSSL, and who builds on it, writes them in the order of the chain, which CMS allows (RFC 5652,
    5.1 asks for no DER there, and no signature covers them); the library refuses that.
    """
    status, *token = members(answer)
    if len(token) != 1:
        return answer
    kind, content = members(token[0])
    (signed,) = members(content)
    ordered = [
        tlv(CONTEXT_0, *sorted(members(each))) if each[0] == CONTEXT_0 else each
        for each in members(signed)
    ]
    # Each with the tag that it had: what is wrong there is for the library to find.
    inner = tlv(token[0][0], kind, tlv(content[0], tlv(signed[0], *ordered)))
    return tlv(answer[0], status, inner)


def _require_granted(response: TimeStampResponse) -> None:
    if response.status != 0:
        said = ", ".join(response.status_string)[:_WHY_OF_STATUS]
        raise TimestampError(f"refused with status {response.status}: {said or 'no reason'}")


def _chain(
    token: bytes, given: set[bytes], roots: Sequence[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    """Return the token's signing certificate and its issuers up to a root.

    The certificate is the one that the signed attributes name by its hash (RFC 5035, RFC 5816).
    """
    certificates = {der: x509.load_der_x509_certificate(der) for der in given}
    signed = cms.ContentInfo.load(token)["content"]
    (signer,) = signed["signer_infos"]
    leaf = certificates.get(_named(signer, given))
    if leaf is None:
        raise TimestampError("the token names another certificate than it brings")
    # OpenSSL does not look at the algorithm's name where the key alone says how to verify; others do.
    stated = signer["signature_algorithm"]
    if stated.signature_algo not in _SIGNATURE_ALGORITHMS or (
        stated["algorithm"].native not in ("rsassa_pkcs1v15", "ed25519")
        and stated.hash_algo != signer["digest_algorithm"]["algorithm"].native
    ):
        raise TimestampError("the token names another algorithm than it was signed with")
    if signed["version"].native not in _VERSIONS or signer["version"].native not in _VERSIONS:
        raise TimestampError("the token is of a version that CMS does not have")
    return path(leaf, certificates.values(), roots)


def _named(signer: cms.SignerInfo, given: set[bytes]) -> bytes:
    """Return the certificate whose hash the token's signer signed; empty when it is not there."""
    for attribute in signer["signed_attrs"]:
        kind = _NAMES_CERTIFICATE.get(attribute["type"].dotted)
        if kind is None:
            continue
        named = kind.load(attribute["values"][0].dump())["certs"][0]
        algorithm = "sha1"
        if kind is tsp.SigningCertificateV2:
            algorithm = named["hash_algorithm"]["algorithm"].native
        wanted = named["cert_hash"].native
        for der in given:
            if hashlib.new(algorithm, der, usedforsecurity=False).digest() == wanted:
                return der
    return b""
