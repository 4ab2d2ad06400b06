"""Every kind of document that the standard knows is sealed, and keeps what it had."""

import subprocess
import zlib
from io import BytesIO
from pathlib import Path

import pypdf
import pypdfium2
import pytest

from tests.unit.sealing.conftest import Seal, stamp
from tests.unit.sealing.documents import classic, objects, streamed
from tests.unit.sealing.test_seal import BUILDS
from workers.checking import check
from workers.sealing import SealingError


def hybrid(*, says_what_is_older: bool = False) -> bytes:
    """Return a document whose table hides the page, which stands in an object stream (7.5.8.4)."""
    made = objects()
    page = made.pop(10)
    made[20] = b"<</Type/ObjStm/N 1/First 5/Length %d>>stream\n10 0 %s\nendstream" % (
        len(page) + 5,
        page,
    )
    # Readers that know tables only see a free entry.
    hidden = b"10 1\n0000000000 65535 f \n20 1\n"
    document = classic(made).replace(b"20 1\n", hidden)
    before, start = document.rindex(b"xref\n0 1"), len(document)
    rows = zlib.compress(b"\x02" + (20).to_bytes(4) + bytes(2))
    older = b"/Prev %d" % before if says_what_is_older else b""
    section = (
        b"21 0 obj\n<</Type/XRef/Size 22/W[1 4 2]/Index[10 1]%s/Filter/FlateDecode/Length %d>>"
        b"stream\n%s\nendstream\nendobj\n" % (older, len(rows), rows)
    )
    return (
        document
        + section
        + b"xref\n0 0\ntrailer\n<</Size 22/Root 1 0 R/Prev %d/XRefStm %d>>\nstartxref\n%d\n%%%%EOF\n"
        % (before, start, start + len(section))
    )


def in_revisions(count: int) -> bytes:
    """Return a document whose page was written anew so many times."""
    out = bytearray(classic(objects()))
    before = out.rindex(b"xref\n0 1")
    for number in range(count):
        at = len(out)
        out += b"10 0 obj\n%s\nendobj\n" % objects(page=b"/Revision %d" % number)[10]
        start = len(out)
        out += b"xref\n10 1\n%010d 00000 n \ntrailer\n<</Size 11/Root 1 0 R/Prev %d>>\n" % (
            at,
            before,
        )
        out += b"startxref\n%d\n%%%%EOF\n" % start
        before = start
    return bytes(out)


def deep(depth: int) -> bytes:
    """Return a document whose page lies so deep in the tree, and inherits its box from the top."""
    made = objects()
    numbers = [2, *range(100, 100 + depth), 10]
    for above, node, below in zip([0, *numbers], numbers[:-1], numbers[1:], strict=False):
        parent = b"/Parent %d 0 R" % above if above else b"/MediaBox[0 0 300 300]"
        made[node] = b"<</Type/Pages/Count 1/Kids[%d 0 R]%s>>" % (below, parent)
    made[10] = b"<</Type/Page/Parent %d 0 R/Contents 3 0 R/Resources<<>>>>" % numbers[-2]
    return classic(made)


FIELD = {
    20: b"<</Fields[21 0 R]/NeedAppearances false/DR<</Font<</F 4 0 R>>>>/DA(/F 0 Tf)/XFA[(form)22 0 R]>>",
    21: b"<</Type/Annot/Subtype/Widget/FT/Tx/T(name)/V(Ani)/Rect[9 9 99 29]/F 4/P 10 0 R>>",
    22: b"<</Length 12>>stream\n<xdp:xdp/>  \nendstream",
}
FORM = objects(catalogue=b"/AcroForm 20 0 R", page=b"/Annots[21 0 R]") | FIELD
KINDS = {
    "hybrid": hybrid(),
    "hybrid, its stream naming the older section too": hybrid(says_what_is_older=True),
    "300 revisions": in_revisions(300),
    "a tree 90 deep": deep(90),
    "a form with XFA": classic(FORM),
    "a form in object streams": streamed(FORM, packed=(1, 2, 10, 20, 21)),
    "a page that two kids share": classic(
        objects() | {2: b"<</Type/Pages/Count 2/Kids[10 0 R 10 0 R]>>"}
    ),
    "kids by reference": classic(
        objects() | {2: b"<</Type/Pages/Count 1/Kids 20 0 R>>", 20: b"[10 0 R]"}
    ),
    "PDF 2.0": classic(objects(), head=b"%PDF-2.0\n"),
    "PDF 2.0 with streams": streamed(objects()).replace(b"%PDF-1.7", b"%PDF-2.0"),
    "resources by reference": classic(
        objects(pages=b"/Resources 20 0 R") | {20: b"<</Font 21 0 R>>", 21: b"<</F 4 0 R>>"}
    ),
    "a form that is none": classic(objects(catalogue=b"/AcroForm/None")),
    "a form without a list of fields": classic(objects(catalogue=b"/AcroForm<</Fields/None>>")),
    "annotations that are none": classic(objects(page=b"/Annots 20 0 R") | {20: b"/None"}),
    "a filter that is null": streamed(objects()).replace(
        b"/Filter/FlateDecode/Length 42>>", b"/Filter null/Length 42>>"
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_sealed_and_shown_as_before(kind: str, sealed: Seal, root: bytes) -> None:
    result = sealed(KINDS[kind], position="top-left").bytes
    assert check(result, trust_roots_pem=root).good
    assert [drawn(page) for page in pypdfium2.PdfDocument(result)] == [
        drawn(page) for page in pypdfium2.PdfDocument(KINDS[kind])
    ]
    last = pypdf.PdfReader(BytesIO(result), strict=True).pages[-1]
    assert "/Sig" in [annotation.get_object().get("/FT") for annotation in last["/Annots"]]  # type: ignore[attr-defined]


def drawn(page: pypdfium2.PdfPage) -> bytes:
    pixels: bytes = page.render(may_draw_forms=False, draw_annots=False).to_pil().tobytes()
    return pixels


def test_the_newest_of_many_revisions_is_the_one_that_is_stamped(sealed: Seal) -> None:
    page = pypdf.PdfReader(BytesIO(sealed(KINDS["300 revisions"]).bytes)).pages[0]
    assert str(page["/Revision"]) == "299"


@pytest.mark.parametrize("kind", ["a form with XFA", "a form in object streams"])
def test_a_form_keeps_its_fields_its_settings_and_its_xfa(kind: str, sealed: Seal) -> None:
    before = pypdf.PdfReader(BytesIO(KINDS[kind]))
    after = pypdf.PdfReader(BytesIO(sealed(KINDS[kind]).bytes))
    assert after.get_form_text_fields() == {"name": "Ani"}
    old, new = (reader.trailer["/Root"]["/AcroForm"] for reader in (before, after))  # type: ignore[index]
    for key in ("/DA", "/DR", "/NeedAppearances", "/XFA"):
        assert str(new[key]).split("IndirectObject")[0] == str(old[key]).split("IndirectObject")[0]
    assert new["/XFA"][1].get_object().get_data().strip() == b"<xdp:xdp/>"  # type: ignore[index]


def test_a_tree_deeper_than_any_real_one_is_refused(sealed: Seal) -> None:
    with pytest.raises(SealingError) as refusal:
        sealed(deep(250))
    assert refusal.value.code == "document_unprocessable"


JUNK = b"HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\n\r\n"
BEHIND_JUNK = {
    "counted from the header": JUNK + classic(objects()),
    "counted from the first byte": classic(objects(), head=JUNK + b"%PDF-1.7\n"),
    "streams": JUNK + streamed(objects(), packed=(1, 2, 10)),
}


@pytest.mark.parametrize("kind", BEHIND_JUNK)
def test_junk_before_the_header_is_left_where_it_is(kind: str, sealed: Seal) -> None:
    result = sealed(BEHIND_JUNK[kind], position="top-left").bytes
    assert result.startswith(BEHIND_JUNK[kind])
    page = pypdfium2.PdfDocument(result)[0]
    assert drawn(page) == drawn(pypdfium2.PdfDocument(BEHIND_JUNK[kind])[0])
    assert len(list(page.get_objects())) > 0


@pytest.mark.system
@pytest.mark.parametrize("kind", BEHIND_JUNK)
def test_pdfsig_finds_the_signature_behind_junk(kind: str, sealed: Seal, tmp_path: Path) -> None:
    file = tmp_path / "sealed.pdf"
    file.write_bytes(sealed(BEHIND_JUNK[kind]).bytes)
    said = subprocess.run(["pdfsig", "-nocert", file], capture_output=True, text=True, check=True)
    assert "Signature is Valid" in said.stdout
    assert "Total document signed" in said.stdout


@pytest.mark.system
@pytest.mark.parametrize("streams", ["disable", "generate"])
@pytest.mark.parametrize("build", ["table", "object stream", "form by reference", "several pages"])
def test_a_linearised_document_is_sealed(
    build: str, streams: str, sealed: Seal, root: bytes, tmp_path: Path
) -> None:
    plain, linear = tmp_path / "plain.pdf", tmp_path / "linear.pdf"
    plain.write_bytes(BUILDS[build])
    options = ["--linearize", f"--object-streams={streams}"]
    subprocess.run(["qpdf", *options, plain, linear], check=True)
    result = sealed(linear.read_bytes())
    assert check(result.bytes, trust_roots_pem=root).good
    plain.write_bytes(result.bytes)
    checked = subprocess.run(["qpdf", "--check", plain], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_two_stamps_on_a_shared_page_do_not_lose_each_other(sealed: Seal, root: bytes) -> None:
    document = KINDS["a page that two kids share"]
    result = sealed(
        document, stamp(page=1), stamp("S8866D64HDNEMYYPY5A1GB", page=2, position="top-left")
    )
    assert check(result.bytes, trust_roots_pem=root).good
    page = pypdf.PdfReader(BytesIO(result.bytes)).pages[1]
    assert len(page["/Annots"]) == 2  # type: ignore[arg-type]
