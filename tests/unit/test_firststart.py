"""Keys of a data folder: made once, published for the front end, kept from it where they are private."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from common import jwks
from common.codes import PublishedKeys
from common.settings import WebSettings, WorkerSettings
from deploy.firststart import make_settings


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CODE_KEY_FILE", "CODE_PUBLIC_KEYS_FILE"):
        monkeypatch.delenv(f"STAMPEDE_{name}", raising=False)


def started(data: Path) -> dict[str, str]:
    (data / "keys").mkdir(parents=True, exist_ok=True)
    return make_settings(data, changing={})


def new_key() -> tuple[bytes, bytes]:
    key = Ed25519PrivateKey.generate()
    return (
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        jwks.public_pem(key.public_key()),
    )


def public_half(private: Path) -> bytes:
    return jwks.public_pem(jwks.private_key(private.read_bytes()).public_key())


def test_a_data_folder_gets_a_key_for_codes_and_publishes_its_public_half(tmp_path: Path) -> None:
    variables = started(tmp_path)
    private = Path(variables["STAMPEDE_CODE_KEY_FILE"])
    published = Path(variables["STAMPEDE_CODE_PUBLIC_KEYS_FILE"])
    assert private.stat().st_mode & 0o777 == 0o600
    assert published.read_bytes() == public_half(private)
    again = started(tmp_path)
    assert again["STAMPEDE_CODE_KEY_FILE"] == str(private)
    assert published.read_bytes() == public_half(private)


def test_a_folder_from_before_codes_had_keys_gets_them_and_keeps_the_others(tmp_path: Path) -> None:
    variables = started(tmp_path)
    receipt = Path(variables["STAMPEDE_RECEIPT_KEY_FILE"]).read_bytes()
    for name in ("code.key.pem", "code.pub.pem"):
        (tmp_path / "keys" / name).unlink()
    again = started(tmp_path)
    assert Path(again["STAMPEDE_RECEIPT_KEY_FILE"]).read_bytes() == receipt
    assert Path(again["STAMPEDE_CODE_PUBLIC_KEYS_FILE"]).exists()


def test_a_start_that_died_between_the_two_files_is_made_good(tmp_path: Path) -> None:
    private = Path(started(tmp_path)["STAMPEDE_CODE_KEY_FILE"])
    before = private.read_bytes()
    (tmp_path / "keys" / "code.pub.pem").unlink()
    started(tmp_path)
    assert private.read_bytes() == before
    assert (tmp_path / "keys" / "code.pub.pem").read_bytes() == public_half(private)


def test_a_new_key_is_published_in_front_and_the_old_one_stays(tmp_path: Path) -> None:
    private = Path(started(tmp_path)["STAMPEDE_CODE_KEY_FILE"])
    old = public_half(private)
    pem, public = new_key()
    private.write_bytes(pem)
    published = Path(started(tmp_path)["STAMPEDE_CODE_PUBLIC_KEYS_FILE"]).read_bytes()
    assert published == public + old
    assert len(PublishedKeys(published).jwks()["keys"]) == 2


def test_a_key_of_ones_own_is_published_and_never_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem, public = new_key()
    own = tmp_path / "own.pem"
    monkeypatch.setenv("STAMPEDE_CODE_KEY_FILE", str(own))
    started(tmp_path / "a")
    assert not own.exists()
    own.write_bytes(pem)
    variables = started(tmp_path / "b")
    assert variables["STAMPEDE_CODE_KEY_FILE"] == str(own)
    assert Path(variables["STAMPEDE_CODE_PUBLIC_KEYS_FILE"]).read_bytes() == public
    monkeypatch.setenv("STAMPEDE_CODE_PUBLIC_KEYS_FILE", str(tmp_path / "mine.pem"))
    assert started(tmp_path / "c")["STAMPEDE_CODE_PUBLIC_KEYS_FILE"] == str(tmp_path / "mine.pem")
    assert not (tmp_path / "mine.pem").exists()


def test_the_front_end_has_no_field_for_the_private_key() -> None:
    assert "code_key_file" not in WebSettings.model_fields
    assert "code_public_keys_file" not in WorkerSettings.model_fields
