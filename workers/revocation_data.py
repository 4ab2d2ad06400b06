"""CRLs and OCSP responses, checked: what each says of one certificate, and until when.

RFC 5280, 5 and 6.3; RFC 6960, 3.2. Nothing is fetched here.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

Kind = Literal["crl", "ocsp"]
E = TypeVar("E", bound=x509.ExtensionType)

# An answer may be from a clock that is ahead of ours by so much.
_CLOCKS_APART = timedelta(minutes=5)
# An OCSP response that names no next update may be used for so long.
_WITHOUT_NEXT_UPDATE = timedelta(hours=1)


class RevocationDataError(ValueError):
    """The data says nothing of use about the certificate; the text says why."""


class RevokedError(Exception):
    """The certificate is revoked; `certificate` says which."""

    def __init__(self, certificate: x509.Certificate) -> None:
        """Take the certificate."""
        super().__init__(f"revoked: {certificate.subject.rfc4514_string()}")
        self.certificate = certificate


@dataclass(frozen=True, slots=True)
class Proof:
    """Data (DER) by which a certificate is not revoked: since when it is so, and until when."""

    kind: Kind
    der: bytes
    since: datetime
    until: datetime
    # Of an OCSP responder that is not the issuer itself.
    responder: bytes | None = None


def read(
    kind: Kind,
    der: bytes,
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    now: datetime,
) -> Proof:
    """Return what the data proves now about a certificate.

    Args:
        kind: what the data is.
        der: the data.
        certificate: the one that is asked about.
        issuer: whose signature counts.
        now: the time that must lie between the data's updates.

    Raises:
        RevocationDataError: it proves nothing.
        RevokedError: it says that the certificate is revoked.
    """
    look = _read_crl if kind == "crl" else _read_ocsp
    try:
        return look(der, certificate, issuer, now)
    except RevocationDataError:
        raise
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise RevocationDataError(str(error) or type(error).__name__) from error


def ocsp_question(certificate: x509.Certificate, issuer: x509.Certificate) -> bytes:
    """Return the request about a certificate (DER); without a nonce, because answers are kept."""
    # Responders know certificates by SHA-1 names (RFC 5019, 2.1.1); no signature depends on it.
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA1())  # noqa: S303
    return builder.build().public_bytes(Encoding.DER)


def addresses(certificate: x509.Certificate) -> list[tuple[Kind, str]]:
    """Return where a certificate says that its state can be asked for: OCSP first, it is smaller."""
    found: list[tuple[Kind, str]] = []
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess)
        found += [
            ("ocsp", each.access_location.value)
            for each in access.value
            if each.access_method == AuthorityInformationAccessOID.OCSP
        ]
    except x509.ExtensionNotFound:
        pass
    try:
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints)
        found += [("crl", name.value) for point in points.value for name in point.full_name or ()]
    except x509.ExtensionNotFound:
        pass
    return [each for each in found if each[1].lower().startswith(("http://", "https://"))]


def _read_crl(
    der: bytes, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime
) -> Proof:
    crl = x509.load_der_x509_crl(der)
    if crl.issuer != issuer.subject:
        raise RevocationDataError("the CRL is of another issuer")
    usage = _extension(issuer, x509.KeyUsage)
    if usage is not None and not usage.crl_sign:
        raise RevocationDataError("the issuer may not sign CRLs")
    if not crl.is_signature_valid(issuer.public_key()):  # type: ignore[arg-type]
        raise RevocationDataError("the CRL's signature is not the issuer's")
    _require_scope(crl, certificate)
    if crl.next_update_utc is None:
        raise RevocationDataError("the CRL does not say when the next one comes")
    if crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
        raise RevokedError(certificate)
    return _current(Proof("crl", der, crl.last_update_utc, crl.next_update_utc), now)


def _require_scope(crl: x509.CertificateRevocationList, certificate: x509.Certificate) -> None:
    """Refuse a CRL that is not about all reasons for this kind of certificate (RFC 5280, 5.2.5)."""
    for extension in crl.extensions:
        if isinstance(extension.value, x509.DeltaCRLIndicator):
            raise RevocationDataError("the CRL lists changes only")
        if isinstance(extension.value, x509.IssuingDistributionPoint):
            point = extension.value
            constraints = _extension(certificate, x509.BasicConstraints)
            authority = constraints is not None and constraints.ca
            if (
                point.indirect_crl
                or point.only_some_reasons
                or point.only_contains_attribute_certs
                or (point.only_contains_user_certs and authority)
                or (point.only_contains_ca_certs and not authority)
            ):
                raise RevocationDataError("the CRL is about other certificates")
        elif extension.critical:
            raise RevocationDataError("the CRL has a critical extension that is not known")


def _read_ocsp(
    der: bytes, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime
) -> Proof:
    response = ocsp.load_der_ocsp_response(der)
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise RevocationDataError(f"the responder says {response.response_status.name}")
    question = ocsp.load_der_ocsp_request(ocsp_question(certificate, issuer))
    if (
        response.serial_number != certificate.serial_number
        or not isinstance(response.hash_algorithm, hashes.SHA1)
        or response.issuer_key_hash != question.issuer_key_hash
        or response.issuer_name_hash != question.issuer_name_hash
    ):
        raise RevocationDataError("the response is about another certificate")
    responder = _responder(response, issuer, now)
    _verify(response, responder or issuer)
    if response.certificate_status is ocsp.OCSPCertStatus.REVOKED:
        raise RevokedError(certificate)
    if response.certificate_status is not ocsp.OCSPCertStatus.GOOD:
        raise RevocationDataError("the responder does not know the certificate")
    since = response.this_update_utc
    until = response.next_update_utc or since + _WITHOUT_NEXT_UPDATE
    der_of_responder = None if responder is None else responder.public_bytes(Encoding.DER)
    return _current(Proof("ocsp", der, since, until, der_of_responder), now)


def _responder(
    response: ocsp.OCSPResponse, issuer: x509.Certificate, now: datetime
) -> x509.Certificate | None:
    """Return the certificate of a responder that the issuer appointed (RFC 6960, 4.2.2.2)."""
    if not response.certificates or response.certificates[0] == issuer:
        return None
    responder = response.certificates[0]
    responder.verify_directly_issued_by(issuer)
    purposes = _extension(responder, x509.ExtendedKeyUsage)
    if purposes is None or ExtendedKeyUsageOID.OCSP_SIGNING not in purposes:
        raise RevocationDataError("the responder's certificate is not for OCSP")
    if _extension(responder, x509.OCSPNoCheck) is None:
        # It would need revocation data of its own; the CRL is asked instead.
        raise RevocationDataError("the responder's certificate can be revoked itself")
    if not responder.not_valid_before_utc <= now <= responder.not_valid_after_utc:
        raise RevocationDataError("the responder's certificate is out of date")
    return responder


def _verify(response: ocsp.OCSPResponse, signer: x509.Certificate) -> None:
    key, algorithm = signer.public_key(), response.signature_hash_algorithm
    if isinstance(key, RSAPublicKey) and algorithm is not None:
        key.verify(response.signature, response.tbs_response_bytes, PKCS1v15(), algorithm)
    elif isinstance(key, EllipticCurvePublicKey) and algorithm is not None:
        key.verify(response.signature, response.tbs_response_bytes, ECDSA(algorithm))
    elif isinstance(key, Ed25519PublicKey):
        key.verify(response.signature, response.tbs_response_bytes)
    else:
        raise RevocationDataError("the response is signed in a way that is not known")


def _current(proof: Proof, now: datetime) -> Proof:
    if proof.since > now + _CLOCKS_APART:
        raise RevocationDataError(f"not valid before {proof.since:%Y-%m-%d %H:%M} UTC")
    if proof.until <= now:
        raise RevocationDataError(f"out of date since {proof.until:%Y-%m-%d %H:%M} UTC")
    return proof


def _extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
