"""Sealed documents judged by programs that have nothing to do with us: pdfsig and qpdf."""

import subprocess
from pathlib import Path

import pytest

from tests.unit.sealing.conftest import Seal, stamp
from tests.unit.sealing.test_seal import BUILDS

pytestmark = pytest.mark.system


def said_by(*command: str) -> str:
    """Run a program and return what it said; a program that is missing is a failure."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("build", BUILDS)
def test_qpdf_finds_nothing_wrong(build: str, sealed: Seal, tmp_path: Path) -> None:
    file = tmp_path / "sealed.pdf"
    file.write_bytes(sealed(BUILDS[build]).bytes)
    assert "No syntax or stream encoding errors found" in said_by("qpdf", "--check", str(file))


@pytest.mark.parametrize("build", BUILDS)
def test_pdfsig_finds_the_signature_valid_and_total(
    build: str, sealed: Seal, tmp_path: Path
) -> None:
    file = tmp_path / "sealed.pdf"
    file.write_bytes(sealed(BUILDS[build]).bytes)
    said = said_by("pdfsig", "-nocert", str(file))
    assert "Signature is Valid" in said
    assert "Total document signed" in said
    assert "ETSI.CAdES.detached" in said


def test_pdfsig_finds_both_signatures_of_a_document_stamped_twice(
    sealed: Seal, tmp_path: Path
) -> None:
    once = sealed(BUILDS["stream"]).bytes
    file = tmp_path / "sealed.pdf"
    file.write_bytes(sealed(once, stamp("S8866D64HDNEMYYPY5A1GB", position="top-left")).bytes)
    assert said_by("pdfsig", "-nocert", str(file)).count("Signature is Valid") == 2
