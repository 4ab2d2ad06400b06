"""One more revision behind a document's own bytes (ISO 32000-2, 7.5.6).

New and changed objects, then a cross-reference section of the kind that the document's newest one
is: a table behind a table, a stream behind a stream. Earlier bytes are never touched.
"""

import os
from io import BytesIO
from typing import Any

from pypdf.generic import (
    ArrayObject,
    ByteStringObject,
    DictionaryObject,
    IndirectObject,
    NameObject,
    TextStringObject,
)

from workers.sealing.document import Document


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
        while self._document.xref.place(self._next) is not None:
            self._next += 1
        number = self._next
        self._next += 1
        return number

    def put(self, number: int, content: bytes, *, generation: int = 0) -> None:
        """Define an object by its serialised content."""
        self._objects[number] = (generation, content)

    def replace(self, reference: IndirectObject, value: Any) -> None:
        """Define a changed version of an object that the document has."""
        self.put(reference.idnum, serialise(value), generation=reference.generation)

    def extend(
        self, reference: IndirectObject, values: DictionaryObject, key: str, value: Any
    ) -> None:
        """Define a changed version of a dictionary that the document has: one entry is new or other.

        A new entry goes behind the others in the document's own words, which stay as they are. May be
        called again for another entry.
        """
        entries = self._extensions.setdefault(reference.idnum, {})
        entries[key] = value
        text = self._document.text(reference.idnum)
        if not any(each in values for each in entries) and text and text.rstrip().endswith(b">>"):
            new = b"".join(each.encode() + b" " + serialise(entries[each]) for each in entries)
            written = text.rstrip()[:-2] + new + b">>"
            self.put(reference.idnum, written, generation=reference.generation)
            return
        changed = DictionaryObject()
        for each in values:
            changed[NameObject(each)] = values.raw_get(each)
        for each, other in entries.items():
            changed[NameObject(each)] = other
        self.replace(reference, changed)

    def write(self) -> bytes:
        """Return the revision's bytes, which stand directly behind the document's."""
        base = len(self._document.data) - self._document.shift
        out = bytearray(self._lead)
        offsets: dict[int, tuple[int, int]] = {}
        for number, (generation, content) in sorted(self._objects.items()):
            self.positions[number] = len(out)
            offsets[number] = (base + len(out), generation)
            out += b"%d %d obj\n%s\nendobj\n" % (number, generation, content)
        start = base + len(out)
        if self._document.xref.is_stream:
            out += self._stream(offsets, start)
        else:
            out += self._table(offsets)
        out += b"startxref\n%d\n%%%%EOF\n" % start
        return bytes(out)

    def _table(self, offsets: dict[int, tuple[int, int]]) -> bytes:
        out = bytearray(b"xref\n")
        for first, count in _runs(offsets):
            out += b"%d %d\n" % (first, count)
            for number in range(first, first + count):
                out += b"%010d %05d n \n" % offsets[number]
        out += b"trailer\n<<%s>>\n" % self._trailer_entries(self._next)
        return bytes(out)

    def _stream(self, offsets: dict[int, tuple[int, int]], start: int) -> bytes:
        number = self.reserve()
        offsets = offsets | {number: (start, 0)}
        wide = max(4, (start.bit_length() + 7) // 8)
        rows = b"".join(
            b"\x01" + offset.to_bytes(wide) + generation.to_bytes(2)
            for _, (offset, generation) in sorted(offsets.items())
        )
        index = b" ".join(b"%d %d" % run for run in _runs(offsets))
        return (
            b"%d 0 obj\n<</Type/XRef/W[1 %d 2]/Index[%s]/Length %d%s>>stream\n%s\nendstream\nendobj\n"
            % (
                number,
                wide,
                index,
                len(rows),
                self._trailer_entries(self._next),
                rows,
            )
        )

    def _trailer_entries(self, size: int) -> bytes:
        trailer = self._document.trailer
        entries = b"/Size %d/Prev %d" % (size, self._document.startxref)
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


def serialise(value: Any) -> bytes:
    """Return a pypdf object as it is written into a file; text and byte strings as they came."""
    if isinstance(value, ByteStringObject | TextStringObject):
        raw = value if isinstance(value, ByteStringObject) else value.original_bytes
        return b"<" + raw.hex().encode() + b">"
    if isinstance(value, IndirectObject):
        return b"%d %d R" % (value.idnum, value.generation)
    if isinstance(value, ArrayObject):
        return b"[" + b" ".join(serialise(item) for item in value) + b"]"
    out = BytesIO()
    value.write_to_stream(out)
    return out.getvalue()


def text_string(text: str) -> bytes:
    """Return a text string (7.9.2.2): plain where ASCII holds it, UTF-16 otherwise."""
    if text.isascii() and text.isprintable():
        escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        return b"(" + escaped.encode("ascii") + b")"
    return b"<feff" + text.encode("utf-16-be").hex().encode() + b">"


def _runs(numbers: dict[int, Any]) -> list[tuple[int, int]]:
    """Return consecutive numbers as first and count, in order."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and number == sum(runs[-1]):
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((number, 1))
    return runs
