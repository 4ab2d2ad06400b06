"""Finds the objects of a file by its text alone, without any cross-reference: one pass, no parsing.

The words `obj`, `stream` and `trailer` are looked for, each place of the file once, so that the time
is linear whatever the file says. What stands in a stream's data is skipped: by the stream's /Length
where `endstream` follows there, to the next `endstream` otherwise, as readers do.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from workers.sealing.reading.limits import Budget

# What one word that was found takes out of the budget.
_WORD = 4
# An object's two numbers and the blanks between them are looked for in so many bytes before `obj`.
_HEAD_BYTES = 64

# Read backwards from `obj`: generation, then number.
_HEAD = re.compile(rb"[\s\x00]+(\d{1,5})[\s\x00]+(\d{1,10})(?![\d.+-])")
_LENGTH = re.compile(rb"/Length[\s\x00]+(\d{1,10})(?:[\s\x00]+(\d{1,5})[\s\x00]+R\b)?")
_DATA_ENDS = re.compile(rb"[\s\x00]{0,4}end(?:stream|obj)")
_OPENS_DICTIONARY = re.compile(rb"[\s\x00]*<<")
_REGULAR = re.compile(rb"[A-Za-z0-9]")


@dataclass(slots=True)
class Found:
    """One definition of an object: its own text, and the data of a stream behind it."""

    number: int
    generation: int
    # Where its `n g obj` begins, where its text begins, and where that ends.
    offset: int
    start: int
    end: int
    # Where the data of a stream begins and ends; None for other objects.
    data: tuple[int, int] | None = None
    # The object that holds the length, where the text does not say it itself.
    length: int | None = None
    # Whether `endobj` follows before anything else does.
    closed: bool = False


@dataclass(slots=True)
class Scan:
    """What there is in a file, in the file's order."""

    objects: list[Found] = field(default_factory=list)
    # Where the dictionaries of trailers begin.
    trailers: list[int] = field(default_factory=list)


def scan(data: bytes, budget: Budget) -> Scan:
    """Find all objects and trailers of a file.

    Raises:
        SealingError: `document_unprocessable`, when there are too many.
    """
    found = Scan()
    objects, streams = _Word(data, b"obj"), _Word(data, b"stream")
    trailers, ends = _Word(data, b"trailer"), _Word(data, b"endstream")
    current: Found | None = None
    at = 0
    while True:
        budget.spend(_WORD)
        next_object, next_stream, next_trailer = (w.after(at) for w in (objects, streams, trailers))
        nearest = min(next_object, next_stream, next_trailer)
        if nearest == len(data):
            break
        if nearest == next_object:
            at = next_object + 3
            if data.endswith(b"end", 0, next_object):
                if current is not None:
                    _close(current, next_object - 3)
                    current = None
            elif (head := _head(data, next_object)) is not None:
                if current is not None and current.data is None:
                    current.end = head.offset
                current = head
                found.objects.append(head)
        elif nearest == next_stream:
            at = next_stream + 6
            if current is not None and current.data is None and _ends_dictionary(data, nearest):
                at = _skip_data(data, current, next_stream, ends.after)
        else:
            at = next_trailer + 7
            if _OPENS_DICTIONARY.match(data, at, at + _HEAD_BYTES):
                if current is not None and current.data is None:
                    current.end = next_trailer
                current = None
                found.trailers.append(at)
    if current is not None and current.data is None:
        current.end = len(data)
    return found


def has_objects(data: bytes, start: int, budget: Budget) -> bool:
    """Say whether an object begins behind a place of the file, be it in a stream's data."""
    at = data.find(b"obj", start)
    while at >= 0:
        budget.spend(_WORD)
        if _head(data, at) is not None:
            return True
        at = data.find(b"obj", at + 3)
    return False


class _Word:
    """Where a word comes next; every place of the file is looked at once."""

    def __init__(self, data: bytes, word: bytes) -> None:
        self._data = data
        self._word = word
        self._at = -1

    def after(self, position: int) -> int:
        """Return the first place from a position on, or the length of the file."""
        if self._at < position:
            at = self._data.find(self._word, position)
            self._at = len(self._data) if at < 0 else at
        return self._at


def _head(data: bytes, at: int) -> Found | None:
    """Return the definition that a word `obj` begins, if it does."""
    before = max(0, at - _HEAD_BYTES)
    numbers = _HEAD.match(data[before:at][::-1])
    if numbers is None or _REGULAR.match(data, at + 3):
        return None
    number, generation = int(numbers[2][::-1]), int(numbers[1][::-1])
    return Found(number, generation, at - numbers.end(), at + 3, at + 3)


def _close(current: Found, end: int) -> None:
    current.closed = True
    if current.data is None:
        current.end = end


def _ends_dictionary(data: bytes, at: int) -> bool:
    return data[max(0, at - _HEAD_BYTES) : at].rstrip(b"\x00\t\n\x0c\r ").endswith(b">>")


def _skip_data(data: bytes, current: Found, at: int, ends: Callable[[int], int]) -> int:
    """Take in the data of a stream whose word `stream` stands at a place; return where it ends."""
    current.end = at
    begin = at + 6
    begin += 2 if data.startswith(b"\r\n", begin) else data.startswith((b"\n", b"\r"), begin)
    length = _LENGTH.search(data, current.start, at)
    end = None
    if length is not None and length[2] is not None:
        current.length = int(length[1])
    elif length is not None and _DATA_ENDS.match(data, begin + int(length[1])):
        end = begin + int(length[1])
    if end is None:
        end = ends(begin)
    current.data = (begin, end)
    return end + 9 if data.startswith(b"endstream", end) else end
