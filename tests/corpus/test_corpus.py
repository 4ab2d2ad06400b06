"""Every document of a corpus ends as its manifest says, within two seconds.

A corpus is a folder of PDFs and a MANIFEST.csv with the columns `name` and `expected` (`stamp`,
`reject` or `either`): the one that STAMPEDE_CORPUS names, or one that lies beside the checkout as
`corpus` in some folder. Without one, documents that the tests make stand in.
"""

import csv
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.specimen import SpecimenChain, make_specimen_chain
from tests.unit.sealing.conftest import AT, stamp
from tests.unit.sealing.test_seal import BUILDS, REFUSED
from workers.checking import check
from workers.sealing import Sealed, SealingError, Signer, seal

BESIDE = Path(__file__).parents[3].glob("*/corpus/MANIFEST.csv")
NAMED = os.environ.get("STAMPEDE_CORPUS")
MANIFEST = Path(NAMED) / "MANIFEST.csv" if NAMED else next(BESIDE, None)
SECONDS = 2.0


@dataclass(frozen=True)
class Case:
    """A document and how it must end."""

    name: str
    expected: str
    content: bytes


def cases() -> Iterator[Case]:
    if MANIFEST is not None:
        with MANIFEST.open(newline="") as rows:
            for row in csv.DictReader(rows):
                content = MANIFEST.with_name(row["name"]).read_bytes()
                yield Case(row["name"], row["expected"], content)
        return
    for name, content in BUILDS.items():
        yield Case(name, "stamp", content)
    for name, (content, _) in REFUSED.items():
        yield Case(name, "reject", content)


CASES = list(cases())


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> SpecimenChain:
    return make_specimen_chain(tmp_path_factory.mktemp("keys") / "chain")


@pytest.fixture(scope="module")
def signer(chain: SpecimenChain) -> Signer:
    return Signer.from_pem(chain.signer_key.read_bytes(), chain.chain.read_bytes())


def sealed(case: Case, signer: Signer) -> Sealed | None:
    """Return the sealed document, or None when it was refused."""
    try:
        return seal(case.content, [stamp()], signer=signer, at=AT, reason="corpus")
    except SealingError:
        return None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_document_ends_as_the_manifest_says(
    case: Case, signer: Signer, chain: SpecimenChain
) -> None:
    started = time.monotonic()
    result = sealed(case, signer)
    assert time.monotonic() - started < SECONDS
    if case.expected == "reject":
        assert result is None
    if case.expected == "stamp":
        assert result is not None
    if result is not None:
        assert result.bytes.startswith(case.content)
        last = check(result.bytes, trust_roots_pem=chain.root.read_bytes()).signatures[-1]
        assert (last.intact, last.trusted, last.whole_file) == (True, True, True)


@pytest.mark.system
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_other_programs_agree(case: Case, signer: Signer, tmp_path: Path) -> None:
    result = sealed(case, signer)
    if result is None:
        return
    before, after = tmp_path / "before.pdf", tmp_path / "after.pdf"
    before.write_bytes(case.content)
    after.write_bytes(result.bytes)
    checks = [
        subprocess.run(["qpdf", "--check", file], capture_output=True, check=False).returncode
        for file in (before, after)
    ]
    assert checks[1] <= checks[0], "qpdf finds more wrong than before"
    said = subprocess.run(
        ["pdfsig", "-nocert", after], capture_output=True, text=True, check=True
    ).stdout
    last = said.rpartition("Signature #")[2]
    assert "Signature is Valid" in last
    assert "Total document signed" in last
