"""What pdfium is asked for ends: what a page asks of it is bounded, and a child that dies is a refusal."""

import os
import signal
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from deploy.sample import sample_letter
from tests.unit.sealing.conftest import Seal
from tests.unit.sealing.documents import classic, objects
from workers.sealing import SealingError
from workers.sealing.errors import CrossReferenceError
from workers.sealing.placing import pdfium
from workers.sealing.placing.placement import View
from workers.sealing.reading.limits import Budget


def nested_forms(depth: int) -> bytes:
    """Return a page that draws a form ten times, which draws another ten times, and so on."""
    made = objects()
    made[3] = b"<</Length 6>>stream\n/X0 Do\nendstream"
    made[10] = made[10].replace(b"/Resources<<", b"/Resources<</XObject<</X0 50 0 R>>")
    for level in range(depth):
        body = b"/X%d Do " % (level + 1) * 10
        made[50 + level] = (
            b"<</Type/XObject/Subtype/Form/BBox[0 0 595 842]"
            b"/Resources<</XObject<</X%d %d 0 R>>>>/Length %d>>stream\n%s\nendstream"
        ) % (level + 1, 51 + level, len(body), body)
    made[50 + depth] = (
        b"<</Type/XObject/Subtype/Form/BBox[0 0 9 9]/Length 9>>stream\n0 0 9 9 re\nendstream"
    )
    return classic(made)


def large_picture(side: int, *, height: int = 842, in_form: bool = False) -> bytes:
    """Return a page with a picture of nothing on top, a thousand times smaller packed than unpacked."""
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(bytes(side)) for _ in range(side)) + packer.flush()
    made = objects()
    made[5] = (
        b"<</Type/XObject/Subtype/Image/Width %d/Height %d/ColorSpace/DeviceGray"
        b"/BitsPerComponent 8/Filter/FlateDecode/Length %d>>stream\n%s\nendstream"
    ) % (side, side, len(body), body)
    body = b"q 595 0 0 %d 0 %d cm /Im Do Q" % (height, 842 - height)
    resources = b"/Resources<</XObject<</Im 5 0 R>>"
    made[3] = b"<</Length %d>>stream\n%s\nendstream" % (len(body), body)
    if in_form:
        form = b"<</Type/XObject/Subtype/Form/BBox[0 0 595 842]%s>>" % resources
        made[6] = made[3].replace(b"<<", form, 1)
        made[3] = b"<</Length 6>>stream\n/Fm Do\nendstream"
        resources = b"/Resources<</XObject<</Fm 6 0 R>>"
    made[10] = made[10].replace(b"/Resources<<", resources)
    return classic(made)


@pytest.mark.parametrize("placement", [{"position": "auto"}, {"anchor": "materai"}])
def test_a_page_that_asks_for_hours_is_refused(placement: dict[str, Any], sealed: Seal) -> None:
    document = nested_forms(12)
    began = time.process_time()
    with pytest.raises(SealingError) as refusal:
        sealed(document, **placement)
    assert refusal.value.code == "document_unprocessable"
    # The work is the child's, and the child is gone.
    assert time.process_time() - began < 1
    # Where nobody asks for room or words, it is stamped like any other.
    assert sealed(document, x=10, y=10).boxes[0].page == 1


@pytest.mark.parametrize("in_form", [False, True])
def test_a_picture_that_fills_the_memory_is_refused(in_form: bool, sealed: Seal) -> None:
    document = large_picture(25_000, in_form=in_form)
    with pytest.raises(SealingError) as refusal:
        sealed(document, position="auto")
    assert refusal.value.code == "document_unprocessable"
    assert refusal.value.detail == {"reason": "picture size"}


def test_a_large_picture_is_drawn(sealed: Seal) -> None:
    # 8,000 pixels a side, all black but for the paper around it.
    box = sealed(large_picture(8_000, height=400), position="auto").boxes[0].seen
    assert box[3] < 442


def held() -> tuple[set[str], set[str]]:
    """Return the files that this process has open, and its children, dead ones too."""
    files = {each.name for each in Path("/proc/self/fd").iterdir()}
    tasks = Path("/proc/self/task").iterdir()
    return files, {child for task in tasks for child in (task / "children").read_text().split()}


def test_a_child_that_is_killed_is_a_refusal_and_leaves_nothing_behind() -> None:
    def die(_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    before = held()
    with pytest.raises(SealingError, match="document_unprocessable"):
        pdfium.ask(sample_letter(), die, budget=Budget())
    assert held() == before


def test_an_answer_longer_than_a_pipe_holds_comes_whole() -> None:
    assert (
        pdfium.ask(
            sample_letter(), lambda pdf: bytes(5_000_000) + bytes([len(pdf)]), budget=Budget()
        )[-1]
        == 1
    )


@pytest.mark.parametrize(
    "error", [SealingError("no_room", page=3), CrossReferenceError(reason="entry", object=7)]
)
def test_a_refusal_comes_from_the_child_as_it_was(error: SealingError) -> None:
    def refuse(_: Any) -> None:
        raise error

    with pytest.raises(type(error)) as refusal:
        pdfium.ask(sample_letter(), refuse, budget=Budget())
    assert (refusal.value.code, refusal.value.detail) == (error.code, error.detail)
    assert str(refusal.value) == error.code


def test_what_is_our_own_fault_is_not_called_the_documents() -> None:
    with pytest.raises(ZeroDivisionError):
        pdfium.ask(sample_letter(), lambda pdf: len(pdf) / 0, budget=Budget())


def test_what_pdfium_cannot_open_is_refused() -> None:
    with pytest.raises(SealingError) as refusal:
        pdfium.ask(b"%PDF-1.7\n", len, budget=Budget())
    assert (refusal.value.code, refusal.value.detail) == (
        "document_unreadable",
        {"reason": "rendering"},
    )


def test_a_page_that_pdfium_shows_in_another_size_is_refused() -> None:
    shown = View(0, 0, 595, 842, 90, 1)
    with pytest.raises(SealingError) as refusal:
        pdfium.ask(
            sample_letter(), lambda pdf: pdfium.page(pdf, 1, shown).get_width(), budget=Budget()
        )
    assert refusal.value.detail == {"reason": "page size"}


def test_what_all_questions_take_together_is_bounded() -> None:
    budget = Budget()
    before = budget.rendering
    pdfium.ask(sample_letter(), len, budget=budget)
    assert 0 < before - budget.rendering < 1
    budget.rendering = 0.0
    with pytest.raises(SealingError) as refusal:
        pdfium.ask(sample_letter(), len, budget=budget)
    assert (refusal.value.code, refusal.value.detail) == (
        "document_unprocessable",
        {"reason": "rendering"},
    )
