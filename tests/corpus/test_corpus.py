"""Every document of a corpus ends as its manifest says, within two seconds."""

import subprocess
import time
from pathlib import Path

import pytest

from deploy.specimen import SpecimenChain
from tests.corpus.cases import CASES, Case
from tests.unit.sealing.conftest import AT, stamp
from workers.checking import check
from workers.previews import preview
from workers.sealing import Sealed, SealingError, Signer, seal

SECONDS = 2.0
# How much is wrong, by qpdf's exit status: nothing, warnings, errors.
QPDF = {0: 0, 3: 1, 2: 2}


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


@pytest.mark.parametrize("placement", [{"position": "auto"}, {"anchor": "the"}, {"anchor": "e"}])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_looking_at_a_document_ends_in_a_stamp_or_a_refusal(
    case: Case, placement: dict[str, str], signer: Signer, chain: SpecimenChain
) -> None:
    started = time.monotonic()
    try:
        result = seal(case.content, [stamp(**placement)], signer=signer, at=AT, reason="corpus")
    except SealingError:
        return
    finally:
        assert time.monotonic() - started < SECONDS
    assert case.expected != "reject"
    last = check(result.bytes, trust_roots_pem=chain.root.read_bytes()).signatures[-1]
    assert (last.intact, last.trusted, last.whole_file) == (True, True, True)
    (box,) = preview(case.content, [stamp(**placement)]).boxes
    left, bottom, *_ = result.boxes[0].seen
    assert (box.page, box.x, box.y) == pytest.approx((result.boxes[0].page, left, bottom), abs=0.01)


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
        QPDF[subprocess.run(["qpdf", "--check", file], capture_output=True, check=False).returncode]
        for file in (before, after)
    ]
    assert checks[1] <= checks[0], "qpdf finds more wrong than before"
    said = subprocess.run(
        ["pdfsig", "-nocert", after], capture_output=True, text=True, check=True
    ).stdout
    last = said.rpartition("Signature #")[2]
    assert "Signature is Valid" in last
    assert "Total document signed" in last
