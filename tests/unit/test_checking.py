"""What pyHanko finds in a file, in our words; files that nobody should send end as a problem."""

import hashlib
from io import BytesIO
from pathlib import Path

import pypdf
import pytest
from pypdf.generic import ArrayObject, DictionaryObject, NameObject, TextStringObject

from common.problems import Code, ProblemError
from common.verdicts import Changes
from tests.issuer import Issuer
from workers.checking import MOST_SERIALS, UncheckableError, answer, check

SERIALS = ["SVKK97SNY82ZHG2H2DWCRY", "S8ZV4GAVTNN9WG1H2DWCRX"]


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer.named("An issuer")


@pytest.fixture(scope="module")
def signed(issuer: Issuer, letter: bytes) -> bytes:
    return issuer.sign(letter, f"[{SERIALS[0]}] [{SERIALS[1]}] a stamp")


def encrypted(document: bytes, password: str) -> bytes:
    writer = pypdf.PdfWriter(clone_from=BytesIO(document))
    writer.encrypt(password, owner_password="owner", algorithm="AES-256")
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


def test_a_signature_of_several_serials_names_them_all(signed: bytes, issuer: Issuer) -> None:
    checked = check(signed, trust_roots_pem=issuer.certificate)
    (signature,) = checked.signatures
    assert checked.good
    assert signature.serial == SERIALS[0]
    assert signature.serials == SERIALS
    assert (signature.level, signature.signer) == ("B-B", "Common Name: An issuer")
    assert signature.changed_after is Changes.NONE


def test_a_reason_full_of_serials_is_cut(issuer: Issuer, letter: bytes) -> None:
    reason = " ".join(f"[{number:022d}]" for number in range(500))
    (signature,) = check(issuer.sign(letter, reason), trust_roots_pem=issuer.certificate).signatures
    assert len(signature.serials) == MOST_SERIALS


def test_the_same_signature_is_not_trusted_under_another_root(signed: bytes) -> None:
    checked = check(signed, trust_roots_pem=Issuer.named("Another").certificate)
    (signature,) = checked.signatures
    assert (signature.intact, signature.trusted, checked.good) == (True, False, False)


def test_a_changed_byte_is_found(signed: bytes, issuer: Issuer) -> None:
    at = signed.index(b"stream") + 20
    spoiled = signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :]
    (signature,) = check(spoiled, trust_roots_pem=issuer.certificate).signatures
    assert not signature.intact
    assert signature.changed_after is Changes.UNKNOWN


def test_a_second_signature_leaves_the_first_one_standing(signed: bytes, issuer: Issuer) -> None:
    twice = issuer.sign(signed, "seen", field="Second")
    first, second = check(twice, trust_roots_pem=issuer.certificate).signatures
    assert (first.intact, first.whole_file, first.holds) == (True, False, True)
    assert first.changed_after is Changes.FORM_FILLING
    assert second.whole_file


def test_a_page_that_was_changed_after_signing_is_not_allowed(
    signed: bytes, issuer: Issuer
) -> None:
    writer = pypdf.PdfWriter(BytesIO(signed), incremental=True)
    writer.pages[0].merge_page(pypdf.PageObject.create_blank_page(width=10, height=10))
    writer.pages[0].rotate(90)
    out = BytesIO()
    writer.write(out)
    assert out.getvalue().startswith(signed)
    checked = check(out.getvalue(), trust_roots_pem=issuer.certificate)
    (signature,) = checked.signatures
    assert signature.intact
    assert signature.changed_after is Changes.OTHER
    assert not signature.holds
    assert not checked.good


def test_a_signature_that_cannot_be_read_does_not_hold(signed: bytes, issuer: Issuer) -> None:
    at = signed.index(b"/Contents <") + len(b"/Contents <")
    (signature,) = check(
        signed[:at] + b"00" * 8 + signed[at + 16 :], trust_roots_pem=issuer.certificate
    ).signatures
    assert (signature.intact, signature.holds, signature.level) == (False, False, "none")
    assert signature.fault


def test_a_kind_of_signature_that_is_not_checked_is_still_seen(
    signed: bytes, issuer: Issuer
) -> None:
    old = signed.replace(b"/ETSI.CAdES.detached", b"/adbe.x509.rsa_sha1 ")
    (signature,) = check(old, trust_roots_pem=issuer.certificate).signatures
    assert (signature.level, signature.intact) == ("unsupported", False)
    assert "rsa_sha1" in (signature.fault or "")


@pytest.mark.parametrize(
    "name", [b"(\xfe\xff\xd8\x00\x00a)", b"7", b"[1 2]", b"null", b"<<>>", b"/N"]
)
@pytest.mark.parametrize("value", [b"<</SubFilter/odd>>", b"<</SubFilter/adbe.pkcs7.detached>>"])
def test_a_field_may_have_anything_for_a_name(name: bytes, value: bytes, issuer: Issuer) -> None:
    objects = [
        b"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[3 0 R]>>>>",
        b"<</Type/Pages/Kids[]/Count 0>>",
        b"<</FT/Sig/T %s/V %s>>" % (name, value),
    ]
    document = bytearray(b"%PDF-1.7\n")
    places = b""
    for number, content in enumerate(objects, 1):
        places += b"%010d 00000 n \n" % len(document)
        document += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(document)
    document += b"xref\n0 4\n0000000000 65535 f \n" + places
    document += b"trailer\n<</Size 4/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % start
    checked = check(bytes(document), trust_roots_pem=issuer.certificate)
    assert not checked.good
    assert all(signature.field.isprintable() for signature in checked.signatures)


def test_a_file_of_nothing_but_signature_fields_is_refused(issuer: Issuer) -> None:
    document = pypdf.PdfWriter()
    document.add_blank_page(width=72, height=72)
    fields = ArrayObject(
        document._add_object(
            DictionaryObject(
                {
                    NameObject("/FT"): NameObject("/Sig"),
                    NameObject("/T"): TextStringObject(str(number)),
                    NameObject("/V"): document._add_object(DictionaryObject()),
                }
            )
        )
        for number in range(500)
    )
    document.root_object[NameObject("/AcroForm")] = DictionaryObject(
        {NameObject("/Fields"): fields}
    )
    out = BytesIO()
    document.write(out)
    with pytest.raises(UncheckableError) as met:
        check(out.getvalue(), trust_roots_pem=issuer.certificate)
    assert met.value.code is Code.DOCUMENT_UNPROCESSABLE


def test_an_unsigned_file_has_no_signatures(letter: bytes, issuer: Issuer) -> None:
    assert check(letter, trust_roots_pem=issuer.certificate).signatures == []


def test_a_file_that_opens_without_a_password_is_opened(letter: bytes, issuer: Issuer) -> None:
    assert check(encrypted(letter, ""), trust_roots_pem=issuer.certificate).signatures == []


@pytest.mark.parametrize(
    "spoil, code",
    [
        (lambda letter: encrypted(letter, "secret"), Code.DOCUMENT_ENCRYPTED),
        (lambda letter: letter[: len(letter) // 2], Code.DOCUMENT_UNREADABLE),
        (lambda letter: b"%PDF-1.7\n" + bytes(range(256)) * 20, Code.DOCUMENT_UNREADABLE),
        (lambda letter: letter.replace(b"/Pages", b"/Pagez"), Code.DOCUMENT_UNREADABLE),
        (lambda letter: b"%PDF-1.7\nstartxref\n99999999\n%%EOF", Code.DOCUMENT_UNREADABLE),
        (
            lambda letter: letter.replace(b"trailer\n<<", b"trailer\n<</Deep" + b"[" * 100_000),
            Code.DOCUMENT_UNPROCESSABLE,
        ),
    ],
    ids=[
        *("a password", "half a file", "noise", "no page tree", "nothing behind the end"),
        "100,000 deep",
    ],
)
def test_what_cannot_be_read_says_why(
    spoil: object, code: Code, letter: bytes, issuer: Issuer, tmp_path: Path
) -> None:
    assert callable(spoil)
    document = spoil(letter)
    with pytest.raises(UncheckableError) as met:
        check(document, trust_roots_pem=issuer.certificate)
    assert met.value.code is code
    roots = tmp_path / "roots.pem"
    roots.write_bytes(issuer.certificate)
    with pytest.raises(ProblemError) as answered:
        answer(document, {}, trust_roots_file=roots)
    assert answered.value.code is code


def test_the_answer_names_the_file_and_reads_the_roots_anew(
    signed: bytes, issuer: Issuer, tmp_path: Path
) -> None:
    roots = tmp_path / "roots.pem"
    roots.write_bytes(Issuer.named("Another").certificate)
    before = answer(signed, {}, trust_roots_file=roots)
    assert before["document"] == {
        "bytes": len(signed),
        "sha256": hashlib.sha256(signed).hexdigest(),
    }
    roots.write_bytes(issuer.certificate)
    after = answer(signed, {}, trust_roots_file=roots)
    assert (before["signatures"][0]["trusted"], after["signatures"][0]["trusted"]) == (False, True)


def test_a_signer_cannot_speak_to_the_terminal(letter: bytes) -> None:
    rude = Issuer.named("\x1b]0;owned\x07")
    (signature,) = check(rude.sign(letter, "x"), trust_roots_pem=rude.certificate).signatures
    assert signature.signer.isprintable()
