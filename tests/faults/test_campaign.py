"""The randomised run, short: one seed that is always the same, and one that nobody has seen before."""

import secrets
import subprocess
import sys

import pytest

from deploy.servers import ROOT

JOBS = 150


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [4, secrets.randbelow(1_000_000)], ids=["fixed", "new"])
def test_nothing_is_lost_doubled_or_unbalanced_whatever_meets(seed: int) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--jobs", str(JOBS), "--seed", str(seed)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    # Says what was wrong and how to repeat it.
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"seed {seed}" in ran.stdout
    assert "lost 0, duplicated 0, unbalanced 0" in ran.stdout
