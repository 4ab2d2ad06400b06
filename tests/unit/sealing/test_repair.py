"""Damaged documents: repaired where all readers see the same in them, and refused otherwise."""

import re
import subprocess
from io import BytesIO
from pathlib import Path

import pypdf
import pypdfium2
import pytest
from pyhanko.pdf_utils.reader import PdfFileReader

from deploy.sample import sample_letter
from tests.unit.sealing.conftest import Seal, stamp
from tests.unit.sealing.damage import REPAIRABLE, startxref, without_startxref
from tests.unit.sealing.documents import CONTENT, classic, objects, streamed
from workers.checking import check
from workers.sealing import SealingError


def revised(document: bytes) -> bytes:
    """Append a revision by hand, in which the page is turned."""
    start = re.findall(rb"startxref\n(\d+)", document)[-1]
    page = objects(page=b"/Rotate 90")[10]
    body = document + b"10 0 obj\n%s\nendobj\n" % page
    return body + (
        b"xref\n10 1\n%010d 00000 n \ntrailer\n<</Size 11/Root 1 0 R/Prev %s>>\n"
        b"startxref\n%d\n%%%%EOF\n"
    ) % (len(document), start, len(body))


WIDE = objects(count=3)
SOUND = {
    "table": classic(objects()),
    "two revisions": revised(classic(objects())),
    "stream": streamed(WIDE),
    "object stream": streamed(WIDE, packed=(1, 2, 10, 11, 12)),
    "form by reference": classic(
        objects(catalogue=b"/AcroForm 20 0 R") | {20: b"<</Fields 21 0 R>>", 21: b"[]"}
    ),
    "letter": sample_letter(),
}
CASES = [(build, damage) for build in SOUND for damage in REPAIRABLE]
# Readers differ on whether the second revision is one.
for doubtful in ("no startxref", "no mark at the end"):
    CASES.remove(("two revisions", doubtful))


def drawn(document: bytes) -> list[bytes]:
    """Return every page as pixels, without annotations."""
    return [
        page.render(may_draw_forms=False, draw_annots=False, scale=0.5).to_pil().tobytes()
        for page in pypdfium2.PdfDocument(document)
    ]


@pytest.mark.parametrize(("build", "damage"), CASES)
def test_a_repaired_document_is_sealed_and_shows_what_it_showed(
    build: str, damage: str, sealed: Seal, root: bytes
) -> None:
    damaged = REPAIRABLE[damage](SOUND[build])
    result = sealed(damaged, page=1, position="top-left").bytes
    assert result.startswith(damaged)
    assert check(result, trust_roots_pem=root).good
    assert drawn(result) == drawn(damaged) == drawn(SOUND[build])
    # Strict readers find everything where the last section says.
    strict = pypdf.PdfReader(BytesIO(result), strict=True)
    assert all(page.raw_get("/Contents").get_object().get_data() for page in strict.pages)
    assert PdfFileReader(BytesIO(result), strict=True).root["/Pages"]["/Count"] == len(strict.pages)


@pytest.mark.system
@pytest.mark.parametrize(("build", "damage"), CASES)
def test_other_programs_find_nothing_wrong_any_more(
    build: str, damage: str, sealed: Seal, tmp_path: Path
) -> None:
    file = tmp_path / "sealed.pdf"
    file.write_bytes(sealed(REPAIRABLE[damage](SOUND[build])).bytes)
    checked = subprocess.run(["qpdf", "--check", file], capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, b"")
    said = subprocess.run(["pdfsig", "-nocert", file], capture_output=True, text=True, check=True)
    assert "Signature is Valid" in said.stdout
    assert "Total document signed" in said.stdout


@pytest.mark.parametrize("build", ["table", "object stream"])
def test_a_rebuilt_cross_reference_is_complete(build: str, sealed: Seal) -> None:
    revision = sealed(without_startxref(SOUND[build])).revision
    assert b"/Prev" not in revision
    found = PdfFileReader(BytesIO(sealed(without_startxref(SOUND[build])).bytes), strict=True)
    numbers = {reference.idnum for reference in found.xrefs.explicit_refs_in_revision(0)}
    assert numbers >= {1, 2, 3, 4, 10}


@pytest.mark.parametrize("missed_by", [-20, -1, 1, 4, 20])
def test_the_next_section_points_to_where_the_last_one_really_is(
    missed_by: int, sealed: Seal
) -> None:
    real = int(re.findall(rb"startxref\n(\d+)", SOUND["stream"])[-1])
    damaged = startxref(lambda n: b"%d" % (n + missed_by))(SOUND["stream"])
    assert b"/Prev %d/" % real in sealed(damaged).revision


def test_an_earlier_signature_stays_valid_under_junk_behind_it(sealed: Seal, root: bytes) -> None:
    damaged = REPAIRABLE["junk behind the end"](sealed(sample_letter()).bytes)
    twice = sealed(damaged, stamp("S8866D64HDNEMYYPY5A1GB", position="top-left")).bytes
    first, second = check(twice, trust_roots_pem=root).signatures
    assert (first.intact, second.intact, second.whole_file) == (True, True, True)


def test_a_signature_that_the_damage_broke_is_not_mended(sealed: Seal, root: bytes) -> None:
    damaged = startxref(lambda n: b"%d" % (n + 3))(sealed(sample_letter()).bytes)
    twice = sealed(damaged, stamp("S8866D64HDNEMYYPY5A1GB", position="top-left")).bytes
    first, second = check(twice, trust_roots_pem=root).signatures
    assert (first.intact, second.intact, second.whole_file) == (False, True, True)


def test_the_last_definition_of_an_object_counts(sealed: Seal) -> None:
    turned = startxref(lambda _: b"7")(revised(classic(objects())))
    page = pypdf.PdfReader(BytesIO(sealed(turned).bytes), strict=True).pages[0]
    assert page.rotation == 90


def test_an_object_stream_and_a_later_object_of_the_same_number_are_told_apart(
    sealed: Seal,
) -> None:
    packed = streamed(objects(), packed=(1, 2, 10))
    at = packed.rindex(b"12 0 obj")
    turned = b"10 0 obj\n%s\nendobj\n" % objects(page=b"/Rotate 90")[10]
    damaged = startxref(lambda _: b"7")(packed[:at] + turned + packed[at:])
    assert pypdf.PdfReader(BytesIO(sealed(damaged).bytes), strict=True).pages[0].rotation == 90


@pytest.mark.parametrize("length", [b"%d", b"30 0 R"], ids=["direct", "indirect"])
def test_objects_inside_the_data_of_a_stream_are_none(length: bytes, sealed: Seal) -> None:
    inner = b"10 0 obj\n<</Type/Page/Rotate 90>>\nendobj\ntrailer\n<</Root 9 0 R>>\n"
    entry = length % len(inner) if b"%" in length else length
    made = objects() | {
        20: b"<</Length %s>>stream\n%s\nendstream" % (entry, inner),
        30: b"%d" % len(inner),
    }
    damaged = without_startxref(classic(made))
    assert pypdf.PdfReader(BytesIO(sealed(damaged).bytes), strict=True).pages[0].rotation == 0


@pytest.mark.parametrize("length", [b"3", b"99999", b"30 0 R"])
def test_a_stream_whose_length_is_wrong_ends_where_it_says_so(length: bytes, sealed: Seal) -> None:
    content = CONTENT.replace(b"/Length 42", b"/Length " + length)
    damaged = without_startxref(classic(objects() | {3: content, 30: b"7"}))
    assert drawn(sealed(damaged, position="top-left").bytes) == drawn(damaged)


@pytest.mark.parametrize("trailer", [b"/Something )", b"/Something <zz>", b"/X<</Y"])
def test_a_trailer_that_cannot_be_parsed_still_names_the_catalogue(
    trailer: bytes, sealed: Seal, root: bytes
) -> None:
    assert check(sealed(classic(objects(), trailer=trailer)).bytes, trust_roots_pem=root).good


def test_a_document_without_any_trailer_is_known_by_its_only_catalogue(
    sealed: Seal, root: bytes
) -> None:
    document = classic(objects())
    cut = document[: document.rindex(b"xref\n0 1")]
    assert check(sealed(cut).bytes, trust_roots_pem=root).good


WRONG = startxref(lambda _: b"7")
TABLE = classic(objects())
DOUBTFUL = {
    "an object that is referred to is missing": (
        WRONG(TABLE.replace(b"3 0 obj", b"3 0 odj")),
        "an object is missing",
    ),
    "a reference of another generation": (
        WRONG(TABLE.replace(b"/Contents 3 0 R", b"/Contents 3 1 R")),
        "an object is missing",
    ),
    "one object in two generations": (
        WRONG(TABLE.replace(b"xref\n0 1", b"3 1 obj\n(x)\nendobj\nxref\n0 1")),
        "generations",
    ),
    "two catalogues": (
        WRONG(TABLE.replace(b"trailer", b"trailer\n<</Root 4 0 R>>\ntrailer")),
        "several catalogues",
    ),
    "two catalogues and no trailer": (
        classic(objects() | {30: b"<</Type/Catalog/Pages 2 0 R>>"}).partition(b"\nxref")[0],
        "several catalogues",
    ),
    "no catalogue": (
        classic(objects()).replace(b"/Type/Catalog", b"").partition(b"\nxref")[0],
        "no catalogue",
    ),
    "an object that was never finished": (
        WRONG(
            TABLE.replace(b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>\nendobj", b"<</Type")
        ),
        "unfinished object",
    ),
    "cut off in an object": (
        TABLE[: TABLE.index(b"endobj", TABLE.index(b"10 0 obj"))],
        "cut short",
    ),
    "cut off in a stream": (TABLE[: TABLE.index(b"endstream")], "cut short"),
    "a revision behind the end without an end of its own": (
        TABLE + b"10 0 obj\n%s\nendobj\n" % objects(page=b"/Rotate 90")[10] + b" " * 2000,
        "objects behind the end of file",
    ),
    "a second revision without a mark at its end": (
        REPAIRABLE["no mark at the end"](SOUND["two revisions"]),
        "no end of file",
    ),
    "data that goes on behind its first end": (
        without_startxref(
            classic(
                objects()
                | {
                    20: b"<</Length 30 0 R>>stream\n1 0 obj\nendstream\nendobj\n2 0 obj\nendstream",
                    30: b"32",
                }
            )
        ),
        "stream",
    ),
    "signed": (WRONG(TABLE.replace(b"/BaseFont", b"/ByteRange")), "damaged and signed"),
    "junk before the header": (WRONG(b"junk\n" + TABLE), "junk before the header"),
}


@pytest.mark.parametrize("kind", DOUBTFUL)
def test_what_readers_could_take_for_different_documents_is_refused(
    kind: str, sealed: Seal
) -> None:
    document, reason = DOUBTFUL[kind]
    with pytest.raises(SealingError) as refusal:
        sealed(document)
    assert refusal.value.code == "document_unreadable"
    assert refusal.value.detail == {"reason": reason}


@pytest.mark.parametrize(
    "document",
    [
        WRONG(classic(objects() | {20: b"<</Filter/Standard>>"}, trailer=b"/Encrypt 20 0 R")),
        WRONG(classic(objects(), trailer=b"/Encrypt 20 0 R/Broken )")),
        WRONG(classic(objects(), trailer=b"/#45ncrypt 1 0 R")),
        WRONG(streamed(objects()).replace(b"/Type/XRef", b"/Type/XRef/Encrypt<</V 5>>")),
        WRONG(TABLE.replace(b"trailer", b"trailer\n<</Encrypt<</V 5>>/Root 1 0 R>>\ntrailer")),
    ],
)
def test_encryption_is_seen_in_a_damaged_document_too(document: bytes, sealed: Seal) -> None:
    with pytest.raises(SealingError) as refusal:
        sealed(document)
    assert refusal.value.code == "document_encrypted"


@pytest.mark.parametrize("generation", [b"1", b"99999999999"])
def test_a_form_referred_to_by_another_generation_is_refused(
    generation: bytes, sealed: Seal
) -> None:
    made = objects(catalogue=b"/AcroForm 20 %s R" % generation) | {20: b"<</Fields[]>>"}
    for document in (classic(made), streamed(made)):
        with pytest.raises(SealingError) as refusal:
            sealed(document)
        assert refusal.value.code == "document_unreadable"


def test_absurd_object_numbers_are_not_repaired(sealed: Seal) -> None:
    document = WRONG(TABLE.replace(b"xref\n0 1", b"9999999999 0 obj\n1\nendobj\nxref\n0 1"))
    with pytest.raises(SealingError) as refusal:
        sealed(document)
    assert refusal.value.code == "document_unprocessable"
