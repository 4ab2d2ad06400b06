"""What QR codes say: made, taken apart, checked, and small enough."""

import json
import re
import subprocess
import sys
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import zxingcpp
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from common import codes, jwks
from common.codes import CodeError, CodeSigner, PublishedKeys
from common.settings import Settings
from tests.samples import DAY, EXAMPLE_KEY, PUBLIC_URL, SERIAL, example_stamp

SHA = sha256(b"stampede").digest()
TEXT = example_stamp(document_sha256=SHA).qr_text
KEYS = [EXAMPLE_KEY.public_key()]
DOCS = (Path(__file__).parents[2] / "docs" / "qr.md").read_text()


def test_a_code_says_what_was_put_in_and_is_genuine() -> None:
    token = codes.read(TEXT)
    assert (token.serial, token.date) == (SERIAL, DAY)
    assert token.document_sha256_start == SHA[:16]
    assert codes.check(token, KEYS)


@given(
    st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=1, max_size=24),
    st.dates(date(2020, 1, 1), date(2199, 6, 6)),
    st.binary(min_size=32, max_size=32),
)
def test_any_code_comes_back_as_it_was_made(serial: str, day: date, document: bytes) -> None:
    signer = CodeSigner(EXAMPLE_KEY, public_url=PUBLIC_URL)
    token = codes.read(signer.text(serial=serial, day=day, document_sha256=document))
    assert (token.serial, token.date, token.document_sha256_start) == (serial, day, document[:16])
    assert codes.check(token, KEYS)


@given(st.integers(0, len(codes.VERSION) + codes.TOKEN_LENGTH + len(SERIAL) - 1), st.data())
def test_a_code_with_one_character_changed_is_not_genuine(at: int, data: st.DataObject) -> None:
    before = len(TEXT) - codes.TOKEN_LENGTH - 1 - len(SERIAL)
    index = before + at
    other = data.draw(st.sampled_from("0123456789ABCDEFGHJKMNPQRSTVWXYZ/-"))
    changed = TEXT[:index] + other + TEXT[index + 1 :]
    try:
        token = codes.read(changed)
    except CodeError:
        return
    assert codes.check(token, KEYS) == (changed == TEXT)


def test_a_code_of_another_key_is_not_genuine_until_that_key_is_published() -> None:
    other = Ed25519PrivateKey.generate()
    text = CodeSigner(other, public_url=PUBLIC_URL).text(
        serial=SERIAL, day=DAY, document_sha256=SHA
    )
    assert not codes.check(codes.read(text), KEYS)
    assert codes.check(codes.read(text), [*KEYS, other.public_key()])


@pytest.mark.parametrize(
    "text",
    [
        TEXT.lower(),
        f"  {TEXT}\n",
        TEXT + "?lang=en",
        TEXT + "/",
        "/".join(TEXT.split("/")[-2:]),
        TEXT.replace("HTTPS://VERIFIKASI.EXAMPLE.GO.ID", "https://elsewhere.example/sub"),
    ],
)
def test_a_code_is_read_however_it_was_passed_on(text: str) -> None:
    assert codes.check(codes.read(text), KEYS)


@pytest.mark.parametrize(
    "text, why",
    [
        ("", "not <serial>/<token>"),
        ("https://stamp.example/V/" + SERIAL, "format"),
        ("HTTPS://STAMP.EXAMPLE/V//" + TEXT.rpartition("/")[2], "not <serial>/<token>"),
        (TEXT[:-1], "132 characters"),
        (TEXT + "0", "134 characters"),
        (TEXT[:-1] + "U", "characters that no token has"),
        (TEXT[:-1] + "H", "last character"),
        (TEXT.replace("/117BYJ", "/217BYJ"), "format"),
        ("x" * 100_000, "not <serial>/<token>"),
    ],
)
def test_what_is_no_code_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(CodeError, match=why):
        codes.read(text)


def test_the_date_must_fit_the_format() -> None:
    signer = CodeSigner(EXAMPLE_KEY, public_url=PUBLIC_URL)
    with pytest.raises(ValueError, match="2019"):
        signer.text(serial=SERIAL, day=date(2019, 12, 31), document_sha256=SHA)


def test_the_signature_is_not_one_that_a_receipt_could_be() -> None:
    assert codes.read(TEXT).signed.startswith(b"STAMPEDE CODE 1\0")


def version_of(text: str) -> int:
    code: Any = zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.QRCode, ec_level="M")
    return int((code.to_image(scale=1, add_quiet_zones=False).shape[0] - 17) / 4)


LONGEST = "https://" + "a" * 142
LONGEST_MIXED = "https://stamp.example/" + "m" * 30


@pytest.mark.parametrize(
    "public_url, version",
    [
        ("http://127.0.0.1:8000", 8),
        (PUBLIC_URL, 8),
        (LONGEST, 10),
        ("https://stamp.example/METERAI", 8),
        ("https://stamp.example/Meterai", 9),
        (LONGEST_MIXED, 10),
    ],
)
def test_a_code_stays_within_version_10(public_url: str, version: int) -> None:
    codes.require_room(public_url)
    signer = CodeSigner(EXAMPLE_KEY, public_url=public_url)
    text = signer.text(serial="S" * codes.LONGEST_SERIAL, day=DAY, document_sha256=SHA)
    assert version_of(text) <= version


@pytest.mark.parametrize(
    "public_url, why",
    [
        (LONGEST + "a", "has 151 characters, more than the 150"),
        (LONGEST_MIXED + "m", "more than the 52.*small letters"),
        ("https://stempel.contoh-ä.id", "ASCII"),
    ],
)
def test_an_address_that_does_not_fit_is_refused_when_settings_are_loaded(
    public_url: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAMPEDE_ENV_FILE", "/dev/null")
    monkeypatch.setenv("STAMPEDE_LINK_KEY", "x" * 32)
    monkeypatch.setenv("STAMPEDE_PUBLIC_URL", public_url)
    with pytest.raises(ValidationError, match=why):
        Settings.load()


def test_host_and_scheme_are_in_capitals_and_a_path_stays_as_it_is() -> None:
    assert (
        codes.address("https://stamp.example:8443/Meterai") == "HTTPS://STAMP.EXAMPLE:8443/Meterai"
    )


def test_keys_are_published_with_their_use_and_read_back() -> None:
    receipt = Ed25519PrivateKey.generate().public_key()
    pem = jwks.public_pem(KEYS[0]) + jwks.public_pem(Ed25519PrivateKey.generate().public_key())
    published = PublishedKeys(pem).jwks()["keys"]
    assert [key["stampede_use"] for key in published] == ["code", "code"]
    assert all("d" not in key for key in published)
    everything = {"keys": [jwks.public_jwk(receipt, jwks.Use.RECEIPT), *published]}
    read = PublishedKeys(json.dumps(everything).encode())
    assert read.jwks()["keys"] == published
    assert read.signed(codes.read(TEXT))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b'{"keys": 7}',
        b'{"keys": [{"stampede_use": "code", "crv": "Ed25519", "x": "AA"}]}',
        b'{"keys": []}',
        b"{",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    ],
)
def test_a_file_without_keys_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        PublishedKeys(content)


def test_another_kind_of_private_key_is_refused() -> None:
    pem = ec_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ValueError, match="Ed25519"):
        CodeSigner.from_pem(pem, public_url=PUBLIC_URL)
    with pytest.raises(ValueError, match=r".+"):
        CodeSigner.from_pem(b"nothing", public_url=PUBLIC_URL)


def block(kind: str) -> str:
    found = re.search(rf"```{kind}\n(.*?)```", DOCS, re.S)
    assert found is not None
    return found[1]


def test_the_documents_example_is_what_is_made() -> None:
    assert block("text").strip() == TEXT
    assert json.loads(block("json")) == PublishedKeys(jwks.public_pem(KEYS[0])).jwks()
    signed = codes.read(TEXT).signed.hex()
    assert signed in re.sub(r"\s", "", DOCS)
    assert EXAMPLE_KEY.private_bytes_raw() == b"An example key, known to anyone."


@pytest.mark.parametrize(
    "text, said, status",
    [
        (TEXT, "genuine TVKK97SNY82ZHG2H2DWCRY 2026-11-24 document " + SHA[:16].hex(), 0),
        (TEXT.lower(), "genuine", 0),
        (TEXT.replace(SERIAL, "T" + SERIAL[:-1]), "NOT genuine", 1),
        (TEXT[:-1] + "H", "not written as tokens are", 1),
        (TEXT[:-2], "not a token", 1),
    ],
)
def test_the_documents_checker_checks(text: str, said: str, status: int, tmp_path: Path) -> None:
    (tmp_path / "checker.py").write_text(block("python"))
    (tmp_path / "jwks.json").write_text(block("json"))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-I", "checker.py", "jwks.json", text],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, said in done.stdout + done.stderr) == (status, True), done
