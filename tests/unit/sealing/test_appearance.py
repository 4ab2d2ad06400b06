"""How a stamp looks: what it adds, and that its code is read in poor conditions."""

import random
import re
import subprocess
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pypdfium2
import pytest
import zxingcpp
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from common import serials
from common.codes import CodeSigner
from common.partners import Mode
from deploy.sample import sample_letter
from tests.samples import DAY, EXAMPLE_KEY, PUBLIC_URL, example_stamp
from tests.unit.sealing.conftest import Seal
from workers.sealing import Placement, Stamp
from workers.sealing.drawing import matrix
from workers.sealing.drawing.lettering import Area
from workers.sealing.stamps import Sealed

SMALL = 25 / 25.4 * 72
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"


def small_stamp() -> Stamp:
    """Return a stamp 25 mm wide with a code of its own."""
    serial = serials.generate(Mode.TEST)
    signer = CodeSigner(EXAMPLE_KEY, public_url=PUBLIC_URL)
    return Stamp(
        serial=serial,
        qr_text=signer.text(serial=serial, day=DAY, document_sha256=random.randbytes(32)),
        face_value=10_000,
        date=DAY,
        specimen=True,
        placement=Placement(width=SMALL, height=SMALL),
    )


def by_pdfium(sealed: Sealed) -> Image.Image:
    pdf = pypdfium2.PdfDocument(sealed.bytes)
    pdf.init_forms()
    picture: Image.Image = pdf[0].render(scale=150 / 72).to_pil()
    return picture


def by_poppler(sealed: Sealed) -> Image.Image:
    command = ["pdftoppm", "-r", "150", "-png", "-"]
    done = subprocess.run(command, input=sealed.bytes, capture_output=True, check=True)
    return Image.open(BytesIO(done.stdout))


def as_phones_see_it(page: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    """Return the stamp's corner of a page, clean and spoilt in ways that printers and cameras do."""
    grey = page.convert("L").crop((page.width - 260, page.height - 260, page.width, page.height))
    noise = random.Random(1)
    yield "clean", grey
    yield "blurred", grey.filter(ImageFilter.GaussianBlur(0.7))
    yield "faint", grey.point([110 + value * 90 // 255 for value in range(256)])
    yield "askew", grey.rotate(3, Image.Resampling.BICUBIC, fillcolor=255)
    yield "more askew", grey.rotate(-7, Image.Resampling.BICUBIC, fillcolor=255)
    yield (
        "askew and blurred",
        grey.rotate(3, Image.Resampling.BICUBIC, fillcolor=255).filter(
            ImageFilter.GaussianBlur(0.6)
        ),
    )
    for limit in (100, 127, 160):
        yield f"black from {limit}", grey.point([255 * (v > limit) for v in range(256)])
    noisy = bytes(max(0, min(255, int(v + noise.gauss(0, 30)))) for v in grey.tobytes())
    yield "noisy", Image.frombytes("L", grey.size, noisy)


def unread(page: Image.Image, text: str) -> list[str]:
    return [
        how
        for how, picture in as_phones_see_it(page)
        if text not in [code.text for code in zxingcpp.read_barcodes(picture)]
    ]


@pytest.mark.parametrize("_", range(5))
def test_a_stamp_of_25_mm_is_read_at_150_dpi_whatever_befalls_it(_: int, sealed: Seal) -> None:
    stamp = small_stamp()
    assert unread(by_pdfium(sealed(sample_letter(), stamp)), stamp.qr_text) == []


@pytest.mark.system
@pytest.mark.parametrize("_", range(5))
def test_a_stamp_rendered_by_poppler_is_read_too(_: int, sealed: Seal) -> None:
    stamp = small_stamp()
    assert unread(by_poppler(sealed(sample_letter(), stamp)), stamp.qr_text) == []


def test_all_that_is_added_without_the_signature_is_under_six_kilobytes(sealed: Seal) -> None:
    revision = sealed(sample_letter(), example_stamp()).revision
    signature = re.search(rb"/Contents<[0-9a-f]{1000,}>", revision)
    assert signature is not None
    assert len(revision) - len(signature[0]) < 6 * 1024


def content_of(sealed: Sealed) -> bytes:
    found = re.search(rb"/Subtype/Form.*?/Length (\d+)>>stream\n", sealed.revision, re.S)
    assert found is not None
    return zlib.decompress(sealed.revision[found.end() : found.end() + int(found[1])])


def test_the_drawing_is_lines_and_areas_only(sealed: Seal) -> None:
    content = content_of(sealed(sample_letter(), example_stamp()))
    operators = set(re.findall(rb"(?<![\w/])[A-Za-z]+\b", content))
    assert operators == {
        b"q",
        b"Q",
        b"cm",
        b"cs",
        b"CS",
        b"sc",
        b"SC",
        *b"w J j m l S f re".split(),
    }


def test_what_is_packed_in_two_parts_is_one_sound_stream(sealed: Seal) -> None:
    content = content_of(sealed(sample_letter(), example_stamp()))
    assert content.count(b"q ") == content.count(b"Q") == content.count(b" cm")


@given(st.text(LETTERS, min_size=2, max_size=200))
@settings(max_examples=15)
def test_a_code_that_is_added_up_is_the_code_that_zxing_makes(text: str) -> None:
    sums = matrix._sums(len(text))
    assert sums is not None
    assert sums.packed(text) == matrix._packed(text)


@pytest.mark.parametrize(
    "text",
    ["A", "AB", "0" * 191, "0123456789" * 10, "HTTPS://X/V/00000000000000001", "ä", "a/B" * 60],
)
def test_every_text_is_read_back(text: str) -> None:
    side, path = matrix.dark_modules(text)
    picture = Image.new("L", (side + 8, side + 8), 255)
    for left, row, width, height in re.findall(rb"(\d+) (\d+) (\d+) (\d+) re\n", path):
        assert height == b"1"
        for x in range(int(left), int(left) + int(width)):
            picture.putpixel((4 + x, 3 + side - int(row)), 0)
    (code,) = zxingcpp.read_barcodes(picture.resize((picture.width * 4, picture.height * 4), 0))
    assert code.text == text


@pytest.mark.parametrize("area", [Area(10, 20, 60, 5), Area(10, 20, 5, 60), Area(10, 20, 9, 9)])
def test_a_line_stays_in_its_area(area: Area) -> None:
    drawn: Any = re.match(rb"q (\S+) (\S+) (\S+) (\S+) (\S+) (\S+) cm", area.line("SPECIMEN", b"0"))
    a, b, c, d, e, f = map(float, drawn.groups())
    for x, y in ((0, 0), (46, 6)):
        across, up = a * x + c * y + e, b * x + d * y + f
        assert area.left - 0.02 <= across <= area.left + area.width + 0.02
        assert area.bottom - 0.02 <= up <= area.bottom + area.height + 0.02


def test_an_empty_line_draws_nothing() -> None:
    assert b" m " not in Area(0, 0, 10, 10).line("", b"0 0 0")
