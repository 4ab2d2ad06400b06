"""Where a stamp lands: the page's own space against what the reader sees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypdf.generic import (
    ArrayObject,
    DictionaryObject,
    FloatObject,
    IndirectObject,
    NameObject,
    NumberObject,
)

from tests.unit.sealing.documents import classic, objects
from workers.sealing.errors import SealingError
from workers.sealing.placing.placement import Placement, box_on, view
from workers.sealing.reading.document import Document
from workers.sealing.reading.pages import Page

A4 = (0, 0, 595, 842)
ROTATIONS = (0, 90, 180, 270)


def page(
    *,
    media: tuple[float, ...] = A4,
    crop: tuple[float, ...] | None = None,
    rotate: int = 0,
    unit: float = 1,
) -> Page:
    values = DictionaryObject()
    values[NameObject("/MediaBox")] = ArrayObject(FloatObject(n) for n in media)
    if crop is not None:
        values[NameObject("/CropBox")] = ArrayObject(FloatObject(n) for n in crop)
    values[NameObject("/Rotate")] = NumberObject(rotate)
    values[NameObject("/UserUnit")] = FloatObject(unit)
    return Page(1, IndirectObject(3, 0, None), values, {}, Document(classic(objects())))


def as_seen(where: Page, x: float, y: float) -> tuple[float, float]:
    """Turn a point of the page's own space into points from the visible page's lower left."""
    shown = view(where)
    across, up = x - shown.left, y - shown.bottom
    width, height = shown.right - shown.left, shown.top - shown.bottom
    turned = {
        0: (across, up),
        90: (up, width - across),
        180: (width - across, height - up),
        270: (height - up, across),
    }[shown.rotation]
    return turned[0] * shown.unit, turned[1] * shown.unit


@pytest.mark.parametrize("rotate", ROTATIONS)
def test_the_lower_right_corner_is_where_the_reader_sees_it(rotate: int) -> None:
    where = page(rotate=rotate)
    box = box_on(Placement(position="bottom-right"), where)
    seen = [as_seen(where, x, y) for x in box.rectangle[::2] for y in box.rectangle[1::2]]
    width = view(where).size[0]
    assert min(x for x, _ in seen) == pytest.approx(width - 104)
    assert max(x for x, _ in seen) == pytest.approx(width - 24)
    assert min(y for _, y in seen) == pytest.approx(24)
    assert max(y for _, y in seen) == pytest.approx(104)


@given(
    st.sampled_from((-90, *ROTATIONS, 450)),
    st.floats(0.5, 4),
    st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(36, 100),
    st.floats(36, 100),
)
def test_every_box_lies_where_it_was_asked_for_and_on_the_page(
    rotate: int,
    unit: float,
    origin: tuple[float, float],
    across: float,
    up: float,
    width: float,
    height: float,
) -> None:
    left, bottom = origin
    where = page(media=(left, bottom, left + 600, bottom + 800), rotate=rotate, unit=unit)
    page_width, page_height = view(where).size
    x, y = across * (page_width - width), up * (page_height - height)
    box = box_on(Placement(x=x, y=y, width=width, height=height), where)
    low = as_seen(where, box.rectangle[0], box.rectangle[1])
    high = as_seen(where, box.rectangle[2], box.rectangle[3])
    assert min(low[0], high[0]) == pytest.approx(x, abs=1e-6)
    assert min(low[1], high[1]) == pytest.approx(y, abs=1e-6)
    assert max(low[0], high[0]) == pytest.approx(x + width, abs=1e-6)
    assert max(low[1], high[1]) == pytest.approx(y + height, abs=1e-6)
    assert box.rectangle[0] >= left - 0.1
    assert box.rectangle[1] >= bottom - 0.1
    assert box.rectangle[2] <= left + 600.1
    assert box.rectangle[3] <= bottom + 800.1


def test_the_crop_box_is_what_counts() -> None:
    where = page(media=(0, 0, 1000, 1000), crop=(100, 200, 400, 600))
    assert box_on(Placement(x=0, y=0), where).rectangle == (100, 200, 180, 280)
    with pytest.raises(SealingError, match="box_off_page"):
        box_on(Placement(x=250, y=0), where)


def test_a_crop_box_that_is_turned_over_or_too_large_is_put_right() -> None:
    where = page(media=A4, crop=(700, 900, -100, -100))
    assert box_on(Placement(x=0, y=0), where).rectangle == (0, 0, 80, 80)


def test_user_units_scale_the_stamp_to_true_points() -> None:
    assert box_on(Placement(x=0, y=0), page(unit=2)).rectangle == (0, 0, 40, 40)


@pytest.mark.parametrize(("x", "y"), [(516, 0), (0, 763), (-1, 0), (0, -1), (10_000, 0)])
def test_a_box_off_the_page_is_refused_with_the_page_size(x: float, y: float) -> None:
    with pytest.raises(SealingError) as refusal:
        box_on(Placement(x=x, y=y), page())
    assert refusal.value.code == "box_off_page"
    assert (refusal.value.detail["page_width"], refusal.value.detail["page_height"]) == (595, 842)


def test_a_box_may_touch_the_edge() -> None:
    assert box_on(Placement(x=515, y=762), page()).rectangle == (515, 762, 595, 842)


def test_in_a_corner_of_a_small_page_the_stamp_is_smaller() -> None:
    box = box_on(Placement(position="top-left"), page(media=(0, 0, 200, 50)))
    assert box.rectangle == (24, 0, 74, 50)
    box = box_on(Placement(), page(media=(0, 0, 3, 1)))
    assert box.rectangle == (1, 0, 2, 1)


def test_a_size_that_was_asked_for_is_kept_or_refused() -> None:
    with pytest.raises(SealingError, match="box_off_page"):
        box_on(Placement(position="top-left", height=80), page(media=(0, 0, 200, 50)))
