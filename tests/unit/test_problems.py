"""The catalogue of problems."""

import re
from pathlib import Path

from common.problems import JOB_FAILURES, PROBLEMS, Code


def test_every_code_has_a_status_and_words_in_both_languages() -> None:
    assert set(PROBLEMS) == set(Code)
    for problem in PROBLEMS.values():
        assert 400 <= problem.status < 600
        assert problem.title("en") != problem.title("id")
        assert problem.english.strip().endswith(".")
        assert problem.indonesian.strip().endswith(".")


def test_a_job_may_fail_with_every_code_that_the_engine_raises() -> None:
    """A code that is missing here would leave the job to its lease instead of ending it."""
    engine = Path(__file__).parents[2] / "workers" / "sealing"
    raised = {
        code
        for source in engine.rglob("*.py")
        for code in re.findall(r"SealingError\(\s*\"(\w+)\"", source.read_text())
    }
    assert "box_off_page" in raised
    assert raised <= set(JOB_FAILURES)
