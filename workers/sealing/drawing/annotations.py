"""The stamps as annotations: each with its drawing, one of them as the widget of the signature field.

That is the one that goes into a field of the document, or else the first, which gets a new field.
Readers show the signature when it is clicked. The other stamps of the same job are locked stamp
annotations under the same signature.
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

from workers.sealing.drawing import appearance
from workers.sealing.drawing.design import Design
from workers.sealing.drawing.structure import Tags
from workers.sealing.placing.fields import Field
from workers.sealing.placing.locate import Place, carrier
from workers.sealing.placing.placement import Box
from workers.sealing.reading.document import Document
from workers.sealing.reading.pages import Page
from workers.sealing.revision import Revision, changed, serialise, text_string
from workers.sealing.stamps import Stamp

# Printed, locked against being moved or deleted (12.5.3).
_PRINT = 4
_ANNOTATION_FLAGS = _PRINT | 128
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
    design: Design | None,
    *,
    signature: int | None,
    signed_before: bool = False,
) -> None:
    """Put the annotations, their appearances and the signature field into the revision.

    Args:
        source: the document.
        revision: takes what is new.
        stamps: what is drawn.
        places: where each stamp goes, in the same order.
        design: an issuer's own, or None for the built-in one.
        signature: the object that the field has as its value; None draws without a signature.
        signed_before: whether earlier signatures would be broken by more than a field.
    """
    additions: dict[int, tuple[Page, list[int]]] = {}
    carrying = carrier(places)
    layout = appearance.BUILT_IN if design is None else design.layout
    ground = None if design is None else design.put(revision)
    tags = None if signed_before else Tags.of(source, revision)
    for index, (stamp, place) in enumerate(zip(stamps, places, strict=True)):
        drawing = revision.reserve()
        revision.put(drawing, appearance.form(stamp, place.box, layout, ground))
        if place.field is not None:
            _fill(source, revision, place.field, drawing, signature)
            continue
        number = revision.reserve()
        kind, role = b"/Subtype/Stamp", b"/Annot"
        if index == carrying and signature is not None:
            name = field_name(stamp).encode()
            kind, role = b"/Subtype/Widget/FT/Sig/T(%s)/V %d 0 R" % (name, signature), b"/Form"
        page, described = place.page, _described(stamp, specimen=design is None or stamp.specimen)
        key = tags.add(number, page.reference, role, described) if tags is not None else None
        if key is not None:
            kind += b"/StructParent %d" % key
        content = _annotation(kind, described, place.box, page.reference, drawing)
        revision.put(number, content)
        additions.setdefault(page.reference.idnum, (page, []))[1].append(number)
        if index == carrying and signature is not None:
            _add_to_form(source, revision, number, signed_before=signed_before)
    if signature is not None and places[carrying].field is not None:
        _add_to_form(source, revision, None, signed_before=signed_before)
    tagged = tags is not None and tags.write()
    for page, numbers in additions.values():
        _annotate(source, revision, page, numbers)
        if tagged and "/Tabs" not in page.values:
            # Who follows the structure goes through annotations in its order too (12.5.1).
            revision.extend(page.reference, page.values, "/Tabs", NameObject("/S"))


def _fill(
    source: Document, revision: Revision, field: Field, drawing: int, signature: int | None
) -> None:
    """Give a field of the document its value, and its widget our drawing; all else of both stays."""
    flags = source.resolve(field.widget_values.get("/F"))
    appearance_of = DictionaryObject({NameObject("/N"): _reference(drawing, source)})
    shown: dict[str, Any] = {
        "/AP": appearance_of,
        "/F": NumberObject((flags if isinstance(flags, int) else 0) | _PRINT),
    }
    value = {} if signature is None else {"/V": _reference(signature, source)}
    if field.is_merged:
        revision.replace(field.reference, changed(field.values, shown | value))
        return
    # Said of the widget too, where it means nothing to the standard: poppler looks there only.
    revision.replace(field.widget, changed(field.widget_values, shown | value))
    if value:
        revision.replace(field.reference, changed(field.values, value))


def _annotate(source: Document, revision: Revision, page: Page, numbers: list[int]) -> None:
    """Add annotations to a page: in its own array, or in the array that it refers to.

    What stands there and is no array is nothing to any reader, and gives way.
    """
    raw = page.values.raw_get("/Annots") if "/Annots" in page.values else None
    before = source.resolve(raw)
    kept = before if isinstance(before, ArrayObject) else None
    annotations = ArrayObject([*(kept or ()), *(_reference(n, source) for n in numbers)])
    if isinstance(raw, IndirectObject) and kept is not None:
        revision.replace(raw, annotations)
    else:
        revision.extend(page.reference, page.values, "/Annots", annotations)


def _add_to_form(
    source: Document, revision: Revision, number: int | None, *, signed_before: bool
) -> None:
    """Say in the document's form that there are signatures, making one where there is none.

    What stands there and is no form, or no list of fields, is nothing to any reader, and gives way.
    `number` is the new field; None where the form has the field already.
    """
    raw_form = source.root.raw_get("/AcroForm") if "/AcroForm" in source.root else None
    before = source.resolve(raw_form)
    form = before if isinstance(before, DictionaryObject) else DictionaryObject()
    raw_fields = form.raw_get("/Fields") if "/Fields" in form else None
    listed = source.resolve(raw_fields)
    kept = listed if isinstance(listed, ArrayObject) else None
    flags = source.resolve(form.get("/SigFlags"))
    flags = flags if isinstance(flags, int) else 0
    entries: dict[str, Any] = {}
    if flags & _SIGNATURE_FLAGS != _SIGNATURE_FLAGS and not signed_before:
        entries["/SigFlags"] = NumberObject(flags | _SIGNATURE_FLAGS)
    if number is not None:
        fields = ArrayObject([*(kept or ()), _reference(number, source)])
        if isinstance(raw_fields, IndirectObject) and kept is not None:
            revision.replace(raw_fields, fields)
        else:
            entries["/Fields"] = fields
    if not entries:
        return
    form = changed(form, entries)
    if isinstance(raw_form, IndirectObject) and isinstance(before, DictionaryObject):
        revision.replace(raw_form, form)
    else:
        revision.extend(source.root_reference, source.root, "/AcroForm", form)


def _reference(number: int, source: Document) -> IndirectObject:
    return IndirectObject(number, 0, source)


def _described(stamp: Stamp, *, specimen: bool) -> bytes:
    """Return what is said of a stamp to who cannot see it, as a text string."""
    named = (
        "Meterai elektronik SPECIMEN (electronic stamp, specimen)"
        if specimen
        else "Meterai elektronik (electronic stamp)"
    )
    return text_string(f"{named} {stamp.serial}, Rp {stamp.face_value:,}, {stamp.date:%d-%m-%Y}")


def _annotation(
    kind: bytes, described: bytes, box: Box, page: IndirectObject, drawing: int
) -> bytes:
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
