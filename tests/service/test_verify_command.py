"""`stampede verify`: a report for people, the old names for programs, with and without a database."""

import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from common import jobs
from common.database import Database
from common.partners import Mode
from deploy.cli import main
from deploy.servers import free_port
from tests.issuer import Issuer
from tests.service.test_job_states import accept, claim, new_job, shown
from tests.stack import Account


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer.named("Penerbit Meterai")


@pytest.fixture
def roots(issuer: Issuer, tmp_path: Path) -> Path:
    path = tmp_path / "roots.pem"
    path.write_bytes(issuer.certificate)
    return path


@pytest.fixture
def stamped(
    db: Database, account: Account, issuer: Issuer, letter: bytes, tmp_path: Path
) -> tuple[str, Path]:
    """A serial, and its file as the database has it."""
    job_id = accept(db, new_job(account, Mode.LIVE))
    serial = shown(db, job_id).serials[0]
    signed = issuer.sign(letter, f"[{serial}] Pembubuhan meterai")
    taken = claim(db, job_id)
    assert taken is not None
    result = jobs.Result(key="x", length=1, sha256=hashlib.sha256(signed).digest())
    with db.transaction() as connection:
        assert jobs.finish(connection, taken, result)
    file = tmp_path / "stamped.pdf"
    file.write_bytes(signed)
    return serial, file


def verify(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["verify", *map(str, arguments)])


def test_with_a_database_the_serial_is_looked_up(stamped: tuple[str, Path], roots: Path) -> None:
    serial, file = stamped
    said = verify(file, "--trust", roots)
    assert said.exit_code == 0, said.output
    assert "yes: not one byte of what was signed has changed" in said.output
    assert "PAdES B-B" in said.output
    assert f"{serial}: live serial, affixed" in said.output
    assert "to this very file" in said.output
    assert "Genuine: the stamp is valid and the document is unchanged" in said.output
    found = json.loads(verify(file, "--trust", roots, "--json").output)
    (signature,) = found["signatures"]
    assert {n: signature[n] for n in ("intact", "trusted", "whole_file", "level", "serial")} == {
        "intact": True,
        "trusted": True,
        "whole_file": True,
        "level": "B-B",
        "serial": serial,
    }
    assert found["serials_looked_up"] is True
    assert (found["verdict"], found["good"]) == ("stamped", True)
    assert signature["serials"][0]["is_this_file"] is True


@pytest.mark.parametrize(
    "without, why",
    [
        ("STAMPEDE_LINK_KEY", "no database is configured"),
        ("STAMPEDE_DATABASE_URL", "the database cannot be used"),
    ],
)
def test_without_a_database_it_says_that_it_did_not_look(
    stamped: tuple[str, Path],
    roots: Path,
    without: str,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, file = stamped
    monkeypatch.delenv(without)
    if without == "STAMPEDE_DATABASE_URL":
        monkeypatch.setenv(without, f"postgresql://nobody@127.0.0.1:{free_port()}/nothing")
    said = verify(file, "--trust", roots)
    assert said.exit_code == 0, said.output
    assert f"not looked up, {why}" in said.output
    assert "Genuine" not in said.output, "what was not looked up is not vouched for"
    found = json.loads(verify(file, "--trust", roots, "--json").output)
    assert (found["serials_looked_up"], found["verdict"], found["good"]) == (False, None, True)
    assert found["signatures"][0]["serials"][0]["state"] is None


def test_the_roots_are_those_of_the_settings_unless_others_are_named(
    stamped: tuple[str, Path], roots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, file = stamped
    # The tests' own settings trust another issuer.
    refused = verify(file)
    assert refused.exit_code == 1
    assert "NO: its certificate leads to no root that you trust" in refused.output
    assert "NOT good" in refused.output
    monkeypatch.setenv("STAMPEDE_TRUST_ROOTS_FILE", str(roots))
    assert verify(file).exit_code == 0


def test_what_is_not_signed_or_not_a_pdf_ends_with_one(
    letter: bytes, roots: Path, tmp_path: Path
) -> None:
    plain, noise = tmp_path / "plain.pdf", tmp_path / "noise.pdf"
    plain.write_bytes(letter)
    noise.write_bytes(b"noise")
    unsigned = verify(plain, "--trust", roots)
    assert (unsigned.exit_code, unsigned.output.splitlines()[-1]) == (1, "not signed")
    unread = verify(noise, "--trust", roots)
    assert unread.exit_code == 1
    assert "cannot be read as a PDF" in unread.output


def test_a_file_of_roots_without_a_certificate_is_said_in_one_sentence(
    letter: bytes, tmp_path: Path
) -> None:
    plain, roots = tmp_path / "plain.pdf", tmp_path / "roots.pem"
    plain.write_bytes(letter)
    for content in (b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"):
        roots.write_bytes(content)
        said = verify(plain, "--trust", roots)
        assert said.output == f"Error: no certificate in PEM can be read from {roots}\n"
        assert said.exit_code == 1
