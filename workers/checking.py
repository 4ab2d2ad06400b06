"""Checks the signatures of a file with pyHanko, which knows nothing of how we made them."""

import re
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any

from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko.pdf_utils.misc import PdfError
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko.sign.validation.errors import SignatureValidationError
from pyhanko.sign.validation.pdf_embedded import EmbeddedPdfSignature
from pyhanko.sign.validation.status import SignatureCoverageLevel
from pyhanko_certvalidator import ValidationContext

from workers.levels import level_of

_SERIAL_IN_REASON = re.compile(r"\[([0-9A-Z]{16,32})\]")


class UncheckableError(ValueError):
    """The file cannot be read as a PDF; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedSignature:
    """What is true of one signature."""

    field: str
    intact: bool
    trusted: bool
    whole_file: bool
    level: str
    serial: str | None
    signer: str
    signed_at: str | None
    changed_after: str


@dataclass(frozen=True, slots=True)
class Checked:
    """A file's signatures, oldest first."""

    signatures: list[CheckedSignature]

    @property
    def good(self) -> bool:
        """Say whether there are signatures, all intact and trusted, the last over the whole file."""
        return (
            bool(self.signatures)
            and all(s.intact and s.trusted for s in self.signatures)
            and self.signatures[-1].whole_file
        )

    def as_json(self) -> dict[str, Any]:
        """Return the signatures as JSON values."""
        return {"signatures": [asdict(signature) for signature in self.signatures]}


def check(document: bytes, *, trust_roots_pem: bytes) -> Checked:
    """Check every signature of a file.

    Args:
        document: the file.
        trust_roots_pem: certificates to trust, PEM; nothing else is trusted and nothing is fetched.

    Raises:
        UncheckableError: the file cannot be read.
    """
    roots = [
        asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))
        for certificate in x509.load_pem_x509_certificates(trust_roots_pem)
    ]
    try:
        signatures = PdfFileReader(BytesIO(document), strict=False).embedded_signatures
        return Checked([_check_one(signature, roots) for signature in signatures])
    except (PdfError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UncheckableError(str(error) or type(error).__name__) from error


def _check_one(
    signature: EmbeddedPdfSignature, roots: list[asn1_x509.Certificate]
) -> CheckedSignature:
    context = ValidationContext(trust_roots=roots, allow_fetching=False)
    dictionary = signature.sig_object
    reason = str(dictionary.get("/Reason", ""))
    serial = _SERIAL_IN_REASON.search(reason)
    facts = {
        "field": signature.field_name,
        "serial": None if serial is None else serial[1],
        "signer": signature.signer_cert.subject.human_friendly,
        "signed_at": _time(signature),
    }
    try:
        status = validate_pdf_signature(signature, context)
    except SignatureValidationError as error:
        return CheckedSignature(
            **facts,
            intact=False,
            trusted=False,
            whole_file=False,
            level="none",
            changed_after=str(error),
        )
    return CheckedSignature(
        **facts,
        intact=status.intact and status.valid,
        trusted=status.trusted,
        whole_file=status.coverage is SignatureCoverageLevel.ENTIRE_FILE,
        level=level_of(signature, status, roots),
        changed_after=status.modification_level.name.lower()
        if status.modification_level is not None
        else "unknown",
    )


def _time(signature: EmbeddedPdfSignature) -> str | None:
    at = signature.self_reported_timestamp
    return None if at is None else at.isoformat()
