"""pdfium, for what only a renderer knows: where words stand, and where a page is empty.

Asked only where a placement needs it, and always in a process of its own that is forked for the
question. A page of a thousand bytes can have a renderer draw for hours, fill the memory, or step on
what is left of it; here that ends the child, and the document is refused. The child reads the
document's own bytes without a copy, and since no two questions share a process it does not matter that
pdfium may be called by one thread at a time.
"""

import faulthandler
import gc
import logging
import os
import pickle
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pypdfium2 import PdfDocument, PdfiumError, PdfPage, raw

from workers.sealing.errors import SealingError
from workers.sealing.placing.placement import View
from workers.sealing.reading.limits import Budget

# What one question may take: seconds of CPU, and bytes beside what the worker has already.
MAX_SECONDS = 2
MAX_BYTES = 512 * 1024 * 1024

# What one picture may take, unpacked.
MAX_PICTURE_BYTES = 256 * 1024 * 1024
# Forms drawn in forms that are looked into.
_MAX_FORMS = 20

# It has a line to say for each form that it shows only in part.
logging.getLogger("pypdfium2").setLevel(logging.ERROR)

_CHUNK = 1024 * 1024
# How far the size of a page may be from ours: pdfium keeps sizes in single precision.
_NEAR = 0.01
_PAGE_BYTES = resource.getpagesize()

Answer = TypeVar("Answer")


def ask(
    content: bytes,
    question: Callable[[PdfDocument], Answer],
    *,
    budget: Budget,
    pages: int | None = None,
) -> Answer:
    """Return what a function finds in a document that pdfium has open.

    Args:
        content: the document.
        question: is called in the child; its answer is pickled.
        budget: the time it takes is taken from here.
        pages: how many pages we found in it. pdfium repairs what it cannot follow, and what it then
            shows need not be what we stamp.

    Raises:
        SealingError: what the question raises; `document_unreadable`, when pdfium fails or finds
            another number of pages; `document_unprocessable`, when the child ended without a word.
    """
    reading, writing = os.pipe()
    child = None
    seconds = 0.0
    try:
        child = os.fork()
        if child == 0:
            _answer(writing, content, question, pages)
        os.close(writing)
        told = b"".join(iter(lambda: os.read(reading, _CHUNK), b""))
    finally:
        os.close(reading)
        if child is None:
            os.close(writing)
        else:
            # It has said all, or nobody listens any more.
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            with suppress(ChildProcessError):
                spent = os.wait4(child, 0)[2]
                seconds = spent.ru_utime + spent.ru_stime
    budget.rendered(seconds)
    try:
        answer = pickle.loads(told)  # noqa: S301
    except (EOFError, pickle.UnpicklingError):
        raise SealingError("document_unprocessable", reason="rendering") from None
    if isinstance(answer, BaseException):
        raise answer
    return answer  # type: ignore[no-any-return]


def page(pdf: PdfDocument, number: int, shown: View) -> PdfPage:
    """Return a page by its number from 1, to be drawn.

    Raises:
        SealingError: `document_unreadable`, when pdfium shows it in another size than we do;
            `document_unprocessable`, when there are pictures on it that pdfium has no room for.
    """
    found = pdf[number - 1]
    # pdfium knows no /UserUnit: its points are the page's own units.
    ours = [side / shown.unit for side in shown.size]
    theirs = found.get_size()
    if any(abs(a - b) > _NEAR * max(1.0, a) for a, b in zip(ours, theirs, strict=True)):
        raise SealingError("document_unreadable", reason="page size")
    for picture in _pictures(found):
        facts = raw.FPDF_IMAGEOBJ_METADATA()
        raw.FPDFImageObj_GetImageMetadata(picture, found, facts)
        if facts.width * facts.height * max(1, facts.bits_per_pixel) > 8 * MAX_PICTURE_BYTES:
            # pdfium leaves out, without a word, what it gets no memory for: the page would look empty.
            raise SealingError("document_unprocessable", reason="picture size")
    return found


def _pictures(found: PdfPage) -> Iterator[Any]:
    """Yield the pictures on a page, and in the forms that are drawn on it."""
    count = raw.FPDFPage_CountObjects(found)
    pending = [(raw.FPDFPage_GetObject(found, index), 0) for index in range(count)]
    while pending:
        item, depth = pending.pop()
        kind = raw.FPDFPageObj_GetType(item)
        if kind == raw.FPDF_PAGEOBJ_IMAGE:
            yield item
        elif kind == raw.FPDF_PAGEOBJ_FORM and depth < _MAX_FORMS:
            count = raw.FPDFFormObj_CountObjects(item)
            pending += [(raw.FPDFFormObj_GetObject(item, n), depth + 1) for n in range(count)]


def _answer(
    writing: int,
    content: bytes,
    question: Callable[[PdfDocument], Answer],
    pages: int | None,
) -> NoReturn:
    """Answer in the child, and end it without a thought for what the parent has open."""
    try:
        _limit()
        try:
            told = pickle.dumps(_found(content, question, pages))
        except PdfiumError:
            told = pickle.dumps(SealingError("document_unreadable", reason="rendering"))
        except MemoryError:
            told = pickle.dumps(SealingError("document_unprocessable", reason="rendering"))
        except Exception as error:
            # Refusals, and what is our own fault: both are the parent's to raise.
            told = pickle.dumps(error)
        while told:
            told = told[os.write(writing, told) :]
    finally:
        os._exit(0)


def _found(content: bytes, question: Callable[[PdfDocument], Answer], pages: int | None) -> Answer:
    pdf = PdfDocument(content)
    if pages is not None and len(pdf) != pages:
        raise SealingError("document_unreadable", reason="page tree")
    # Without it pages are drawn without their form fields.
    pdf.init_forms()
    return question(pdf)


def _limit() -> None:
    """Bound what this process may take from here on, and let it end without a trace."""
    # What the parent has left to be collected, sessions with a token say, is not ours to close.
    gc.disable()
    faulthandler.disable()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS + 1))
    # The sixth number is the data and stacks that are held, in pages.
    held = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5]) * _PAGE_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (held + MAX_BYTES, held + MAX_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
