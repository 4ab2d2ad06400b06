"""Reads the few objects that sealing needs, with pypdf's parser, where the file says they are.

A document that is not built as it says (a wrong `startxref`, entries that point elsewhere) is
refused: a revision that is appended to it would be found by lenient readers only.
"""

import math
import os
import re
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from pypdf.errors import LimitReachedError
from pypdf.generic import (
    ArrayObject,
    DictionaryObject,
    IndirectObject,
    NullObject,
    PdfObject,
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

INHERITED = ("/Resources", "/MediaBox", "/CropBox", "/Rotate")


class Page:
    """A page: its reference, its dictionary, and what it inherits from the tree above it."""

    __slots__ = ("_document", "inherited", "number", "reference", "values")

    def __init__(
        self,
        number: int,
        reference: IndirectObject,
        values: DictionaryObject,
        inherited: dict[str, PdfObject],
        document: "Document",
    ) -> None:
        """Take the parts; `number` counts from 1."""
        self._document = document
        self.number = number
        self.reference = reference
        self.values = values
        self.inherited = inherited

    def get(self, key: str) -> Any:
        """Return an attribute, resolved, from the page or from above it."""
        own = self.values.raw_get(key) if key in self.values else self.inherited.get(key)
        return self._document.resolve(own)

    def numbers(self, key: str) -> list[float] | None:
        """Return an attribute that is an array of numbers, or None when it is something else."""
        value = self.get(key)
        if not isinstance(value, ArrayObject):
            return None
        resolved = [self._document.resolve(item) for item in value]
        if not all(isinstance(n, int | float) and math.isfinite(n) for n in resolved):
            return None
        return [float(n) for n in resolved]


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
        self._object_streams: dict[int, list[tuple[int, int]]] = {}
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

    def page(self, wanted: int | str) -> Page:
        """Return a page by its number from 1, or the last.

        Raises:
            SealingError: `document_no_pages`, `page_out_of_range`.
        """
        tree = self.dictionary(self.root.get("/Pages"), "page tree")
        count = self._count(tree)
        index = count - 1 if wanted == "last" else int(wanted) - 1
        if count > 0 and 0 <= index < count:
            page = self._descend(index)
            if page is not None:
                return page
        # The counts are missing or lie: walk the whole tree.
        pages = list(self._walk())
        if not pages:
            raise SealingError("document_no_pages")
        if wanted == "last":
            return pages[-1]
        if not 0 <= index < len(pages):
            raise SealingError("page_out_of_range", page=index + 1, pages=len(pages))
        return pages[index]

    def _count(self, node: DictionaryObject) -> int:
        count = node.get("/Count")
        return int(count) if isinstance(count, int) and count > 0 else 0

    def _kids(self, node: DictionaryObject) -> list[Any]:
        kids = self.resolve(node.get("/Kids"))
        return list(kids) if isinstance(kids, ArrayObject) else []

    def _descend(self, index: int) -> Page | None:
        """Go straight to a page by the counts of the tree; None when they lead nowhere."""
        number = index + 1
        reference: Any = self.root.raw_get("/Pages")
        inherited: dict[str, PdfObject] = {}
        seen: set[int] = set()
        while True:
            node = self.resolve(reference)
            if not isinstance(node, DictionaryObject) or not isinstance(reference, IndirectObject):
                return None
            if reference.idnum in seen or len(seen) > MAX_DEPTH:
                raise SealingError("document_unprocessable", reason="page tree")
            seen.add(reference.idnum)
            if "/Kids" not in node:
                return Page(number, reference, node, inherited, self) if index == 0 else None
            inherited = self._inherit(inherited, node)
            for kid in self._kids(node):
                values = self.resolve(kid)
                if not isinstance(values, DictionaryObject):
                    return None
                holds = self._count(values) if "/Kids" in values else 1
                if index < holds:
                    reference = kid
                    break
                index -= holds
            else:
                return None

    def _walk(self) -> Iterator[Page]:
        """Yield every page in order, whatever the counts say."""
        root = self.root.raw_get("/Pages") if "/Pages" in self.root else None
        pending: list[tuple[Any, dict[str, PdfObject]]] = [(root, {})]
        seen: set[int] = set()
        number = 0
        while pending:
            reference, inherited = pending.pop()
            if not isinstance(reference, IndirectObject) or reference.idnum in seen:
                continue
            seen.add(reference.idnum)
            if len(seen) > MAX_NODES:
                raise SealingError("document_unprocessable", reason="page tree")
            node = self.resolve(reference)
            if not isinstance(node, DictionaryObject):
                continue
            if "/Kids" in node:
                below = self._inherit(inherited, node)
                pending += [(kid, below) for kid in reversed(self._kids(node))]
            elif node.get("/Type") in ("/Page", None):
                number += 1
                yield Page(number, reference, node, inherited, self)

    def _inherit(self, above: dict[str, PdfObject], node: DictionaryObject) -> dict[str, PdfObject]:
        return above | {key: node.raw_get(key) for key in INHERITED if key in node}

    def _read(self, number: int) -> Any:
        place = self.xref.place(number)
        if isinstance(place, InFile):
            head = _OBJECT_HEAD.match(self.data, place.offset + self.shift)
            if head is None or int(head[1]) != number:
                raise SealingError("document_unreadable", reason="cross-reference entry")
            return self._parse_at(head.end())
        if isinstance(place, InStream):
            return self._read_compressed(number, place)
        return NullObject()

    def _read_compressed(self, number: int, place: InStream) -> Any:
        """Read an object out of an object stream (ISO 32000-2, 7.5.7)."""
        container = self.get_object(place.stream)
        if not isinstance(container, StreamObject) or container.get("/Type") != "/ObjStm":
            raise SealingError("document_unreadable", reason="object stream")
        content = decoded(container, "object stream")
        index = self._object_streams.get(place.stream)
        if index is None:
            index = self._object_index(container, content)
            self._object_streams[place.stream] = index
        # The index is the writer's word; the number is what counts.
        at = dict(index).get(number)
        if at is None:
            return NullObject()
        return self._parse(BytesIO(content), at)

    def _object_index(self, container: DictionaryObject, content: bytes) -> list[tuple[int, int]]:
        first = self.resolve(container.get("/First"))
        if not isinstance(first, int) or not 0 <= first <= len(content):
            raise SealingError("document_unreadable", reason="object stream")
        try:
            numbers = [int(piece) for piece in _COMMENT.sub(b" ", content[:first]).split()]
        except ValueError as error:
            raise SealingError("document_unreadable", reason="object stream") from error
        return [
            (number, first + offset)
            for number, offset in zip(numbers[::2], numbers[1::2], strict=False)
        ]

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
