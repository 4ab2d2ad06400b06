"""Stamps placed by a word: which one is found, and that the stamp stands on its corner as it is read."""

import re
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
import zxingcpp
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.sealing.conftest import SERIAL, Seal, stamp
from tests.unit.sealing.documents import classic, objects
from tests.unit.sealing.test_judges import said_by
from workers.checking import check
from workers.sealing import SealingError
from workers.sealing.placing import text

Lines = list[tuple[float, float, str]]


def content(*lines: tuple[float, float, str], turned: str = "1 0 0 1 0 0") -> bytes:
    """Return a content stream with lines of text at x and y, 12 points high, the whole turned."""
    shown = f"{turned} cm\n" + "\n".join(
        f"BT /F 12 Tf {x} {y} Td ({line}) Tj ET" for x, y, line in lines
    )
    body = shown.encode("latin-1")
    return b"<</Length %d>>stream\n%s\nendstream" % (len(body), body)


def document(*pages: Lines, page: bytes = b"", turned: str = "1 0 0 1 0 0") -> bytes:
    """Return a document with these lines on its pages."""
    made = objects(count=len(pages), page=page)
    made[4] = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>"
    for number, lines in enumerate(pages):
        made[1000 + number] = content(*lines, turned=turned)
        made[10 + number] = made[10 + number].replace(b"3 0 R", b"%d 0 R" % (1000 + number))
    return classic(made)


def corner(sealed: Seal, source: bytes, **placement: Any) -> tuple[int, int, int]:
    """Return page, x and y of the stamp's lower left corner, in the reader's whole points."""
    (box,) = sealed(source, **placement).boxes
    return box.page, round(box.seen[0]), round(box.seen[1])


LETTER: Lines = [(72, 700, "Jakarta, 24 November 2026"), (360, 300, "Hormat kami,")]


def test_the_stamp_stands_on_the_lower_left_corner_of_the_word(sealed: Seal) -> None:
    page, x, y = corner(sealed, document(LETTER), anchor="Hormat")
    assert (page, x, y) == (1, 361, 300)


def test_an_offset_moves_it_right_and_up(sealed: Seal) -> None:
    plain = corner(sealed, document(LETTER), anchor="Hormat")
    moved = corner(sealed, document(LETTER), anchor="Hormat", offset_x=-30, offset_y=40)
    assert moved == (1, plain[1] - 30, plain[2] + 40)


@pytest.mark.parametrize(
    "anchor", ["hormat kami", "HORMAT  KAMI,", " Hormat\nkami ", "Hormat\tKami,", "kami"]
)
def test_case_and_white_space_do_not_matter(anchor: str, sealed: Seal) -> None:
    assert corner(sealed, document(LETTER), anchor=anchor)[2] in (297, 298, 299, 300)


def test_a_phrase_may_go_on_in_the_next_line(sealed: Seal) -> None:
    source = document([(72, 700, "di atas materai"), (72, 680, "sepuluh ribu rupiah")])
    assert corner(sealed, source, anchor="Materai sepuluh", width=36, height=36)[2] in range(
        676, 682
    )


@pytest.mark.parametrize("anchor", ["horm", "ormat", "kam", "novembe", "ami"])
def test_a_part_of_a_word_is_not_the_word(anchor: str, sealed: Seal) -> None:
    with pytest.raises(SealingError) as refusal:
        sealed(document(LETTER), anchor=anchor)
    assert refusal.value.code == "anchor_not_found"
    assert refusal.value.detail == {
        "anchor": anchor,
        "match": 1,
        "found": 0,
        "pages_searched": 1,
    }


@pytest.mark.parametrize(
    "anchor", ["#METERAI", "${stamp}", "[materai]", "(ttd)", "{{e-meterai}}", "...."]
)
def test_marks_with_punctuation_are_found(anchor: str, sealed: Seal) -> None:
    set_as = re.sub(r"([()])", r"\\\1", anchor)
    source = document([(72, 600, "Tanda tangan"), (200, 500, f"di sini:{set_as}x")])
    if anchor == "#METERAI":
        with pytest.raises(SealingError, match="anchor_not_found"):
            sealed(source, anchor=anchor)
        source = document([(200, 500, f"di sini:{set_as},")])
    page, x, y = corner(sealed, source, anchor=anchor)
    assert page == 1
    assert x in range(230, 245)
    assert y in range(494, 502)


def test_pages_are_searched_from_the_last_and_matches_counted_from_the_top(sealed: Seal) -> None:
    source = document(
        [(72, 700, "saksi")],
        [(300, 400, "saksi"), (72, 600, "saksi"), (200, 600, "saksi"), (72, 100, "saksi")],
        [(72, 700, "lampiran")],
    )
    found = [corner(sealed, source, anchor="saksi", match=n) for n in range(1, 6)]
    assert [(page, y) for page, _, y in found] == [(2, 600), (2, 600), (2, 400), (2, 100), (1, 700)]
    assert [x for _, x, _ in found[:2]] == [72, 200]
    with pytest.raises(SealingError) as refusal:
        sealed(source, anchor="saksi", match=6)
    assert refusal.value.detail["found"] == 5
    assert refusal.value.detail["pages_searched"] == 3


@pytest.mark.parametrize(("page", "found"), [(1, 1), (2, 2), ("last", 2)])
def test_only_the_page_that_is_named_is_searched(page: Any, found: int, sealed: Seal) -> None:
    source = document([(72, 700, "saksi")], [(72, 500, "saksi")])
    assert corner(sealed, source, anchor="saksi", page=page)[0] == found


def test_a_page_that_is_not_there_is_said_to_be(sealed: Seal) -> None:
    with pytest.raises(SealingError, match="page_out_of_range"):
        sealed(document(LETTER), anchor="Hormat", page=2)


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("crop", ["", "/CropBox[20 30 580 800]", "/MediaBox[-100 -50 700 900]"])
@pytest.mark.parametrize("unit", [1, 2])
def test_the_corner_is_the_one_that_the_reader_sees(
    rotate: int, crop: str, unit: int, sealed: Seal
) -> None:
    source = document(
        [(300, 400, "MATERAI")], page=f"/Rotate {rotate}/UserUnit {unit}{crop}".encode()
    )
    result = sealed(source, anchor="materai")
    (box,) = result.boxes
    # The word is upright on the page, so that its corner turns with it: about 52 x 9 units of ink.
    left, bottom, *_ = box.view.seen((300.9, 399.9, 353.5, 408.7))
    assert box.seen[0] == pytest.approx(left, abs=1.5 * unit)
    assert box.seen[1] == pytest.approx(bottom, abs=1.5 * unit)
    assert (box.seen[2] - box.seen[0], box.seen[3] - box.seen[1]) == pytest.approx((80, 80))
    pdf = pypdfium2.PdfDocument(result.bytes)
    pdf.init_forms()
    picture = pdf[0].render(scale=3 * unit).to_pil()
    (code,) = zxingcpp.read_barcodes(picture)
    assert code.orientation == 0
    # pdfium draws units as points; three pixels a point either way.
    height = box.view.size[1]
    assert left * 3 < code.position.bottom_left.x < (left + 80) * 3
    assert (height - bottom - 80) * 3 < code.position.bottom_left.y < (height - bottom) * 3


def test_words_beside_the_visible_page_are_not_found(sealed: Seal) -> None:
    source = document([(72, 700, "saksi"), (300, 400, "saksi")], page=b"/CropBox[200 200 595 842]")
    assert corner(sealed, source, anchor="saksi") == (1, 100, 200)
    with pytest.raises(SealingError) as refusal:
        sealed(source, anchor="saksi", match=2)
    assert refusal.value.detail["found"] == 1


def test_a_stamp_that_would_leave_the_page_is_refused_with_its_place(sealed: Seal) -> None:
    with pytest.raises(SealingError) as refusal:
        sealed(document([(560, 400, "x")]), anchor="x")
    assert refusal.value.code == "box_off_page"
    assert refusal.value.detail["x"] == pytest.approx(560, abs=1)


def test_ligatures_and_wide_letters_are_the_letters_that_they_stand_for(sealed: Seal) -> None:
    made = objects()
    made[3] = content((72, 500, "sertiA kat"))
    made[4] = (
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/ToUnicode 40 0 R/Encoding"
        b"<</Type/Encoding/BaseEncoding/WinAnsiEncoding/Differences[65/fi]>>>>"
    )
    body = (
        b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def"
        b" 1 begincodespacerange <00> <FF> endcodespacerange"
        b" 1 beginbfchar <41> <FB01> endbfchar endcmap end end"
    )
    made[40] = b"<</Length %d>>stream\n%s\nendstream" % (len(body), body)
    made[3] = content((72, 500, "sertiAkat"))
    assert corner(sealed, classic(made), anchor="SERTIFIKAT")[0] == 1


def test_accents_are_the_same_composed_or_not(sealed: Seal) -> None:
    source = document([(72, 500, "caf\xe9 pertama")])
    for anchor in ("café", "cafe\u0301", "CAFÉ PERTAMA"):
        assert corner(sealed, source, anchor=anchor)[0] == 1
    with pytest.raises(SealingError, match="anchor_not_found"):
        sealed(source, anchor="cafe")


def test_the_search_is_bounded(sealed: Seal, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [LETTER, *[[(72.0, 700.0, "lampiran")]] * 5]
    source = document(*lines)
    assert corner(sealed, source, anchor="Hormat")[0] == 1
    monkeypatch.setattr(text, "MAX_PAGES", 5)
    with pytest.raises(SealingError) as refusal:
        sealed(source, anchor="Hormat")
    assert refusal.value.detail["pages_searched"] == 5
    monkeypatch.setattr(text, "MAX_CHARACTERS", 20)
    with pytest.raises(SealingError) as refusal:
        sealed(source, anchor="Hormat")
    assert refusal.value.detail["pages_searched"] == 3


def test_a_document_that_pdfium_counts_otherwise_is_refused(sealed: Seal) -> None:
    source = document([(72, 700, "saksi")], [(72, 700, "saksi")])
    source = source.replace(b"/Count 2", b"/Count 9")
    with pytest.raises(SealingError) as refusal:
        sealed(source, anchor="saksi", page=1)
    assert refusal.value.code == "document_unreadable"


def test_stamps_that_would_cover_each_other_are_refused(sealed: Seal) -> None:
    other = "S8866D64HDNEMYYPY5A1GB"
    with pytest.raises(SealingError) as refusal:
        sealed(
            document(LETTER),
            stamp(SERIAL, anchor="Hormat"),
            stamp(other, x=400, y=350),
        )
    assert (refusal.value.code, refusal.value.detail) == (
        "stamps_overlap",
        {"page": 1, "stamps": [1, 2]},
    )


def test_stamps_may_touch_and_may_be_placed_each_in_its_own_way(sealed: Seal) -> None:
    serials = ["S8866D64HDNEMYYPY5A1GB", "S8866D64HDNEMYYPY5A1GC", "S8866D64HDNEMYYPY5A1GD"]
    result = sealed(
        document(LETTER),
        stamp(serials[0], position="auto"),
        stamp(serials[1], x=100, y=100),
        stamp(serials[2], x=180, y=100),
        stamp(SERIAL, anchor="Hormat"),
    )
    pdf = pypdfium2.PdfDocument(result.bytes)
    pdf.init_forms()
    codes = zxingcpp.read_barcodes(pdf[0].render(scale=3).to_pil())
    assert {code.text.rpartition("/")[2] for code in codes} == {*serials, SERIAL}


@pytest.mark.system
def test_the_judges_find_one_signature_over_all_of_them(
    sealed: Seal, root: bytes, tmp_path: Path
) -> None:
    result = sealed(
        document(LETTER, LETTER),
        stamp("S8866D64HDNEMYYPY5A1GB", position="auto"),
        stamp("S8866D64HDNEMYYPY5A1GC", x=100, y=100, page=1),
        stamp(SERIAL, anchor="Hormat", match=2),
    )
    file = tmp_path / "sealed.pdf"
    file.write_bytes(result.bytes)
    said = said_by("pdfsig", "-nocert", str(file))
    assert said.count("Signature is Valid") == 1
    assert "Total document signed" in said
    assert "No syntax or stream encoding errors found" in said_by("qpdf", "--check", str(file))
    # Stamped once more, both signatures hold.
    twice = sealed(result.bytes, stamp("S8866D64HDNEMYYPY5A1GD", position="auto"))
    first, second = check(twice.bytes, trust_roots_pem=root).signatures
    assert (first.intact, second.intact) == (True, True)
    assert first.changed_after in ("lta_updates", "form_filling")
    file.write_bytes(twice.bytes)
    assert said_by("pdfsig", "-nocert", str(file)).count("Signature is Valid") == 2


@given(st.text(max_size=40), st.text(min_size=1, max_size=8))
def test_whatever_is_found_is_the_phrase_between_words(haystack: str, needle: str) -> None:
    folded = text._folded(haystack)[0]
    wanted = text._folded(needle)[0].strip()
    if not wanted:
        return
    for start in text._whole_words(folded, wanted):
        assert folded.startswith(wanted, start)
    words = folded.split(" ")
    if wanted in words and " " not in wanted:
        assert list(text._whole_words(folded, wanted))
