"""A sealed document shows what it showed before, and the stamp; also when it was damaged first."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pypdfium2
import pytest
from PIL import Image, ImageChops

from tests.corpus.cases import CASES, Case
from tests.corpus.test_corpus import sealed
from tests.unit.sealing.damage import REPAIRABLE
from workers.sealing import Signer

# Points on a side of the stamp, and what anti-aliasing adds around it.
STAMP = 80
EDGE = 3
PAGES = 8

Draw = Callable[[bytes], Iterator[Image.Image]]


def pdfium(document: bytes) -> Iterator[Image.Image]:
    """Draw the first and last pages with their annotations and forms, a pixel a point."""
    pdf = pypdfium2.PdfDocument(document)
    pdf.init_forms()
    for number in {*range(min(PAGES, len(pdf))), len(pdf) - 1}:
        yield pdf[number].render().to_pil().convert("RGB")


def poppler(folder: Path) -> Draw:
    """Return a function that draws with pdftoppm."""

    def draw(document: bytes) -> Iterator[Image.Image]:
        file = folder / "document.pdf"
        file.write_bytes(document)
        for old in folder.glob("page*"):
            old.unlink()
        subprocess.run(["pdftoppm", "-r", "72", file, folder / "page"], check=True)
        for picture in sorted(folder.glob("page*")):
            yield Image.open(picture).convert("RGB")

    return draw


def assert_only_a_stamp_is_new(before: bytes, after: bytes, draw: Draw, scale: float) -> None:
    pictures, stamped = list(draw(before)), list(draw(after))
    assert pictures
    assert [picture.size for picture in pictures] == [picture.size for picture in stamped]
    changed = 0
    for old, new in zip(pictures, stamped, strict=True):
        box = ImageChops.difference(old, new).getbbox()
        if box is not None:
            changed += 1
            assert max(box[2] - box[0], box[3] - box[1]) <= STAMP * scale + EDGE
    assert changed <= 1, "only the page with the stamp"


def user_unit(document: bytes) -> float:
    """Return the largest unit that a page could be drawn in; generous for documents that have one."""
    return 10.0 if b"/UserUnit" in document else 1.0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_pdfium_shows_the_same_and_a_stamp(case: Case, signer: Signer) -> None:
    result = sealed(case, signer)
    if result is not None:
        unit = user_unit(case.content)
        assert_only_a_stamp_is_new(case.content, result.bytes, pdfium, unit)


@pytest.mark.system
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_poppler_shows_the_same_and_a_stamp(case: Case, signer: Signer, tmp_path: Path) -> None:
    result = sealed(case, signer)
    if result is not None:
        unit = user_unit(case.content)
        assert_only_a_stamp_is_new(case.content, result.bytes, poppler(tmp_path), unit)


DAMAGED = ["startxref at the header", "all offsets wrong", "no startxref"]
SOUND = [case for case in CASES if case.expected == "stamp"]


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("case", SOUND, ids=lambda case: case.name)
def test_pdfium_sees_in_a_repaired_document_what_it_saw_in_the_damaged_one(
    case: Case, damage: str, signer: Signer
) -> None:
    damaged = Case(case.name, "either", REPAIRABLE[damage](case.content))
    result = sealed(damaged, signer)
    if result is not None:
        unit = user_unit(case.content)
        assert_only_a_stamp_is_new(damaged.content, result.bytes, pdfium, unit)


# Poppler of 2022 cannot open a damaged document with cross-reference streams, so the sound one is what
# to compare with; without its startxref, a document may end with an earlier revision.
@pytest.mark.system
@pytest.mark.parametrize("damage", DAMAGED[:2])
@pytest.mark.parametrize("case", SOUND, ids=lambda case: case.name)
def test_poppler_sees_in_a_repaired_document_what_it_sees_in_the_sound_one(
    case: Case, damage: str, signer: Signer, tmp_path: Path
) -> None:
    damaged = Case(case.name, "either", REPAIRABLE[damage](case.content))
    result = sealed(damaged, signer)
    if result is not None:
        unit = user_unit(case.content)
        assert_only_a_stamp_is_new(case.content, result.bytes, poppler(tmp_path), unit)


def test_most_of_a_damaged_corpus_can_be_repaired(signer: Signer) -> None:
    for damage in DAMAGED:
        results = [
            sealed(Case(case.name, "either", REPAIRABLE[damage](case.content)), signer)
            for case in SOUND
        ]
        assert sum(result is not None for result in results) >= 0.8 * len(SOUND)
