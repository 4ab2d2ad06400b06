"""Stamps that look for room: they cover nothing, and stand near the end of the text."""

import random
import time
import zlib
from typing import Any

import pypdfium2
import pytest
import zxingcpp
from PIL import Image, ImageChops, ImageDraw

from deploy.sample import sample_letter
from tests.unit.sealing.conftest import Seal, stamp
from tests.unit.sealing.documents import classic, objects
from tests.unit.sealing.test_text import content, document
from workers.sealing import Box, SealingError

FULL = [(36.0, float(y), "penuh " * 16) for y in range(20, 830, 14)]


def picture(source: bytes, page: int = -1) -> Any:
    pdf = pypdfium2.PdfDocument(source)
    pdf.init_forms()
    return pdf[page if page >= 0 else len(pdf) - 1].render(scale=2, grayscale=True).to_pil()


def assert_nothing_is_covered(source: bytes, box: Box, *, tolerance: int = 8) -> None:
    """Look at the page as it was: where the stamp went there is nothing but paper."""
    before = picture(source, box.page - 1)
    width, height = box.view.size
    left, bottom, right, top = box.seen
    across, down = before.width / width, before.height / height
    there = before.crop(
        (
            int(left * across),
            int((height - top) * down),
            int(right * across),
            int((height - bottom) * down),
        )
    )
    darkest, brightest = there.getextrema()
    assert brightest - darkest <= tolerance


def scan(*, paper: int = 236, noise: int = 7, ink: bool = True) -> bytes:
    """Return a page that is one grey picture: paper with noise, and lines of something dark."""
    random.seed(7)
    side = (620, 877)
    image = Image.new("L", side, paper)
    pixels = bytes(
        max(0, min(255, paper + random.randint(-noise, noise))) for _ in range(side[0] * side[1])
    )
    image = Image.frombytes("L", side, pixels)
    if ink:
        draw = ImageDraw.Draw(image)
        for y in range(80, 400, 20):
            draw.rectangle((70, y, 540, y + 8), fill=40)
    packed = zlib.compress(image.tobytes())
    made = objects()
    made[5] = (
        b"<</Type/XObject/Subtype/Image/Width 620/Height 877/ColorSpace/DeviceGray"
        b"/BitsPerComponent 8/Filter/FlateDecode/Length %d>>stream\n%s\nendstream"
    ) % (len(packed), packed)
    body = b"q 595 0 0 842 0 0 cm /Im Do Q"
    made[3] = b"<</Length %d>>stream\n%s\nendstream" % (len(body), body)
    made[10] = made[10].replace(b"/Resources<<", b"/Resources<</XObject<</Im 5 0 R>>")
    return classic(made)


# What turns a text so that it is upright on a page of 595 by 842 that is turned.
UPRIGHT = {
    0: "1 0 0 1 0 0",
    90: "0 1 -1 0 595 0",
    180: "-1 0 0 -1 595 842",
    270: "0 -1 1 0 0 842",
}


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("extra", ["", "/CropBox[30 40 560 800]", "/UserUnit 1.5"])
def test_the_stamp_is_upright_covers_nothing_and_stands_below_the_end(
    rotate: int, extra: str, sealed: Seal
) -> None:
    lines = [(72.0, float(y), "Dengan ini saya menyatakan") for y in range(520, 300, -20)]
    page = f"/Rotate {rotate}{extra}".encode()
    source = document(lines, page=page, turned=UPRIGHT[rotate])
    result = sealed(source, position="auto")
    (box,) = result.boxes
    assert_nothing_is_covered(source, box)
    (code,) = zxingcpp.read_barcodes(picture(result.bytes))
    assert code.orientation == 0
    # The last line ends at 227, 317, before the page is cropped and scaled.
    unit = box.view.unit
    across, up = {0: (30, 40), 90: (40, 35), 180: (35, 42), 270: (42, 30)}[rotate]
    x, y = (227 - across, 317 - up) if "Crop" in extra else (227 * unit, 317 * unit)
    left, _, right, top = box.seen
    assert left < x < right
    assert y - 12 < top < y


@pytest.mark.parametrize("rotate", [90, 180, 270])
def test_beside_text_that_lies_on_its_side_nothing_is_covered_either(
    rotate: int, sealed: Seal
) -> None:
    lines = [(72.0, float(y), "Dengan ini saya menyatakan") for y in range(700, 400, -20)]
    source = document(lines, page=b"/Rotate %d" % rotate)
    result = sealed(source, position="auto")
    assert_nothing_is_covered(source, result.boxes[0])
    (code,) = zxingcpp.read_barcodes(picture(result.bytes))
    assert code.orientation == 0


def test_it_stands_below_the_last_line(sealed: Seal) -> None:
    source = sample_letter()
    (box,) = sealed(source, position="auto").boxes
    assert_nothing_is_covered(source, box)
    # The letter's last line is at 380 and ends at 436; a footer stands at 60.
    assert 360 < box.seen[3] < 380
    assert box.seen[0] < 436 < box.seen[2]


def test_a_page_number_is_not_the_end_of_the_text(sealed: Seal) -> None:
    source = document(
        [(72, 700, "Demikian surat ini"), (290, 100, "- 2 -"), (280, 30, "Halaman 2")]
    )
    (box,) = sealed(source, position="auto").boxes
    assert 650 < box.seen[3] < 700


def test_where_there_is_no_room_below_it_stands_above(sealed: Seal) -> None:
    low = [(36.0, float(y), "penuh " * 16) for y in range(20, 400, 14)]
    source = document(low)
    (box,) = sealed(source, position="auto").boxes
    assert_nothing_is_covered(source, box)
    assert box.seen[1] > 400


def test_a_full_page_has_no_room(sealed: Seal) -> None:
    with pytest.raises(SealingError) as refusal:
        sealed(document(FULL), position="auto")
    assert refusal.value.code == "no_room"
    assert refusal.value.detail == {"page": 1, "width": 80.0, "height": 80.0, "margin": 24.0}


def test_the_page_is_the_last_or_the_one_named(sealed: Seal) -> None:
    source = document([(72, 700, "satu")], FULL)
    with pytest.raises(SealingError, match="no_room"):
        sealed(source, position="auto")
    assert sealed(source, position="auto", page=1).boxes[0].page == 1


def test_the_margin_is_kept(sealed: Seal) -> None:
    source = document([(500, 60, "akhir surat")])
    for margin in (0, 24, 60):
        (box,) = sealed(source, position="auto", margin=margin).boxes
        left, bottom, right, top = box.seen
        assert min(left, bottom, 595 - right, 842 - top) >= margin - 0.01


def test_the_size_asked_for_has_to_fit(sealed: Seal) -> None:
    gap = [(36.0, float(y), "penuh " * 16) for y in (*range(20, 400, 14), *range(520, 830, 14))]
    assert sealed(document(gap), position="auto", height=80).boxes[0].seen[3] < 515
    with pytest.raises(SealingError, match="no_room"):
        sealed(document(gap), position="auto", height=130)


def test_an_empty_page_is_stamped_in_its_lower_right_corner(sealed: Seal) -> None:
    source = classic(objects() | {3: content()})
    (box,) = sealed(source, position="auto").boxes
    assert box.seen[0] > 480
    assert box.seen[1] < 30


@pytest.mark.parametrize(("paper", "noise"), [(236, 7), (200, 12), (250, 3)])
def test_a_scan_on_grey_paper_has_room(paper: int, noise: int, sealed: Seal) -> None:
    source = scan(paper=paper, noise=noise)
    (box,) = sealed(source, position="auto").boxes
    assert_nothing_is_covered(source, box, tolerance=4 * noise)
    # Its last line of ink ends 391 pixels from the top, of 877.
    assert 842 - 842 * 400 / 877 - 30 < box.seen[3] < 842 - 842 * 391 / 877


def test_an_empty_field_is_not_room(sealed: Seal) -> None:
    field = b"<</FT/Tx/T(nama)/Type/Annot/Subtype/Widget/F 4/P 10 0 R/Rect[24 24 571 600]>>"
    made = objects(page=b"/Annots[30 0 R]", catalogue=b"/AcroForm<</Fields[30 0 R]>>") | {30: field}
    made[3] = content((72, 650, "Isi di bawah ini"))
    (box,) = sealed(classic(made), position="auto").boxes
    assert box.seen[1] >= 600
    hidden = made | {30: field.replace(b"/F 4", b"/F 2")}
    (box,) = sealed(classic(hidden), position="auto").boxes
    assert box.seen[1] < 600


def test_a_light_shade_and_a_thin_line_are_not_paper(sealed: Seal) -> None:
    body = b"0.93 g 0 0 595 500 re f 0.7 G 0.25 w 0 560 m 595 560 l S 0 g BT /F 12 Tf 72 700 Td (x) Tj ET"
    made = objects() | {3: b"<</Length %d>>stream\n%s\nendstream" % (len(body), body)}
    source = classic(made)
    (box,) = sealed(source, position="auto", height=120).boxes
    assert_nothing_is_covered(source, box)
    assert box.seen[1] > 560


def test_white_on_black_has_room_too(sealed: Seal) -> None:
    body = b"0 g 0 0 595 842 re f 1 g BT /F 12 Tf 72 700 Td (surat) Tj ET"
    source = classic(objects() | {3: b"<</Length %d>>stream\n%s\nendstream" % (len(body), body)})
    (box,) = sealed(source, position="auto").boxes
    assert_nothing_is_covered(source, box)
    assert 650 < box.seen[3] < 700


def test_several_stamps_keep_clear_of_each_other(sealed: Seal) -> None:
    serials = [f"S8866D64HDNEMYYPY5A1G{letter}" for letter in "ABCD"]
    result = sealed(
        sample_letter(),
        *(stamp(serial, position="auto") for serial in serials[:3]),
        stamp(serials[3], x=380, y=250),
    )
    codes = zxingcpp.read_barcodes(picture(result.bytes))
    assert {code.text.rpartition("/")[2] for code in codes} == set(serials)


def test_a_page_of_any_size_is_drawn_small(sealed: Seal) -> None:
    source = document([(72, 700, "besar")], page=b"/MediaBox[0 0 14400 14400]/UserUnit 10")
    began = time.process_time()
    (box,) = sealed(source, position="auto").boxes
    assert time.process_time() - began < 1
    # A point is a hundredth of a pixel there: what counts is that it is found at all, below the text.
    assert box.seen[3] < 7000


def test_an_a4_page_takes_less_than_thirty_milliseconds(sealed: Seal) -> None:
    source = scan()
    sealed(source, position="auto")
    times = []
    for _ in range(7):
        began = time.process_time()
        sealed(source, position="auto")
        times.append(time.process_time() - began)
    assert min(times) < 0.030


def test_what_was_there_is_there_still(sealed: Seal) -> None:
    source = sample_letter()
    result = sealed(source, position="auto")
    difference = ImageChops.difference(picture(source), picture(result.bytes))
    left, upper, right, lower = difference.getbbox() or (0, 0, 0, 0)
    box = result.boxes[0].seen
    assert left / 2 >= box[0] - 1
    assert right / 2 <= box[2] + 1
    assert upper / 2 >= 842 - box[3] - 1
    assert lower / 2 <= 842 - box[1] + 1
