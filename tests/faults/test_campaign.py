"""The randomised run, short: one seed that is always the same, and one that nobody has seen before."""

import secrets
import subprocess
import sys

import pytest

from deploy.servers import ROOT

JOBS = 150
SEEDS = (4, secrets.randbelow(1_000_000))


@pytest.mark.timeout(600)
def test_nothing_is_lost_doubled_or_unbalanced_whatever_meets() -> None:
    """Both at the same time: most of it is waiting for leases and for what is away."""
    arguments = [sys.executable, "-m", "tests.faults", "--jobs", str(JOBS), "--seed"]
    runs = {
        seed: subprocess.Popen(
            [*arguments, str(seed)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for seed in SEEDS
    }
    told = {seed: run.communicate()[0] for seed, run in runs.items()}
    for seed, said in told.items():
        # Says what was wrong and how to repeat it.
        assert runs[seed].returncode == 0, said
        assert f"seed {seed}" in said
        assert "lost 0, duplicated 0, unbalanced 0" in said
