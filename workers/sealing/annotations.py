"""The stamps as annotations: each with its drawing, the first as the widget of the signature field.

Readers show the signature when the first stamp is clicked. Further stamps of the same job are locked
stamp annotations under the same signature.
"""

from collections.abc import Sequence
from typing import Any

from pypdf.generic import (
    ArrayObject,
    DictionaryObject,
    IndirectObject,
    NameObject,
    NumberObject,
)

from workers.sealing import appearance
from workers.sealing.design import Design
from workers.sealing.document import Document
from workers.sealing.errors import SealingError
from workers.sealing.pages import Page
from workers.sealing.placement import Box, Place
from workers.sealing.revision import Revision, serialise, text_string
from workers.sealing.stamps import Stamp

# Printed, locked against being moved or deleted (12.5.3).
_ANNOTATION_FLAGS = 4 | 128
# Signatures exist, and are kept valid only by appending (12.7.3, SigFlags).
_SIGNATURE_FLAGS = 3


def field_name(stamp: Stamp) -> str:
    """Return the name of the signature field that carries a stamp."""
    return f"Stampede {stamp.serial}"


def draw(
    source: Document,
    revision: Revision,
    stamps: Sequence[Stamp],
    places: Sequence[Place],
    signature_number: int,
    design: Design | None,
) -> None:
    """Put the annotations, their appearances and the signature field into the revision.

    Args:
        source: the document.
        revision: takes what is new.
        stamps: what is drawn.
        places: where each stamp goes, in the same order.
        signature_number: the object that the field has as its value.
        design: an issuer's own, or None for the built-in one.
    """
    additions: dict[int, tuple[Page, list[int]]] = {}
    field_number = 0
    layout = appearance.BUILT_IN if design is None else design.layout
    ground = None if design is None else design.put(revision)
    for index, (stamp, place) in enumerate(zip(stamps, places, strict=True)):
        drawing = revision.reserve()
        revision.put(drawing, appearance.form(stamp, place.box, layout, ground))
        number = revision.reserve()
        if index == 0:
            field_number = number
            kind = b"/Subtype/Widget/FT/Sig/T(%s)/V %d 0 R" % (
                field_name(stamp).encode(),
                signature_number,
            )
        else:
            kind = b"/Subtype/Stamp"
        specimen = design is None or stamp.specimen
        page = place.page
        revision.put(number, _annotation(kind, stamp, place.box, page.reference, drawing, specimen))
        additions.setdefault(page.reference.idnum, (page, []))[1].append(number)
    for page, numbers in additions.values():
        _annotate(source, revision, page, numbers)
    _add_field(source, revision, field_number)


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
        revision.extend(page.reference, page.values, "/Annots", annotations)


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
        revision.extend(source.root_reference, source.root, "/AcroForm", form)


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


def _annotation(
    kind: bytes, stamp: Stamp, box: Box, page: IndirectObject, drawing: int, specimen: bool
) -> bytes:
    named = (
        "Meterai elektronik SPECIMEN (electronic stamp, specimen)"
        if specimen
        else "Meterai elektronik (electronic stamp)"
    )
    described = text_string(
        f"{named} {stamp.serial}, Rp {stamp.face_value:,}, {stamp.date:%d-%m-%Y}"
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
