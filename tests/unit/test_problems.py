"""The catalogue of problems."""

from common.problems import PROBLEMS, Code


def test_every_code_has_a_status_and_words_in_both_languages() -> None:
    assert set(PROBLEMS) == set(Code)
    for problem in PROBLEMS.values():
        assert 400 <= problem.status < 600
        assert problem.title("en") != problem.title("id")
        assert problem.english.strip().endswith(".")
        assert problem.indonesian.strip().endswith(".")
