"""Makes a damaged document whole: its cross-reference is found anew from the objects themselves.

Readers do so too, each for itself: the last definition of an object counts. Our revision then carries
a cross-reference of everything, so that from there on every reader, a strict one too, finds the same.
Only what is beyond doubt is repaired. Refused is what readers could take for different documents: an
object that is referred to and not there, one that was cut off, more than one catalogue, and a signed
document, whose earlier revisions could not be told apart any more.
"""

import re
from collections.abc import Callable, Iterator
from typing import TypeVar

from pypdf.generic import (
    ArrayObject,
    DictionaryObject,
    IndirectObject,
    NameObject,
    NumberObject,
)

from workers.sealing.errors import CrossReferenceError, SealingError
from workers.sealing.reading.document import Document
from workers.sealing.reading.limits import Budget
from workers.sealing.reading.scan import Found, Scan, scan
from workers.sealing.reading.xref import MAX_OBJECTS, CrossReference, InFile, InStream, Place

T = TypeVar("T")

# What a reference takes out of the budget, and one number before the objects of an object stream.
_REFERENCE = 1
_PACKED = 3
# So many bytes of text cost one.
_SEARCHED = 32
# A trailer that cannot be parsed is looked through this far.
_TRAILER = 4096
_LATEST_END = 1024

_REFERENCES = re.compile(
    rb"(?<![\d.])(\d{1,10})[\s\x00]{1,8}(\d{1,5})[\s\x00]{1,8}R(?![A-Za-z0-9])"
)
_OBJECT_STREAM = re.compile(rb"/Type[\s\x00]*/ObjStm\b")
_CROSS_REFERENCE = re.compile(rb"/Type[\s\x00]*/XRef\b")
_CATALOGUE = re.compile(rb"/Type[\s\x00]*/Catalog\b")
_ENCRYPTION = re.compile(rb"/Encrypt[\s\x00]*(?:\d+[\s\x00]+\d+[\s\x00]+R\b|<<)")
_ENTRY = re.compile(rb"/(Root|Info)[\s\x00]+(\d{1,10})[\s\x00]+(\d{1,5})[\s\x00]+R\b")
_SIGNED = b"/ByteRange"


def attempt(data: bytes, work: Callable[[Document], T]) -> T:
    """Do something with a document as its cross-reference shows it, or else as its objects show it.

    Args:
        data: the whole file.
        work: what to do; done again from the beginning when an object is not where it should be.

    Raises:
        SealingError: what `work` raises; for a document that cannot be repaired `document_unreadable`
            with what is wrong with it.
    """
    budget = Budget()
    try:
        return work(Document(data, budget=budget))
    except CrossReferenceError as error:
        try:
            repaired = Document(data, budget=budget, read=rebuilt)
        except CrossReferenceError as worse:
            raise worse from error
    return work(repaired)


def rebuilt(document: Document) -> CrossReference:
    """Return a cross-reference of all objects, from one pass over the file.

    Raises:
        SealingError: `document_unreadable`, `document_encrypted`, `document_unprocessable`.
    """
    if document.header:
        # Readers count from the header or from the first byte, and nothing is left here to tell.
        raise _beyond_repair("junk before the header")
    if _SIGNED in document.data:
        raise _beyond_repair("damaged and signed")
    return _Rebuilding(document).cross_reference()


class _Rebuilding:
    """One document's objects on the way to a cross-reference."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._data = document.data
        self._scan: Scan = scan(document.data, document.budget)
        self._latest: dict[int, Found] = {found.number: found for found in self._scan.objects}
        # The texts that count, and may refer to objects.
        self._packed: dict[int, bytes] = {}

    def cross_reference(self) -> CrossReference:
        self._refuse_cut_short()
        places = self._places()
        trailer = self._trailer(places)
        self._refuse_missing(places)
        packed = any(isinstance(place, InStream) for place in places.values())
        return CrossReference((_finder(places),), trailer, packed, None, places)

    def _refuse_cut_short(self) -> None:
        """Refuse a file whose end is missing: a revision of it may have been lost."""
        objects = self._scan.objects
        end = self._data.rfind(b"startxref")
        if not objects or (objects[-1].offset > end and not objects[-1].closed):
            raise _beyond_repair("cut short")
        if 0 <= end < objects[-1].offset and len(self._data) - end > _LATEST_END:
            # Some readers find the end of an earlier revision here, others what came behind it.
            raise _beyond_repair("objects behind the end of file")

    def _places(self) -> dict[int, Place]:
        """Return where each object is, the last definition of the file before all others."""
        in_file: dict[int, Place] = {}
        generations: dict[int, int] = {}
        for found in self._scan.objects:
            if not 0 < found.number <= MAX_OBJECTS:
                raise SealingError("document_unprocessable", reason="object numbers")
            if generations.setdefault(found.number, found.generation) != found.generation:
                raise _beyond_repair("generations")
            in_file[found.number] = InFile(found.offset, found.generation)
        # Object streams may have their lengths elsewhere.
        self._document.xref = CrossReference((_finder(in_file),), DictionaryObject(), False, None)
        places: dict[int, Place] = {}
        for found in self._scan.objects:
            if self._latest[found.number] is not found:
                continue
            self._refuse_unfinished(found)
            places.pop(found.number, None)
            text = self._text(found)
            if found.data is not None and _CROSS_REFERENCE.search(text):
                continue
            places[found.number] = in_file[found.number]
            if found.data is not None and _OBJECT_STREAM.search(text):
                for index, (number, packed) in enumerate(self._unpack(found.number)):
                    if number in self._latest and self._latest[number].offset > found.offset:
                        continue
                    places[number] = InStream(found.number, index)
                    self._packed[number] = packed
        return places

    def _refuse_unfinished(self, found: Found) -> None:
        if found.data is not None:
            begin, end = found.data
            if end >= len(self._data):
                raise _beyond_repair("cut short")
            if found.length is not None and self._longer(found, begin, end):
                raise _beyond_repair("stream")
        elif not found.closed and not self._document.is_whole(self._text(found)):
            raise _beyond_repair("unfinished object")

    def _longer(self, found: Found, begin: int, end: int) -> bool:
        """Say whether data goes on behind the first `endstream`, so that objects were found in it."""
        length = self._document.resolve(IndirectObject(found.length or 0, 0, self._document))
        return (
            isinstance(length, int)
            and begin + length > end
            and self._data[begin + length : begin + length + 16].lstrip().startswith(b"endstream")
        )

    def _unpack(self, number: int) -> Iterator[tuple[int, bytes]]:
        """Yield the objects of an object stream with their texts, in its order."""
        packed = self._document.unpacked(number)
        content, first = packed.content, packed.first
        self._document.budget.spend(_PACKED * len(packed.pairs))
        try:
            numbers = [int(pair[:11]) for pair in packed.pairs]
        except ValueError as error:
            raise _beyond_repair("object stream") from error
        starts = numbers[1::2]
        for object_number, start, end in zip(
            numbers[::2], starts, [*starts[1:], len(content) - first], strict=False
        ):
            if not 0 < object_number <= MAX_OBJECTS or not start <= end:
                raise _beyond_repair("object stream")
            yield object_number, content[first + start : first + end]

    def _text(self, found: Found) -> bytes:
        return self._data[found.start : found.end]

    def _texts(self, places: dict[int, Place]) -> Iterator[tuple[int, bytes]]:
        """Yield the text of every object that counts, without the data of streams."""
        for number, place in places.items():
            if isinstance(place, InStream):
                yield number, self._packed[number]
            else:
                yield number, self._text(self._latest[number])

    def _refuse_missing(self, places: dict[int, Place]) -> None:
        """Refuse a document that refers to objects it does not have: they may be what was damaged."""
        for _, text in self._texts(places):
            self._document.budget.spend(len(text) // _SEARCHED)
            for reference in _REFERENCES.finditer(text):
                self._document.budget.spend(_REFERENCE)
                place = places.get(int(reference[1]))
                if place is None or getattr(place, "generation", 0) != int(reference[2]):
                    raise _beyond_repair("an object is missing")

    def _trailer(self, places: dict[int, Place]) -> DictionaryObject:
        """Return what the trailers and cross-reference streams of the file agree on."""
        trailer = DictionaryObject()
        roots: set[int] = set()
        for values in self._trailers():
            root = values.raw_get("/Root") if "/Root" in values else None
            if isinstance(root, IndirectObject):
                roots.add(root.idnum)
                trailer[NameObject("/Root")] = root
            for key in ("/Info", "/ID"):
                value = values.raw_get(key) if key in values else None
                known = isinstance(value, IndirectObject) and value.idnum in places
                if known or isinstance(value, ArrayObject):
                    trailer[NameObject(key)] = value
        if not roots:
            roots = {number for number, text in self._texts(places) if _CATALOGUE.search(text)}
            for root_number in roots:
                generation = getattr(places[root_number], "generation", 0)
                trailer[NameObject("/Root")] = IndirectObject(
                    root_number, generation, self._document
                )
        if len(roots) != 1:
            raise _beyond_repair("no catalogue" if not roots else "several catalogues")
        # Numbers of old cross-reference streams, which are left out, are not given again.
        trailer[NameObject("/Size")] = NumberObject(max({0, *places, *self._latest}) + 1)
        return trailer

    def _trailers(self) -> Iterator[DictionaryObject]:
        """Yield every trailer's entries, in the file's order.

        Raises:
            SealingError: `document_encrypted`, when one of them names encryption.
        """
        starts = [(at, min(at + _TRAILER, len(self._data))) for at in self._scan.trailers]
        starts += [
            (found.start, found.end)
            for found in self._scan.objects
            if found.data is not None and _CROSS_REFERENCE.search(self._text(found))
        ]
        for start, end in sorted(starts):
            stop = self._data.find(b"startxref", start, end)
            text = self._data[start : stop if stop >= 0 else end]
            self._document.budget.spend(len(text))
            if _ENCRYPTION.search(text):
                raise SealingError("document_encrypted")
            try:
                values = self._document.parse(text)
            except SealingError as error:
                if error.code != "document_unreadable":
                    raise
                values = None
            if not isinstance(values, DictionaryObject):
                values = self._by_name(text)
            if "/Encrypt" in values:
                raise SealingError("document_encrypted")
            yield values

    def _by_name(self, text: bytes) -> DictionaryObject:
        """Return the two references of a trailer that is not to be parsed."""
        values = DictionaryObject()
        for entry in _ENTRY.finditer(text):
            reference = IndirectObject(int(entry[2]), int(entry[3]), self._document)
            values[NameObject("/" + entry[1].decode())] = reference
        return values


def _finder(places: dict[int, Place]) -> Callable[[int], tuple[bool, Place]]:
    return lambda number: (True, places.get(number))


def _beyond_repair(reason: str) -> CrossReferenceError:
    return CrossReferenceError(reason=reason)
