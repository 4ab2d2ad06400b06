"""One more revision behind a document's own bytes (ISO 32000-2, 7.5.6).

New and changed objects, then a cross-reference section of the kind that the document's newest one
is: a table behind a table, a stream behind a stream. Earlier bytes are never touched.
"""

import os
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from pypdf.generic import (
    ArrayObject,
    ByteStringObject,
    DictionaryObject,
    IndirectObject,
    NameObject,
    StreamObject,
    TextStringObject,
)

from workers.sealing.errors import SealingError
from workers.sealing.reading.document import Document
from workers.sealing.reading.xref import InFile, InStream, Place

# What a number that is taken, though the document's /Size says otherwise, takes out of the budget.
_TAKEN = 4


_MAX_GENERATION = 65_535


class Revision:
    """Collects the objects of a revision and writes it."""

    def __init__(self, document: Document) -> None:
        """Begin behind the document's last byte, on a line of its own."""
        self._document = document
        self._next = document.size
        self._objects: dict[int, tuple[int, bytes]] = {}
        self._extensions: dict[int, dict[str, Any]] = {}
        # Where each object begins within the revision, once it is written.
        self.positions: dict[int, int] = {}
        self._lead = b"" if document.data.endswith((b"\n", b"\r")) else b"\n"

    def reserve(self) -> int:
        """Return a number for a new object, also where the document's /Size is too small."""
        document = self._document
        while document.xref.place(self._next) is not None:
            document.budget.spend(_TAKEN + document.xref.effort)
            self._next += 1
        number = self._next
        self._next += 1
        return number

    def put(self, number: int, content: bytes, *, generation: int = 0) -> None:
        """Define an object by its serialised content."""
        self._objects[number] = (generation, content)

    def replace(self, reference: IndirectObject, value: Any) -> None:
        """Define a changed version of an object that the document has."""
        self.put(reference.idnum, serialise(value), generation=self._generation(reference))

    def rewrite(self, reference: IndirectObject, text: bytes) -> None:
        """Define a changed version of an object that the document has, in its own words."""
        self.put(reference.idnum, text, generation=self._generation(reference))

    def extend(
        self, reference: IndirectObject, values: DictionaryObject, key: str, value: Any
    ) -> None:
        """Define a changed version of a dictionary that the document has: one entry is new or other.

        New entries go behind the others in the document's own words, which stay as they are. May be
        called again for another entry of the same dictionary.
        """
        entries = self._extensions.setdefault(reference.idnum, {})
        entries[key] = value
        text = self._document.text(reference.idnum)
        if not any(each in values for each in entries) and text and text.rstrip().endswith(b">>"):
            new = b"".join(each.encode() + b" " + serialise(entries[each]) for each in entries)
            self.rewrite(reference, text.rstrip()[:-2] + new + b">>")
            return
        self.replace(reference, changed(values, entries))

    def _generation(self, reference: IndirectObject) -> int:
        """Return the generation of an object that the document has.

        Raises:
            SealingError: `document_unreadable`, when it is referred to by another: some readers find
                the object all the same, and others find none.
        """
        place = self._document.xref.place(reference.idnum)
        generation = place.generation if isinstance(place, InFile) else 0
        if generation != reference.generation or generation > _MAX_GENERATION:
            raise SealingError("document_unreadable", reason="generation")
        return generation

    def write(self) -> bytes:
        """Return the revision's bytes, which stand directly behind the document's."""
        base = len(self._document.data) - self._document.shift
        out = bytearray(self._lead)
        places = dict(self._document.xref.places)
        for number, (generation, content) in sorted(self._objects.items()):
            self.positions[number] = len(out)
            places[number] = InFile(base + len(out), generation)
            out += b"%d %d obj\n%s\nendobj\n" % (number, generation, content)
        start = base + len(out)
        if self._document.xref.is_stream:
            out += self._stream(places, start)
        else:
            out += self._table(places)
        out += b"startxref\n%d\n%%%%EOF\n" % start
        return bytes(out)

    def _table(self, places: dict[int, Place]) -> bytes:
        out = bytearray(b"xref\n")
        if self._is_complete:
            # The head of the list of free entries (7.5.4).
            places = places | {0: None}
        for first, count in _runs(places):
            out += b"%d %d\n" % (first, count)
            out += b"".join(_entry(places[number]) for number in range(first, first + count))
        out += b"trailer\n<<%s>>\n" % self._trailer_entries(self._next)
        return bytes(out)

    def _stream(self, places: dict[int, Place], start: int) -> bytes:
        number = self.reserve()
        places = places | {number: InFile(start, 0)}
        if self._is_complete:
            places[0] = None
        wide = max(4, (start.bit_length() + 7) // 8)
        rows = b"".join(_row(places[n], wide) for n in sorted(places))
        index = b" ".join(b"%d %d" % run for run in _runs(places))
        return (
            b"%d 0 obj\n<</Type/XRef/W[1 %d 3]/Index[%s]/Length %d%s>>stream\n%s\nendstream\nendobj\n"
            % (
                number,
                wide,
                index,
                len(rows),
                self._trailer_entries(self._next),
                rows,
            )
        )

    @property
    def _is_complete(self) -> bool:
        """Say whether this section stands for itself, because the earlier ones are wrong."""
        return self._document.xref.start is None

    def _trailer_entries(self, size: int) -> bytes:
        trailer = self._document.trailer
        entries = b"/Size %d" % size
        if not self._is_complete:
            entries += b"/Prev %d" % (self._document.xref.start or 0)
        for key in ("/Root", "/Info"):
            if key in trailer:
                entries += key.encode() + b" " + serialise(trailer.raw_get(key))
        entries += self._identifiers()
        return entries

    def _identifiers(self) -> bytes:
        """Return /ID: the document's own first part, and a new second one (14.4)."""
        identifiers = self._document.resolve(self._document.trailer.get("/ID"))
        if not isinstance(identifiers, ArrayObject) or len(identifiers) != 2:
            return b""
        first = self._document.resolve(identifiers[0])
        if isinstance(first, TextStringObject):
            first = first.original_bytes
        if not isinstance(first, bytes):
            return b""
        return b"/ID[<%s><%s>]" % (first.hex().encode(), os.urandom(16).hex().encode())


def changed(values: DictionaryObject, entries: Mapping[str, Any]) -> DictionaryObject:
    """Return a dictionary with some entries new or other; the one given stays as it is."""
    copy = DictionaryObject()
    for key in values:
        copy[NameObject(key)] = values.raw_get(key)
    for key, value in entries.items():
        copy[NameObject(key)] = value
    return copy


def serialise(value: Any) -> bytes:
    """Return a pypdf object as it is written into a file; text and byte strings as they came."""
    if isinstance(value, ByteStringObject | TextStringObject):
        raw = value if isinstance(value, ByteStringObject) else value.original_bytes
        return b"<" + raw.hex().encode() + b">"
    if isinstance(value, IndirectObject):
        return b"%d %d R" % (value.idnum, value.generation)
    if isinstance(value, ArrayObject):
        return b"[" + b" ".join(serialise(item) for item in value) + b"]"
    if isinstance(value, DictionaryObject) and not isinstance(value, StreamObject):
        entries = (
            serialise(NameObject(key)) + b" " + serialise(value.raw_get(key)) for key in value
        )
        return b"<<" + b"".join(entries) + b">>"
    out = BytesIO()
    value.write_to_stream(out)
    return out.getvalue()


def text_string(text: str) -> bytes:
    """Return a text string (7.9.2.2): plain where ASCII holds it, UTF-16 otherwise."""
    if text.isascii() and text.isprintable():
        escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        return b"(" + escaped.encode("ascii") + b")"
    return b"<feff" + text.encode("utf-16-be").hex().encode() + b">"


def _entry(place: Place) -> bytes:
    """Return an entry of a table, 20 bytes long."""
    if isinstance(place, InFile):
        return b"%010d %05d n \n" % (place.offset, place.generation)
    return b"0000000000 65535 f \n"


def _row(place: Place, wide: int) -> bytes:
    """Return a row of a cross-reference stream (table 18)."""
    if isinstance(place, InFile):
        return b"\x01" + place.offset.to_bytes(wide) + place.generation.to_bytes(3)
    if isinstance(place, InStream):
        return b"\x02" + place.stream.to_bytes(wide) + place.index.to_bytes(3)
    return bytes(1 + wide) + b"\x00\xff\xff"


def _runs(numbers: dict[int, Any]) -> list[tuple[int, int]]:
    """Return consecutive numbers as first and count, in order."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and number == sum(runs[-1]):
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((number, 1))
    return runs
