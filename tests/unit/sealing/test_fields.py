"""Empty signature fields of a document: signed where they are, with what they ask for, or refused."""

from io import BytesIO
from pathlib import Path
from typing import Any

import pypdf
import pypdfium2
import pytest
import zxingcpp
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.fields import FieldMDPAction, FieldMDPSpec, MDPPerm

from deploy.specimen import SpecimenChain
from tests.unit.sealing.conftest import SERIAL, Seal, stamp
from tests.unit.sealing.documents import classic, objects, streamed
from tests.unit.sealing.test_judges import said_by
from workers.checking import check
from workers.sealing import SealingError

RECT = b"/Rect[100 300 220 380]"
FORM = b"/AcroForm<</Fields[30 0 R]/SigFlags 3>>"


def merged(extra: bytes = b"", *, page: bytes = b"", rect: bytes = RECT) -> dict[int, bytes]:
    """Return a document whose field is its own widget."""
    return objects(page=b"/Annots[30 0 R]" + page, catalogue=FORM) | {
        30: b"<</FT/Sig/T(Sign here)/Type/Annot/Subtype/Widget/F 4/P 10 0 R%s%s>>" % (rect, extra)
    }


def separate(extra: bytes = b"") -> dict[int, bytes]:
    """Return a document whose field has its widget below it, both below another field."""
    return objects(page=b"/Annots[32 0 R]", catalogue=FORM) | {
        30: b"<</T(letter)/FT/Sig/Kids[31 0 R]>>",
        31: b"<</T(stamp)/Parent 30 0 R/Kids[32 0 R]%s>>" % extra,
        32: b"<</Type/Annot/Subtype/Widget/Parent 31 0 R/P 10 0 R/F 4%s>>" % RECT,
    }


DOCUMENTS = {
    "merged": (classic(merged()), "Sign here"),
    "separate": (classic(separate()), "letter.stamp"),
    "in object streams": (streamed(separate(), packed=(1, 2, 10, 30, 31, 32)), "letter.stamp"),
    "without its page": (
        classic({n: b.replace(b"/P 10 0 R", b"") for n, b in merged().items()}),
        "Sign here",
    ),
    "with a page that is none": (
        classic({n: b.replace(b"/P 10 0 R", b"/P 1 0 R") for n, b in merged().items()}),
        "Sign here",
    ),
    "with an appearance": (
        classic(
            merged(b"/AP<</N 33 0 R>>")
            | {33: b"<</Type/XObject/Subtype/Form/BBox[0 0 9 9]/Length 0>>stream\n\nendstream"}
        ),
        "Sign here",
    ),
}


def picture(document: bytes, page: int = 1, *, dpi: int = 216) -> Any:
    pdf = pypdfium2.PdfDocument(document)
    pdf.init_forms()
    return pdf[page - 1].render(scale=dpi / 72).to_pil()


@pytest.mark.parametrize("build", DOCUMENTS)
def test_a_field_is_signed_in_its_place_and_no_other_is_made(
    build: str, sealed: Seal, root: bytes
) -> None:
    document, name = DOCUMENTS[build]
    result = sealed(document, field=name)
    (signature,) = check(result.bytes, trust_roots_pem=root).signatures
    assert (signature.field, signature.serial) == (name, SERIAL)
    assert (signature.intact, signature.trusted, signature.whole_file) == (True, True, True)
    assert result.boxes[0].seen == (100, 300, 220, 380)
    reader: Any = pypdf.PdfReader(BytesIO(result.bytes))
    assert len(reader.pages[0]["/Annots"]) == 1
    assert len(reader.trailer["/Root"]["/AcroForm"]["/Fields"]) == 1
    (code,) = zxingcpp.read_barcodes(picture(result.bytes))
    assert code.text.endswith(SERIAL)
    # In the middle of the field, three pixels a point, from the upper left.
    middle = (code.position.top_left.x + code.position.bottom_right.x) / 2
    assert abs(middle - 3 * 160) < 3 * 12


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("turned", [True, False], ids=["widget turned", "widget silent"])
def test_the_stamp_in_a_field_stands_upright_on_a_turned_page(
    rotate: int, turned: bool, sealed: Seal
) -> None:
    extra = b"/MK<</R %d>>" % rotate if turned else b""
    document = classic(merged(extra, page=b"/Rotate %d" % rotate))
    result = sealed(document, field="Sign here")
    (code,) = zxingcpp.read_barcodes(picture(result.bytes))
    assert code.orientation == 0
    left, bottom, right, top = result.boxes[0].seen
    assert left < code.position.top_left.x / 3 < code.position.bottom_right.x / 3 < right
    height = result.boxes[0].view.size[1]
    assert bottom < height - code.position.bottom_right.y / 3
    assert height - code.position.top_left.y / 3 < top


def test_a_widget_that_says_it_is_turned_is_obeyed(sealed: Seal) -> None:
    result = sealed(classic(merged(b"/MK<</R 90>>")), field="Sign here")
    (code,) = zxingcpp.read_barcodes(picture(result.bytes))
    # Read from the right edge of the page, as a drawing turned against the clock is.
    assert code.orientation in (90, -90)


def test_what_else_a_field_says_is_kept(sealed: Seal) -> None:
    document = classic(
        merged(b"/TU(Tanda tangan \\(resmi\\))/DA(/Helv 0 Tf)/Custom<</T<feff00e9>>>")
    )
    field: Any = pypdf.PdfReader(BytesIO(sealed(document, field="Sign here").bytes)).get_object(30)
    assert field["/TU"] == "Tanda tangan (resmi)"
    assert field["/Custom"]["/T"] == "é"
    assert field["/Rect"] == [100, 300, 220, 380]


def test_a_field_that_would_not_be_printed_is_when_it_carries_a_stamp(sealed: Seal) -> None:
    document = classic({n: b.replace(b"/F 4", b"/F 128") for n, b in merged().items()})
    field: Any = pypdf.PdfReader(BytesIO(sealed(document, field="Sign here").bytes)).get_object(30)
    assert field["/F"] == 132


def test_further_stamps_stand_beside_the_field(sealed: Seal, root: bytes) -> None:
    other = "S8866D64HDNEMYYPY5A1GB"
    result = sealed(classic(merged()), stamp(other, position="top-left"), stamp(field="Sign here"))
    (signature,) = check(result.bytes, trust_roots_pem=root).signatures
    assert (signature.field, signature.intact) == ("Sign here", True)
    codes = zxingcpp.read_barcodes(picture(result.bytes))
    assert {code.text.rpartition("/")[2] for code in codes} == {SERIAL, other}


REFUSED: dict[str, tuple[dict[int, bytes], str, dict[str, Any]]] = {
    "signed": (
        merged(b"/V 40 0 R") | {40: b"<</Type/Sig>>"},
        "field_not_empty",
        {"field": "Sign here"},
    ),
    "another name": (
        {n: b.replace(b"Sign here", b"Sign her") for n, b in merged().items()},
        "field_not_found",
        {"field": "Sign here"},
    ),
    "no form": (objects(), "field_not_found", {"field": "Sign here"}),
    "a text field": (
        {n: b.replace(b"/FT/Sig", b"/FT/Tx") for n, b in merged().items()},
        "field_unusable",
        {"field": "Sign here", "reason": "no signature field"},
    ),
    "hidden": (
        {n: b.replace(b"/F 4", b"/F 2") for n, b in merged().items()},
        "field_unusable",
        {"field": "Sign here", "reason": "hidden"},
    ),
    "not viewed": (
        {n: b.replace(b"/F 4", b"/F 32") for n, b in merged().items()},
        "field_unusable",
        {"field": "Sign here", "reason": "hidden"},
    ),
    "invisible": (
        merged(rect=b"/Rect[0 0 0 0]"),
        "field_unusable",
        {"field": "Sign here", "reason": "no size"},
    ),
    "no rectangle": (
        merged(rect=b""),
        "field_unusable",
        {"field": "Sign here", "reason": "no size"},
    ),
    "off the page": (
        merged(rect=b"/Rect[700 0 800 100]"),
        "field_unusable",
        {"field": "Sign here", "reason": "off the page"},
    ),
    "partly off the page": (
        merged(rect=b"/Rect[550 0 650 100]"),
        "field_unusable",
        {"field": "Sign here", "reason": "off the page"},
    ),
    "on no page": (
        {
            n: b.replace(b"/P 10 0 R", b"").replace(b"/Annots[30 0 R]", b"")
            for n, b in merged().items()
        },
        "field_unusable",
        {"field": "Sign here", "reason": "on no page"},
    ),
    "several widgets": (
        merged(b"/Kids[31 0 R 32 0 R]"),
        "field_unusable",
        {"field": "Sign here", "reason": "several widgets"},
    ),
    "a lock that says nothing": (
        merged(b"/Lock<</Type/SigFieldLock/Action/Include>>"),
        "field_unusable",
        {"field": "Sign here", "reason": "lock"},
    ),
    "a lock of a level that nobody knows": (
        merged(b"/Lock<</Type/SigFieldLock/Action/All/P 7>>"),
        "field_unusable",
        {"field": "Sign here", "reason": "lock"},
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_field_that_cannot_carry_the_stamp_is_refused_with_the_reason(
    kind: str, sealed: Seal
) -> None:
    made, code, facts = REFUSED[kind]
    with pytest.raises(SealingError) as refusal:
        sealed(classic(made), field="Sign here")
    assert (refusal.value.code, refusal.value.detail) == (code, facts)


def test_one_signature_fills_one_field(sealed: Seal) -> None:
    made = merged()
    made[1] = made[1].replace(b"[30 0 R]", b"[30 0 R 31 0 R]")
    made[31] = (
        made[30].replace(b"Sign here", b"And here").replace(b"300", b"500").replace(b"380", b"580")
    )
    with pytest.raises(SealingError) as refusal:
        sealed(classic(made), stamp(field="Sign here"), stamp(field="And here"))
    assert refusal.value.detail == {"field": "And here", "reason": "several fields"}


def test_the_page_of_a_field_in_a_deep_tree_is_found(sealed: Seal) -> None:
    made = objects(count=6) | {
        2: b"<</Type/Pages/Count 6/Kids[20 0 R 21 0 R]>>",
        20: b"<</Type/Pages/Parent 2 0 R/Count 2/Kids[10 0 R 11 0 R]>>",
        21: b"<</Type/Pages/Parent 2 0 R/Count 4/Rotate 90/Kids[22 0 R 12 0 R]>>",
        22: b"<</Type/Pages/Parent 21 0 R/Count 3/Kids[13 0 R 14 0 R 15 0 R]>>",
    }
    for number, parent in ((10, 20), (11, 20), (12, 21), (13, 22), (14, 22), (15, 22)):
        made[number] = made[number].replace(b"/Parent 2 0 R", b"/Parent %d 0 R" % parent)
    made[1] = b"<</Type/Catalog/Pages 2 0 R%s>>" % FORM
    made[30] = merged()[30].replace(b"/P 10 0 R", b"/P 15 0 R")
    (box,) = sealed(classic(made), field="Sign here").boxes
    assert (box.page, box.rotation) == (5, 90)


LOCKS = {
    "all": (b"<</Type/SigFieldLock/Action/All>>", FieldMDPSpec(FieldMDPAction.ALL)),
    "some": (
        b"<</Type/SigFieldLock/Action/Include/Fields[(a)(b.c)]>>",
        FieldMDPSpec(FieldMDPAction.INCLUDE, fields=["a", "b.c"]),
    ),
    "all but one": (
        b"<</Type/SigFieldLock/Action/Exclude/Fields 40 0 R>>",
        FieldMDPSpec(FieldMDPAction.EXCLUDE, fields=["a"]),
    ),
}


@pytest.mark.parametrize("kind", LOCKS)
@pytest.mark.parametrize("build", ["merged", "separate"])
def test_the_lock_of_a_field_is_in_the_signature(
    build: str, kind: str, sealed: Seal, root: bytes
) -> None:
    make, name = (merged, "Sign here") if build == "merged" else (separate, "letter.stamp")
    lock, asked = LOCKS[kind]
    result = sealed(classic(make(b"/Lock 41 0 R") | {40: b"[(a)]", 41: lock}), field=name)
    assert check(result.bytes, trust_roots_pem=root).good
    (signature,) = PdfFileReader(BytesIO(result.bytes)).embedded_signatures
    assert signature.fieldmdp.action == asked.action
    assert (signature.fieldmdp.fields or []) == (asked.fields or [])


@pytest.mark.parametrize("kind", ["all", "all but one"])
def test_what_we_locked_is_locked_for_us_too(kind: str, sealed: Seal) -> None:
    document = classic(merged(b"/Lock 41 0 R") | {40: b"[(a)]", 41: LOCKS[kind][0]})
    once = sealed(document, field="Sign here").bytes
    with pytest.raises(SealingError) as refusal:
        sealed(once, stamp("S8866D64HDNEMYYPY5A1GB", position="top-left"))
    assert (refusal.value.code, refusal.value.detail) == ("document_locked", {"field": "Sign here"})


def test_a_lock_on_the_document_is_in_the_signature(sealed: Seal, root: bytes) -> None:
    document = classic(merged(b"/Lock<</Type/SigFieldLock/Action/Include/Fields[(a)]/P 1>>"))
    result = sealed(document, field="Sign here")
    assert check(result.bytes, trust_roots_pem=root).good
    (signature,) = PdfFileReader(BytesIO(result.bytes)).embedded_signatures
    assert signature.docmdp_level is MDPPerm.NO_CHANGES


SEEDS = {
    "a filter of another": (b"/Filter/Entrust.PPKEF/Ff 1", "seed value Filter"),
    "a format of another": (b"/SubFilter[/adbe.pkcs7.detached]/Ff 2", "seed value SubFilter"),
    "a version to come": (b"/V 4/Ff 4", "seed value V"),
    "other reasons": (b"/Reasons[(I agree)]/Ff 8", "seed value Reasons"),
    "an attestation": (b"/LegalAttestation[(yes)]/Ff 16", "seed value LegalAttestation"),
    "revocation data": (b"/AddRevInfo true/Ff 32", "seed value AddRevInfo"),
    "another digest": (b"/DigestMethod[(SHA512)]/Ff 64", "seed value DigestMethod"),
    "a locked document": (b"/LockDocument/true/Ff 128", "seed value LockDocument"),
    "an appearance": (b"/AppearanceFilter(x)/Ff 256", "seed value AppearanceFilter"),
    "a certification": (b"/MDP<</P 2>>", "seed value MDP"),
    "a timestamp": (b"/TimeStamp<</URL(http://tsa.example)/Ff 1>>", "seed value TimeStamp"),
    "another signer": (b"/Cert<</Subject[(der)]/Ff 1>>", "seed value Cert /Subject"),
    "another issuer": (b"/Cert<</Issuer[(der)]/Ff 2>>", "seed value Cert /Issuer"),
    "a policy": (b"/Cert<</OID[(1.2.3)]/Ff 4>>", "seed value Cert /OID"),
    "a name": (b"/Cert<</SubjectDN[<</CN(A)>>]/Ff 8>>", "seed value Cert /SubjectDN"),
    "a use of the key": (b"/Cert<</KeyUsage[(1)]/Ff 32>>", "seed value Cert /KeyUsage"),
}


@pytest.mark.parametrize("kind", SEEDS)
def test_a_seed_value_that_is_required_and_not_met_is_refused(kind: str, sealed: Seal) -> None:
    seeds, reason = SEEDS[kind]
    with pytest.raises(SealingError) as refusal:
        sealed(classic(merged(b"/SV<</Type/SV%s>>" % seeds)), field="Sign here")
    assert refusal.value.code == "field_unusable"
    assert refusal.value.detail == {"field": "Sign here", "reason": reason}


@pytest.mark.parametrize(
    "seeds",
    [
        b"/Filter/Entrust.PPKEF/SubFilter[/adbe.pkcs7.detached]/Reasons[(I agree)]",
        b"/LegalAttestation[(yes)]/AddRevInfo true/DigestMethod[(SHA512)]",
        b"/TimeStamp<</URL(http://tsa.example)>>/Cert<</SubjectDN[<</CN(A)>>]/Ff 0>>",
    ],
)
def test_a_seed_value_that_is_only_wished_for_is_passed_over(
    seeds: bytes, sealed: Seal, root: bytes
) -> None:
    document = classic(merged(b"/SV<</Type/SV%s>>" % seeds))
    assert check(sealed(document, field="Sign here").bytes, trust_roots_pem=root).good


def test_a_digest_may_be_asked_for_in_small_letters(sealed: Seal, root: bytes) -> None:
    document = classic(merged(b"/SV<</Type/SV/DigestMethod[(sha256)]/Ff 64>>"))
    assert check(sealed(document, field="Sign here").bytes, trust_roots_pem=root).good


def test_seed_values_that_are_met_are_no_hindrance(
    sealed: Seal, root: bytes, chain: SpecimenChain
) -> None:
    leaf, *_ = x509.load_pem_x509_certificates(chain.chain.read_bytes())
    seeds = (
        b"/SV<</Type/SV/Filter/Adobe.PPKLite/SubFilter[/x/ETSI.CAdES.detached]/V 2"
        b"/Reasons[([%s] test)]/AddRevInfo false/DigestMethod[(SHA256)(SHA512)]/LockDocument/false"
        b"/MDP<</P 0>>/Cert<</Subject[<%s>]/Ff 1>>/Ff 239>>"
    ) % (SERIAL.encode(), leaf.public_bytes(Encoding.DER).hex().encode())
    document = classic(merged(seeds))
    assert check(sealed(document, field="Sign here").bytes, trust_roots_pem=root).good


@pytest.mark.system
@pytest.mark.parametrize("build", DOCUMENTS)
def test_pdfsig_and_qpdf_know_the_field(build: str, sealed: Seal, tmp_path: Path) -> None:
    document, name = DOCUMENTS[build]
    file = tmp_path / "sealed.pdf"
    file.write_bytes(sealed(document, field=name).bytes)
    said = said_by("pdfsig", "-nocert", str(file))
    assert said.count("Signature is Valid") == 1
    assert f"Field Name: {name}" in said
    assert "No syntax or stream encoding errors found" in said_by("qpdf", "--check", str(file))
