"""Reading what was submitted: the document's bytes and the fields beside it.

What can be known without parsing is refused here, while reading: content type, size, emptiness, the
PDF header, encryption, a file cut short. Everything else is the worker's to find out.
"""

import hashlib
import re
from collections.abc import Container
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Generic, Self, TypeVar

from flask import request
from pydantic import BaseModel, ValidationError
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from common.problems import Code, ProblemError
from web.answers import field_problem
from web.api.fields import JobFields

PDF = "application/pdf"
MULTIPART = "multipart/form-data"
ACCEPTED_TYPES = (PDF, MULTIPART)
DOCUMENT_PART = "document"
# What the parts around the document of a multipart body may add.
FORM_ALLOWANCE = 64 * 1024
# What werkzeug reads of a multipart body at once.
CHUNK = 64 * 1024

Fields = TypeVar("Fields", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Upload(Generic[Fields]):
    """A document as it came, the name its sender gave the file, and the fields beside it."""

    document: bytes
    file_name: str | None
    fields: Fields


@dataclass(frozen=True, slots=True)
class Facts:
    """What is kept of a document that looks like a PDF, and the fields beside it."""

    sha256: bytes
    length: int
    name: str
    fields: JobFields

    @classmethod
    def of(cls, document: bytes, file_name: str | None, fields: JobFields) -> Self:
        """Return the facts of a document; it has the name that the fields or its sender give it."""
        name = fields.document_name or file_name or "document.pdf"
        return cls(hashlib.sha256(document).digest(), len(document), name, fields)

    def fingerprint(self) -> bytes:
        """Return a SHA-256 over everything that was asked for."""
        return hashlib.sha256(self.sha256 + self.name.encode() + self.fields.asked_for()).digest()


@dataclass(frozen=True, slots=True)
class Submission:
    """A document that looks like a PDF, and what is kept of it."""

    document: bytes
    facts: Facts


def read_submission(*, max_bytes: int) -> Submission:
    """Read this request's body once and refuse what can be refused now.

    Args:
        max_bytes: the largest document taken.

    Raises:
        ProblemError: those of `read_upload`, and `document_empty`, `document_not_pdf`,
            `document_encrypted`, `document_unreadable`.
    """
    upload = read_upload(JobFields, max_bytes=max_bytes)
    refuse_unstampable(upload.document)
    return Submission(upload.document, Facts.of(upload.document, upload.file_name, upload.fields))


def read_upload(
    model: type[Fields], *, max_bytes: int, beside_a_form: Container[str] = ()
) -> Upload[Fields]:
    """Read this request's document and the fields beside it; looks at no byte of the document.

    Args:
        model: the fields that may stand beside the document.
        max_bytes: the largest document taken.
        beside_a_form: query parameters that are not for the model, such as a page's language.

    Raises:
        ProblemError: `content_type_unsupported`, `document_too_large`, `document_missing`,
            `field_unknown`, `field_invalid`, and what the model raises.
    """
    if request.mimetype == PDF:
        # Fields first: they are known before the body is read.
        fields = _fields(model, request.args)
        return Upload(_read_body(max_bytes), None, fields)
    if request.mimetype == MULTIPART:
        if any(name not in beside_a_form for name in request.args):
            raise ProblemError(
                Code.FIELD_UNKNOWN,
                "with multipart/form-data the fields are form parts, not query parameters",
            )
        document, name, form = _read_form(max_bytes)
        return Upload(document, file_name(name), _fields(model, form))
    raise ProblemError(Code.CONTENT_TYPE_UNSUPPORTED, facts={"accepted": ACCEPTED_TYPES})


def refuse_not_pdf(document: bytes) -> None:
    """Refuse what does not even begin like a PDF.

    Raises:
        ProblemError: `document_empty`, `document_not_pdf`.
    """
    if not document:
        raise ProblemError(Code.DOCUMENT_EMPTY)
    # Readers look for the header in the first 1,024 bytes (ISO 32000-2, Annex I).
    if b"%PDF-" not in document[:1024]:
        raise ProblemError(Code.DOCUMENT_NOT_PDF)


def refuse_unstampable(document: bytes) -> None:
    """Refuse what the bytes alone give away; parses nothing.

    Raises:
        ProblemError: `document_empty`, `document_not_pdf`, `document_encrypted`,
            `document_unreadable`.
    """
    refuse_not_pdf(document)
    start = document.rfind(b"startxref")
    if start < 0 and not document.endswith(b"endobj", 0, document.rfind(b"obj") + 3):
        # Only that line may be missing, which a worker can do without; but here an object has none
        # of its end, or there are none at all.
        raise ProblemError(
            Code.DOCUMENT_UNREADABLE, "the end of the file is missing: it was cut short"
        )
    start = start if start >= 0 else len(document)
    if _trailer_names_encryption(document, start):
        raise ProblemError(Code.DOCUMENT_ENCRYPTED)


_OFFSET = re.compile(rb"startxref\s+(\d{1,12})")
# A reference or a dictionary after the name: the entry itself, not a text that mentions it.
_ENCRYPT = re.compile(rb"/Encrypt[\s\x00]*(?:\d+[\s\x00]+\d+[\s\x00]+R\b|<<)")
# Far more than a trailer or the dictionary of a cross-reference stream takes.
_TRAILER_BYTES = 8192


def _trailer_names_encryption(document: bytes, start: int) -> bool:
    """Look for /Encrypt in the newest trailer (ISO 32000-2, 7.5.5) or cross-reference stream (7.5.8).

    Args:
        document: the whole file.
        start: where its last `startxref` stands.

    Returns:
        False also for a file that is not built as it says; the worker's reader decides then.
    """
    before = document.rfind(b"trailer", max(0, start - _TRAILER_BYTES), start)
    if before >= 0 and _ENCRYPT.search(document, before, start):
        return True
    found = _OFFSET.match(document, start)
    if found is None:
        return False
    begin = int(found[1]) + max(0, document.find(b"%PDF-", 0, 1024))
    if document.startswith(b"xref", begin):
        begin = document.find(b"trailer", begin)
        end = document.find(b"startxref", begin)
    else:
        end = document.find(b"stream", begin, begin + _TRAILER_BYTES)
    return 0 <= begin < end and _ENCRYPT.search(document, begin, end) is not None


def _read_body(max_bytes: int) -> bytes:
    length = request.content_length
    if length is not None:
        return _read_whole(length, max_bytes)
    # One byte more than is taken: a body without a declared length ends at the limit without a
    # word, and must not pass for one that is just as long.
    request.max_content_length = max_bytes + 1
    try:
        document = request.get_data(cache=False)
    except RequestEntityTooLarge as error:
        raise _too_large(max_bytes) from error
    if len(document) > max_bytes:
        raise _too_large(max_bytes)
    return document


def _read_whole(length: int, max_bytes: int) -> bytes:
    """Read a body of a declared length at once: in pieces it would be copied several times over."""
    if length > max_bytes:
        raise _too_large(max_bytes)
    stream: IO[bytes] = request.environ["wsgi.input"]
    document = stream.read(length)
    if len(document) < length:
        raise ClientDisconnected
    return document


def _read_form(max_bytes: int) -> tuple[bytes, str | None, MultiDict[str, str]]:
    request.max_content_length = max_bytes + FORM_ALLOWANCE
    # Also bounds what the parser holds at once, files included: a chunk, and before it what may be the
    # start of a boundary, which the end of a line is. Without room for both, every fourth chunk of a
    # compressed document would be taken for too much.
    request.max_form_memory_size = FORM_ALLOWANCE + CHUNK
    request.max_form_parts = 32
    try:
        files, form = request.files, request.form
    except RequestEntityTooLarge as error:
        raise _too_large(max_bytes) from error
    strangers = [name for name in files if name != DOCUMENT_PART]
    if strangers:
        raise ProblemError(Code.FIELD_UNKNOWN, f"unknown: {', '.join(map(str, strangers))}"[:300])
    sent = files.getlist(DOCUMENT_PART)
    if not sent:
        raise ProblemError(Code.DOCUMENT_MISSING)
    if len(sent) > 1:
        raise ProblemError(Code.FIELD_INVALID, "document: send one document in one request")
    document = bytes_of(sent[0])
    if len(document) > max_bytes:
        raise _too_large(max_bytes)
    return document, sent[0].filename, form


def bytes_of(part: FileStorage) -> bytes:
    """Return what a part of a form holds."""
    stream: IO[bytes] = part.stream
    return stream.getvalue() if isinstance(stream, BytesIO) else stream.read()


def _too_large(max_bytes: int) -> ProblemError:
    return ProblemError(
        Code.DOCUMENT_TOO_LARGE,
        f"the limit is {max_bytes} bytes",
        {"max_bytes": max_bytes},
        # The rest of the body is not read, so the connection cannot be used again.
        {"Connection": "close"},
    )


def _fields(model: type[Fields], values: MultiDict[str, str]) -> Fields:
    twice = [name for name in values if len(values.getlist(name)) > 1]
    if twice:
        raise ProblemError(Code.FIELD_INVALID, f"{twice[0]}: given more than once"[:300])
    try:
        return model.model_validate(values.to_dict())
    except ValidationError as error:
        raise field_problem(error) from error


def file_name(sent: str | None) -> str | None:
    """Return a file name without folders and control characters, 200 characters at the most."""
    if not sent:
        return None
    last = re.split(r"[/\\]", sent)[-1]
    return "".join(c for c in last if c.isprintable())[:200] or None
