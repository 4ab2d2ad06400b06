"""An empty area near the end of a page's text, where a stamp covers nothing.

The page is drawn small and grey, and each row of its pixels becomes one integer, a bit for a pixel
that is not paper. Where a stamp has room then takes shifts and ORs of whole rows: some hundred
thousand pixels in about a millisecond, without a library for arrays.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image
from pypdfium2 import PdfDocument, PdfPage, raw

from workers.sealing.errors import SealingError
from workers.sealing.placing import pdfium, text
from workers.sealing.placing.placement import Box, Placement, Rectangle, box_at, size_on, view
from workers.sealing.reading import pages
from workers.sealing.reading.document import Document
from workers.sealing.reading.pages import Page

# Pixels a point: enough for the dot of an i to leave a trace.
_SCALE = 2 / 3
_MAX_PIXELS = 1_000_000
# Kept clear around the stamp, in points.
AIR = 5.0
# How far a pixel's brightness may be from the paper's: at least, and on a noisy scan at most.
_CLEAN, _NOISY = 6, 48
# Levels that count as one brightness where the paper's is looked for.
_NEAR = 4
# What it is worth to stand below the end of the text rather than beside or above it, in points.
_BELOW = 150.0
# Annotations looked at on one page.
_MAX_ANNOTATIONS = 2_000
# Hidden and NoView (ISO 32000-2, 12.5.3).
_UNSEEN = 2 | 32


@dataclass(frozen=True, slots=True)
class Ink:
    """A page as rows of pixels from the top: bit 0 of each is the rightmost one, set where it is not paper.

    `across` and `down` are pixels a point.
    """

    rows: list[int]
    width: int
    across: float
    down: float

    @property
    def lowest(self) -> tuple[float, float] | None:
        """Return the lower right corner of the lowest ink, in pixels from the upper left, or None."""
        for down in range(len(self.rows) - 1, -1, -1):
            if self.rows[down]:
                lowest_bit = (self.rows[down] & -self.rows[down]).bit_length() - 1
                return float(self.width - lowest_bit), float(down + 1)
        return None

    def cover(self, left: float, top: float, right: float, bottom: float) -> None:
        """Count a rectangle as not empty; pixels from the upper left."""
        begin, stop = max(0, math.floor(left)), min(self.width, math.ceil(right))
        if begin < stop:
            bits = ((1 << (stop - begin)) - 1) << (self.width - stop)
            for down in range(max(0, math.floor(top)), min(len(self.rows), math.ceil(bottom))):
                self.rows[down] |= bits


def find(document: Document, placement: Placement, taken: Sequence[Box]) -> tuple[Page, Box]:
    """Return the page, and the empty box nearest to the end of its text, rather below it than beside it.

    Args:
        document: the document.
        placement: says the page (the last unless given), the size, and the margin to be kept.
        taken: boxes that are not empty any more.

    Raises:
        SealingError: `no_room`, `page_out_of_range`, `document_unreadable`.
    """
    page = pages.find(document, placement.page or "last")
    shown = view(page)
    width, height = size_on(placement, shown)
    page_height = shown.size[1]
    last = page.number if placement.page in (None, "last") else pages.find(document, "last").number
    ink, end, covered = pdfium.ask(
        document.data, lambda pdf: _look(pdf, page), budget=document.budget, pages=last
    )
    target = ink.lowest
    if end is not None:
        target = end[0] * ink.across, (page_height - end[1]) * ink.down
    covered += [box.seen for box in taken if box.page == page.number]
    for left, bottom, right, top in covered:
        ink.cover(
            left * ink.across,
            (page_height - top) * ink.down,
            right * ink.across,
            (page_height - bottom) * ink.down,
        )
    found = _nearest(ink, (width, height), placement.margin, target)
    if found is None:
        raise SealingError(
            "no_room", page=page.number, width=width, height=height, margin=placement.margin
        )
    x, y = found[0] / ink.across, page_height - found[1] / ink.down - height
    return page, box_at(page, x, y, width, height)


def _look(pdf: PdfDocument, page: Page) -> tuple[Ink, tuple[float, float] | None, list[Rectangle]]:
    """Return a page's ink, where its text ends, and what its annotations cover, in the reader's points."""
    shown = view(page)
    drawn = pdfium.page(pdf, page.number, shown)
    covered = [shown.seen(each) for each in _annotations(drawn)]
    return _ink(drawn, *shown.size), text.end(drawn.get_textpage(), page), covered


def _ink(drawn: PdfPage, page_width: float, page_height: float) -> Ink:
    """Draw a page, and tell its paper from what is on it."""
    scale = min(_SCALE, math.sqrt(_MAX_PIXELS / max(1.0, page_width * page_height)))
    # pdfium knows no /UserUnit: its points are the page's own units.
    own = scale * page_width / drawn.get_width()
    picture: Image.Image = drawn.render(scale=own, grayscale=True).to_pil()
    paper, tolerance = _paper(picture.histogram())
    marks = [0 if abs(level - paper) <= tolerance else 255 for level in range(256)]
    packed = picture.point(marks, "1").tobytes()
    stride = (picture.width + 7) // 8
    # Rows are padded to whole bytes on the right.
    padding = 8 * stride - picture.width
    rows = [
        int.from_bytes(packed[start : start + stride]) >> padding
        for start in range(0, len(packed), stride)
    ]
    return Ink(rows, picture.width, picture.width / page_width, picture.height / page_height)


def _paper(histogram: Sequence[int]) -> tuple[int, int]:
    """Return the paper's brightness, and how far a pixel may be from it and still be paper.

    Paper is what most of a page is, give or take some levels. Nothing is printed brighter than paper,
    so what is brighter says how noisy a scan is.
    """
    around = [sum(histogram[max(0, level - _NEAR) : level + _NEAR + 1]) for level in range(256)]
    middle = around.index(max(around))
    nearby = range(max(0, middle - _NEAR), min(256, middle + _NEAR + 1))
    paper = max(nearby, key=lambda level: histogram[level])
    brighter = sum(histogram[paper + 1 :])
    noise, rest = 0, brighter
    while rest > brighter * 0.02 and paper + noise < 255:
        noise += 1
        rest -= histogram[paper + noise]
    return paper, min(_NOISY, _CLEAN + 2 * noise)


def _annotations(drawn: PdfPage) -> Iterator[Rectangle]:
    """Yield where annotations lie, in the page's own space: an empty field shows no ink, but is not room."""
    count = min(raw.FPDFPage_GetAnnotCount(drawn), _MAX_ANNOTATIONS)
    for index in range(count):
        annotation = raw.FPDFPage_GetAnnot(drawn, index)
        rectangle = raw.FS_RECTF()
        popup = raw.FPDFAnnot_GetSubtype(annotation) == raw.FPDF_ANNOT_POPUP
        seen = not raw.FPDFAnnot_GetFlags(annotation) & _UNSEEN
        if seen and not popup and raw.FPDFAnnot_GetRect(annotation, rectangle):
            yield rectangle.left, rectangle.bottom, rectangle.right, rectangle.top
        raw.FPDFPage_CloseAnnot(annotation)


def _nearest(
    ink: Ink,
    size: tuple[float, float],
    margin: float,
    target: tuple[float, float] | None,
) -> tuple[int, int] | None:
    """Return the upper left pixel of the free box nearest to a point, or None.

    Boxes below the point are preferred. Lengths are points, the target is pixels from the upper left;
    None is the lower right corner, where an empty page is stamped.
    """
    wide, high = math.ceil(size[0] * ink.across), math.ceil(size[1] * ink.down)
    # On a page with little room the margin gives way first.
    first = (
        min(math.ceil(margin * ink.across), (ink.width - wide) // 2),
        min(math.ceil(margin * ink.down), (len(ink.rows) - high) // 2),
    )
    last = ink.width - wide - first[0], len(ink.rows) - high - first[1]
    if first[0] < 0 or first[1] < 0:
        return None
    allowed = ((1 << (last[0] - first[0] + 1)) - 1) << (ink.width - 1 - last[0])
    blocked = _blocked(ink, wide, high)
    x, y = target or (float(ink.width), float(len(ink.rows)))
    wanted = min(max(round(x - wide / 2), 0), ink.width - 1)
    best: tuple[float, int, int] | None = None
    for top in range(first[1], last[1] + 1):
        free = allowed & ~blocked[top]
        if not free:
            continue
        left = _nearest_column(free, wanted, ink.width)
        away = max(left - x, x - left - wide, 0.0), max(top - y, y - top - high, 0.0)
        above = _BELOW * ink.down if target is not None and top < y else 0.0
        candidate = (math.hypot(*away) + above, top, left)
        best = candidate if best is None else min(best, candidate)
    return None if best is None else (best[2], best[1])


def _blocked(ink: Ink, wide: int, high: int) -> list[int]:
    """Return the rows in which a bit says that a box with its upper left corner there meets ink."""
    around, above = math.ceil(AIR * ink.across), math.ceil(AIR * ink.down)
    everywhere = (1 << ink.width) - 1
    rows = []
    for row in ink.rows:
        # A box meets ink up to `wide` pixels to the right of its corner, and air on both sides of that.
        leftwards = _spread(row, wide + around, 1)
        rows.append((leftwards | _spread(row, around + 1, -1)) & everywhere)
    # The same from row to row, by doubling.
    rows = [0] * above + rows + [0] * (high + above)
    reach = 1
    while reach < high + 2 * above:
        step = min(reach, high + 2 * above - reach)
        rows = [row | later for row, later in zip(rows, rows[step:], strict=False)]
        reach += step
    return rows


def _spread(row: int, length: int, direction: int) -> int:
    """Return a row with every bit drawn out to `length` bits, to the left (1) or to the right (-1)."""
    reach = 1
    while reach < length:
        step = min(reach, length - reach)
        row |= row << step if direction > 0 else row >> step
        reach += step
    return row


def _nearest_column(free: int, wanted: int, width: int) -> int:
    """Return the column of the set bit that is nearest to a wanted one."""
    at = width - 1 - wanted
    left, right = free >> at, free & ((1 << at) - 1)
    to_left = (left & -left).bit_length() - 1 if left else width
    to_right = at - (right.bit_length() - 1) if right else width
    return wanted - to_left if to_left <= to_right else wanted + to_right
