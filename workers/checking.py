"""Checks the signatures of a file with pyHanko, which knows nothing of how we made them."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from io import BytesIO
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded
from pyhanko.pdf_utils.crypt import AuthStatus
from pyhanko.pdf_utils.misc import PdfDecodeLimitError
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.fields import SigSeedSubFilter, enumerate_sig_fields
from pyhanko.sign.validation import validate_pdf_signature, validate_pdf_timestamp
from pyhanko.sign.validation.pdf_embedded import EmbeddedPdfSignature
from pyhanko.sign.validation.status import PdfSignatureStatus, SignatureCoverageLevel

from common.problems import Code, ProblemError
from common.verdicts import UNSUPPORTED, Changes, CheckedSignature, is_good
from workers.levels import level_of
from workers.trust import Trust

_SERIAL_IN_REASON = re.compile(r"\[([0-9A-Z]{16,32})\]")
# Far more than stamps go onto one document; a reason can be made as long as a file.
MOST_SERIALS = 32
MOST_SIGNATURES = 200
_LONGEST_LINE = 300
# Times that every zone and calendar can say.
_YEARS = (1900, 2999)
_CHECKABLE = frozenset(kind.value for kind in SigSeedSubFilter)
# What a hostile file may not turn into 'cannot be read': they are about the process, not the file.
_NOT_THE_FILES_WORDS = (SoftTimeLimitExceeded, MemoryError)
# Bombs and nesting.
_ASKS_TOO_MUCH = (PdfDecodeLimitError, RecursionError)


class UncheckableError(ValueError):
    """The file cannot be read as a PDF; `code` is the problem, the text says why."""

    def __init__(self, code: Code, why: str) -> None:
        """Keep the problem's code beside the text."""
        super().__init__(why)
        self.code = code


@dataclass(frozen=True, slots=True)
class Checked:
    """A file's signatures, oldest first."""

    signatures: list[CheckedSignature]

    @property
    def good(self) -> bool:
        """Say whether there are signatures, and all are as they should be."""
        return is_good(self.signatures)

    def as_json(self) -> dict[str, Any]:
        """Return the signatures as JSON values."""
        return {"signatures": [asdict(signature) for signature in self.signatures]}


def answer(
    document: bytes,
    asked: dict[str, Any],
    *,
    trust_roots_file: Path,
    timestamp_roots_file: Path | None = None,
) -> dict[str, Any]:
    """Answer the question of the lane `check`: the signatures, and which file it was.

    Args:
        document: the file.
        asked: nothing is asked besides.
        trust_roots_file: certificates to trust, PEM; read anew, so that it can be replaced.
        timestamp_roots_file: further ones, for timestamps only.

    Raises:
        ProblemError: `document_encrypted`, `document_unreadable`, `document_unprocessable`.
    """
    try:
        checked = check(
            document,
            trust_roots_pem=trust_roots_file.read_bytes(),
            timestamp_roots_pem=None
            if timestamp_roots_file is None
            else timestamp_roots_file.read_bytes(),
        )
    except UncheckableError as error:
        raise ProblemError(error.code, str(error)) from error
    return checked.as_json() | {
        "document": {"bytes": len(document), "sha256": hashlib.sha256(document).hexdigest()}
    }


def check(
    document: bytes, *, trust_roots_pem: bytes, timestamp_roots_pem: bytes | None = None
) -> Checked:
    """Check every signature of a file.

    Args:
        document: the file; one that opens with an empty password is opened.
        trust_roots_pem: certificates to trust, PEM; nothing else is trusted and nothing is fetched.
        timestamp_roots_pem: further ones that are trusted for timestamps only.

    Raises:
        UncheckableError: the file cannot be read.
    """
    trust = Trust.from_pem(trust_roots_pem, timestamp_roots_pem)
    try:
        found = list(_fields(_open(document)))
    except (UncheckableError, *_NOT_THE_FILES_WORDS):
        raise
    except Exception as error:
        # A parser meets a broken file in more ways than it has names for.
        code = (
            Code.DOCUMENT_UNPROCESSABLE
            if isinstance(error, _ASKS_TOO_MUCH)
            else Code.DOCUMENT_UNREADABLE
        )
        raise UncheckableError(code, _line(str(error) or type(error).__name__)) from error
    if len(found) > MOST_SIGNATURES:
        raise UncheckableError(
            Code.DOCUMENT_UNPROCESSABLE, f"more than {MOST_SIGNATURES} signatures"
        )
    checked = [_check_one(field, trust) for field in found]
    return Checked([signature for _, signature in sorted(checked, key=itemgetter(0))])


def _open(document: bytes) -> PdfFileReader:
    reader = PdfFileReader(BytesIO(document), strict=False)
    if reader.encrypted:
        try:
            opened = reader.decrypt(b"").status is not AuthStatus.FAILED
        except _NOT_THE_FILES_WORDS:
            raise
        except Exception:
            opened = False
        if not opened:
            raise UncheckableError(Code.DOCUMENT_ENCRYPTED, "it opens only with a password")
    # The page tree is not looked at otherwise; without one it is no document (ISO 32000-2, 7.7.2).
    reader.root["/Pages"]
    return reader


@dataclass(frozen=True, slots=True)
class _Field:
    """A signature field that is filled in, in pyHanko's terms."""

    reader: PdfFileReader
    name: str
    dictionary: Any
    value: Any


def _fields(reader: PdfFileReader) -> Iterator[_Field]:
    """Yield the filled signature fields, one more than are taken at the most.

    pyHanko's own list leaves out kinds of signature that it cannot check, and ends at the first that
    it cannot read: a file with either would pass for unsigned, or for unreadable.
    """
    found = enumerate_sig_fields(reader, filled_status=True)
    for name, value, dictionary in islice(found, MOST_SIGNATURES + 1):
        yield _Field(reader, name, dictionary, value.get_object())


def _check_one(field: _Field, trust: Trust) -> tuple[int, CheckedSignature]:
    """Check one signature; one that cannot be read is one that does not hold.

    Returns:
        The revision that it signs, counted from 0, and what is true of it.
    """
    try:
        kind = str(field.value.get("/SubFilter"))
        if kind not in _CHECKABLE:
            return 0, _unread(field, UNSUPPORTED, f"signatures of the kind {kind} are not checked")
        signature = EmbeddedPdfSignature(field.reader, field.dictionary, field.name)
        return signature.signed_revision, _validated(signature, trust)
    except _NOT_THE_FILES_WORDS:
        raise
    except Exception as error:
        return 0, _unread(field, "none", str(error) or type(error).__name__)


def _unread(field: _Field, level: str, why: str) -> CheckedSignature:
    return CheckedSignature(
        field=_line(field.name),
        intact=False,
        trusted=False,
        whole_file=False,
        level=level,
        serial=None,
        serials=[],
        signer="",
        signed_at=None,
        changed_after=Changes.UNKNOWN,
        changes_allowed=False,
        fault=_line(why),
    )


def _validated(signature: EmbeddedPdfSignature, trust: Trust) -> CheckedSignature:
    status = (
        validate_pdf_timestamp(signature, trust.timestamp_context())
        if signature.sig_object_type == "/DocTimeStamp"
        else _validate(signature, trust)
    )
    trusted = status.trusted or _was_trusted(signature, status, trust)
    found = _SERIAL_IN_REASON.findall(str(signature.sig_object.get("/Reason", "")))
    serials = list(dict.fromkeys(found))[:MOST_SERIALS]
    intact = status.intact and status.valid
    # Of a file that is not what was signed, nobody can say what was done to it afterwards.
    changes = status.modification_level if intact else None
    return CheckedSignature(
        field=_line(signature.field_name),
        intact=intact,
        trusted=trusted,
        whole_file=status.coverage is SignatureCoverageLevel.ENTIRE_FILE,
        level=level_of(signature, status, trust)
        if isinstance(status, PdfSignatureStatus)
        else "timestamp",
        serial=serials[0] if serials else None,
        serials=serials,
        signer=_line(signature.signer_cert.subject.human_friendly),
        signed_at=_time(signature, status),
        changed_after=Changes.UNKNOWN if changes is None else Changes(changes.name.lower()),
        changes_allowed=status.docmdp_ok is not False and changes is not None,
        fault=None,
    )


def _was_trusted(signature: EmbeddedPdfSignature, status: Any, trust: Trust) -> bool:
    """Say whether the signer was trusted at the time that a trusted timestamp proves.

    A signature outlives its certificate so (ETSI EN 319 102-1, 5.5).
    """
    stamped = getattr(status, "timestamp_validity", None)
    if stamped is None or not (stamped.intact and stamped.valid and stamped.trusted):
        return False
    return bool(_validate(signature, trust, moment=stamped.timestamp).trusted)


def _validate(
    signature: EmbeddedPdfSignature, trust: Trust, **terms: datetime
) -> PdfSignatureStatus:
    return validate_pdf_signature(
        signature, trust.signer_context(**terms), ts_validation_context=trust.timestamp_context()
    )


def _time(signature: EmbeddedPdfSignature, status: Any) -> str | None:
    """Return when it was made: nothing depends on it, so an odd time is only left out."""
    try:
        at = getattr(status, "timestamp", None) or signature.self_reported_timestamp
        if at is None or not _YEARS[0] <= at.year <= _YEARS[1]:
            return None
        # A time without a zone is of an unknown one (ISO 32000-2, 7.9.4); as good as any is UTC.
        return str((at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat())
    except _NOT_THE_FILES_WORDS:
        raise
    except Exception:
        return None


def _line(text: object) -> str:
    """Return a text of a stranger as one printable line: a terminal obeys control characters.

    Where a text should be, a file may have bytes that are none in any encoding, or something else.
    """
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    elif not isinstance(text, str):
        text = type(text).__name__
    return "".join(
        c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:_LONGEST_LINE]
    )
