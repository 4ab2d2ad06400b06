"""Where on the page: pure geometry from what was asked for to a rectangle in the page's own space, and back.

Everything asked for is in points of the page as the reader sees it: inside the crop box, turned by
`/Rotate`, scaled by `/UserUnit` (ISO 32000-2, 14.11.2 and 7.7.3.3). What only the document knows,
the place of a word or a field, is looked up in `locate.py`.
"""

from dataclasses import dataclass
from typing import Literal

from workers.sealing.errors import SealingError
from workers.sealing.reading.pages import Page

Position = Literal[
    "top-left",
    "top",
    "top-right",
    "left",
    "center",
    "right",
    "bottom-left",
    "bottom",
    "bottom-right",
]
# Left, bottom, right, top.
Rectangle = tuple[float, float, float, float]

LETTER = (0.0, 0.0, 612.0, 792.0)
DEFAULT_SIDE = 80.0
# Boxes may touch the edge: rounding is not a reason to refuse.
TOLERANCE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a stamp is wanted: at x and y, at a named position, at a text, in a field, or wherever is room.

    `page` counts from 1. `x` and `y` are the stamp's corner named by `origin`, in points from that
    corner of the visible page. A `position` keeps `margin` points from the edges. The stamp's lower
    left corner stands at the lower left of the `match`-th `anchor`, moved by `offset_x` and
    `offset_y`. A side that is not given is 80 points; at a position it is less where the page is
    smaller, so that a stamp fits on every page.
    """

    # None: the last page, or, for an anchor, every page from the last to the first.
    page: int | Literal["last"] | None = None
    x: float | None = None
    y: float | None = None
    origin: Literal["bottom-left", "top-left"] = "bottom-left"
    position: Position | Literal["auto"] | None = None
    anchor: str | None = None
    match: int = 1
    offset_x: float = 0.0
    offset_y: float = 0.0
    # The full name of an empty signature field of the document.
    field: str | None = None
    width: float | None = None
    height: float | None = None
    margin: float = 24.0


@dataclass(frozen=True, slots=True)
class View:
    """A page as it is shown: the visible box in its own units, rotation, and points per unit."""

    left: float
    bottom: float
    right: float
    top: float
    rotation: int
    unit: float

    @property
    def size(self) -> tuple[float, float]:
        """Return width and height in points, as the reader sees them."""
        width, height = (self.right - self.left) * self.unit, (self.top - self.bottom) * self.unit
        return (height, width) if self.rotation in (90, 270) else (width, height)

    def seen(self, rectangle: Rectangle) -> Rectangle:
        """Turn a rectangle of the page's own space into left, bottom, right, top in the reader's points."""
        left, bottom, right, top = rectangle
        if self.rotation == 0:
            turned = left - self.left, bottom - self.bottom, right - self.left, top - self.bottom
        elif self.rotation == 90:
            turned = bottom - self.bottom, self.right - right, top - self.bottom, self.right - left
        elif self.rotation == 180:
            turned = self.right - right, self.top - top, self.right - left, self.top - bottom
        else:
            turned = self.top - top, left - self.left, self.top - bottom, right - self.left
        return (
            turned[0] * self.unit,
            turned[1] * self.unit,
            turned[2] * self.unit,
            turned[3] * self.unit,
        )


@dataclass(frozen=True, slots=True)
class Box:
    """A stamp's box on a page.

    `rectangle` is in the page's own units and space; `width` and `height` are in those units too, of
    the drawing as it stands upright; `rotation` is what it is turned against, 0, 90, 180 or 270 degrees
    clockwise: the page's, where a field does not say otherwise. `view` is the page as it is shown.
    """

    page: int
    rectangle: Rectangle
    width: float
    height: float
    rotation: int
    view: View

    @property
    def seen(self) -> Rectangle:
        """Return left, bottom, right, top in points from the lower left of the page as the reader sees it."""
        return self.view.seen(self.rectangle)

    @property
    def upright(self) -> tuple[int, int, int, int]:
        """Return the matrix that turns a drawing against the page's rotation."""
        return {
            0: (1, 0, 0, 1),
            90: (0, 1, -1, 0),
            180: (-1, 0, 0, -1),
            270: (0, -1, 1, 0),
        }[self.rotation]


def view(page: Page) -> View:
    """Return how a page is shown."""
    media = _box(page, "/MediaBox") or LETTER
    crop = _box(page, "/CropBox") or media
    seen = (
        max(media[0], crop[0]),
        max(media[1], crop[1]),
        min(media[2], crop[2]),
        min(media[3], crop[3]),
    )
    if seen[0] >= seen[2] or seen[1] >= seen[3]:
        # A crop box beside the page: viewers show the page.
        seen = media
    # Not inherited, unlike the others (ISO 32000-2, table 31).
    unit = page.get("/UserUnit")
    unit = float(unit) if isinstance(unit, int | float) and unit > 0 else 1.0
    rotate = page.get("/Rotate")
    rotation = int(rotate) % 360 if isinstance(rotate, int | float) else 0
    return View(*seen, rotation if rotation % 90 == 0 else 0, unit)


def box_on(placement: Placement, page: Page) -> Box:
    """Return the box that coordinates or a named position mean on a page.

    Raises:
        SealingError: `box_off_page`, with the page's size and the box in points.
    """
    shown = view(page)
    width, height = size_on(placement, shown)
    x, y = _position(placement, *shown.size, width, height)
    return box_at(page, x, y, width, height)


def box_at(page: Page, x: float, y: float, width: float, height: float) -> Box:
    """Return the box whose lower left corner stands at x and y; all in the reader's points.

    Raises:
        SealingError: `box_off_page`, with the page's size and the box in points.
    """
    shown = view(page)
    page_width, page_height = shown.size
    inside = (
        x >= -TOLERANCE
        and y >= -TOLERANCE
        and x + width <= page_width + TOLERANCE
        and y + height <= page_height + TOLERANCE
    )
    if not inside or width <= 0 or height <= 0:
        raise SealingError(
            "box_off_page",
            page=page.number,
            page_width=round(page_width, 2),
            page_height=round(page_height, 2),
            x=round(x, 2),
            y=round(y, 2),
            width=width,
            height=height,
        )
    unit = shown.unit
    rectangle = _in_page_space(shown, x / unit, y / unit, width / unit, height / unit)
    return Box(page.number, rectangle, width / unit, height / unit, shown.rotation, shown)


def size_on(placement: Placement, shown: View) -> tuple[float, float]:
    """Return width and height in points: what was asked for, else 80, less at a position on a small page."""
    default = DEFAULT_SIDE
    if placement.x is None and placement.anchor is None:
        default = min(DEFAULT_SIDE, *shown.size)
    return (
        default if placement.width is None else placement.width,
        default if placement.height is None else placement.height,
    )


def _position(
    placement: Placement, page_width: float, page_height: float, width: float, height: float
) -> tuple[float, float]:
    """Return the box's lower left corner."""
    if placement.x is not None and placement.y is not None:
        below = page_height - placement.y - height
        return placement.x, below if placement.origin == "top-left" else placement.y
    position = placement.position or "bottom-right"
    # On a page with little room the margin gives way first.
    across = max(0.0, min(placement.margin, (page_width - width) / 2))
    up = max(0.0, min(placement.margin, (page_height - height) / 2))
    x, y = (page_width - width) / 2, (page_height - height) / 2
    if position.endswith("left"):
        x = across
    elif position.endswith("right"):
        x = page_width - width - across
    if position.startswith("bottom"):
        y = up
    elif position.startswith("top"):
        y = page_height - height - up
    return x, y


def _in_page_space(shown: View, x: float, y: float, width: float, height: float) -> Rectangle:
    """Turn a box of the visible page back into the page's own space."""
    if shown.rotation == 0:
        left, bottom = shown.left + x, shown.bottom + y
    elif shown.rotation == 90:
        left, bottom = shown.right - y - height, shown.bottom + x
        width, height = height, width
    elif shown.rotation == 180:
        left, bottom = shown.right - x - width, shown.top - y - height
    else:
        left, bottom = shown.left + y, shown.top - x - width
        width, height = height, width
    return left, bottom, left + width, bottom + height


def _box(page: Page, key: str) -> Rectangle | None:
    """Return a page box with its corners in order, or None where it is missing or malformed."""
    return rectangle_of(page.numbers(key))


def rectangle_of(numbers: list[float] | None) -> Rectangle | None:
    """Return four numbers as a rectangle with its corners in order; None for anything else (7.9.5)."""
    if numbers is None or len(numbers) != 4:
        return None
    a, b, c, d = numbers
    return min(a, c), min(b, d), max(a, c), max(b, d)
