"""An issuer's own design: what it draws, what it adds, and what is refused."""

import re
import zlib
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pypdf
import pypdfium2
import pytest
import zxingcpp
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pypdf.generic import ArrayObject, DictionaryObject, FloatObject, NameObject, TextStringObject

from deploy import design_check
from deploy.sample import sample_letter
from tests.samples import DESIGN_FIELDS, SERIAL, example_design, example_stamp
from tests.unit.sealing.conftest import AT, Seal
from tests.unit.sealing.documents import classic, objects
from tests.unit.sealing.test_judges import said_by
from tests.unit.sealing.test_seal import BUILDS
from workers.checking import check
from workers.sealing import Design, DesignError, Placement, Sealed, Signer, Stamp, seal

RED, GREEN = (210, 30, 60), (40, 150, 60)


def field(name: bytes, *sides: float, kind: bytes = b"/Subtype/Widget/FT/Tx") -> bytes:
    return b"<</Type/Annot%s/T(%s)/Rect[%s]>>" % (kind, name, b" ".join(b"%g" % s for s in sides))


SERIAL_FIELD = field(b"serial", 22, 2, 98, 7)
CODE_FIELD = field(b"qr", 22, 10, 98, 86)


def design(
    *fields: bytes,
    page: bytes = b"/MediaBox[0 0 100 100]",
    resources: bytes = b"<<>>",
    content: bytes = b"",
    trailer: bytes = b"",
    extra: dict[int, bytes] | None = None,
) -> bytes:
    """Return a one-page PDF with fields."""
    made = {
        1: b"<</Type/Catalog/Pages 2 0 R>>",
        2: b"<</Type/Pages/Count 1/Kids[3 0 R]>>",
        3: b"<</Type/Page/Parent 2 0 R/Contents 4 0 R/Resources%s/Annots[%s]%s>>"
        % (resources, b" ".join(fields), page),
        4: b"<</Length %d>>stream\n%s\nendstream" % (len(content), content),
    }
    return classic(made | (extra or {}), trailer=trailer)


def stamped(signer: Signer, made: bytes, *stamps: Stamp, document: bytes | None = None) -> Sealed:
    return seal(
        document or sample_letter(),
        list(stamps) or [example_stamp()],
        signer=signer,
        at=AT,
        reason=f"[{SERIAL}] test",
        design=Design.load(made),
    )


def picture(sealed: Sealed, dpi: int = 300) -> Image.Image:
    """Return the stamp as it is rendered."""
    pdf = pypdfium2.PdfDocument(sealed.bytes)
    pdf.init_forms()
    rendered = pdf[0].render(scale=dpi / 72).to_pil().convert("RGB")
    left, bottom, right, top = (side * dpi / 72 for side in sealed.boxes[0].rectangle)
    cut: Image.Image = rendered.crop((left, rendered.height - top, right, rendered.height - bottom))
    return cut


def pixels_like(image: Image.Image, colour: tuple[int, int, int]) -> int:
    raw = image.tobytes()
    near = zip(raw[::3], raw[1::3], raw[2::3], strict=True)
    return sum(all(abs(a - b) < 60 for a, b in zip(p, colour, strict=True)) for p in near)


def test_the_example_design_is_drawn_and_its_code_is_read(signer: Signer, root: bytes) -> None:
    sealed = stamped(signer, example_design())
    assert check(sealed.bytes, trust_roots_pem=root).good
    (code,) = zxingcpp.read_barcodes(picture(sealed, 150))
    assert code.text == example_stamp().qr_text
    strict = pypdf.PdfReader(BytesIO(sealed.bytes), strict=True)
    appearance: Any = strict.pages[0]["/Annots"][-1]["/AP"]["/N"]  # type: ignore[index]
    ground = appearance["/Resources"]["/XObject"]["/D"]
    assert "/Ring" in ground["/Resources"]["/XObject"]
    assert b"/Ring Do" in ground.get_data()


def test_test_mode_writes_specimen_across_and_live_mode_does_not(signer: Signer) -> None:
    test, live = (
        pixels_like(picture(stamped(signer, example_design(), example_stamp(specimen=s))), RED)
        for s in (True, False)
    )
    assert live == 0
    assert test > 1000


def test_what_a_screen_reader_says_is_specimen_only_where_the_stamp_says_so(
    signer: Signer, sealed: Seal
) -> None:
    built_in = sealed(sample_letter(), example_stamp(specimen=False))
    live = stamped(signer, example_design(), example_stamp(specimen=False))
    test = stamped(signer, example_design())
    said = [b"SPECIMEN" in r.revision for r in (built_in, live, test)]
    assert said == [True, False, True]


def test_the_built_in_design_says_specimen_in_every_mode(sealed: Seal) -> None:
    for specimen in (True, False):
        shown = picture(sealed(sample_letter(), example_stamp(specimen=specimen)))
        assert pixels_like(shown, (189, 13, 26)) > 1000


def test_several_stamps_share_one_import(signer: Signer) -> None:
    document = classic(objects(count=2))
    one = stamped(signer, example_design(), document=document)
    above = replace(example_stamp(), placement=Placement(position="top"))
    two = stamped(signer, example_design(), example_stamp(), above, document=document)
    assert two.revision.count(b"/Ring ") == one.revision.count(b"/Ring ") == 1
    assert two.revision.count(b"/AP<<") == 2


def test_fonts_pictures_and_nested_forms_come_along_with_new_numbers(signer: Signer) -> None:
    image = zlib.compress(bytes((40, 150, 60)) * 16)
    form = b"q 40 0 0 40 0 0 cm /Im Do Q"
    made = design(
        SERIAL_FIELD,
        CODE_FIELD,
        resources=b"<</XObject<</Fm 5 0 R>>/Font<</F 7 0 R>>>>",
        content=b"q .5 0 0 .5 0 80 cm /Fm Do Q BT /F 9 Tf 30 90 Td (Teks 100%) Tj ET",
        extra={
            5: b"<</Type/XObject/Subtype/Form/BBox[0 0 40 40]/StructParents 3"
            b"/Resources<</XObject<</Im 6 0 R>>>>/Length %d>>stream\n%s\nendstream"
            % (len(form), form),
            6: b"<</Type/XObject/Subtype/Image/Width 4/Height 4/ColorSpace/DeviceRGB"
            b"/BitsPerComponent 8/Filter/FlateDecode/Length 9 0 R>>stream\n%s\nendstream" % image,
            7: b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Descriptor [8 0 R 8 0 R]>>",
            8: b"<</Self 8 0 R/Text(50% %d)>>",
            9: b"%d" % len(image),
        },
    )
    sealed = stamped(signer, made)
    assert pixels_like(picture(sealed), GREEN) > 1000
    assert b"/StructParents" not in sealed.revision
    strict = pypdf.PdfReader(BytesIO(sealed.bytes), strict=True)
    appearance: Any = strict.pages[0]["/Annots"][-1]["/AP"]["/N"]  # type: ignore[index]
    font = appearance["/Resources"]["/XObject"]["/D"]["/Resources"]["/Font"]["/F"]
    assert font["/Descriptor"][0]["/Self"]["/Text"] == "50% %d"
    remarks = " ".join(Design.load(made).remarks)
    assert "font is not embedded" in remarks
    assert "device colours" in remarks


def test_a_design_that_does_not_begin_at_nought_is_moved(signer: Signer) -> None:
    moved = design(
        field(b"serial", 522, -98, 598, -93),
        field(b"qr", 522, -90, 598, -14),
        page=b"/MediaBox[0 -500 900 900]/CropBox[500 -100 600 0]",
        content=b"0.16 0.59 0.24 rg 500 -100 15 15 re f",
    )
    shown = picture(stamped(signer, moved))
    (code,) = zxingcpp.read_barcodes(shown)
    assert code.text == example_stamp().qr_text
    corner = shown.crop((0, shown.height * 9 // 10, shown.width // 10, shown.height))
    assert pixels_like(corner, (41, 150, 61)) > 500


def test_a_field_may_have_its_name_from_above(signer: Signer) -> None:
    writer = pypdf.PdfWriter(clone_from=BytesIO(design(SERIAL_FIELD)))
    parent = writer._add_object(DictionaryObject({NameObject("/T"): TextStringObject("qr")}))
    widget = DictionaryObject(
        {
            NameObject("/Subtype"): NameObject("/Widget"),
            NameObject("/Parent"): parent,
            NameObject("/Rect"): ArrayObject(map(FloatObject, (98, 86, 22, 10))),
        }
    )
    writer.pages[0]["/Annots"].append(writer._add_object(widget))  # type: ignore[attr-defined]
    out = BytesIO()
    writer.write(out)
    assert Design.load(out.getvalue()).layout.code.width == pytest.approx(76)


def test_transparency_is_remarked_upon() -> None:
    for state in (b"<</ca .5>>", b"<</BM/Multiply>>", b"<</SMask<</S/Alpha>>>>"):
        made = design(SERIAL_FIELD, CODE_FIELD, resources=b"<</ExtGState<</G %s>>>>" % state)
        assert Design.load(made).remarks == ("it is transparent in places, which PDF/A-1 forbids",)
    group = design(
        SERIAL_FIELD, CODE_FIELD, page=b"/MediaBox[0 0 100 100]/Group<</S/Transparency>>"
    )
    assert Design.load(group).remarks == ("it is transparent in places, which PDF/A-1 forbids",)
    assert Design.load(example_design()).remarks == ()


REFUSED = {
    "no PDF": (b"a picture, perhaps", "cannot be read"),
    "cut short": (example_design()[:300], "cannot be read"),
    "no code": (design(SERIAL_FIELD), "no form field named 'qr'"),
    "no serial": (design(CODE_FIELD), "no form field named 'serial'"),
    "not a field": (
        design(SERIAL_FIELD, field(b"qr", 22, 10, 98, 86, kind=b"/Subtype/Text")),
        "no form field named 'qr'",
    ),
    "two codes": (design(SERIAL_FIELD, CODE_FIELD, CODE_FIELD), "two fields 'qr'"),
    "a typing error": (design(SERIAL_FIELD, CODE_FIELD, field(b"dte", 1, 1, 9, 9)), "'dte'"),
    "off the page": (design(SERIAL_FIELD, field(b"qr", 40, 10, 116, 86)), "leaves the page"),
    "no size": (design(SERIAL_FIELD, field(b"qr", 40, 10, 40, 86)), "half a point"),
    "turned": (
        design(SERIAL_FIELD, CODE_FIELD, page=b"/MediaBox[0 0 100 100]/Rotate 90"),
        "turned",
    ),
    "no room": (design(SERIAL_FIELD, field(b"qr", 1, 1, 99, 99)), "no room for the word SPECIMEN"),
    "several pages": (classic(objects(count=2)), "2 pages"),
    "encrypted": (
        design(
            SERIAL_FIELD,
            CODE_FIELD,
            extra={20: b"<</Filter/Standard/V 1/R 2/O(%s)/U(%s)/P -4>>" % (b"o" * 32, b"u" * 32)},
            trailer=b"/Encrypt 20 0 R/ID[<aa><aa>]",
        ),
        "encrypted",
    ),
    "too large": (
        design(
            SERIAL_FIELD,
            CODE_FIELD,
            resources=b"<</XObject<</Im 5 0 R>>>>",
            extra={5: b"<</Subtype/Image/Length 70000>>stream\n%s\nendstream" % (b"\x01" * 70_000)},
        ),
        "more than the 65536",
    ),
    "draws pages": (
        design(SERIAL_FIELD, CODE_FIELD, resources=b"<</XObject<</P 3 0 R>>>>"),
        "refers to pages",
    ),
    "nested too deeply": (
        design(SERIAL_FIELD, CODE_FIELD, resources=b"<</X%s%s>>" % (b"[" * 90, b"]" * 90)),
        "nested too deeply",
    ),
    "too many objects": (
        design(
            SERIAL_FIELD,
            CODE_FIELD,
            resources=b"<</X[%s]>>" % b" ".join(b"%d 0 R" % n for n in range(10, 700)),
            extra=dict.fromkeys(range(10, 700), b"null"),
        ),
        "more than 500 objects",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_design_that_cannot_be_used_is_refused_in_a_sentence(case: str) -> None:
    content, why = REFUSED[case]
    with pytest.raises(DesignError, match=re.escape(why)):
        Design.load(content)


@given(
    st.lists(st.tuples(st.integers(0, len(example_design()) - 1), st.integers(0, 255)), max_size=4)
)
def test_a_damaged_design_is_read_or_refused_but_never_a_surprise(
    changes: list[tuple[int, int]],
) -> None:
    damaged = bytearray(example_design())
    for at, byte in changes:
        damaged[at] = byte
    try:
        design = Design.load(bytes(damaged))
    except DesignError:
        return
    assert 0 < design.size <= 64 * 1024


def test_the_report_says_what_a_design_holds_and_the_picture_shows_it() -> None:
    made = Design.load(example_design())
    said = design_check.report(made, public_url="https://verifikasi.example.go.id")
    assert said.places == list(DESIGN_FIELDS)
    assert said.dots_per_module > 2
    assert said.remarks == []
    assert 0 < said.bytes_per_stamp + said.bytes_per_document < 6 * 1024
    shown = Image.open(BytesIO(design_check.picture(made, public_url="https://s.example", dpi=150)))
    test = shown.crop((0, 0, shown.width // 2, shown.height)).convert("RGB")
    live = shown.crop((shown.width // 2, 0, shown.width, shown.height)).convert("RGB")
    assert pixels_like(test, RED) > 300
    assert pixels_like(live, (220, 30, 30)) + pixels_like(live, (240, 150, 150)) > 300


def test_a_code_too_small_to_be_read_is_remarked_upon() -> None:
    small = Design.load(design(SERIAL_FIELD, field(b"qr", 40, 10, 90, 60)))
    said = design_check.report(small, public_url="https://verifikasi.example.go.id")
    assert said.dots_per_module < 2
    assert any("too small" in remark for remark in said.remarks)


@pytest.mark.system
@pytest.mark.parametrize("build", ["table", "stream"])
def test_qpdf_and_pdfsig_find_nothing_wrong_with_a_design_of_ones_own(
    build: str, signer: Signer, tmp_path: Path
) -> None:
    file = tmp_path / "sealed.pdf"
    file.write_bytes(stamped(signer, example_design(), document=BUILDS[build]).bytes)
    assert "No syntax or stream encoding errors" in said_by("qpdf", "--check", str(file))
    assert "Total document signed" in said_by("pdfsig", "-nocert", str(file))
