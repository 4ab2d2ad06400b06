"""Stamps in the structure of a tagged document, so that a screen reader meets and describes them.

ISO 32000-2, 14.7.2 (structure hierarchy), 14.7.5.4 (finding structure elements from annotations),
7.9.7 (number trees). The trees of a long document list thousands of things: what has to change is
changed in the document's own words where that is safe, and parsed only where it is short. A tree that
is built in some other way is left alone; what the stamp is then stands in its annotation only.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from pypdf.generic import (
    ArrayObject,
    DictionaryObject,
    IndirectObject,
    NumberObject,
)

from workers.sealing.errors import SealingError
from workers.sealing.reading.document import Document
from workers.sealing.revision import Revision, changed, serialise

# What is parsed, and what is copied with a few words more, in bytes.
_MAX_PARSED = 16 * 1024
_MAX_COPIED = 256 * 1024

_GAP = rb"[\s\x00]*"
_REFERENCE = rb"\d{1,10}[\s\x00]+\d{1,5}[\s\x00]+R"
# A number tree of one node, holding nothing but keys, references, and arrays of references.
_FLAT = re.compile(rb"<<" + _GAP + rb"/Nums" + _GAP + rb"\[([\d\s\x00R\[\]]*)\]" + _GAP + rb">>")
_LAST_PAIR = re.compile(rb"(\d{1,10})[\s\x00]+(?:" + _REFERENCE + rb"|\[[^\[\]]*\])" + _GAP + rb"$")
_LIMITS = re.compile(
    rb"/Limits" + _GAP + rb"\[" + _GAP + rb"\d+[\s\x00]+(\d{1,10})" + _GAP + rb"\]"
)
_IS_DOCUMENT = re.compile(rb"/S" + _GAP + rb"/Document\b")
_KIDS = re.compile(rb"/K(?![A-Za-z])")
_KIDS_ARRAY = re.compile(rb"/K" + _GAP + rb"\[[^\[\]()<>]*\]")
_ONE_KID = re.compile(rb"/K[\s\x00]+(" + _REFERENCE + rb"|\d{1,10}(?![\s\x00\d]*R))")


@dataclass(frozen=True, slots=True)
class _Tree:
    """What of a document's structure is going to change."""

    root: IndirectObject
    values: DictionaryObject
    # The next number of the parent tree, and the tree itself.
    key: int
    parents: IndirectObject | None
    flat: bytes | None
    # The element that all others are under, in its own words, if there is one.
    top: IndirectObject | None
    top_text: bytes


@dataclass(slots=True)
class Tags:
    """Collects the elements of one revision's annotations and writes them.

    Example:
        tags = Tags.of(source, revision)
        number = tags.add(annotation, page, b"/Form", description)   # None: not a tagged document
        tags.write()
    """

    _source: Document
    _revision: Revision
    _tree: _Tree | None
    _elements: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, source: Document, revision: Revision) -> "Tags":
        """Read what is there."""
        try:
            tree = _read(source)
        except SealingError:
            # The structure is not needed to show the document, nor to sign it.
            tree = None
        return cls(source, revision, tree)

    def add(
        self, annotation: int, page: IndirectObject, role: bytes, described: bytes
    ) -> int | None:
        """Make the element of an annotation; return its /StructParent, or None where there is no tree.

        Args:
            annotation: the annotation's object number.
            page: the page that it is on.
            role: the element's type, such as `/Form`.
            described: a text string that says what can be seen.
        """
        tree = self._tree
        if tree is None:
            return None
        number = self._revision.reserve()
        above = tree.top or tree.root
        self._revision.put(
            number,
            b"<</Type/StructElem/S%s/P %s/Pg %s/Alt%s/K<</Type/OBJR/Obj %d 0 R/Pg %s>>>>"
            % (role, serialise(above), serialise(page), described, annotation, serialise(page)),
        )
        self._elements.append(number)
        return tree.key + len(self._elements) - 1

    def write(self) -> bool:
        """Put the changed parts of the tree into the revision; say whether there are any."""
        tree = self._tree
        if tree is None or not self._elements:
            return False
        entries: dict[str, Any] = {
            "/ParentTreeNextKey": NumberObject(tree.key + len(self._elements)),
            "/ParentTree": self._parent_tree(tree),
        }
        references = [IndirectObject(number, 0, self._source) for number in self._elements]
        if tree.top is None:
            entries["/K"] = ArrayObject([*_kids(self._source, tree.values), *references])
        else:
            text = _with_kids(tree.top_text, b" ".join(map(serialise, references)))
            self._revision.rewrite(tree.top, text)
        self._revision.replace(tree.root, changed(tree.values, entries))
        return True

    def _parent_tree(self, tree: _Tree) -> IndirectObject:
        """Write the number tree with our keys behind the others; return its root."""
        pairs = b" ".join(b"%d %d 0 R" % pair for pair in enumerate(self._elements, start=tree.key))
        root = tree.parents or IndirectObject(self._revision.reserve(), 0, self._source)
        if tree.flat is not None:
            text = b"<</Nums[%s %s]>>" % (tree.flat, pairs)
            self._revision.rewrite(root, text)
            return root
        # A node of our own beside the others, whose keys are all smaller.
        leaf = self._revision.reserve()
        last = tree.key + len(self._elements) - 1
        self._revision.put(leaf, b"<</Limits[%d %d]/Nums[%s]>>" % (tree.key, last, pairs))
        values = self._source.dictionary(root, "parent tree")
        kids = self._source.resolve(values.get("/Kids"))
        more = ArrayObject([*kids, IndirectObject(leaf, 0, self._source)])
        self._revision.replace(root, changed(values, {"/Kids": more}))
        return root


def _read(source: Document) -> _Tree | None:
    """Return the parts of a structure tree that we know how to add to; None for any other."""
    root = source.root.raw_get("/StructTreeRoot") if "/StructTreeRoot" in source.root else None
    if not isinstance(root, IndirectObject) or _text(source, root, _MAX_PARSED) is None:
        return None
    values = source.resolve(root)
    if not isinstance(values, DictionaryObject):
        return None
    raw = values.raw_get("/ParentTree") if "/ParentTree" in values else None
    parents = raw if isinstance(raw, IndirectObject) else None
    found = _last_key(source, raw)
    if found is None:
        return None
    last, flat = found
    following = source.resolve(values.get("/ParentTreeNextKey"))
    key = max(last + 1, following if isinstance(following, int) else 0)
    kids = _kids(source, values)
    top = kids[0] if len(kids) == 1 and isinstance(kids[0], IndirectObject) else None
    text = _text(source, top, _MAX_COPIED) if top is not None else None
    if text is None or not _IS_DOCUMENT.search(text) or not _with_kids(text, b""):
        top, text = None, b""
    return _Tree(root, values, key, parents, flat, top, text)


def _last_key(source: Document, raw: Any) -> tuple[int, bytes | None] | None:
    """Return a number tree's greatest key, -1 where it is empty, and its pairs where it is one node."""
    if raw is None:
        return -1, b""
    text = _text(source, raw, _MAX_COPIED) if isinstance(raw, IndirectObject) else serialise(raw)
    if text is None:
        return None
    flat = _FLAT.fullmatch(text)
    if flat is not None:
        if not flat[1].strip():
            return -1, b""
        pair = _LAST_PAIR.search(flat[1])
        return None if pair is None else (int(pair[1]), flat[1])
    if not isinstance(raw, IndirectObject) or len(text) > _MAX_PARSED:
        return None
    tree = source.resolve(raw)
    kids = source.resolve(tree.get("/Kids")) if isinstance(tree, DictionaryObject) else None
    if not isinstance(kids, ArrayObject) or not kids or "/Nums" in tree:
        return None
    below = _text(source, kids[-1], _MAX_COPIED)
    limits = _LIMITS.search(below or b"")
    return None if limits is None else (int(limits[1]), None)


def _kids(source: Document, values: DictionaryObject) -> list[Any]:
    """Return what is below the root: one element or an array of them."""
    raw = values.raw_get("/K") if "/K" in values else None
    kids = source.resolve(raw)
    if isinstance(kids, ArrayObject):
        return list(kids)
    return [] if kids is None else [raw]


def _with_kids(text: bytes, added: bytes) -> bytes:
    """Return an element's text with more kids behind its own; nothing where that is not safe to do."""
    places = list(_KIDS.finditer(text))
    if not places and text.endswith(b">>"):
        return text[:-2] + b"/K[" + added + b"]>>"
    if len(places) != 1:
        return b""
    start = places[0].start()
    array = _KIDS_ARRAY.match(text, start)
    if array is not None:
        return text[: array.end() - 1] + b" " + added + text[array.end() - 1 :]
    one = _ONE_KID.match(text, start)
    if one is None:
        return b""
    return text[:start] + b"/K[" + one[1] + b" " + added + b"]" + text[one.end() :]


def _text(source: Document, reference: Any, longest: int) -> bytes | None:
    """Return an object's own text, unparsed; None where it is missing or too long."""
    if not isinstance(reference, IndirectObject):
        return None
    found = source.source(reference.idnum)
    if found is None or found.end - found.start > longest:
        return None
    return found.content[found.start : found.end].strip(b"\x00\t\n\x0c\r ")
