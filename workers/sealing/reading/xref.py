"""Where a document's objects lie: its cross-reference sections, read by random access.

A table's entries have a fixed length (ISO 32000-2, 7.5.4), so one entry is read where it must stand
and the rest are left alone; a cross-reference stream (7.5.8) is decoded, but not unpacked into
objects. The cost does not grow with the number of objects beyond that decoding.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from pypdf.generic import DictionaryObject, StreamObject

from workers.sealing.errors import SealingError
from workers.sealing.reading.limits import OBJECT, Budget
from workers.sealing.reading.streams import decoded

# More revisions than any real document has.
MAX_SECTIONS = 4096
MAX_OBJECTS = 8_388_607
_ENTRY = 20
# What an entry that is not 20 bytes long takes out of the budget.
_LOOSE = 3
# Ranges of a cross-reference stream that are not in order, and so are gone through one by one.
_MAX_DISORDER = 64
# Beyond every file.
_FAR = 1 << 48
# A section is looked for so many bytes before and behind where it should be.
_MISSED = 32
_HEAD_BYTES = 24
_WHITE_SPACE = b"\x00\t\n\x0c\r "

_SUBSECTION = re.compile(rb"[\s\x00]*(\d{1,10})[ \t]+(\d{1,10})[ \t]*(?:\r\n|\r|\n)")
_TRAILER = re.compile(rb"[\s\x00]*trailer[\s\x00]*(?=<<)")
_IN_USE = re.compile(rb"(\d{10}) (\d{5}) ([nf])[ \r][\r\n]")
_LOOSE_ENTRY = re.compile(rb"[ \t]*(\d{1,10})[ \t]+(\d{1,5})[ \t]+([nf])[ \t]*(?:\r\n|\r|\n)?")
_SECTION = re.compile(rb"(?<!start)xref\b|(?<!\d)\d{1,10}[\s\x00]+\d{1,5}[\s\x00]+obj\b")
_STREAM_HEAD = re.compile(rb"(?:[\s\x00]+|(?<!\d))\d{1,10}[\s\x00]+\d{1,5}[\s\x00]+obj\b")


@dataclass(frozen=True, slots=True)
class InFile:
    """An object that stands in the file: where its `n g obj` begins, as the file counts."""

    offset: int
    generation: int


@dataclass(frozen=True, slots=True)
class InStream:
    """An object inside an object stream."""

    stream: int
    index: int


Place = InFile | InStream | None
Finder = Callable[[int], tuple[bool, Place]]


@dataclass(frozen=True, slots=True)
class _Table:
    """One subsection of a table; `find` answers for its own numbers only."""

    data: bytes
    first: int
    count: int
    start: int

    def find(self, number: int) -> tuple[bool, Place]:
        if not self.first <= number < self.first + self.count:
            return False, None
        entry = _IN_USE.match(self.data, self.start + (number - self.first) * _ENTRY)
        if entry is None:
            raise SealingError("document_unreadable", reason="cross-reference entry")
        if entry[3] == b"f":
            return True, None
        return True, InFile(int(entry[1]), int(entry[2]))


@dataclass(frozen=True, slots=True)
class _LooseTable:
    """A subsection whose entries are not 20 bytes long, as some writers make them."""

    entries: Mapping[int, Place]

    def find(self, number: int) -> tuple[bool, Place]:
        return number in self.entries, self.entries.get(number)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The decoded rows of a cross-reference stream: `widths` bytes for type and two fields.

    A range is its first number, how many there are, and how many rows stand before it; `starts` are
    the first numbers, where they are in order.
    """

    rows: bytes
    widths: tuple[int, int, int]
    ranges: tuple[tuple[int, int, int], ...]
    starts: tuple[int, ...]

    def find(self, number: int) -> tuple[bool, Place]:
        if self.starts:
            at = bisect_right(self.starts, number) - 1
            if at < 0:
                return False, None
            first, count, before = self.ranges[at]
            return self._row(before + number - first) if number < first + count else (False, None)
        for first, count, before in self.ranges:
            if first <= number < first + count:
                return self._row(before + number - first)
        return False, None

    def _row(self, index: int) -> tuple[bool, Place]:
        kind_width, second_width, third_width = self.widths
        at = index * sum(self.widths)
        row = self.rows[at : at + sum(self.widths)]
        if len(row) < sum(self.widths):
            return False, None
        # A type that is left out is 1 (ISO 32000-2, table 17).
        kind = int.from_bytes(row[:kind_width]) if kind_width else 1
        second = int.from_bytes(row[kind_width : kind_width + second_width])
        third = int.from_bytes(row[kind_width + second_width :]) if third_width else 0
        if kind == 1:
            return True, InFile(second, third)
        return True, InStream(second, third) if kind == 2 else None


@dataclass(frozen=True, slots=True)
class CrossReference:
    """All sections of a document, newest first."""

    finders: tuple[Finder, ...]
    trailer: DictionaryObject
    # Whether the newest section is a cross-reference stream.
    is_stream: bool
    # Where the newest section begins, as the file counts; None when the next one must say it all.
    start: int | None
    # All objects, where the next section must say it all.
    places: Mapping[int, Place] = field(default_factory=dict)

    @property
    def effort(self) -> int:
        """Return what looking a number up takes out of the budget, beyond the object itself."""
        return len(self.finders) // 4

    def place(self, number: int) -> Place:
        """Return where the newest version of an object lies; None when there is none."""
        for find in self.finders:
            known, place = find(number)
            if known:
                return place
        return None


Parser = Callable[[int], Any]


def read(data: bytes, start: int, shift: int, parse: Parser, budget: Budget) -> CrossReference:
    """Read the sections from the newest back.

    Args:
        data: the whole file.
        start: what `startxref` says.
        shift: what the file's own offsets must be moved by, where junk stands before its header.
        parse: returns the PDF object that begins at a position of the file.
        budget: what the document may still ask for.

    Raises:
        SealingError: `document_unreadable`, `document_unprocessable`.
    """
    finders: list[Finder] = []
    newest: DictionaryObject | None = None
    is_stream = False
    start = _section_near(data, start + shift) - shift
    seen: set[int] = set()
    following: int | None = start
    while following is not None:
        if following in seen:
            raise SealingError("document_unprocessable", reason="cross-reference loop")
        if len(seen) >= MAX_SECTIONS:
            raise SealingError("document_unprocessable", reason="too many revisions")
        seen.add(following)
        found, trailer, stream = _section(data, following + shift, parse, budget)
        finders += found
        if newest is None:
            newest, is_stream = trailer, stream
        hidden = _offset(trailer, "/XRefStm")
        if hidden is not None:
            # A hybrid file's table hides entries in a stream, which counts before older sections. What
            # the stream says is older is passed over: the table says it as well (7.5.8.4).
            finders += _section(data, hidden + shift, parse, budget)[0]
        following = _offset(trailer, "/Prev")
    if newest is None:
        raise SealingError("document_unreadable", reason="cross-reference")
    return CrossReference(tuple(finders), newest, is_stream, start)


def _offset(trailer: DictionaryObject, key: str) -> int | None:
    value = trailer.get(key)
    return int(value) if isinstance(value, int | float) and 0 < value < _FAR else None


def _section_near(data: bytes, at: int) -> int:
    """Return where the section really begins that should begin at a place, or the place itself.

    Writers that miss it by some bytes are common enough for every reader to look around.
    """
    while at < len(data) and data[at] in _WHITE_SPACE:
        at += 1
    if data.startswith(b"xref", at) or _STREAM_HEAD.match(data, at):
        return at
    around = range(max(0, at - _MISSED), at + _MISSED)
    near = [m.start() for m in _SECTION.finditer(data, around.start, around.stop + _HEAD_BYTES)]
    return min((n for n in near if n in around), key=lambda n: abs(n - at), default=at)


def _section(
    data: bytes, at: int, parse: Parser, budget: Budget
) -> tuple[list[Finder], DictionaryObject, bool]:
    if 0 <= at < len(data):
        while at < len(data) and data[at] in _WHITE_SPACE:
            at += 1
        if data.startswith(b"xref", at):
            return _table_section(data, at + 4, parse, budget)
        head = _STREAM_HEAD.match(data, at)
        if head is not None:
            return _stream_section(parse(head.end()), budget)
    raise SealingError("document_unreadable", reason="startxref points nowhere")


def _table_section(
    data: bytes, at: int, parse: Parser, budget: Budget
) -> tuple[list[Finder], DictionaryObject, bool]:
    finders: list[Finder] = []
    while (subsection := _SUBSECTION.match(data, at)) is not None:
        # Each is looked at for every object: tens of thousands are nobody's.
        budget.spend(OBJECT)
        first, count = int(subsection[1]), int(subsection[2])
        if first + count > MAX_OBJECTS:
            raise SealingError("document_unprocessable", reason="object numbers")
        start = subsection.end()
        end = start + count * _ENTRY
        if count == 0 or _is_regular(data, start, end):
            finders.append(_Table(data, first, count, start).find)
            at = end
        else:
            entries, at = _loose_entries(data, start, first, count, budget)
            finders.append(_LooseTable(entries).find)
    trailer_at = _TRAILER.match(data, at)
    if trailer_at is None:
        raise SealingError("document_unreadable", reason="trailer")
    trailer = parse(trailer_at.end())
    if not isinstance(trailer, DictionaryObject):
        raise SealingError("document_unreadable", reason="trailer")
    return finders, trailer, False


def _is_regular(data: bytes, start: int, end: int) -> bool:
    """Say whether the first and last entry stand where entries of 20 bytes would."""
    return _IN_USE.match(data, start) is not None and _IN_USE.match(data, end - _ENTRY) is not None


def _loose_entries(
    data: bytes, at: int, first: int, count: int, budget: Budget
) -> tuple[dict[int, Place], int]:
    entries: dict[int, Place] = {}
    for number in range(first, first + count):
        budget.spend(_LOOSE)
        entry = _LOOSE_ENTRY.match(data, at)
        if entry is None:
            raise SealingError("document_unreadable", reason="cross-reference entry")
        entries[number] = InFile(int(entry[1]), int(entry[2])) if entry[3] == b"n" else None
        at = entry.end()
    return entries, at


def _stream_section(stream: Any, budget: Budget) -> tuple[list[Finder], DictionaryObject, bool]:
    if not isinstance(stream, StreamObject) or stream.get("/Type") != "/XRef":
        raise SealingError("document_unreadable", reason="cross-reference stream")
    size = stream.get("/Size")
    widths = stream.get("/W")
    index = stream.get("/Index", [0, size])
    if not isinstance(widths, list) or not isinstance(index, list):
        raise SealingError("document_unreadable", reason="cross-reference stream")
    numbers = [*widths, *index, size]
    if (
        len(widths) != 3
        or len(index) % 2
        or not all(isinstance(n, int) and 0 <= n <= MAX_OBJECTS for n in numbers)
        or max(widths) > 8
    ):
        raise SealingError("document_unreadable", reason="cross-reference stream")
    firsts, counts = [int(n) for n in index[::2]], [int(n) for n in index[1::2]]
    befores = accumulate(counts, initial=0)
    ranges = tuple(zip(firsts, counts, befores, strict=False))
    in_order = all(a + n <= b for a, n, b in zip(firsts, counts, firsts[1:], strict=False))
    if not in_order and len(ranges) > _MAX_DISORDER:
        raise SealingError("document_unprocessable", reason="cross-reference stream")
    content = decoded(stream, "cross-reference stream", budget)
    starts = tuple(firsts) if in_order else ()
    rows = _Rows(content, (int(widths[0]), int(widths[1]), int(widths[2])), ranges, starts)
    return [rows.find], stream, True
