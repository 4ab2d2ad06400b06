"""`stampede keys`: what an operator sees, without any server."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dotenv import dotenv_values

from deploy.firststart import make_settings
from deploy.servers import ROOT
from tests.chains import issue, pem, rsa_key

DAY = timedelta(days=1)


def keys_command(folder: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command with nothing but these variables to go by."""
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", "--data", str(folder), "keys", *options],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "STAMPEDE_LINK_KEY": "k" * 32,
            "STAMPEDE_CODE_KEY_FILE": "code.key.pem",
        }
        | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def list_of_two(folder: Path) -> Path:
    """A key that signs now and ends soon, and one that begins tomorrow."""
    now = datetime.now(UTC)
    public = rsa_key().public_key()
    (folder / "key.pem").write_bytes(pem(rsa_key()))
    for name, since, until in (("now", -9, 9), ("next", 1, 400)):
        issued = issue(public, name=name, since=now + since * DAY, until=now + until * DAY)
        (folder / f"{name}.pem").write_bytes(issued.chain_pem)
    listed = folder / "keys.toml"
    listed.write_text(
        "".join(
            f"[[key]]\nname = '{name}'\nsource = 'pem'\nkey = 'key.pem'\nchain = '{name}.pem'\n"
            for name in ("now", "next")
        )
    )
    return listed


def test_the_keys_are_listed_with_what_each_does(tmp_path: Path) -> None:
    listed = str(list_of_two(tmp_path))
    done = keys_command(tmp_path, STAMPEDE_SIGNING_KEYS_FILE=listed)
    assert done.returncode == 0, done.stderr
    signs, warning, waits = done.stdout.splitlines()
    assert signs.startswith("signs  now              pem     RSA-2048")
    assert warning.strip() == "WARNING  'now' ends soon or has ended"
    assert waits.startswith("waits  next")

    done = keys_command(tmp_path, "--json", STAMPEDE_SIGNING_KEYS_FILE=listed)
    told = json.loads(done.stdout)
    assert [(key["name"], key["state"], key["ends_soon"]) for key in told["keys"]] == [
        ("now", "signs", True),
        ("next", "waits", False),
    ]
    assert told["problems"] == []


def test_a_key_that_cannot_be_used_is_named_and_ends_with_1(tmp_path: Path) -> None:
    listed = list_of_two(tmp_path)
    (tmp_path / "now.pem").write_bytes(b"no certificate")
    done = keys_command(tmp_path, STAMPEDE_SIGNING_KEYS_FILE=str(listed))
    assert done.returncode == 1
    assert "PROBLEM  key 'now': the certificates cannot be read" in done.stdout
    assert "no key signs now; jobs wait until one does" in done.stdout


def test_keys_named_in_two_ways_are_refused_in_a_sentence(tmp_path: Path) -> None:
    done = keys_command(
        tmp_path,
        STAMPEDE_SIGNING_KEYS_FILE="keys.toml",
        STAMPEDE_SIGNING_KEY_FILE="key.pem",
        STAMPEDE_SIGNING_CHAIN_FILE="chain.pem",
    )
    assert done.returncode == 1
    assert "the stamping key is named either by" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_first_start_makes_a_specimen_key_unless_a_list_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STAMPEDE_SIGNING_KEY_FILE", raising=False)
    monkeypatch.delenv("STAMPEDE_SIGNING_CHAIN_FILE", raising=False)
    (tmp_path / "keys").mkdir()
    make_settings(tmp_path, changing={})
    written = dotenv_values(tmp_path / "stampede.env")
    assert "SIGNING_KEYS_FILE" not in str(written)
    assert keys_command(tmp_path).stdout.startswith("signs  default")

    listed = str(list_of_two(tmp_path))
    monkeypatch.setenv("STAMPEDE_SIGNING_KEYS_FILE", listed)
    make_settings(tmp_path, changing={})
    assert keys_command(tmp_path).stdout.startswith("signs  now")
