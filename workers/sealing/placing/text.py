"""Where words stand on a page: the anchors that stamps are placed by, and the end of the text.

Words are compared as readers take them: whatever case, ligatures and widths of letters they are set
in, and whatever white space, line ends included, is between them.
"""

import ctypes
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pypdfium2 import PdfDocument, raw

from workers.sealing.errors import SealingError
from workers.sealing.placing import pdfium
from workers.sealing.placing.placement import Box, Placement, Rectangle, View, box_at, size_on, view
from workers.sealing.reading import pages
from workers.sealing.reading.document import Document
from workers.sealing.reading.pages import Page

# How far one anchor is searched for: some seconds' work at the most.
MAX_PAGES = 500
MAX_CHARACTERS = 1_000_000
# What ends a page's text is looked for among so many of its last characters.
_LAST_CHARACTERS = 4_000
# Page numbers and letterheads stand in the outer three quarters of an inch, in points.
_OUTER = 54.0
# Further up, in so much of a page's height, they are told by having no letter, or as much space above.
_LOW = 1 / 6


@dataclass(frozen=True, slots=True)
class _Match:
    """An anchor that was found: its box in the reader's points."""

    box: Rectangle

    @property
    def order(self) -> tuple[float, float]:
        """Return what sorts matches as they are read: lines from the top, and along a line."""
        return -self.box[1], self.box[0]


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of text: where it ends, in the reader's points, and whether it has a letter."""

    right: float
    bottom: float
    top: float
    has_letter: bool

    @property
    def corner(self) -> tuple[float, float]:
        """Return the lower right corner."""
        return self.right, self.bottom


def find(document: Document, placement: Placement) -> tuple[Page, Box]:
    """Return the page of a placement's anchor, and the box that stands on the anchor's lower left corner.

    Pages are searched from the last to the first; on one page matches count from the top.

    Raises:
        SealingError: `anchor_not_found`, with how many were found; `box_off_page`;
            `page_out_of_range`, `document_unreadable`.
    """
    last = pages.find(document, "last").number
    numbers: Sequence[int] = range(last, 0, -1)
    if placement.page is not None:
        numbers = (pages.find(document, placement.page).number,)
    number, left, bottom = pdfium.ask(
        document.data,
        lambda pdf: _search(pdf, document, placement, numbers),
        budget=document.budget,
        pages=last,
    )
    page = pages.find(document, number)
    width, height = size_on(placement, view(page))
    x, y = left + placement.offset_x, bottom + placement.offset_y
    return page, box_at(page, x, y, width, height)


def _search(
    pdf: PdfDocument, document: Document, placement: Placement, numbers: Sequence[int]
) -> tuple[int, float, float]:
    """Return the page of the match that is wanted, and its lower left corner in the reader's points.

    Raises:
        SealingError: `anchor_not_found`.
    """
    wanted = _folded(placement.anchor or "")[0].strip()
    seen, characters, searched = 0, 0, 0
    for number in numbers:
        if searched == MAX_PAGES or characters > MAX_CHARACTERS or not wanted:
            break
        searched += 1
        text_page = pdf[number - 1].get_textpage()
        characters += text_page.count_chars()
        if characters > MAX_CHARACTERS or wanted not in _folded(text_page.get_text_range())[0]:
            # Most pages end here, at a fraction of what asking for each character costs.
            continue
        matches = _matches(text_page, wanted, pages.find(document, number))
        if seen + len(matches) >= placement.match:
            left, bottom, *_ = matches[placement.match - seen - 1].box
            return number, left, bottom
        seen += len(matches)
    raise SealingError(
        "anchor_not_found",
        anchor=placement.anchor,
        match=placement.match,
        found=seen,
        pages_searched=searched,
    )


def end(text_page: Any, page: Page) -> tuple[float, float] | None:
    """Return the lower right corner of the last line of a page's text, in the reader's points.

    A footer is not the text's: what stands in the outer margin, and far down a line without a letter,
    and lines with much space above them. They end the text only where there is no other; None for a
    page that says nothing.
    """
    shown = view(page)
    height = shown.size[1]
    aside, last, below = None, None, None
    for line in _lines_from_the_end(text_page, shown):
        inside = line.bottom >= _OUTER and line.top <= height - _OUTER
        if not inside or not (line.has_letter or line.bottom > height * _LOW):
            aside = aside or line.corner
            continue
        if below is not None and line.bottom - below.top > height * _LOW:
            return line.corner
        last, below = last or line.corner, line
        if line.bottom > height * _LOW:
            break
    return last or aside


def _lines_from_the_end(text_page: Any, shown: View) -> Iterator[_Line]:
    """Yield the lines of a page, the last first; what is set off the visible page is left out."""
    line: _Line | None = None
    count = text_page.count_chars()
    for index in range(count - 1, max(-1, count - 1 - _LAST_CHARACTERS), -1):
        box = _character_box(text_page, index)
        if box is None or not _is_seen(seen := shown.seen(box), shown):
            continue
        _, bottom, right, top = seen
        is_letter = _character(text_page, index).isalpha()
        if line is not None and line.bottom <= (bottom + top) / 2 <= line.top:
            line = _Line(
                max(line.right, right),
                min(line.bottom, bottom),
                max(line.top, top),
                line.has_letter or is_letter,
            )
            continue
        if line is not None:
            yield line
        line = _Line(right, bottom, top, is_letter)
    if line is not None:
        yield line


def _is_seen(box: Rectangle, shown: View) -> bool:
    """Say whether a box in the reader's points is on the visible page, if only in part."""
    width, height = shown.size
    return box[2] > 0 and box[0] < width and box[3] > 0 and box[1] < height


def _matches(text_page: Any, wanted: str, page: Page) -> list[_Match]:
    """Return where a folded text stands on the visible page, in the order it is read."""
    count = text_page.count_chars()
    folded, origins = _folded(_character(text_page, index) for index in range(count))
    shown = view(page)
    found = []
    for start in _whole_words(folded, wanted):
        indexes = sorted(set(origins[start : start + len(wanted)]))
        boxes = [box for i in indexes if (box := _character_box(text_page, i)) is not None]
        if not boxes:
            continue
        box = shown.seen(_around(boxes))
        if _is_seen(box, shown):
            found.append(_Match(box))
    return _in_reading_order(found)


def _in_reading_order(matches: list[_Match]) -> list[_Match]:
    """Sort by lines: what overlaps by half of its height stands on one line, and runs to the right."""
    lines: list[list[_Match]] = []
    for match in sorted(matches, key=lambda each: each.order):
        _, bottom, _, top = match.box
        if lines and lines[-1][0].box[1] <= (bottom + top) / 2:
            lines[-1].append(match)
        else:
            lines.append([match])
    return [match for line in lines for match in sorted(line, key=lambda each: each.box[0])]


def _whole_words(text: str, wanted: str) -> Iterator[int]:
    """Yield where a phrase begins in a text, with no letter or digit going on at either end."""
    at = text.find(wanted)
    while at >= 0:
        after = at + len(wanted)
        begins = at == 0 or not (_is_word(wanted[0]) and _is_word(text[at - 1]))
        ends = after == len(text) or not (_is_word(wanted[-1]) and _is_word(text[after]))
        if begins and ends:
            yield at
        at = text.find(wanted, after if begins and ends else at + 1)


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_" or unicodedata.combining(character) > 0


def _folded(characters: Iterable[str]) -> tuple[str, list[int]]:
    """Return a text as it is compared, and for each of its characters which it came from."""
    pieces: list[str] = []
    origins: list[int] = []
    space = False
    for index, character in enumerate(characters):
        piece = _fold(character)
        if piece == " " and space:
            continue
        if piece:
            space = piece == " "
            pieces.append(piece)
            origins += [index] * len(piece)
    return "".join(pieces), origins


@lru_cache(maxsize=4096)
def _fold(character: str) -> str:
    """Return a character without its case, width and ligature; nothing for what is not to be seen."""
    if character.isspace():
        return " "
    if not character or unicodedata.category(character) in ("Cc", "Cf", "Cn", "Cs"):
        return ""
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())


def _character(text_page: Any, index: int) -> str:
    """Return a character; zero, where a font has no word for a glyph, and nonsense fold to nothing."""
    code = raw.FPDFText_GetUnicode(text_page, index)
    return chr(code) if code < 0x110000 else ""


def _character_box(text_page: Any, index: int) -> Rectangle | None:
    """Return the box of a character's ink in the page's own space; None for white space."""
    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    if not raw.FPDFText_GetCharBox(text_page, index, left, right, bottom, top):
        return None
    if left.value >= right.value or bottom.value >= top.value:
        return None
    return left.value, bottom.value, right.value, top.value


def _around(boxes: list[Rectangle]) -> Rectangle:
    lefts, bottoms, rights, tops = zip(*boxes, strict=True)
    return min(lefts), min(bottoms), max(rights), max(tops)
