"""Sealed documents of every build, judged by pyHanko, pypdf, pypdfium2 and zxing."""

import hashlib
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pypdf
import pypdfium2
import pytest
import zxingcpp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.sample import sample_letter, sample_of
from deploy.specimen import SpecimenChain, make_specimen_chain
from tests.bench.large import peak_memory_ratio
from tests.unit.sealing.conftest import SERIAL, Seal, stamp
from tests.unit.sealing.documents import classic, objects, streamed
from workers.checking import check
from workers.sealing import SealingError, Signer
from workers.sealing.reading.streams import undo_up
from workers.sealing.stamps import Sealed

BUILDS = {
    "table": classic(objects()),
    "stream": streamed(objects()),
    "object stream": streamed(objects(), packed=(1, 2, 10)),
    "no final newline": classic(objects(), end=b""),
    "carriage returns": classic(objects(), end=b"\r\n"),
    "identifier": classic(objects(), trailer=b"/ID[<aabb><ccdd>]"),
    "annotations of its own": classic(
        objects(page=b"/Annots[<</Type/Annot/Subtype/Text/Rect[0 0 9 9]/Contents(hi)>>]")
    ),
    "annotations by reference": classic(
        objects(page=b"/Annots 20 0 R")
        | {20: b"[21 0 R]"}
        | {21: b"<</Type/Annot/Subtype/Text/Rect[0 0 9 9]/Contents(hi)>>"}
    ),
    "form of its own": classic(objects(catalogue=b"/AcroForm<</Fields[]/DA(/F 0 Tf)>>")),
    "form by reference": classic(
        objects(catalogue=b"/AcroForm 20 0 R") | {20: b"<</Fields 21 0 R/SigFlags 1>>", 21: b"[]"}
    ),
    "inherited attributes": classic(objects(pages=b"/MediaBox[0 0 400 400]/Rotate 90")),
    "attributes by reference": classic(
        objects(page=b"/MediaBox 20 0 R/Rotate 21 0 R") | {20: b"[0 0 400 400]", 21: b"180"}
    ),
    "several pages": classic(objects(count=7)),
    "tagged": classic(objects(catalogue=b"/MarkInfo<</Marked true>>/Lang(id)")),
}


def last_page(sealed: Sealed, *, dpi: int = 150) -> pypdfium2.PdfBitmap:
    pdf = pypdfium2.PdfDocument(sealed.bytes)
    pdf.init_forms()
    return pdf[len(pdf) - 1].render(scale=dpi / 72)


def code_on(sealed: Sealed) -> zxingcpp.Barcode:
    (code,) = zxingcpp.read_barcodes(last_page(sealed).to_pil())
    return code


@pytest.mark.parametrize("build", BUILDS)
def test_every_build_is_sealed_validly_and_its_own_bytes_are_kept(
    build: str, sealed: Seal, root: bytes
) -> None:
    document = BUILDS[build]
    result = sealed(document)
    assert result.bytes.startswith(document)
    (signature,) = check(result.bytes, trust_roots_pem=root).signatures
    assert (signature.intact, signature.trusted, signature.whole_file) == (True, True, True)
    assert (signature.level, signature.serial) == ("B-B", SERIAL)
    assert code_on(result).text == f"HTTPS://STAMP.EXAMPLE/V/{SERIAL}"
    strict = pypdf.PdfReader(BytesIO(result.bytes), strict=True)
    assert len(strict.pages) == len(pypdf.PdfReader(BytesIO(document)).pages)
    annotations: list[Any] = list(strict.pages[-1]["/Annots"])  # type: ignore[call-overload]
    assert [a.get_object().get("/FT") for a in annotations].count("/Sig") == 1


@pytest.mark.parametrize("build", ["annotations of its own", "annotations by reference"])
def test_what_was_on_the_page_stays(build: str, sealed: Seal) -> None:
    page = pypdf.PdfReader(BytesIO(sealed(BUILDS[build]).bytes)).pages[-1]
    first = page["/Annots"][0].get_object()  # type: ignore[index]
    assert first["/Contents"] == "hi"


@pytest.mark.parametrize("build", ["table", "stream"])
def test_the_new_revision_is_of_the_kind_of_the_last(build: str, sealed: Seal) -> None:
    revision = sealed(BUILDS[build]).revision
    assert (b"/Type/XRef" in revision) == (build == "stream")
    assert (b"trailer" in revision) == (build == "table")


def test_both_hashes_are_those_of_the_files(sealed: Seal) -> None:
    result = sealed(sample_letter())
    assert result.document_sha256 == hashlib.sha256(sample_letter()).digest()
    assert result.sha256 == hashlib.sha256(result.bytes).digest()
    assert b"".join(result.chunks) == result.bytes


def test_the_drawing_adds_less_than_six_kilobytes(sealed: Seal) -> None:
    drawing = re.search(rb"/Subtype/Form.*?/Length (\d+)>>", sealed(sample_letter()).revision, re.S)
    assert drawing is not None
    assert int(drawing[1]) < 6 * 1024


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_the_stamp_stands_upright_whatever_the_page_is_turned_by(rotate: int, sealed: Seal) -> None:
    result = sealed(classic(objects(page=b"/Rotate %d" % rotate)), position="top-left")
    code = code_on(result)
    # zxing tells by how much the code itself is turned, in degrees.
    assert code.orientation == 0
    picture = last_page(result)
    assert code.position.top_left.x < picture.width / 3
    assert code.position.top_left.y < picture.height / 3


@pytest.mark.parametrize("side", [71, 80, 120])
def test_the_code_is_read_at_150_dpi_from_25_mm_up(side: float, sealed: Seal) -> None:
    result = sealed(sample_letter(), width=side, height=side)
    assert code_on(result).text.endswith(SERIAL)


@pytest.mark.parametrize("box", [(120.0, 60.0), (60.0, 120.0)])
def test_a_box_that_is_not_square_keeps_the_code_square(
    box: tuple[float, float], sealed: Seal
) -> None:
    code = code_on(sealed(sample_letter(), width=box[0], height=box[1]))
    corners = code.position
    across = corners.top_right.x - corners.top_left.x
    down = corners.bottom_left.y - corners.top_left.y
    assert across == pytest.approx(down, abs=3)


def test_a_stamped_document_can_be_stamped_again_and_both_stay_valid(
    sealed: Seal, root: bytes
) -> None:
    twice = sealed(
        sealed(sample_letter()).bytes, stamp("S8866D64HDNEMYYPY5A1GB", position="bottom-left")
    )
    first, second = check(twice.bytes, trust_roots_pem=root).signatures
    assert first.intact
    assert first.trusted
    assert not first.whole_file
    assert first.changed_after in ("lta_updates", "form_filling")
    assert second.intact
    assert second.whole_file
    assert second.serial == "S8866D64HDNEMYYPY5A1GB"


def test_several_stamps_are_under_one_signature(sealed: Seal, root: bytes) -> None:
    other = "S8866D64HDNEMYYPY5A1GB"
    document = classic(objects(count=3))
    result = sealed(document, stamp(page=3), stamp(other, page=3, position="top-left"))
    (signature,) = check(result.bytes, trust_roots_pem=root).signatures
    assert signature.intact
    assert signature.whole_file
    codes = zxingcpp.read_barcodes(last_page(result).to_pil())
    assert {code.text.rpartition("/")[2] for code in codes} == {SERIAL, other}


@pytest.mark.parametrize(("page", "pages"), [(1, 1), (2, 5), (5, 5), ("last", 5)])
def test_the_stamp_is_on_the_page_asked_for(page: int | str, pages: int, sealed: Seal) -> None:
    result = sealed(classic(objects(count=pages)), page=page)
    with_stamp = [
        number
        for number, found in enumerate(pypdf.PdfReader(BytesIO(result.bytes)).pages, start=1)
        if "/Annots" in found
    ]
    assert with_stamp == [pages if page == "last" else page]


def test_a_page_tree_with_wrong_counts_is_walked(sealed: Seal) -> None:
    document = classic(objects(count=4)).replace(b"/Count 4", b"/Count 9")
    assert sealed(document, page=4).boxes[0].page == 4
    with pytest.raises(SealingError) as refusal:
        sealed(document, page=5)
    assert refusal.value.detail == {"page": 5, "pages": 4}


def _startxref(document: bytes) -> bytes:
    return document.rpartition(b"startxref\n")[2].partition(b"\n")[0]


@pytest.mark.parametrize("access", [b"0", b"4", b"-99999999999999999999999"])
def test_a_certification_of_a_level_that_nobody_knows_allows_nothing(
    access: bytes, sealed: Seal
) -> None:
    certification = b"<</TransformMethod/DocMDP/TransformParams<</P %s/V/1.2>>>>" % access
    made = objects(catalogue=b"/Perms<</DocMDP 20 0 R>>")
    made[20] = b"<</Type/Sig/Reference[%s]>>" % certification
    with pytest.raises(SealingError) as refusal:
        sealed(classic(made))
    assert (refusal.value.code, refusal.value.detail) == ("document_certified", {"access": 1})


def test_facts_from_a_document_pass_through_json_and_a_database() -> None:
    detail = SealingError(
        "document_locked", field="a\x00b\ud800" + "c" * 300, access=-(10**30)
    ).detail
    assert detail == {"field": "ab" + "c" * 198, "access": -(2**53)}


ENCRYPTED = classic(objects() | {20: b"<</Filter/Standard>>"}, trailer=b"/Encrypt 20 0 R")
CERTIFIED = classic(
    objects(catalogue=b"/Perms<</DocMDP 20 0 R>>")
    | {20: b"<</Type/Sig/Reference[<</TransformMethod/DocMDP/TransformParams<</P 1/V/1.2>>>>]>>"}
)
LOCKED = classic(
    objects(catalogue=b"/AcroForm<</Fields[20 0 R]/SigFlags 3>>")
    | {
        20: b"<</FT/Sig/T(a)/V 21 0 R/Lock<</Action/All/P 1>>>>",
        21: b"<</Type/Sig/ByteRange[0 9 9 9]>>",
    }
)
REFUSED = {
    "encrypted": (ENCRYPTED, "document_encrypted"),
    "certified": (CERTIFIED, "document_certified"),
    "locked": (LOCKED, "document_locked"),
    "no pages": (classic(objects(count=0) | {10: b"null"}), "document_no_pages"),
    "no pdf": (b"hello", "document_not_pdf"),
    "empty": (b"", "document_not_pdf"),
    "cut short": (classic(objects())[:300], "document_unreadable"),
    "a second revision that was cut short": (
        classic(objects()) + b"10 0 obj\n<</Type/Page" + b"\0" * 5000,
        "document_unreadable",
    ),
    "no catalogue": (classic({1: b"[]", 2: b"null"}), "document_unreadable"),
    "damaged beyond repair": (
        re.sub(rb"startxref\n\d+", b"startxref\n7", classic(objects())).replace(b"3 0 obj", b"3"),
        "document_unreadable",
    ),
    "a loop of cross-references": (
        re.sub(
            rb"(?s)(.*)/Size",
            lambda m: m[1] + b"/Prev %s/Size" % _startxref(classic(objects())),
            classic(objects()),
        ),
        "document_unprocessable",
    ),
    "a page tree that bites its tail": (
        classic(objects() | {2: b"<</Type/Pages/Count 1/Kids[2 0 R]>>"}),
        "document_unprocessable",
    ),
    "a reference to itself": (
        classic(objects(page=b"/MediaBox 20 0 R") | {20: b"20 0 R"}),
        "document_unprocessable",
    ),
    "10,000 arrays in each other": (
        classic(
            objects()
            | {1: b"<</Type/Catalog/Pages 2 0 R/X" + b"[" * 10_000 + b"]" * 10_000 + b">>"}
        ),
        "document_unprocessable",
    ),
    "absurd numbers": (
        classic(objects()).replace(b"xref\n0 1\n", b"xref\n0 9999999999\n"),
        "document_unprocessable",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_sealed_is_refused_with_its_code(kind: str, sealed: Seal) -> None:
    document, code = REFUSED[kind]
    with pytest.raises(SealingError) as refusal:
        sealed(document)
    assert refusal.value.code == code


@settings(max_examples=150, deadline=2000, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(sorted(BUILDS)), st.data())
def test_a_damaged_document_is_sealed_or_refused_but_never_a_surprise(
    sealed: Seal, build: str, data: st.DataObject
) -> None:
    document = bytearray(BUILDS[build])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(document) - 1))
        document[at] = data.draw(st.integers(0, 255))
    try:
        result = sealed(bytes(document))
    except SealingError:
        return
    assert result.bytes.startswith(bytes(document))


def test_the_byte_range_is_right_beyond_one_hundred_million_bytes(
    sealed: Seal, root: bytes
) -> None:
    result = sealed(sample_of(100_500_000))
    found = re.search(rb"/ByteRange\[0 (\d+) (\d+) (\d+)\]", result.revision)
    assert found is not None
    before, after, length = (int(number) for number in found.groups())
    whole = result.bytes
    assert whole[before : before + 1] == b"<"
    assert whole[after - 1 : after] == b">"
    assert after + length == len(whole)
    assert check(whole, trust_roots_pem=root).good


def test_a_large_document_is_held_once() -> None:
    """Read, sealed and stored as a worker does: a second copy would show."""
    assert peak_memory_ratio(50_000_000) < 1.5


def test_a_chain_is_made_once_and_its_key_is_private(tmp_path: Path) -> None:
    first = make_specimen_chain(tmp_path / "deep" / "chain")
    key = first.signer_key.read_bytes()
    assert make_specimen_chain(tmp_path / "deep" / "chain").signer_key.read_bytes() == key
    assert first.signer_key.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["chain"]


def test_a_key_that_is_not_the_certificates_is_refused(
    tmp_path: Path, chain: SpecimenChain
) -> None:
    other = make_specimen_chain(tmp_path / "other")
    with pytest.raises(ValueError, match="not the stamping key's"):
        Signer.from_pem(other.signer_key.read_bytes(), chain.chain.read_bytes())


def test_a_changed_byte_breaks_the_signature(sealed: Seal, root: bytes) -> None:
    result = bytearray(sealed(sample_letter()).bytes)
    at = result.index(b"/MediaBox[0 0 595") + len(b"/MediaBox[0 0 59")
    result[at : at + 1] = b"6"
    (signature,) = check(bytes(result), trust_roots_pem=root).signatures
    assert not signature.intact


def test_a_chain_that_is_not_trusted_is_said_to_be(sealed: Seal, tmp_path: Path) -> None:
    stranger = make_specimen_chain(tmp_path / "chain").root.read_bytes()
    (signature,) = check(sealed(sample_letter()).bytes, trust_roots_pem=stranger).signatures
    assert signature.intact
    assert not signature.trusted


@pytest.mark.parametrize("build", [classic, streamed], ids=["table", "stream"])
@pytest.mark.parametrize("page", [1, 1000, "last"])
def test_a_page_of_a_long_flat_tree_is_found(
    build: Callable[..., bytes], page: int | str, sealed: Seal, root: bytes
) -> None:
    result = sealed(build(objects(count=2000)), page=page)
    assert result.boxes[0].page == (2000 if page == "last" else page)
    assert check(result.bytes, trust_roots_pem=root).good
    stamped = pypdf.PdfReader(BytesIO(result.bytes)).pages[result.boxes[0].page - 1]
    assert "/Annots" in stamped


def test_a_tree_with_an_empty_branch_is_counted_right(sealed: Seal) -> None:
    made = objects(count=2)
    made[2] = b"<</Type/Pages/Count 2/Kids[20 0 R 21 0 R]>>"
    made[20] = b"<</Type/Pages/Count 2/Kids[10 0 R 11 0 R]/Parent 2 0 R>>"
    made[21] = b"<</Type/Pages/Count 0/Kids[]/Parent 2 0 R>>"
    for page in (1, 2):
        result = pypdf.PdfReader(BytesIO(sealed(classic(made), page=page).bytes))
        assert ["/Annots" in found for found in result.pages] == [page == 1, page == 2]


@given(st.integers(1, 9), st.lists(st.binary(min_size=9, max_size=9), min_size=1, max_size=70))
def test_the_up_filter_is_undone_as_row_by_row(columns: int, made: list[bytes]) -> None:
    rows = [row[:columns] for row in made]
    above, plain, expected = bytes(columns), b"", b""
    for row in rows:
        plain += b"\x02" + row
        above = bytes((a + b) & 0xFF for a, b in zip(above, row, strict=True))
        expected += above
    assert undo_up(plain, columns) == expected


def test_a_size_that_is_too_small_hides_no_object(sealed: Seal, root: bytes) -> None:
    document = classic(objects()).replace(b"/Size 11", b"/Size 9 ")
    result = sealed(document)
    assert check(result.bytes, trust_roots_pem=root).good
    assert code_on(result).text.endswith(SERIAL)
