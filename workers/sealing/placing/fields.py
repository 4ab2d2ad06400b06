"""Signature fields that a document already has: found by name, and signed in the place they give.

ISO 32000-2, 12.7.4.2 (names), 12.7.5.5 (signature fields, their locks).
"""

from dataclasses import dataclass
from typing import Any

from pypdf.generic import ArrayObject, DictionaryObject, IndirectObject

from workers.sealing.errors import SealingError
from workers.sealing.placing.placement import TOLERANCE, Box, rectangle_of, view
from workers.sealing.reading import pages
from workers.sealing.reading.document import MAX_DEPTH, MAX_NODES, Document
from workers.sealing.reading.pages import Page
from workers.sealing.revision import serialise

# Hidden and NoView (12.5.3): a stamp that nobody sees is none.
_UNSEEN = 2 | 32
# Points of a side: in less nobody sees that there is a stamp.
_SMALLEST = 12.0


@dataclass(frozen=True, slots=True)
class Field:
    """An empty signature field, and its one widget, which is the same object where they are merged."""

    name: str
    reference: IndirectObject
    values: DictionaryObject
    widget: IndirectObject
    widget_values: DictionaryObject

    @property
    def is_merged(self) -> bool:
        """Say whether field and widget are one object."""
        return self.widget.idnum == self.reference.idnum


def find(document: Document, name: str) -> Field:
    """Return the empty signature field of a full name: its ancestors' names and its own, joined by dots.

    Raises:
        SealingError: `field_not_found`; `field_not_empty`, when it is signed; `field_unusable`, with
            the reason: it is no signature field, or has no widget of its own, or several.
    """
    reference, values, kind = _look_up(document, name)
    if kind != "/Sig":
        raise _unusable(name, "no signature field")
    if document.resolve(values.get("/V")) is not None:
        raise SealingError("field_not_empty", field=name)
    kids = document.resolve(values.get("/Kids"))
    if not isinstance(kids, ArrayObject) or not kids:
        return Field(name, reference, values, reference, values)
    if len(kids) > 1:
        # "Signature fields shall never refer to more than one annotation" (12.7.5.5).
        raise _unusable(name, "several widgets")
    widget = document.resolve(kids[0])
    if not isinstance(kids[0], IndirectObject) or not isinstance(widget, DictionaryObject):
        raise _unusable(name, "no widget")
    return Field(name, reference, values, kids[0], widget)


def place(document: Document, field: Field) -> tuple[Page, Box]:
    """Return the page that a field's widget is on, and its box.

    The drawing stands upright as the reader sees the page, or as the widget says that it is turned
    (/MK /R, table 192).

    Raises:
        SealingError: `field_unusable`, when the widget is hidden, without size, on no page, or not
            wholly on the visible page.
    """
    values = field.widget_values
    flags = document.resolve(values.get("/F"))
    if isinstance(flags, int) and flags & _UNSEEN:
        raise _unusable(field.name, "hidden")
    rectangle = rectangle_of(_numbers(document, values.get("/Rect")))
    page = _page(document, field)
    if page is None:
        raise _unusable(field.name, "on no page")
    shown = view(page)
    if rectangle is None:
        raise _unusable(field.name, "no size")
    left, bottom, right, top = shown.seen(rectangle)
    if right - left < _SMALLEST or top - bottom < _SMALLEST:
        raise _unusable(field.name, "no size")
    page_width, page_height = shown.size
    if (
        min(left, bottom) < -TOLERANCE
        or right > page_width + TOLERANCE
        or top > page_height + TOLERANCE
    ):
        raise _unusable(field.name, "off the page")
    width, height = rectangle[2] - rectangle[0], rectangle[3] - rectangle[1]
    rotation = _rotation(document, values) or shown.rotation
    if rotation in (90, 270):
        width, height = height, width
    return page, Box(page.number, rectangle, width, height, rotation, shown)


def references(document: Document, field: Field) -> bytes:
    """Return what a signature in this field says of the field's lock: its /Reference, or nothing.

    A lock asks for a FieldMDP signature reference of the same action and fields (12.8.2.4), and, where
    it limits the document too, for a DocMDP one (table 236, P).

    Raises:
        SealingError: `field_unusable`, when the lock says nothing that can be kept.
    """
    lock = document.resolve(field.values.get("/Lock"))
    if not isinstance(lock, DictionaryObject):
        return b""
    action = document.resolve(lock.get("/Action"))
    fields = document.resolve(lock.get("/Fields"))
    if action not in ("/All", "/Include", "/Exclude"):
        raise _unusable(field.name, "lock")
    parameters = b"/Action%s" % str(action).encode()
    if action != "/All":
        if not isinstance(fields, ArrayObject):
            raise _unusable(field.name, "lock")
        parameters += b"/Fields" + serialise(ArrayObject(map(document.resolve, fields)))
    made = _reference(document, b"FieldMDP", parameters)
    access = document.resolve(lock.get("/P"))
    if isinstance(access, int):
        if access not in (1, 2, 3):
            raise _unusable(field.name, "lock")
        made += _reference(document, b"DocMDP", b"/P %d" % access)
    return b"/Reference[%s]" % made


def _reference(document: Document, method: bytes, parameters: bytes) -> bytes:
    """Return a signature reference (table 256) with its parameters in place."""
    return (
        b"<</Type/SigRef/TransformMethod/%s/Data %s"
        b"/TransformParams<</Type/TransformParams/V/1.2%s>>>>"
    ) % (method, serialise(document.root_reference), parameters)


def _look_up(document: Document, name: str) -> tuple[IndirectObject, DictionaryObject, Any]:
    """Return a field's reference, dictionary and type, inherited or its own."""
    form = document.resolve(document.root.get("/AcroForm"))
    top = form.get("/Fields") if isinstance(form, DictionaryObject) else None
    pending = [(kid, "", None, 0) for kid in document.items(top)]
    visited = 0
    while pending:
        reference, above, kind, depth = pending.pop()
        visited += 1
        if visited > MAX_NODES or depth > MAX_DEPTH:
            raise SealingError("document_unprocessable", reason="form fields")
        field = document.resolve(reference)
        if not isinstance(field, DictionaryObject) or "/T" not in field:
            continue
        own = str(document.resolve(field.get("/T")))
        full = f"{above}.{own}" if above else own
        kind = document.resolve(field.get("/FT")) or kind
        if full == name and isinstance(reference, IndirectObject):
            return reference, field, kind
        if name.startswith(f"{full}."):
            kids = document.items(field.get("/Kids"))
            pending += [(kid, full, kind, depth + 1) for kid in kids]
    raise SealingError("field_not_found", field=name)


def _page(document: Document, field: Field) -> Page | None:
    """Return the page of a field's widget: the one it names, else the one that lists it."""
    named = field.widget_values.raw_get("/P") if "/P" in field.widget_values else None
    if isinstance(named, IndirectObject):
        page = pages.of(document, named)
        if page is not None:
            return page
    for page in pages.every(document):
        for item in document.items(page.values.get("/Annots")):
            if isinstance(item, IndirectObject) and item.idnum == field.widget.idnum:
                return page
    return None


def _rotation(document: Document, values: DictionaryObject) -> int:
    """Return by how much a widget is turned; /R counts against the clock, as turning pages does not."""
    characteristics = document.resolve(values.get("/MK"))
    if not isinstance(characteristics, DictionaryObject):
        return 0
    turned = document.resolve(characteristics.get("/R"))
    return turned % 360 if isinstance(turned, int) and turned % 90 == 0 else 0


def _numbers(document: Document, value: Any) -> list[float] | None:
    numbers = [document.resolve(item) for item in document.items(value)]
    if not all(isinstance(number, int | float) for number in numbers):
        return None
    return [float(number) for number in numbers]


def _unusable(name: str, reason: str) -> SealingError:
    return SealingError("field_unusable", field=name, reason=reason)
