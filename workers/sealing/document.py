"""Reads the few objects that sealing needs, with pypdf's parser, where the file says they are.

A document that is not built as it says (a wrong `startxref`, entries that point elsewhere) is
refused: a revision that is appended to it would be found by lenient readers only.
"""

import os
import re
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pypdf.errors import LimitReachedError
from pypdf.generic import (
    DictionaryObject,
    IndirectObject,
    NullObject,
    StreamObject,
    read_object,
)

from workers.sealing import xref
from workers.sealing.errors import SealingError
from workers.sealing.streams import decoded
from workers.sealing.xref import InFile, InStream

# Deeper or wider than any real document's page tree and forms.
MAX_DEPTH = 200
MAX_NODES = 200_000
# Objects that may be read for one sealing.
MAX_READS = 250_000

_WHITE_SPACE = b"\x00\t\n\x0c\r "
# Readers look for the end of a file in so many of its last bytes.
_END_BYTES = 1024
_COMMENT = re.compile(rb"%[^\r\n]*")
_STARTXREF = re.compile(rb"startxref[\s\x00]+(\d{1,12})")
_OBJECT_HEAD = re.compile(rb"[\s\x00]*(\d{1,10})[\s\x00]+(\d{1,5})[\s\x00]+obj\b[\s\x00]*")


@dataclass(frozen=True, slots=True)
class Source:
    """Where an object's own text stands: from `start` to before `end` of `content`."""

    content: bytes
    start: int
    end: int


class Document:
    """A PDF by reference: objects are read when asked for, and only those.

    Stands in for pypdf's reader towards pypdf's parser, which asks for `strict` and `get_object`.
    """

    strict: bool

    def __init__(self, data: bytes) -> None:
        """Find the cross-reference and the catalogue.

        Raises:
            SealingError: `document_not_pdf`, `document_encrypted`, `document_unreadable`,
                `document_unprocessable`.
        """
        self.data = data
        self._stream = BytesIO(data)
        self._objects: dict[int, Any] = {}
        self._object_streams: dict[int, bytes] = {}
        self._reading: set[int] = set()
        header = data.find(b"%PDF-", 0, 1024)
        if header < 0:
            raise SealingError("document_not_pdf")
        at = data.rfind(b"startxref")
        found = _STARTXREF.match(data, at) if at >= 0 else None
        if found is None:
            raise SealingError("document_unreadable", reason="no startxref")
        if len(data) - found.end() > _END_BYTES:
            # A longer file was cut short, or something else was hung onto it (ISO 32000-2, Annex I).
            raise SealingError("document_unreadable", reason="no end of file")
        self.startxref = int(found[1])
        # With junk before the header, offsets count from the header in most files, but not in all.
        self.shift = 0 if header == 0 or self._is_section(self.startxref) else header
        # What other readers start from must be right to the letter; inside, pypdf may be lenient.
        self.strict = True
        self.xref = xref.read(data, self.startxref, self.shift, self._parse_at)
        self.strict = False
        self.trailer = self.xref.trailer
        if "/Encrypt" in self.trailer:
            raise SealingError("document_encrypted")
        root = self.trailer.raw_get("/Root") if "/Root" in self.trailer else None
        if not isinstance(root, IndirectObject):
            raise SealingError("document_unreadable", reason="no catalogue")
        self.root_reference = root
        self.root = self.dictionary(root, "catalogue")

    @property
    def size(self) -> int:
        """Return the number that the next new object gets."""
        size = self.trailer.get("/Size")
        if not isinstance(size, int) or not 0 < size <= xref.MAX_OBJECTS:
            raise SealingError("document_unreadable", reason="size")
        return int(size)

    def dictionary(self, value: Any, what: str) -> DictionaryObject:
        """Return a dictionary, followed through references.

        Raises:
            SealingError: `document_unreadable`, when it is something else.
        """
        resolved = self.resolve(value)
        if not isinstance(resolved, DictionaryObject):
            raise SealingError("document_unreadable", reason=what)
        return resolved

    def resolve(self, value: Any) -> Any:
        """Follow references to what they stand for; None for null and for what is missing."""
        for _ in range(MAX_DEPTH):
            if not isinstance(value, IndirectObject):
                return None if isinstance(value, NullObject) else value
            value = self.get_object(value)
        raise SealingError("document_unprocessable", reason="reference loop")

    def get_object(self, reference: int | IndirectObject) -> Any:
        """Return an object by its reference; null when the document has none of this number.

        Raises:
            SealingError: `document_unreadable`, `document_unprocessable`.
        """
        number = reference if isinstance(reference, int) else reference.idnum
        if number in self._objects:
            return self._objects[number]
        if number in self._reading or len(self._objects) > MAX_READS:
            raise SealingError("document_unprocessable", reason="reference loop")
        self._reading.add(number)
        try:
            found = self._read(number)
        finally:
            self._reading.discard(number)
        self._objects[number] = found
        return found

    def source(self, number: int) -> Source | None:
        """Return where an object's text stands, or None when the document has no such object.

        Raises:
            SealingError: `document_unreadable`, `document_unprocessable`.
        """
        place = self.xref.place(number)
        if isinstance(place, InFile):
            head = _OBJECT_HEAD.match(self.data, place.offset + self.shift)
            if head is None or int(head[1]) != number:
                raise SealingError("document_unreadable", reason="cross-reference entry")
            end = self.data.find(b"endobj", head.end())
            return Source(self.data, head.end(), end if end >= 0 else len(self.data))
        return self._source_in_stream(number, place) if isinstance(place, InStream) else None

    def parse(self, text: bytes) -> Any:
        """Return the object that a text is.

        Raises:
            SealingError: `document_unreadable`, `document_unprocessable`.
        """
        return self._parse(BytesIO(text), 0)

    def _read(self, number: int) -> Any:
        source = self.source(number)
        if source is None:
            return NullObject()
        stream = self._stream if source.content is self.data else BytesIO(source.content)
        return self._parse(stream, source.start)

    def _source_in_stream(self, number: int, place: InStream) -> Source | None:
        """Find an object in an object stream (ISO 32000-2, 7.5.7)."""
        container = self.get_object(place.stream)
        if not isinstance(container, StreamObject) or container.get("/Type") != "/ObjStm":
            raise SealingError("document_unreadable", reason="object stream")
        content = self._object_streams.get(place.stream)
        if content is None:
            content = decoded(container, "object stream")
            self._object_streams[place.stream] = content
        first = self.resolve(container.get("/First"))
        if not isinstance(first, int) or not 0 <= first <= len(content):
            raise SealingError("document_unreadable", reason="object stream")
        pairs = _COMMENT.sub(b" ", content[:first]).split()
        wanted, index = b"%d" % number, place.index
        try:
            # The index is the writer's word; the number is what counts.
            if 2 * index + 1 >= len(pairs) or pairs[2 * index] != wanted:
                index = pairs[::2].index(wanted)
            start = first + int(pairs[2 * index + 1])
            after = pairs[2 * index + 3 : 2 * index + 4]
            end = first + int(after[0]) if after else len(content)
        except (ValueError, IndexError):
            return None
        return Source(content, start, end)

    def _parse_at(self, position: int) -> Any:
        return self._parse(self._stream, position)

    def _parse(self, stream: BytesIO, position: int) -> Any:
        # pypdf's lengths may be references: reading on continues where this object is.
        before = stream.tell()
        stream.seek(position)
        while (byte := stream.read(1)) and byte in _WHITE_SPACE:
            pass
        stream.seek(-1 if byte else 0, os.SEEK_CUR)
        try:
            return read_object(stream, self)  # type: ignore[arg-type]
        except SealingError:
            raise
        except Exception as error:
            # pypdf's parser raises whatever the damage leads to.
            too_deep = isinstance(error, RecursionError | LimitReachedError) or isinstance(
                error.__cause__, RecursionError
            )
            code = "document_unprocessable" if too_deep else "document_unreadable"
            raise SealingError(code, reason="nesting" if too_deep else "syntax") from error
        finally:
            stream.seek(before)

    def _is_section(self, offset: int) -> bool:
        return self.data.startswith(b"xref", offset) or bool(_OBJECT_HEAD.match(self.data, offset))
