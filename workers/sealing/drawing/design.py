"""An issuer's own stamp: a one-page PDF whose form fields say where serial, code, date and value go.

Read once per process with pypdf: the file is the issuer's own, and trusted as its key is. What the
page shows becomes a form XObject; it and all that it needs are serialised once, and only the numbers
of its objects are put in per document. The fields themselves are not drawn.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Self

from pypdf import PageObject, PdfReader

from workers.sealing.drawing.appearance import Layout, height_of_specimen
from workers.sealing.drawing.imported import Imported, ImportedPage
from workers.sealing.drawing.lettering import Area
from workers.sealing.errors import DesignError
from workers.sealing.revision import Revision

# A stamp is drawn on every document; more would be felt.
MAX_BYTES = 64 * 1024
_REQUIRED = ("serial", "qr")
_KNOWN = (*_REQUIRED, "date", "face_value")
# Modules of white around the code; scanners ask for four, and make do with two.
_QUIET = 2
# Of the design's shorter side: how high SPECIMEN must stand in test mode.
_LEAST_SPECIMEN = 0.05
# Of names in a form.
_MAX_DEPTH = 60


# Compared by identity: there is one a process.
@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """A design, ready to be put into documents.

    `remarks` says what PDF/A forbids in it (ISO 19005-1): documents that were PDF/A before are not any
    more when it is drawn on them.
    """

    layout: Layout
    remarks: tuple[str, ...]
    _objects: tuple[Imported, ...]

    @classmethod
    def load(cls, content: bytes) -> Self:
        """Read a design.

        Raises:
            DesignError: the file is no PDF of one page, is encrypted, lacks a place, or is too large.
        """
        try:
            page = _only_page(content)
            layout = _layout(page)
            imported = ImportedPage(page, _box(page))
            objects = tuple(imported.objects())
        except DesignError:
            raise
        except Exception as error:
            # pypdf raises whatever the damage leads to.
            raise DesignError(f"it cannot be read as a PDF ({error})") from error
        design = cls(layout, tuple(sorted(imported.remarks)), objects)
        if design.size > MAX_BYTES:
            raise DesignError(
                f"it takes {design.size} bytes, more than the {MAX_BYTES} that a stamp may add"
            )
        return design

    @property
    def size(self) -> int:
        """Return how many bytes the design adds to each document, without what a stamp itself adds."""
        return sum(sum(map(len, each.pieces)) for each in self._objects)

    def put(self, revision: Revision) -> int:
        """Put the design into a revision, once for all stamps, and return its form's number."""
        numbers = [revision.reserve() for _ in self._objects]
        for number, each in zip(numbers, self._objects, strict=True):
            revision.put(number, each.numbered(numbers))
        return numbers[0]


def _only_page(content: bytes) -> PageObject:
    reader = PdfReader(BytesIO(content))
    if reader.is_encrypted:
        raise DesignError("it is encrypted")
    if len(reader.pages) != 1:
        raise DesignError(f"it has {len(reader.pages)} pages instead of one")
    return reader.pages[0]


def _layout(page: PageObject) -> Layout:
    """Return where the page's fields say that things go."""
    if page.get("/Rotate", 0) % 360:
        raise DesignError("its page is turned (/Rotate); draw it upright instead")
    left, bottom, right, top = _box(page)
    width, height = right - left, top - bottom
    if min(width, height) < 1:
        raise DesignError("its page is less than a point wide or high")
    places: dict[str, Area] = {}
    for name, rectangle in _fields(page):
        if name not in _KNOWN:
            raise DesignError(f"its field '{name}' is none of {', '.join(_KNOWN)}")
        if name in places:
            raise DesignError(f"it has two fields '{name}'")
        places[name] = _area(name, rectangle, (left, bottom, right, top))
    for name in _REQUIRED:
        if name not in places:
            raise DesignError(f"it has no form field named '{name}' to say where that goes")
    return Layout(
        width=width,
        height=height,
        serial=places["serial"],
        code=places["qr"],
        quiet=_QUIET,
        date=places.get("date"),
        face_value=places.get("face_value"),
        specimen=_beside(places["qr"].square, width, height),
    )


def _box(page: PageObject) -> tuple[float, float, float, float]:
    box = page.cropbox
    left, right = sorted((float(box.left), float(box.right)))
    bottom, top = sorted((float(box.bottom), float(box.top)))
    return left, bottom, right, top


def _fields(page: PageObject) -> Iterator[tuple[str, list[float]]]:
    """Return name and rectangle of each form field on the page."""
    for reference in page.annotations or ():
        widget = reference.get_object()
        if widget.get("/Subtype") != "/Widget":
            continue
        field = widget
        for _ in range(_MAX_DEPTH):
            if "/T" in field or "/Parent" not in field:
                break
            field = field["/Parent"]
        yield str(field.get("/T", "")), [float(side) for side in widget["/Rect"]]


def _area(name: str, sides: list[float], page: tuple[float, float, float, float]) -> Area:
    left, right = sorted((sides[0], sides[2]))
    bottom, top = sorted((sides[1], sides[3]))
    if min(right - left, top - bottom) < 0.5:
        raise DesignError(f"its field '{name}' is less than half a point wide or high")
    slack = 0.01
    inside = (
        left >= page[0] - slack
        and bottom >= page[1] - slack
        and right <= page[2] + slack
        and top <= page[3] + slack
    )
    if not inside:
        raise DesignError(f"its field '{name}' leaves the page")
    return Area(left - page[0], bottom - page[1], right - left, top - bottom)


def _beside(code: Area, width: float, height: float) -> Area:
    """Return the largest strip beside the code, for SPECIMEN: the code must stay readable."""
    right, top = code.left + code.width, code.bottom + code.height
    strips = (
        (0.0, 0.0, code.left, height),
        (right, 0.0, width - right, height),
        (0.0, 0.0, width, code.bottom),
        (0.0, top, width, height - top),
    )
    margin = 0.1
    areas = [
        Area(x + w * margin, y + h * margin, w * (1 - 2 * margin), h * (1 - 2 * margin))
        for x, y, w, h in strips
        if min(w, h) > 0
    ]
    largest = max(areas, key=height_of_specimen, default=None)
    if largest is None or height_of_specimen(largest) < _LEAST_SPECIMEN * min(width, height):
        raise DesignError("its code leaves no room for the word SPECIMEN, which test mode draws")
    return largest
