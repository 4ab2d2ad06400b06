"""Reads the QR codes of a stamped PDF, of a picture, or a code's own text, and checks them offline.

A code that we signed may still have been copied: for a PDF, the token's part of the document's hash is
compared with what the file held before it was sealed.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pypdfium2
import zxingcpp
from PIL import Image, UnidentifiedImageError
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation.pdf_embedded import EmbeddedPdfSignature

from common import codes
from common.codes import CodeError, PublishedKeys, Token

# Dots per inch at which pages are looked at, one after the other until a code is found.
_RESOLUTIONS = (150, 300)
# Of one rendered page; a sheet of A0 has 35 million at 150 dpi.
_MOST_PIXELS = 40_000_000


class UnreadableError(ValueError):
    """There is nothing to check; the text is one sentence for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedCode:
    """What is true of one code.

    `matches_document` says whether the PDF was sealed over the very document that the code names; None
    where there is no PDF to compare. `grown_after` says that the file goes on behind that seal.
    """

    text: str
    genuine: bool
    serial: str
    date: str
    document_sha256_start: str
    matches_document: bool | None
    grown_after: bool | None

    @property
    def good(self) -> bool:
        """Say whether the code is ours, and nowhere else than it belongs."""
        return self.genuine and self.matches_document is not False


@dataclass(frozen=True, slots=True)
class Outcome:
    """All codes of ours that were found."""

    codes: list[CheckedCode]

    @property
    def good(self) -> bool:
        """Say whether all of them are good."""
        return all(code.good for code in self.codes)

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        return {"good": self.good, "codes": [asdict(code) for code in self.codes]}


def check(what: str, keys: PublishedKeys) -> Outcome:
    """Check codes.

    Args:
        what: the path of a PDF or a picture, or the text of a code.
        keys: what codes are checked against.

    Raises:
        UnreadableError: the file cannot be read, or no code of ours is there.
    """
    content = _content(what)
    if content is None:
        texts: Sequence[str] = [what]
    elif _is_pdf(content):
        texts = read_codes(content)
    else:
        texts = _codes_of_picture(content)
    found = {}
    trouble = "no QR code was found"
    for text in dict.fromkeys(texts):
        try:
            found[text] = codes.read(text)
        except CodeError as error:
            trouble = f"no code of ours was found: {error}"
    if not found:
        raise UnreadableError(trouble)
    seals = list(_seals(content)) if content is not None and _is_pdf(content) else None
    return Outcome([_checked(text, token, keys, seals) for text, token in found.items()])


def read_codes(document: bytes) -> list[str]:
    """Return what the QR codes on a PDF's pages say.

    Raises:
        UnreadableError: it cannot be rendered.
    """
    try:
        pdf = pypdfium2.PdfDocument(document)
        pdf.init_forms()
        for dpi in _RESOLUTIONS:
            texts = [text for page in pdf for text in _codes_of_page(page, dpi)]
            if texts:
                return texts
    except pypdfium2.PdfiumError as error:
        raise UnreadableError(f"the PDF cannot be read: {error}") from error
    return []


def _codes_of_page(page: pypdfium2.PdfPage, dpi: int) -> list[str]:
    width, height = page.get_size()
    scale = min(dpi / 72, (_MOST_PIXELS / max(1.0, width * height)) ** 0.5)
    return _codes_on(page.render(scale=scale).to_pil())


def _codes_of_picture(content: bytes) -> list[str]:
    try:
        with Image.open(BytesIO(content)) as picture:
            return _codes_on(picture.convert("L"))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableError("the file is neither a PDF nor a picture that can be read") from error


def _codes_on(picture: Image.Image) -> list[str]:
    return [code.text for code in zxingcpp.read_barcodes(picture)]


def _content(what: str) -> bytes | None:
    """Return a file's content, or None for what is the text of a code."""
    if what.lower().startswith(("https://", "http://")):
        return None
    try:
        return Path(what).read_bytes()
    except FileNotFoundError:
        try:
            codes.read(what)
        except CodeError as error:
            raise UnreadableError(
                f"{what} is no file, and as the text of a code: {error}"
            ) from error
        return None
    except OSError as error:
        raise UnreadableError(f"{what} cannot be read: {error.strerror}") from error


def _is_pdf(content: bytes) -> bool:
    return b"%PDF-" in content[:1024]


@dataclass(frozen=True, slots=True)
class _Seal:
    """A signature of a PDF: what its reason says, and the document below its revision."""

    reason: str
    # The seal begins on a line of its own: a document that ended without one got a line feed first.
    before: tuple[bytes, bytes]
    to_the_end: bool

    def is_over(self, token: Token) -> bool:
        length = len(token.document_sha256_start)
        return any(digest[:length] == token.document_sha256_start for digest in self.before)


def _seals(document: bytes) -> Iterator[_Seal]:
    try:
        for signature in PdfFileReader(BytesIO(document), strict=False).embedded_signatures:
            yield _seal(document, signature)
    except Exception as error:
        # pyHanko raises whatever the damage leads to.
        raise UnreadableError(f"the PDF's signatures cannot be read: {error}") from error


def _seal(document: bytes, signature: EmbeddedPdfSignature) -> _Seal:
    revision = signature.signed_revision
    table = signature.reader.xrefs
    offsets = (
        table.get_historical_ref(reference, revision)
        for reference in table.explicit_refs_in_revision(revision)
    )
    begin = min((offset for offset in offsets if isinstance(offset, int)), default=0)
    without_feed = hashlib.sha256(memoryview(document)[: max(0, begin - 1)])
    with_feed = without_feed.copy()
    with_feed.update(document[max(0, begin - 1) : begin])
    _, _, after, length = signature.byte_range
    return _Seal(
        reason=str(signature.sig_object.get("/Reason", "")),
        before=(without_feed.digest(), with_feed.digest()),
        to_the_end=after + length == len(document),
    )


def _checked(
    text: str, token: Token, keys: PublishedKeys, seals: list[_Seal] | None
) -> CheckedCode:
    over = [seal for seal in seals or () if seal.is_over(token)]
    # Further stamps of one job are under a signature that names the first.
    named = [seal for seal in over if token.serial in seal.reason] or over
    return CheckedCode(
        text=text,
        genuine=keys.signed(token),
        serial=token.serial,
        date=token.date.isoformat(),
        document_sha256_start=token.document_sha256_start.hex(),
        matches_document=None if seals is None else bool(named),
        grown_after=None if not named else not named[-1].to_the_end,
    )
