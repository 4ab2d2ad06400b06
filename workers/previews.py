"""What a stamp is going to look like, and where: pages with the stamp on them, unsigned, and its box.

Every placement is resolved as sealing does it, so that what a preview shows is what a job does, and
what sealing would refuse is refused. A client may send the box back as x, y, width and height.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import cycle, islice

from pypdfium2 import PdfDocument

from workers import sealing
from workers.sealing import Box, Design, Stamp
from workers.sealing.placing import pdfium
from workers.sealing.reading.limits import Budget

# The longer side of a picture, in pixels.
LONGEST_SIDE = 1200
# Small pages are not blown up beyond this.
MAX_DPI = 150.0
# Where a stamp says its serial number and its code holds an address, a preview says what it is.
MARK = "PRATINJAU-PREVIEW-"


@dataclass(frozen=True, slots=True)
class PreviewBox:
    """A stamp's box: points from the lower left corner of the page as the reader sees it."""

    page: int
    x: float
    y: float
    width: float
    height: float
    page_width: float
    page_height: float


@dataclass(frozen=True, slots=True)
class PagePicture:
    """A page with stamps on it: a PNG, and how many of its pixels are an inch."""

    page: int
    png: bytes
    width: int
    height: int
    dpi: float


@dataclass(frozen=True, slots=True)
class Preview:
    """The boxes in the order of the stamps, and each page that has one, in order."""

    boxes: tuple[PreviewBox, ...]
    pages: tuple[PagePicture, ...]


def preview(
    document: bytes,
    stamps: Sequence[Stamp],
    *,
    design: Design | None = None,
    longest_side: int = LONGEST_SIDE,
) -> Preview:
    """Return what stamps would look like on a document.

    Nothing is signed and no key is needed. In place of serial numbers and codes the stamps say
    PRATINJAU and PREVIEW, whatever those given say, and SPECIMEN on any design: a picture of them
    cannot pass for a stamped page.

    Args:
        document: a PDF.
        stamps: what would be sealed; the length of a serial number shows, its text does not.
        design: an issuer's own; the built-in one when not given.
        longest_side: of each picture, in pixels.

    Raises:
        SealingError: as `sealing.seal` does, but for what a field asks of a signature.
    """
    drawn = sealing.draw(document, [_marked(stamp) for stamp in stamps], design=design)
    boxes = tuple(_as_seen(box) for box in drawn.boxes)
    on_pages = sorted({box.page: box for box in drawn.boxes}.items())
    pictures = pdfium.ask(
        drawn.bytes,
        lambda pdf: tuple(_picture(pdf, box, longest_side) for _, box in on_pages),
        budget=Budget(),
    )
    return Preview(boxes, pictures)


def _marked(stamp: Stamp) -> Stamp:
    """Return a stamp that says what it is, in as many letters."""
    mark = "".join(islice(cycle(MARK), len(stamp.serial)))
    return replace(stamp, serial=mark, qr_text=MARK.strip("-"), specimen=True)


def _as_seen(box: Box) -> PreviewBox:
    left, bottom, right, top = box.seen
    numbers = (left, bottom, right - left, top - bottom, *box.view.size)
    return PreviewBox(box.page, *(round(number, 3) for number in numbers))


def _picture(pdf: PdfDocument, box: Box, longest_side: int) -> PagePicture:
    width, height = box.view.size
    dpi = min(MAX_DPI, 72 * longest_side / max(width, height))
    page = pdfium.page(pdf, box.page, box.view)
    # pdfium measures in the page's own units.
    scale = dpi / 72 * width / page.get_width()
    picture = page.render(scale=scale).to_pil()
    out = BytesIO()
    picture.save(out, "PNG", compress_level=3)
    return PagePicture(box.page, out.getvalue(), picture.width, picture.height, round(dpi, 3))
