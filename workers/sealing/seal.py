"""Seals a document: draws its stamps, adds one signature field, and signs the whole file.

The stamp is the appearance of the signature field's widget, so that readers show the signature when
the stamp is clicked. Further stamps of the same job are locked stamp annotations under the same
signature.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from pypdf.generic import (
    ArrayObject,
    DictionaryObject,
    IndirectObject,
    NameObject,
    NumberObject,
)

from workers.sealing import appearance, pages, permissions, signature
from workers.sealing.document import Document
from workers.sealing.errors import SealingError
from workers.sealing.keys import Signer
from workers.sealing.pages import Page
from workers.sealing.placement import Box, Placement, resolve
from workers.sealing.revision import Revision, serialise

# Printed, locked against being moved or deleted (12.5.3).
_ANNOTATION_FLAGS = 4 | 128
# Signatures exist, and are kept valid only by appending (12.7.3, SigFlags).
_SIGNATURE_FLAGS = 3
_BYTE_RANGE = b"/ByteRange[0 %010d %010d %010d]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """One stamp to draw: what it says and where it goes; `face_value` is in rupiah."""

    serial: str
    qr_text: str
    face_value: int
    date: date
    specimen: bool
    placement: Placement


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed document: its own bytes and the revision behind them."""

    document: bytes
    revision: bytes
    boxes: tuple[Box, ...]
    # SHA-256 of the document as it came, and of the whole sealed file.
    document_sha256: bytes
    sha256: bytes

    @property
    def chunks(self) -> tuple[bytes, bytes]:
        """Return the file in two parts, without copying either."""
        return self.document, self.revision

    @property
    def bytes(self) -> bytes:
        """Return the whole file, copied once."""
        return self.document + self.revision


def seal(
    document: bytes,
    stamps: Sequence[Stamp],
    *,
    signer: Signer,
    at: datetime,
    reason: str,
    location: str | None = None,
) -> Sealed:
    """Draw the stamps on a document and sign all of it (PAdES B-B).

    Args:
        document: a PDF; never changed, the result begins with exactly these bytes.
        stamps: one or more; all are covered by the one signature.
        signer: the stamping key.
        at: the time that the signature claims.
        reason: what the signature says it is for.
        location: where, if it is to say so.

    Raises:
        SealingError: the document or a placement is at fault.
    """
    if not stamps:
        raise ValueError("there is nothing to draw")
    source = Document(document)
    permissions.refuse_forbidden(source, field_name(stamps[0]))
    if len(stamps) > 1 and any(permissions.signed_fields(source)):
        # Earlier signatures allow a new signature field, but no annotations beside it.
        raise SealingError("document_locked", reason="several stamps")
    revision = Revision(source)
    unsigned = revision.reserve()
    revision.put(unsigned, _signature_dictionary(signer, at, reason, location))
    boxes = _draw_all(source, revision, stamps, unsigned)
    written = bytearray(revision.write())
    return _sign(document, written, revision.positions[unsigned], signer, boxes)


def field_name(stamp: Stamp) -> str:
    """Return the name of the signature field that carries a stamp."""
    return f"Stampede {stamp.serial}"


def _draw_all(
    source: Document,
    revision: Revision,
    stamps: Sequence[Stamp],
    signature_number: int,
) -> tuple[Box, ...]:
    """Put the annotations, their appearances and the signature field into the revision."""
    boxes = []
    additions: dict[int, tuple[Page, list[int]]] = {}
    field_number = 0
    for index, stamp in enumerate(stamps):
        page = pages.find(source, stamp.placement.page)
        box = resolve(stamp.placement, page)
        boxes.append(box)
        drawing = revision.reserve()
        revision.put(drawing, _form(stamp, box))
        number = revision.reserve()
        if index == 0:
            field_number = number
            kind = b"/Subtype/Widget/FT/Sig/T(%s)/V %d 0 R" % (
                field_name(stamp).encode(),
                signature_number,
            )
        else:
            kind = b"/Subtype/Stamp"
        revision.put(number, _annotation(kind, stamp, box, page.reference, drawing))
        additions.setdefault(page.reference.idnum, (page, []))[1].append(number)
    for page, numbers in additions.values():
        _annotate(source, revision, page, numbers)
    _add_field(source, revision, field_number)
    return tuple(boxes)


def _annotate(source: Document, revision: Revision, page: Page, numbers: list[int]) -> None:
    """Add annotations to a page: in its own array, or in the array that it refers to."""
    raw = page.values.raw_get("/Annots") if "/Annots" in page.values else None
    before = source.resolve(raw)
    if before is not None and not isinstance(before, ArrayObject):
        raise SealingError("document_unreadable", reason="annotations")
    annotations = ArrayObject([*(before or ()), *(_reference(n, source) for n in numbers)])
    if isinstance(raw, IndirectObject) and before is not None:
        revision.replace(raw, annotations)
    else:
        revision.replace(page.reference, _with(page.values, {"/Annots": annotations}))


def _add_field(source: Document, revision: Revision, number: int) -> None:
    """Add the signature field to the document's form, making one where there is none."""
    raw_form = source.root.raw_get("/AcroForm") if "/AcroForm" in source.root else None
    form = source.resolve(raw_form)
    if form is not None and not isinstance(form, DictionaryObject):
        raise SealingError("document_unreadable", reason="form")
    form = form or DictionaryObject()
    raw_fields = form.raw_get("/Fields") if "/Fields" in form else None
    before = source.resolve(raw_fields)
    if before is not None and not isinstance(before, ArrayObject):
        raise SealingError("document_unreadable", reason="form fields")
    fields = ArrayObject([*(before or ()), _reference(number, source)])
    flags = source.resolve(form.get("/SigFlags"))
    flags = flags if isinstance(flags, int) else 0
    changed: dict[str, Any] = {}
    if flags & _SIGNATURE_FLAGS != _SIGNATURE_FLAGS:
        changed["/SigFlags"] = NumberObject(flags | _SIGNATURE_FLAGS)
    if isinstance(raw_fields, IndirectObject) and before is not None:
        revision.replace(raw_fields, fields)
    else:
        changed["/Fields"] = fields
    if not changed:
        return
    form = _with(form, changed)
    if isinstance(raw_form, IndirectObject):
        revision.replace(raw_form, form)
    else:
        revision.replace(source.root_reference, _with(source.root, {"/AcroForm": form}))


def _with(values: DictionaryObject, changed: dict[str, Any]) -> DictionaryObject:
    """Return a dictionary with some entries changed; the one given stays as it is."""
    copy = DictionaryObject()
    for key in values:
        copy[NameObject(key)] = values.raw_get(key)
    for key, value in changed.items():
        copy[NameObject(key)] = value
    return copy


def _reference(number: int, source: Document) -> IndirectObject:
    return IndirectObject(number, 0, source)


def _form(stamp: Stamp, box: Box) -> bytes:
    """Return the form XObject that shows a stamp upright (8.10)."""
    content = appearance.draw(
        serial=stamp.serial,
        qr_text=stamp.qr_text,
        face_value=stamp.face_value,
        day=stamp.date,
        test=stamp.specimen,
        width=box.width,
        height=box.height,
    )
    return (
        b"<</Type/XObject/Subtype/Form/BBox[0 0 %.4f %.4f]/Matrix[%d %d %d %d 0 0]/Resources%s"
        b"/Filter/FlateDecode/Length %d>>stream\n%s\nendstream"
    ) % (box.width, box.height, *box.upright, appearance.RESOURCES, len(content), content)


def _annotation(kind: bytes, stamp: Stamp, box: Box, page: IndirectObject, drawing: int) -> bytes:
    described = _text(
        f"Meterai elektronik SPECIMEN (electronic stamp, specimen) {stamp.serial},"
        f" Rp {stamp.face_value:,}, {stamp.date:%d-%m-%Y}"
    )
    return (
        b"<</Type/Annot%s/Rect[%.4f %.4f %.4f %.4f]/F %d/P %s/AP<</N %d 0 R>>/TU%s/Contents%s>>"
    ) % (
        kind,
        *box.rectangle,
        _ANNOTATION_FLAGS,
        serialise(page),
        drawing,
        described,
        described,
    )


def _signature_dictionary(signer: Signer, at: datetime, reason: str, location: str | None) -> bytes:
    """Return the signature's dictionary (12.8.1; EN 319 142-1, 6.3) with room for the signature."""
    room = signature.length(signer) * 2
    entries = [
        b"<</Type/Sig/Filter/Adobe.PPKLite/SubFilter/ETSI.CAdES.detached",
        _BYTE_RANGE % (0, 0, 0),
        b"/Contents<" + b"0" * room + b">",
        b"/M(%s)" % at.astimezone(UTC).strftime("D:%Y%m%d%H%M%SZ").encode(),
        b"/Reason" + _text(reason),
    ]
    if location is not None:
        entries.append(b"/Location" + _text(location))
    return b"".join(entries) + b">>"


def _text(text: str) -> bytes:
    """Return a text string (7.9.2.2): plain where ASCII holds it, UTF-16 otherwise."""
    if text.isascii() and text.isprintable():
        escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        return b"(" + escaped.encode("ascii") + b")"
    return b"<feff" + text.encode("utf-16-be").hex().encode() + b">"


def _sign(
    document: bytes, revision: bytearray, position: int, signer: Signer, boxes: tuple[Box, ...]
) -> Sealed:
    """Fill in the byte range, sign everything but the signature's own place, and put it there.

    `position` is where the signature's object begins in the revision.
    """
    room = signature.length(signer) * 2
    marker = b"/Contents<" + b"0" * room + b">"
    start = revision.index(marker, position) + len(b"/Contents")
    end = start + room + 2
    base = len(document)
    ranges = _BYTE_RANGE % (base + start, base + end, len(revision) - end)
    at = revision.index(_BYTE_RANGE % (0, 0, 0), position)
    revision[at : at + len(ranges)] = ranges

    running = hashlib.sha256(document)
    document_sha256 = running.digest()
    signed = running.copy()
    signed.update(memoryview(revision)[:start])
    signed.update(memoryview(revision)[end:])
    der = signature.sign_digest(signed.digest(), signer)
    revision[start + 1 : end - 1] = der.hex().encode().ljust(room, b"0")
    whole = bytes(revision)
    running.update(whole)
    return Sealed(document, whole, boxes, document_sha256, running.digest())
