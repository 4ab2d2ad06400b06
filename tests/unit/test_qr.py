"""Codes checked on the command line: in a PDF, in a picture, as a text; copied ones are found out."""

import hashlib
import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pypdfium2
import pytest
import zxingcpp
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image
from pypdf import PdfReader, PdfWriter

from common import jwks
from common.codes import CodeSigner, PublishedKeys
from deploy import qr
from deploy.cli import main
from deploy.sample import sample_letter, sample_of
from tests.samples import EXAMPLE_KEY, PUBLIC_URL, SERIAL, example_design, example_stamp
from tests.unit.sealing.conftest import Seal, chain, root, sealed, signer, stamp
from tests.unit.sealing.documents import classic, objects, streamed

__all__ = ["chain", "root", "sealed", "signer"]
KEYS = PublishedKeys(jwks.public_pem(EXAMPLE_KEY.public_key()))


def stamped(sealed: Seal, document: bytes) -> bytes:
    digest = hashlib.sha256(document).digest()
    return sealed(document, example_stamp(document_sha256=digest)).bytes


def first_page(document: bytes) -> Image.Image:
    pdf = pypdfium2.PdfDocument(document)
    pdf.init_forms()
    picture: Image.Image = pdf[0].render(scale=200 / 72).to_pil()
    return picture.convert("RGB")


def outcome_for(path: Path, content: bytes) -> qr.Outcome:
    path.write_bytes(content)
    return qr.check(str(path), KEYS)


DOCUMENTS = {
    "letter": sample_letter(),
    "stream": streamed(objects()),
    "no final newline": classic(objects(), end=b""),
    "several final newlines": classic(objects(), end=b"\n\n\n"),
    "carriage return": classic(objects(), end=b"\r"),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_code_of_a_stamped_pdf_is_genuine_and_of_this_document(
    name: str, sealed: Seal, tmp_path: Path
) -> None:
    outcome = outcome_for(tmp_path / "a.pdf", stamped(sealed, DOCUMENTS[name]))
    (code,) = outcome.codes
    assert (code.genuine, code.matches_document, code.grown_after) == (True, True, False)
    assert (code.serial, code.date) == (SERIAL, "2026-11-24")
    assert outcome.good


def test_a_document_that_is_stamped_twice_has_two_good_codes(sealed: Seal, tmp_path: Path) -> None:
    first = stamped(sealed, sample_letter())
    digest = hashlib.sha256(first).digest()
    other = stamp("S8866D64HDNEMYYPY5A1GB", position="bottom-left")
    text = CodeSigner(EXAMPLE_KEY, public_url=PUBLIC_URL).text(
        serial=other.serial, day=other.date, document_sha256=digest
    )
    outcome = outcome_for(tmp_path / "a.pdf", sealed(first, replace(other, qr_text=text)).bytes)
    assert {code.serial: code.matches_document for code in outcome.codes} == {
        SERIAL: True,
        other.serial: True,
    }
    assert {code.serial: code.grown_after for code in outcome.codes} == {
        SERIAL: True,
        other.serial: False,
    }


def test_a_code_copied_onto_another_document_is_found_out(sealed: Seal, tmp_path: Path) -> None:
    genuine = example_stamp(document_sha256=hashlib.sha256(sample_letter()).digest())
    # Sealed by somebody, even under the same serial, over other bytes.
    outcome = outcome_for(tmp_path / "a.pdf", sealed(sample_of(9_000), genuine).bytes)
    assert outcome.codes[0].genuine
    assert outcome.codes[0].matches_document is False
    assert not outcome.good


def test_a_picture_of_a_stamp_in_a_pdf_without_a_seal_is_found_out(
    sealed: Seal, tmp_path: Path
) -> None:
    out = BytesIO()
    first_page(stamped(sealed, sample_letter())).save(out, "PDF", resolution=200)
    outcome = outcome_for(tmp_path / "a.pdf", out.getvalue())
    assert outcome.codes[0].genuine
    assert outcome.codes[0].matches_document is False
    assert not outcome.good


def test_a_document_that_was_written_anew_is_found_out(sealed: Seal, tmp_path: Path) -> None:
    writer = PdfWriter(clone_from=PdfReader(BytesIO(stamped(sealed, sample_letter()))))
    out = BytesIO()
    writer.write(out)
    assert not outcome_for(tmp_path / "a.pdf", out.getvalue()).good


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_is_read_and_there_is_no_document_to_compare(
    kind: str, sealed: Seal, tmp_path: Path
) -> None:
    out = BytesIO()
    first_page(stamped(sealed, sample_letter())).save(out, kind)
    outcome = outcome_for(tmp_path / "photo", out.getvalue())
    assert outcome.good
    assert outcome.codes[0].matches_document is None


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["verify", *arguments])


@pytest.fixture
def pem(tmp_path: Path) -> str:
    file = tmp_path / "keys.pem"
    file.write_bytes(jwks.public_pem(EXAMPLE_KEY.public_key()))
    return str(file)


def test_the_command_says_good_or_not_and_ends_so(pem: str, tmp_path: Path) -> None:
    text = example_stamp().qr_text
    good = run("--qr", text, "--keys", pem, "--json")
    assert (good.exit_code, json.loads(good.output)["good"]) == (0, True)
    assert run("--qr", "/".join(text.split("/")[-2:]), "--keys", pem).exit_code == 0
    said = run("--qr", text, "--keys", pem).output
    facts = dict(line.split(maxsplit=1) for line in said.splitlines() if "  " in line)
    assert (facts["genuine"], facts["matches_document"]) == ("yes", "-"), "in plain words"
    forged = run("--qr", text.replace(SERIAL, "T" + SERIAL[:-1]), "--keys", pem)
    assert (forged.exit_code, "NOT good" in forged.output) == (1, True)
    key_set = tmp_path / "jwks.json"
    key_set.write_text(json.dumps(KEYS.jwks()))
    assert run("--qr", text, "--keys", str(key_set)).exit_code == 0
    other = tmp_path / "other.pem"
    other.write_bytes(jwks.public_pem(Ed25519PrivateKey.generate().public_key()))
    assert run("--qr", text, "--keys", str(other)).exit_code == 1


def test_the_data_folders_keys_are_the_default(pem: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    missing = CliRunner().invoke(main, ["--data", str(data), "verify", "--qr", "A/B"])
    assert (missing.exit_code, "name some with --keys" in missing.output) == (1, True)
    (data / "keys").mkdir(parents=True)
    (data / "keys" / "code.pub.pem").write_bytes(Path(pem).read_bytes())
    found = CliRunner().invoke(
        main, ["--data", str(data), "verify", "--qr", example_stamp().qr_text]
    )
    assert found.exit_code == 0


def picture_without_a_code() -> bytes:
    out = BytesIO()
    Image.new("L", (50, 50)).save(out, "PNG")
    return out.getvalue()


def picture_of_another_code() -> bytes:
    code = zxingcpp.create_barcode("https://elsewhere.example", zxingcpp.BarcodeFormat.QRCode)
    out = BytesIO()
    Image.fromarray(code.to_image(scale=4)).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    "content, why",
    [
        (b"", "neither a PDF nor a picture"),
        (b"plain words", "neither a PDF nor a picture"),
        (picture_without_a_code(), "no QR code was found"),
        (picture_of_another_code(), "no code of ours was found"),
        (sample_letter(), "no QR code was found"),
        (b"%PDF-1.7\nnothing", "cannot be read"),
    ],
)
def test_what_holds_no_code_of_ours_is_said_to(
    content: bytes, why: str, pem: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    done = run("--qr", str(file), "--keys", pem)
    assert (done.exit_code, why in done.output) == (1, True), done.output


def test_what_is_neither_a_file_nor_a_code_is_said_to_be(pem: str, tmp_path: Path) -> None:
    assert "is no file" in run("--qr", str(tmp_path / "nothing.pdf"), "--keys", pem).output
    assert "cannot be read" in run("--qr", str(tmp_path), "--keys", pem).output
    assert run("--qr", "https://stamp.example/x", "--keys", pem).exit_code == 1
    assert run().exit_code == 2
    assert run("--qr", "A/B", pem).exit_code == 2
    bad = tmp_path / "bad.pem"
    bad.write_text("nothing")
    assert "cannot be used" in run("--qr", "A/B", "--keys", str(bad)).output


def test_a_design_is_checked_on_the_command_line(tmp_path: Path) -> None:
    file, out = tmp_path / "design.pdf", tmp_path / "sample.png"
    file.write_bytes(example_design())
    done = CliRunner().invoke(main, ["design", "check", str(file), "--output", str(out), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["places"] == ["serial", "qr", "date", "face_value"]
    assert Image.open(out).format == "PNG"
    plain = CliRunner().invoke(main, ["design", "check", str(file)])
    assert "100.0 x 100.0 points" in plain.output
    file.write_bytes(sample_letter())
    refused = CliRunner().invoke(main, ["design", "check", str(file)])
    assert (refused.exit_code, "cannot be a stamp" in refused.output) == (1, True)
