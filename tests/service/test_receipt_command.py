"""`stampede receipt verify`: what a portal learns from a receipt and the published keys alone."""

import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flask.testing import FlaskClient

from common import jwks
from common.receipts import RECEIPT_TYPE, ReceiptSigner
from deploy.cli import main
from deploy.servers import free_port
from tests.stack import Account
from tests.unit.test_receipts import ARRIVAL, pem

# ARRIVAL's time is 12:55:40.212 UTC.
AT = "2026-11-24T12:55:40.212Z"


@pytest.fixture(scope="module")
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def keys(key: Ed25519PrivateKey, tmp_path: Path) -> Path:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(ReceiptSigner(pem(key), issuer="x").jwks()))
    return file


@pytest.fixture
def receipt(key: Ed25519PrivateKey, tmp_path: Path) -> Path:
    file = tmp_path / "receipt.jws"
    file.write_text(ReceiptSigner(pem(key), issuer="https://stamp.example").sign(ARRIVAL) + "\n")
    return file


def verify(*arguments: str | Path, typed: str | None = None) -> Result:
    return CliRunner().invoke(main, ["receipt", "verify", *map(str, arguments)], input=typed)


def facts(*arguments: str | Path, exit_code: int = 0) -> Any:
    done = verify(*arguments, "--json")
    assert done.exit_code == exit_code, done.output
    return json.loads(done.output)


def test_a_receipt_says_when_what_arrived(receipt: Path, keys: Path) -> None:
    said = facts(receipt, "--jwks", keys)
    assert said == {
        "arrived_at": AT,
        "document_sha256": bytes(range(32)).hex(),
        "document_bytes": 355_000,
        "external_reference": "letter-7",
        "job": str(ARRIVAL.job_id),
        "mode": "live",
        "stamps": 3,
        "issuer": "https://stamp.example",
        "key": said["key"],
        "genuine": True,
        "problem": None,
        "why": None,
        "before": None,
        "in_time": None,
        "matches_document": None,
        "good": True,
    }
    output = verify(receipt, "--jwks", keys).output
    assert AT in output
    assert "letter-7" in output
    assert "genuine" in output


def test_it_comes_by_the_standard_input_as_well(receipt: Path, keys: Path) -> None:
    assert verify("-", "--jwks", keys, typed=receipt.read_text()).exit_code == 0
    assert verify("-", "--jwks", keys, typed="").exit_code == 1


@pytest.mark.parametrize(
    ("deadline", "in_time"),
    [
        ("2026-11-24T12:55:40.213Z", True),
        ("2026-11-24T12:55:40.212Z", False),
        ("2026-11-24T12:55:40Z", False),
        ("2026-11-24T19:55:41+07:00", True),
        ("2026-11-24T19:55:40+07:00", False),
        # Without a zone it is UTC.
        ("2026-11-24T12:55:41", True),
        ("2026-11-24", False),
        ("2026-11-25", True),
    ],
)
def test_whether_it_came_before_the_deadline(
    receipt: Path, keys: Path, deadline: str, in_time: bool
) -> None:
    said = facts(receipt, "--jwks", keys, "--before", deadline, exit_code=0 if in_time else 1)
    assert (said["genuine"], said["in_time"], said["good"]) == (True, in_time, in_time)
    output = verify(receipt, "--jwks", keys, "--before", deadline).output
    assert ("LATE" in output) == (not in_time)


def test_whether_it_is_of_this_document(
    client: FlaskClient, account: Account, letter: bytes, tmp_path: Path
) -> None:
    sent, other = tmp_path / "sent.pdf", tmp_path / "other.pdf"
    sent.write_bytes(letter)
    other.write_bytes(letter + b"\n")
    answer = client.post(
        "/v1/jobs", data=letter, content_type="application/pdf", headers=account.test
    ).json
    assert answer is not None
    receipt = tmp_path / "receipt.jws"
    receipt.write_text(answer["receipt"])
    # Against the key of this copy's settings.
    assert facts(receipt, "--document", sent)["matches_document"] is True
    said = facts(receipt, "--document", other, exit_code=1)
    assert (said["genuine"], said["matches_document"], said["good"]) == (True, False, False)
    assert "ANOTHER document" in verify(receipt, "--document", other).output
    # In time, but another document: not all that was asked holds.
    assert verify(receipt, "--document", other, "--before", "2999-01-01").exit_code == 1


def test_against_a_running_copy(
    server: str, account: Account, letter: bytes, client: FlaskClient, tmp_path: Path
) -> None:
    answer = client.post(
        "/v1/jobs", data=letter, content_type="application/pdf", headers=account.test
    ).json
    assert answer is not None
    receipt = tmp_path / "receipt.jws"
    receipt.write_text(answer["receipt"])
    for address in (server, f"{server}/", f"{server}/.well-known/jwks.json"):
        assert facts(receipt, "--jwks", address)["job"] == answer["id"]
    for wrong, told in (
        (f"http://127.0.0.1:{free_port()}", "no keys from http://"),
        (f"{server}/v1/jobs", "401"),
        (f"{server}/v1/pace", "not a JSON Web Key Set"),
    ):
        done = verify(receipt, "--jwks", wrong)
        assert done.exit_code == 1
        assert told in done.output


def flipped(token: str, part: int) -> str:
    """Change one character of one part of a JWS for another of its alphabet."""
    parts = token.strip().split(".")
    at = len(parts[part]) // 2
    parts[part] = (
        parts[part][:at] + ("A" if parts[part][at] != "A" else "B") + parts[part][at + 1 :]
    )
    return ".".join(parts)


def test_a_receipt_that_was_changed_proves_nothing(receipt: Path, keys: Path) -> None:
    token = receipt.read_text()
    for part in (1, 2):
        receipt.write_text(flipped(token, part))
        said = facts(receipt, "--jwks", keys, "--before", "2999-01-01", exit_code=1)
        assert (said["genuine"], said["problem"], said["in_time"]) == (False, "tampered", None)
        assert "NOT genuine" in verify(receipt, "--jwks", keys).output


def test_a_receipt_of_another_key_is_told_from_a_changed_one(receipt: Path, tmp_path: Path) -> None:
    others = tmp_path / "others.pem"
    others.write_bytes(jwks.public_pem(Ed25519PrivateKey.generate().public_key()))
    said = facts(receipt, "--jwks", others, exit_code=1)
    assert said["problem"] == "key_unknown"
    assert "which is not one of those given" in said["why"]


def test_a_stranger_who_names_our_key_is_found_out(receipt: Path, keys: Path) -> None:
    header = jwt.get_unverified_header(receipt.read_text().strip())
    claims = jwt.decode(receipt.read_text().strip(), options={"verify_signature": False})
    names = {"kid": header["kid"], "typ": RECEIPT_TYPE}
    stranger = Ed25519PrivateKey.generate()
    receipt.write_text(jwt.encode(claims, stranger, algorithm="EdDSA", headers=names))
    assert facts(receipt, "--jwks", keys, exit_code=1)["problem"] == "tampered"
    public = json.loads(keys.read_text())["keys"][0]["x"]
    receipt.write_text(jwt.encode(claims, public, algorithm="HS256", headers=names))
    assert facts(receipt, "--jwks", keys, exit_code=1)["problem"] == "not_a_receipt"


def test_what_is_no_receipt_is_called_that(
    receipt: Path, keys: Path, key: Ed25519PrivateKey
) -> None:
    kid = jwt.get_unverified_header(receipt.read_text().strip())["kid"]
    signed = [
        jwt.encode({"sub": "x"}, key, algorithm="EdDSA", headers={"kid": kid}),
        jwt.encode({}, key, algorithm="EdDSA", headers={"kid": kid, "typ": RECEIPT_TYPE}),
        jwt.encode(
            {"iss": "x", "sub": "x", "document_sha256": "00", "arrived_at": "now"},
            key,
            algorithm="EdDSA",
            headers={"kid": kid, "typ": RECEIPT_TYPE},
        ),
    ]
    for shown in ("", "%PDF-1.7", "a.b.c", "\xff\xfe", *signed):
        receipt.write_bytes(shown.encode("latin-1"))
        said = facts(receipt, "--jwks", keys, exit_code=1)
        assert (said["genuine"], said["problem"]) == (False, "not_a_receipt"), shown


def test_where_there_is_no_key_it_says_so(
    receipt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "cannot be read" in verify(receipt, "--jwks", tmp_path / "none").output
    assert "no keys of receipts" in verify(receipt, "--jwks", receipt).output
    monkeypatch.delenv("STAMPEDE_RECEIPT_KEY_FILE", raising=False)
    monkeypatch.setenv("STAMPEDE_ENV_FILE", str(tmp_path / "none.env"))
    done = verify(receipt)
    assert done.exit_code == 1
    assert "name the published ones with --jwks" in done.output
    monkeypatch.setenv("STAMPEDE_RECEIPT_KEY_FILE", str(receipt))
    assert "cannot be used" in verify(receipt).output
    assert verify(tmp_path / "no.jws").exit_code == 2
    assert verify(receipt, "--before", "soon").exit_code == 2
