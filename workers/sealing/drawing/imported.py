"""A page and all that it needs, as objects that can be put into other documents.

Also looks for what PDF/A forbids in them.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pypdf import PageObject
from pypdf.generic import (
    ArrayObject,
    ContentStream,
    DictionaryObject,
    IndirectObject,
    NullObject,
    StreamObject,
)

from workers.sealing.errors import DesignError
from workers.sealing.revision import serialise

_MAX_OBJECTS = 500
_MAX_DEPTH = 60
# What ties an object to the file that it comes from, and is not seen.
_LEFT_OUT = {
    "/StructParent",
    "/StructParents",
    "/Metadata",
    "/PieceInfo",
    "/LastModified",
    "/Length",
}
_FOREIGN = {"/Catalog", "/Pages", "/Page"}
_DEVICE_COLOURS = {b"g", b"G", b"rg", b"RG", b"k", b"K"}
_DEVICE_SPACES = {"/DeviceGray", "/DeviceRGB", "/DeviceCMYK"}


@dataclass(frozen=True, slots=True)
class Imported:
    """An object of a design: its text in pieces, and which objects are named between them."""

    pieces: tuple[bytes, ...]
    references: tuple[int, ...]

    def numbered(self, numbers: list[int]) -> bytes:
        """Return the text with the numbers that the objects have in a document."""
        out = [self.pieces[0]]
        for reference, piece in zip(self.references, self.pieces[1:], strict=True):
            out += (b"%d 0 R" % numbers[reference], piece)
        return b"".join(out)


class ImportedPage:
    """Collects what a page shows, and all that it needs, as objects that name one another by place."""

    def __init__(self, page: PageObject, box: tuple[float, float, float, float]) -> None:
        """Take the page, and what of it is seen: left, bottom, right, top."""
        self.remarks: set[str] = set()
        self._places: dict[tuple[int, int], int] = {}
        self._found: list[Any] = []
        self._ground = self._form(page, box)

    def objects(self) -> Iterator[Imported]:
        """Return the objects, the page's form first; looking at one finds others."""
        yield self._ground
        done = 0
        while done < len(self._found):
            yield self._object(self._found[done])
            done += 1

    def _form(self, page: PageObject, box: tuple[float, float, float, float]) -> Imported:
        """Return the page as a form XObject (ISO 32000-2, 8.10)."""
        contents = page.get_contents()
        content = b"" if contents is None else contents.get_data()
        left, bottom, right, top = box
        resources = page.get("/Resources") or DictionaryObject()
        self._look_at_content(content)
        out: list[bytes | int] = [
            b"<</Type/XObject/Subtype/Form/BBox[%.4f %.4f %.4f %.4f]/Matrix[1 0 0 1 %.4f %.4f]"
            % (left, bottom, right, top, -left, -bottom)
        ]
        if "/Group" in page:
            out.append(b"/Group")
            self._write(page.raw_get("/Group"), out, 0)
        out.append(b"/Resources")
        self._write(resources, out, 0)
        packed = zlib.compress(content, 9)
        out.append(b"/Filter/FlateDecode/Length %d>>stream\n%b\nendstream" % (len(packed), packed))
        return _pieces(out)

    def _object(self, value: Any) -> Imported:
        out: list[bytes | int] = []
        self._write(value, out, 0)
        return _pieces(out)

    def _write(self, value: Any, out: list[bytes | int], depth: int) -> None:
        """Write a value; a whole number in `out` stands for a reference to an object of that place."""
        if depth > _MAX_DEPTH:
            raise DesignError("its objects are nested too deeply")
        if isinstance(value, IndirectObject):
            out.append(self._place(value))
        elif isinstance(value, DictionaryObject):
            self._look_at(value)
            out.append(b"<<")
            for key in value:
                if key not in _LEFT_OUT:
                    out.append(serialise(key) + b" ")
                    self._write(value.raw_get(key), out, depth + 1)
            if isinstance(value, StreamObject):
                data = value._data
                out.append(b"/Length %d>>stream\n%b\nendstream" % (len(data), data))
            else:
                out.append(b">>")
        elif isinstance(value, ArrayObject):
            out.append(b"[")
            for each in value:
                self._write(each, out, depth + 1)
                out.append(b" ")
            out.append(b"]")
        else:
            self._look_at_space(value)
            out.append(serialise(value))

    def _place(self, reference: IndirectObject) -> int:
        key = (reference.idnum, reference.generation)
        if key not in self._places:
            found = reference.get_object()
            if isinstance(found, DictionaryObject) and found.get("/Type") in _FOREIGN:
                raise DesignError("what it draws refers to pages of its file")
            if len(self._found) == _MAX_OBJECTS:
                raise DesignError(f"it needs more than {_MAX_OBJECTS} objects")
            self._found.append(NullObject() if found is None else found)
            # The form itself is at place 0.
            self._places[key] = len(self._found)
        return self._places[key]

    def _look_at(self, value: DictionaryObject) -> None:
        """Remark on what PDF/A forbids (ISO 19005-1, 6.2 to 6.4)."""
        modes = value.get("/BM", "/Normal")
        if (
            value.get("/S") == "/Transparency"
            or value.get("/SMask", "/None") != "/None"
            or any(value.get(key, 1) != 1 for key in ("/ca", "/CA") if _is_state(value))
            or (_is_state(value) and modes not in ("/Normal", "/Compatible"))
        ):
            self.remarks.add("it is transparent in places, which PDF/A-1 forbids")
        if value.get("/Type") == "/FontDescriptor" and not {
            "/FontFile",
            "/FontFile2",
            "/FontFile3",
        } & set(value):
            self.remarks.add("a font is not embedded, which PDF/A forbids")
        if value.get("/Type") == "/Font" and not (
            {"/FontDescriptor", "/DescendantFonts", "/CharProcs"} & set(value)
        ):
            self.remarks.add("a font is not embedded, which PDF/A forbids")
        if value.get("/Subtype") == "/Form" and isinstance(value, StreamObject):
            self._look_at_content(value.get_data())

    def _look_at_content(self, content: bytes) -> None:
        stream = ContentStream(None, None)
        stream.set_data(content)
        if _DEVICE_COLOURS & {operator for _, operator in stream.operations}:
            self._remark_on_colour()

    def _look_at_space(self, value: Any) -> None:
        if isinstance(value, str) and value in _DEVICE_SPACES:
            self._remark_on_colour()

    def _remark_on_colour(self) -> None:
        self.remarks.add(
            "it uses device colours, which PDF/A allows only where the document's output intent fits"
        )


def _is_state(value: DictionaryObject) -> bool:
    """Say whether a dictionary is a graphics state (8.4.5); annotations have /CA and /BM too."""
    return value.get("/Type") == "/ExtGState" or bool({"/ca", "/CA", "/BM"} & set(value))


def _pieces(out: list[bytes | int]) -> Imported:
    """Join what stands between references."""
    pieces: list[bytes] = [b""]
    references: list[int] = []
    for part in out:
        if isinstance(part, int):
            references.append(part)
            pieces.append(b"")
        else:
            pieces[-1] += part
    return Imported(tuple(pieces), tuple(references))
