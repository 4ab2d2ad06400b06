"""Previews: the picture shows the stamp where sealing would put it, and cannot pass for a stamped page."""

from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
import zxingcpp
from PIL import Image

from deploy.sample import sample_letter
from tests.samples import example_design
from tests.unit.sealing.conftest import SERIAL, Seal, chain, root, sealed, signer, stamp
from tests.unit.sealing.documents import classic, objects
from tests.unit.sealing.test_fields import merged
from tests.unit.sealing.test_seal import REFUSED
from workers.previews import LONGEST_SIDE, preview
from workers.sealing import Design, SealingError

__all__ = ["chain", "root", "sealed", "signer"]

WAYS: dict[str, dict[str, Any]] = {
    "x and y": {"x": 100, "y": 200},
    "from the top": {"x": 100, "y": 200, "origin": "top-left"},
    "a position": {"position": "top"},
    "a word": {"anchor": "Hormat", "offset_y": 10},
    "room": {"position": "auto"},
}


@pytest.mark.parametrize("way", WAYS)
def test_the_box_is_where_sealing_puts_the_stamp(way: str, sealed: Seal) -> None:
    shown = preview(sample_letter(), [stamp(**WAYS[way])])
    (box,), (there,) = shown.boxes, sealed(sample_letter(), **WAYS[way]).boxes
    left, bottom, right, top = there.seen
    found = (box.x, box.y, box.x + box.width, box.y + box.height)
    assert found == pytest.approx((left, bottom, right, top), abs=0.01)
    # And what is sent back as x and y is the same place.
    again = preview(sample_letter(), [stamp(page=box.page, x=box.x, y=box.y)])
    assert again.boxes == shown.boxes


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("extra", ["", "/CropBox[50 60 500 700]", "/UserUnit 2"])
def test_the_picture_shows_the_stamp_upright_in_its_box(rotate: int, extra: str) -> None:
    document = classic(objects(page=f"/Rotate {rotate}{extra}".encode()))
    shown = preview(document, [stamp(x=120, y=90, width=120, height=120)])
    (box,), (page,) = shown.boxes, shown.pages
    picture = Image.open(BytesIO(page.png))
    assert picture.size == (page.width, page.height)
    assert max(picture.size) <= LONGEST_SIDE + 1
    (code,) = zxingcpp.read_barcodes(picture)
    assert code.text == "PRATINJAU-PREVIEW"
    assert code.orientation == 0
    pixels = page.dpi / 72
    assert page.width == pytest.approx(box.page_width * pixels, abs=1.5)
    assert page.height == pytest.approx(box.page_height * pixels, abs=1.5)
    corners = code.position
    assert (
        box.x * pixels < corners.bottom_left.x < corners.top_right.x < (box.x + box.width) * pixels
    )
    upper, lower = box.page_height - box.y - box.height, box.page_height - box.y
    assert upper * pixels < corners.top_right.y < corners.bottom_left.y < lower * pixels


def test_no_serial_and_no_address_is_in_the_picture() -> None:
    shown = preview(sample_letter(), [stamp(SERIAL)])
    codes = zxingcpp.read_barcodes(Image.open(BytesIO(shown.pages[0].png)))
    assert SERIAL not in "".join(code.text for code in codes)


def test_an_issuers_own_design_is_shown_and_says_what_it_is() -> None:
    issued = stamp(SERIAL, position="top-left")
    design = Design.load(example_design())
    shown = preview(sample_letter(), [replace(issued, specimen=False)], design=design)
    assert shown == preview(sample_letter(), [replace(issued, specimen=True)], design=design)
    assert shown != preview(sample_letter(), [issued])
    (code,) = zxingcpp.read_barcodes(Image.open(BytesIO(shown.pages[0].png)))
    assert code.text == "PRATINJAU-PREVIEW"


def test_each_page_that_has_stamps_is_shown_once() -> None:
    document = classic(objects(count=5))
    shown = preview(
        document,
        [stamp(page=4), stamp("A" * 22, page=2), stamp("B" * 22, page=4, position="top-left")],
    )
    assert [box.page for box in shown.boxes] == [4, 2, 4]
    assert [page.page for page in shown.pages] == [2, 4]


def test_a_field_is_shown_filled_in_and_its_box_given() -> None:
    shown = preview(classic(merged()), [stamp(field="Sign here")])
    (box,) = shown.boxes
    assert (box.x, box.y, box.width, box.height) == (100, 300, 120, 80)
    (code,) = zxingcpp.read_barcodes(Image.open(BytesIO(shown.pages[0].png)))
    assert code.text == "PRATINJAU-PREVIEW"


@pytest.mark.parametrize(
    ("placement", "code"),
    [
        ({"page": 2}, "page_out_of_range"),
        ({"x": 900, "y": 0}, "box_off_page"),
        ({"anchor": "tidak ada"}, "anchor_not_found"),
        ({"field": "tidak ada"}, "field_not_found"),
        ({"position": "auto", "width": 595, "height": 700}, "no_room"),
    ],
)
def test_what_sealing_would_refuse_is_refused(placement: dict[str, Any], code: str) -> None:
    with pytest.raises(SealingError) as refusal:
        preview(sample_letter(), [stamp(**placement)])
    assert refusal.value.code == code


@pytest.mark.parametrize("kind", REFUSED)
def test_documents_that_cannot_be_sealed_are_refused_alike(kind: str) -> None:
    document, code = REFUSED[kind]
    with pytest.raises(SealingError) as refusal:
        preview(document, [stamp()])
    assert refusal.value.code == code


def test_stamps_that_overlap_are_refused() -> None:
    with pytest.raises(SealingError, match="stamps_overlap"):
        preview(sample_letter(), [stamp(), stamp("A" * 22, x=480, y=30)])
