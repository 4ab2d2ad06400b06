"""Reads the few objects that sealing needs, with pypdf's parser, where the file says they are.

Where a document is not built as it says (a wrong `startxref`, entries that point elsewhere), reading
ends in a `CrossReferenceError`: a revision that is appended to it as it is would be found by lenient
readers only. `repair.py` goes on from there.
"""

import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pypdf.errors import LimitReachedError
from pypdf.generic import (
    ArrayObject,
    DictionaryObject,
    IndirectObject,
    NullObject,
    StreamObject,
    read_object,
)

from workers.sealing.errors import CrossReferenceError, SealingError
from workers.sealing.reading import plain, scan, xref
from workers.sealing.reading.limits import OBJECT, Budget, Metered
from workers.sealing.reading.streams import decoded
from workers.sealing.reading.xref import CrossReference, InFile, InStream

# Deeper or wider than any real document's page tree and forms.
MAX_DEPTH = 200
MAX_NODES = 200_000

# Texts of objects up to here are cut out and parsed alone; longer ones are paid for as they are read.
_SHORT = 64 * 1024
# Where the end of an object is looked for.
_LONG = 8 * 1024 * 1024
# So many bytes of the numbers before the objects of an object stream cost one.
_PAIR = 4
# A trailer is shorter.
_TRAILER = 4096

# pypdf has a line to say for each byte that it makes do with; what matters to us is raised.
logging.getLogger("pypdf").setLevel(logging.CRITICAL)

_WHITE_SPACE = b"\x00\t\n\x0c\r "
# Readers look for the end of a file in so many of its last bytes.
_END_BYTES = 1024
_NEGATIVE_LENGTH = re.compile(rb"/Length[\s\x00]*-")
_COMMENT = re.compile(rb"%[^\r\n]*")
_STARTXREF = re.compile(rb"startxref[\s\x00]+(\d{1,12})")
# Not in the middle of a number: an offset that is one too high would find object 3 where 13 stands.
_OBJECT_HEAD = re.compile(
    rb"(?:[\s\x00]+|(?<!\d))(\d{1,10})[\s\x00]+(\d{1,5})[\s\x00]+obj\b[\s\x00]*"
)


@dataclass(frozen=True, slots=True)
class Source:
    """Where an object's own text stands: from `start` to before `end` of `content`."""

    content: bytes
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Packed:
    """What an object stream holds: number and place of each object, counted from `first`."""

    content: bytes
    first: int
    pairs: list[bytes]


class Document:
    """A PDF by reference: objects are read when asked for, and only those.

    Stands in for pypdf's reader towards pypdf's parser, which asks for `strict` and `get_object`.
    """

    # Where pypdf is lenient it returns what came before the damage. A page that is written anew from
    # half a dictionary has lost its contents, and our signature would cover that.
    strict = True

    def __init__(
        self,
        data: bytes,
        *,
        budget: Budget | None = None,
        read: "Callable[[Document], CrossReference] | None" = None,
    ) -> None:
        """Find the cross-reference and the catalogue.

        Args:
            data: the whole file.
            budget: what the document may still ask for; all of it when left out.
            read: returns the cross-reference; what the file itself says when left out.

        Raises:
            CrossReferenceError: the document is not built as it says.
            SealingError: `document_not_pdf`, `document_encrypted`, `document_unreadable`,
                `document_unprocessable`.
        """
        self.data = data
        self.budget = budget or Budget()
        self._stream = Metered(data, self.budget)
        self._objects: dict[int, Any] = {}
        self._texts: dict[int, bytes] = {}
        self._object_streams: dict[int, Packed] = {}
        self._reading: set[int] = set()
        self.header = data.find(b"%PDF-", 0, 1024)
        if self.header < 0:
            raise SealingError("document_not_pdf")
        # What the file's own offsets must be moved by.
        self.shift = 0
        self.xref = read(self) if read is not None else self._read_sections()
        self.trailer = self.xref.trailer
        if "/Encrypt" in self.trailer:
            raise SealingError("document_encrypted")
        root = self.trailer.raw_get("/Root") if "/Root" in self.trailer else None
        if not isinstance(root, IndirectObject):
            raise CrossReferenceError(reason="no catalogue")
        self.root_reference = root
        self.root = self.dictionary(root, "catalogue")

    @property
    def size(self) -> int:
        """Return the number that the next new object gets."""
        size = self.trailer.get("/Size")
        if not isinstance(size, int) or size <= 0:
            raise CrossReferenceError(reason="size")
        if size > xref.MAX_OBJECTS:
            raise SealingError("document_unprocessable", reason="object numbers")
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

    def items(self, value: Any) -> list[Any]:
        """Return the items of an array, each as it stands there; none of what is no array."""
        items = self.resolve(value)
        return list(items) if isinstance(items, ArrayObject) else []

    def get_object(self, reference: int | IndirectObject) -> Any:
        """Return an object by its reference; null when the document has none of this number.

        Raises:
            SealingError: `document_unreadable`, `document_unprocessable`.
        """
        number = reference if isinstance(reference, int) else reference.idnum
        if number in self._objects:
            return self._objects[number]
        if number in self._reading:
            raise SealingError("document_unprocessable", reason="reference loop")
        self.budget.spend(OBJECT + self.xref.effort)
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
                raise CrossReferenceError(reason="cross-reference entry")
            start = head.end()
            end = self.data.find(b"endobj", start, start + _LONG)
            if end < 0:
                self.budget.spend(_LONG // OBJECT)
                end = min(start + _LONG, len(self.data))
            return Source(self.data, start, end)
        return self._source_in_stream(number, place) if isinstance(place, InStream) else None

    def text(self, number: int) -> bytes | None:
        """Return the text of an object that was read, where it is known to be all of it."""
        return self._texts.get(number)

    def parse(self, text: bytes) -> Any:
        """Return the object that a text is.

        Raises:
            SealingError: `document_unreadable`, `document_unprocessable`.
        """
        return self._parse_source(Source(text, 0, len(text)))

    def is_whole(self, text: bytes) -> bool:
        """Say whether a text is one object and nothing else."""
        self.budget.spend(2 * len(text))
        return self._parse_alone(text)[0]

    def unpacked(self, number: int) -> Packed:
        """Return the content of an object stream (ISO 32000-2, 7.5.7).

        Raises:
            SealingError: `document_unreadable`, `document_unprocessable`.
        """
        known = self._object_streams.get(number)
        if known is not None:
            return known
        container = self.get_object(number)
        if not isinstance(container, StreamObject) or container.get("/Type") != "/ObjStm":
            raise CrossReferenceError(reason="object stream")
        content = decoded(container, "object stream", self.budget)
        first = self.resolve(container.get("/First"))
        if not isinstance(first, int) or not 0 <= first <= len(content):
            raise CrossReferenceError(reason="object stream")
        pairs = content[:first]
        self.budget.spend(len(pairs) // _PAIR)
        if b"%" in pairs:
            pairs = _COMMENT.sub(b" ", pairs)
        packed = Packed(content, int(first), pairs.split())
        self._object_streams[number] = packed
        return packed

    def _read_sections(self) -> CrossReference:
        """Read the cross-reference that the end of the file points to."""
        at = self.data.rfind(b"startxref")
        found = _STARTXREF.match(self.data, at) if at >= 0 else None
        if found is None:
            raise CrossReferenceError(reason="no startxref")
        if len(self.data) - found.end() > _END_BYTES and scan.has_objects(
            self.data, found.end(), self.budget
        ):
            # A longer file was cut short, or another was hung onto it (ISO 32000-2, Annex I).
            raise CrossReferenceError(reason="no end of file")
        if self.data.find(b"%%EOF", at) < 0 and self._has_revision_before(at):
            # Some readers go by the last mark of an end and show the revision before.
            raise SealingError("document_unreadable", reason="no end of file")
        start = int(found[1])
        # With junk before the header, offsets count from the header in most files, but not in all.
        if self.header and not self._is_section(start):
            self.shift = self.header
        try:
            return xref.read(self.data, start, self.shift, self._parse_trailer, self.budget)
        except SealingError as error:
            if error.code != "document_unreadable":
                raise
            raise CrossReferenceError(**error.detail) from error

    def _read(self, number: int) -> Any:
        source = self.source(number)
        if source is None:
            return NullObject()
        return self._parse_source(source, number)

    def _source_in_stream(self, number: int, place: InStream) -> Source | None:
        """Find an object in an object stream."""
        packed = self.unpacked(place.stream)
        pairs = packed.pairs
        wanted, index = b"%d" % number, place.index
        try:
            # The index is the writer's word; the number is what counts.
            if 2 * index + 1 >= len(pairs) or pairs[2 * index] != wanted:
                self.budget.spend(len(pairs) // 2)
                index = pairs[::2].index(wanted)
            start = packed.first + int(pairs[2 * index + 1])
            after = pairs[2 * index + 3 : 2 * index + 4]
            end = packed.first + int(after[0]) if after else len(packed.content)
        except (ValueError, IndexError):
            return None
        return Source(packed.content, start, end)

    def _parse_source(self, source: Source, number: int | None = None) -> Any:
        """Parse an object's own text: cut out where it is short, and only if that is all of it."""
        start, end = source.start, source.end
        # A stream's data may say `endobj` as well as anything else.
        if end - start <= _SHORT and source.content.find(b"stream", start, end) < 0:
            text = source.content[start:end]
            self.budget.spend(2 * len(text))
            whole, found = self._parse_alone(text)
            if whole:
                if number is not None:
                    self._texts[number] = text
                return found
        in_file = source.content is self.data
        stream = self._stream if in_file else Metered(source.content, self.budget)
        return self._parse(stream, start)

    def _parse_alone(self, text: bytes) -> tuple[bool, Any]:
        """Parse a text that was cut out, and say whether it is one object and nothing else."""
        found = plain.read(text, self)
        if found is not None:
            return True, found
        # A number or a reference ends where something else begins.
        stream = BytesIO(text + b"\n")
        try:
            found = self._parse(stream, 0, then_back=False)
        except SealingError as error:
            if error.code != "document_unreadable":
                raise
            return False, None
        return not stream.read().strip(_WHITE_SPACE), found

    def _parse_trailer(self, position: int) -> Any:
        """Parse a trailer's dictionary, which ends before `startxref`, or what else stands there."""
        end = self.data.find(b"startxref", position, position + _TRAILER)
        if end < 0:
            return self._parse_at(position)
        return self._parse_source(Source(self.data, position, end))

    def _parse_at(self, position: int) -> Any:
        return self._parse(self._stream, position)

    def _parse(self, stream: BytesIO, position: int, *, then_back: bool = True) -> Any:
        # pypdf's lengths may be references: reading on continues where this object is.
        before = stream.tell()
        stream.seek(position)
        while (byte := stream.read(1)) and byte in _WHITE_SPACE:
            pass
        stream.seek(-1 if byte else 0, os.SEEK_CUR)
        try:
            found = read_object(stream, self)  # type: ignore[arg-type]
            if isinstance(found, StreamObject):
                self._refuse_negative_length(position)
            return found
        except SealingError:
            raise
        except Exception as error:
            # pypdf's parser raises whatever the damage leads to.
            raise _refusal(error) from error
        finally:
            if then_back:
                stream.seek(before)

    def _refuse_negative_length(self, position: int) -> None:
        """Refuse a stream with less than nothing in it, which pypdf and some others make do with."""
        end = self.data.find(b"stream", position)
        if _NEGATIVE_LENGTH.search(self.data, position, end):
            raise SealingError("document_unprocessable", reason="negative length")

    def _has_revision_before(self, end: int) -> bool:
        """Say whether a revision ends before a place; the first part of a linearised file is none."""
        at = self.data.rfind(b"startxref", 0, end)
        found = _STARTXREF.match(self.data, at) if at >= 0 else None
        return found is not None and int(found[1]) > 0

    def _is_section(self, offset: int) -> bool:
        return self.data.startswith(b"xref", offset) or bool(_OBJECT_HEAD.match(self.data, offset))


def _refusal(error: BaseException) -> SealingError:
    """Return what a failure of pypdf's means: its first cause is under errors of its own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, SealingError):
            return cause
        if isinstance(cause, RecursionError | LimitReachedError | MemoryError | OverflowError):
            return SealingError("document_unprocessable", reason="limits")
        cause = cause.__cause__
    return SealingError("document_unreadable", reason="syntax")
