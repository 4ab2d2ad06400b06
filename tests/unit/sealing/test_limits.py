"""Documents that ask for too much, or of which only half can be read: refused, and at once."""

import logging
import time
import zlib

import pypdfium2
import pytest

from tests.unit.sealing.conftest import Seal
from tests.unit.sealing.documents import CONTENT, FONT, classic, objects, streamed
from workers.sealing import SealingError

SECONDS = 2.0
PAGES = 20_000


def chain_of_pages(depth: int) -> bytes:
    made = {1: b"<</Type/Catalog/Pages 2 0 R>>"}
    for number in range(2, 2 + depth):
        made[number] = b"<</Type/Pages/Count 1/Kids[%d 0 R]>>" % (number + 1)
    made[2 + depth] = b"<</Type/Page/Parent %d 0 R/MediaBox[0 0 595 842]>>" % (1 + depth)
    return classic(made)


def cross_reference_inflating_to(size: int, *, predictor: bool) -> bytes:
    document = streamed(objects())
    start = document.rindex(b"/Type/XRef")
    head, _, rest = document[start:].partition(b"stream\n")
    rows = zlib.decompress(rest[: rest.rindex(b"\nendstream")]) + bytes(size)
    body = zlib.compress(rows, 9)
    head = head[: head.index(b"/Length")] + b"/Length %d" % len(body)
    head += b"/DecodeParms<</Predictor 15/Columns 6>>>>" if predictor else b">>"
    tail = rest[rest.rindex(b"\nendstream") :]
    return document[:start] + head + b"stream\n" + body + tail


def with_page(entries: bytes) -> bytes:
    return classic(objects(page=entries))


GREEDY = {
    "a string of 5 MB with escapes that are none": with_page(b"/X(" + b"a\\" * 2_500_000 + b"))"),
    "a string of 5 MB": with_page(b"/X(" + b"a" * 5_000_000 + b")"),
    "a string that never ends": with_page(b"/X(" + b"a" * 5_000_000),
    "hexadecimals of 5 MB": with_page(b"/X<" + b"a" * 5_000_000 + b">"),
    "5 MB of blanks": with_page(b" " * 5_000_000),
    "5 MB of comments": with_page(b"%a\n" * 1_700_000),
    "a million numbers": with_page(b"/X[" + b"1 " * 1_000_000 + b"]"),
    "100,000 arrays in each other": with_page(b"/X" + b"[" * 100_000),
    "100,000 dictionaries in each other": with_page(b"/X" + b"<</a" * 100_000),
    "a tree of pages 5,000 deep": chain_of_pages(5000),
    "a million kids and a count that lies": classic(
        objects() | {2: b"<</Type/Pages/Count 5/Kids[%s]>>" % (b"77 0 R " * 1_000_000)}
    ),
    "20,000 pages and a count that lies": classic(objects(count=PAGES)).replace(
        b"/Count %d" % PAGES, b"/Count %d" % (PAGES + 1)
    ),
    "a cross-reference of 60 MB": cross_reference_inflating_to(60_000_000, predictor=False),
    "a predicted one of 60 MB": cross_reference_inflating_to(60_000_000, predictor=True),
    "a predicted one of 20 MB": cross_reference_inflating_to(20_000_000, predictor=True),
    "100,000 subsections": with_page(b"").replace(b"xref\n0 1\n", b"xref\n" + b"0 0\n" * 100_000),
}


@pytest.mark.parametrize("kind", GREEDY)
def test_what_asks_for_too_much_is_refused_at_once_and_without_a_word(
    kind: str, sealed: Seal, caplog: pytest.LogCaptureFixture
) -> None:
    started = time.process_time()
    with caplog.at_level(logging.DEBUG), pytest.raises(SealingError) as refusal:
        sealed(GREEDY[kind])
    assert time.process_time() - started < SECONDS
    assert refusal.value.code in ("document_unprocessable", "document_unreadable")
    assert not caplog.records


@pytest.mark.parametrize("size", [40_000_000, 400_000_000])
def test_an_object_stream_is_not_unpacked_without_end(size: int, sealed: Seal) -> None:
    made = objects()
    bomb = streamed(made | {10: made[10] + b" " * size}, packed=(1, 2, 10))
    started = time.process_time()
    with pytest.raises(SealingError, match="document_unprocessable"):
        sealed(bomb)
    assert time.process_time() - started < SECONDS


@pytest.mark.parametrize(
    "damage",
    [b"/X 1 0 Q", b"/X<</Y ]>>", b"/X ) ", b"/X<zz>", b"/X(a\\", b"/A/B 1", b"/X" + b"<</a" * 900],
)
def test_a_page_that_can_only_be_read_in_part_is_refused_rather_than_cut_down(
    damage: bytes, sealed: Seal
) -> None:
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]%s/Contents 3 0 R>>" % damage
    with pytest.raises(SealingError) as refusal:
        sealed(classic(objects() | {10: page}))
    assert refusal.value.code in ("document_unreadable", "document_unprocessable")


@pytest.mark.parametrize(
    "entry", [b"/X 12..3--4", b"/X(a\\q)", b"/X%c\n/B", b"/X(endobj (stream) b)"]
)
def test_what_is_odd_but_whole_keeps_the_page_as_it_was(entry: bytes, sealed: Seal) -> None:
    page = (
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]%s/Contents 3 0 R"
        b"/Resources<</Font<</F 4 0 R>>>>>>"
    ) % entry
    document = classic({**objects(), 3: CONTENT, 4: FONT, 10: page})
    assert drawn(document) == drawn(sealed(document, position="top-left").bytes)


def drawn(document: bytes) -> bytes:
    """Return the page's own contents as pixels, without annotations."""
    page = pypdfium2.PdfDocument(document)[0]
    pixels: bytes = page.render(may_draw_forms=False, draw_annots=False).to_pil().tobytes()
    return pixels
