"""The judge itself: what it is there to find, put there by hand, is found."""

from tests.faults.conftest import Trial
from tests.faults.driver import Kind, Letter


def test_a_missing_file_a_job_that_nobody_asked_for_and_damaged_books_are_found(
    trial: Trial,
) -> None:
    letters = [Letter(f"to judge {number}", stamps=2) for number in range(2)]
    trial.submit([*letters, Letter("to judge a test", Kind.TEST)])
    verdict = trial.judge()
    assert verdict.clean, verdict.as_json()

    first, second = (trial.driver.accepted[letter.key] for letter in letters)
    (file,) = trial.machine.objects.glob(f"*/{first.job_id}/stamped-*.pdf")
    moved = file.rename(file.with_suffix(".moved"))
    trial.judged.discard(first.job_id)
    verdict = trial.judge(whole=True)
    assert [found.partition(":")[0] for found in verdict.lost] == [first.job_id]
    assert any(first.job_id in found for found in verdict.unbalanced)
    moved.rename(file)

    del trial.driver.accepted[second.letter.key]
    verdict = trial.judge()
    assert any(found.startswith(f"{second.job_id}: nobody") for found in verdict.duplicated)
    trial.driver.accepted[second.letter.key] = second

    _number(trial, first.serials[1], 7)
    verdict = trial.judge()
    assert not verdict.lost
    assert any(first.job_id in found for found in verdict.unbalanced)
    _number(trial, first.serials[1], 2)
    verdict = trial.judge()
    assert verdict.clean, verdict.as_json()


def _number(trial: Trial, serial: str, position: int) -> None:
    """Damage the books, or mend them: a stamp's number is one that the database does not look after."""
    statement = "update serials set position = :position where serial = :serial"
    trial.machine.sql(statement, serial=serial, position=position)
