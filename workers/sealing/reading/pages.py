"""The page tree (ISO 32000-2, 7.7.3): straight to one page, without reading the others."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from pypdf.generic import ArrayObject, DictionaryObject, IndirectObject, PdfObject

from workers.sealing.errors import SealingError
from workers.sealing.reading.document import MAX_DEPTH, MAX_NODES, Document

INHERITED = ("/Resources", "/MediaBox", "/CropBox", "/Rotate")

_KIDS = re.compile(rb"/Kids[\s\x00]*\[")
# An array of nothing but references, as every writer makes it, holds nothing else.
_OF_REFERENCES = b"0123456789R\x00\t\n\x0c\r "
# What one of them takes out of the budget, where all are read.
_REFERENCE = 8
# Shorter ones are not worth the detour.
_LONG = 512


@dataclass(frozen=True, slots=True)
class Page:
    """A page: its number from 1, its reference, its dictionary, and what it inherits."""

    number: int
    reference: IndirectObject
    values: DictionaryObject
    inherited: dict[str, PdfObject]
    document: Document

    def get(self, key: str) -> Any:
        """Return an attribute, resolved, from the page or from above it."""
        own = self.values.raw_get(key) if key in self.values else self.inherited.get(key)
        return self.document.resolve(own)

    def numbers(self, key: str) -> list[float] | None:
        """Return an attribute that is an array of numbers, or None when it is something else."""
        value = self.get(key)
        if not isinstance(value, ArrayObject):
            return None
        resolved = [self.document.resolve(item) for item in value]
        if not all(isinstance(n, int | float) and math.isfinite(n) for n in resolved):
            return None
        return [float(n) for n in resolved]


class _References(Sequence[Any]):
    """A long array of references, each read when it is asked for."""

    def __init__(self, text: bytes, document: Document) -> None:
        self._text = text
        self._length = text.count(b"R")
        self._document = document

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        """Split once for all."""
        return iter(self[:])

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            # Little is asked for each, but there may be a million of them.
            self._document.budget.spend(_REFERENCE * self._length)
            pieces = self._text.split(b"R")[:-1]
            return [self._reference(piece) for piece in pieces[index]]
        # The last is what stamps go on most, and is found without splitting the rest.
        last = index in (-1, self._length - 1)
        piece = self._text.rsplit(b"R", 2)[-2] if last else self._text.split(b"R")[index]
        return self._reference(piece)

    def _reference(self, piece: bytes) -> IndirectObject:
        numbers = piece.replace(b"\0", b" ").split()
        if len(numbers) != 2 or max(map(len, numbers)) > 10:
            raise SealingError("document_unreadable", reason="page tree")
        return IndirectObject(int(numbers[0]), int(numbers[1]), self._document)


@dataclass(frozen=True, slots=True)
class _Node:
    """A node of the tree: its dictionary, and its kids; None for a page."""

    values: DictionaryObject
    kids: Sequence[Any] | None

    @property
    def count(self) -> int:
        """Return how many pages the node says there are below it."""
        if self.kids is None:
            return 1
        count = self.values.get("/Count")
        return int(count) if isinstance(count, int) and count > 0 else 0


def find(document: Document, wanted: int | str) -> Page:
    """Return a page by its number from 1, or the last.

    Raises:
        SealingError: `document_no_pages`, `page_out_of_range`, `document_unreadable`,
            `document_unprocessable`.
    """
    root = document.root.raw_get("/Pages") if "/Pages" in document.root else None
    tree = _node(document, root)
    if tree is None:
        raise SealingError("document_unreadable", reason="page tree")
    index = tree.count - 1 if wanted == "last" else int(wanted) - 1
    if 0 <= index < tree.count:
        page = _descend(document, root, tree, index)
        if page is not None:
            return page
    # The counts are missing or lie: walk the whole tree.
    pages = list(_walk(document, root))
    if not pages:
        raise SealingError("document_no_pages")
    if wanted == "last":
        return pages[-1]
    if not 0 <= index < len(pages):
        raise SealingError("page_out_of_range", page=index + 1, pages=len(pages))
    return pages[index]


def every(document: Document) -> Iterator[Page]:
    """Yield every page in order, each read when it is reached.

    Raises:
        SealingError: `document_unreadable`, `document_unprocessable`.
    """
    return _walk(document, document.root.raw_get("/Pages") if "/Pages" in document.root else None)


def of(document: Document, reference: IndirectObject) -> Page | None:
    """Return the page that a reference names; None when there is no such page in the tree.

    Climbs from the page to the root, counting what stands before it, so that the others are not read.

    Raises:
        SealingError: `document_unreadable`, `document_unprocessable`.
    """
    index = _index(document, reference)
    if index is not None:
        root = document.root.raw_get("/Pages") if "/Pages" in document.root else None
        tree = _node(document, root)
        page = None if tree is None else _descend(document, root, tree, index)
        if page is not None and page.reference.idnum == reference.idnum:
            return page
    return next((p for p in every(document) if p.reference.idnum == reference.idnum), None)


def _index(document: Document, node: IndirectObject) -> int | None:
    """Return how many pages stand before one, by its ancestors' counts; None when they lead nowhere."""
    index = 0
    seen: set[int] = set()
    while True:
        values = document.resolve(node)
        if not isinstance(values, DictionaryObject) or len(seen) > MAX_DEPTH:
            return None
        parent = values.raw_get("/Parent") if "/Parent" in values else None
        if parent is None:
            return index
        above = _node(document, parent)
        if not isinstance(parent, IndirectObject) or parent.idnum in seen or above is None:
            return None
        seen.add(parent.idnum)
        kids = list(above.kids or ())
        same = [isinstance(kid, IndirectObject) and kid.idnum == node.idnum for kid in kids]
        if True not in same:
            return None
        before = kids[: same.index(True)]
        if len(kids) == above.count:
            index += len(before)
        else:
            nodes = [_node(document, kid) for kid in before]
            index += sum(each.count for each in nodes if each is not None)
        node = parent


def _node(document: Document, reference: Any) -> _Node | None:
    """Return a node; None when there is no dictionary."""
    if isinstance(reference, IndirectObject):
        long = _long_node(document, reference)
        if long is not None:
            return long
    values = document.resolve(reference)
    if not isinstance(values, DictionaryObject):
        return None
    if "/Kids" not in values:
        return _Node(values, None)
    kids = document.resolve(values.raw_get("/Kids"))
    return _Node(values, list(kids) if isinstance(kids, ArrayObject) else [])


def _long_node(document: Document, reference: IndirectObject) -> _Node | None:
    """Return a node with many kids without parsing them; None for every other node.

    In a flat tree of thousands of pages, parsing the array costs more than all else together.
    """
    source = document.source(reference.idnum)
    if source is None or source.end - source.start < _LONG:
        return None
    content = source.content
    found = _KIDS.search(content, source.start, source.end)
    end = content.find(b"]", found.end(), source.end) if found is not None else -1
    if found is None or end - found.end() < _LONG:
        return None
    kids = content[found.end() : end]
    before = content[source.start : found.start()]
    rest = before + content[end + 1 : source.end]
    if kids.translate(None, _OF_REFERENCES):
        return None
    # Only where nothing else could be mistaken for the array: no strings, one such key.
    if b"(" in rest or b"/Kids" in rest or b"%" in rest or before.count(b"<<") != 1:
        return None
    values = document.parse(rest)
    if not isinstance(values, DictionaryObject):
        return None
    return _Node(values, _References(kids, document))


def _descend(document: Document, reference: Any, tree: _Node, index: int) -> Page | None:
    """Go straight to a page by the counts of the tree; None when they lead nowhere.

    `reference` is that of the root, and `tree` is the root itself.
    """
    node: _Node | None = tree
    number = index + 1
    inherited: dict[str, PdfObject] = {}
    seen: set[int] = set()
    must_be_page = False
    while True:
        if node is None or not isinstance(reference, IndirectObject):
            return None
        if reference.idnum in seen or len(seen) > MAX_DEPTH:
            raise SealingError("document_unprocessable", reason="page tree")
        seen.add(reference.idnum)
        kids = node.kids
        if kids is None:
            page = Page(number, reference, node.values, inherited, document)
            return page if index == 0 else None
        if must_be_page:
            return None
        inherited = _inherit(inherited, node.values)
        if len(kids) == node.count:
            # As many pages as kids: each kid should be a page, and none is looked at in passing.
            if index >= len(kids):
                return None
            reference, index, must_be_page = kids[index], 0, True
            node = _node(document, reference)
            continue
        below: _Node | None = None
        for kid in kids:
            below = _node(document, kid)
            if below is None:
                return None
            if index < below.count:
                reference = kid
                break
            index -= below.count
        else:
            return None
        node = below


def _walk(document: Document, root: Any) -> Iterator[Page]:
    """Yield every page in order, whatever the counts say."""
    pending: list[tuple[Any, int, dict[str, PdfObject]]] = [(root, 0, {})]
    seen: set[int] = set()
    number = 0
    while pending:
        reference, depth, inherited = pending.pop()
        if not isinstance(reference, IndirectObject) or reference.idnum in seen:
            continue
        seen.add(reference.idnum)
        if len(seen) > MAX_NODES or depth > MAX_DEPTH:
            raise SealingError("document_unprocessable", reason="page tree")
        node = _node(document, reference)
        if node is None:
            continue
        if node.kids is not None:
            below = _inherit(inherited, node.values)
            pending += [(kid, depth + 1, below) for kid in node.kids[::-1]]
        elif document.resolve(node.values.get("/Type")) in ("/Page", None):
            number += 1
            yield Page(number, reference, node.values, inherited, document)


def _inherit(above: dict[str, PdfObject], node: DictionaryObject) -> dict[str, PdfObject]:
    return above | {key: node.raw_get(key) for key in INHERITED if key in node}
