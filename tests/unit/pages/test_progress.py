"""What a job's state means to the person who waits."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from common.jobs import State
from common.jobs.records import JobRecord
from common.partners import Mode
from common.problems import Code
from tests.unit.pages.conftest import Speaking
from web.pages import progress
from web.pages.progress import Phase, Step

ACCEPTED = datetime(2024, 9, 6, 16, 0, tzinfo=UTC)
STARTED = ACCEPTED + timedelta(minutes=9)
FINISHED = STARTED + timedelta(seconds=1)
QUEUED = JobRecord(
    id=UUID(int=1),
    account_id=UUID(int=3),
    partner_id=UUID(int=2),
    mode=Mode.LIVE,
    state=State.QUEUED,
    lane="stamp.partner.0",
    ticket=7,
    attempt=0,
    lost_leases=0,
    serials=["S"],
    placements=[{}],
    external_reference=None,
    metadata={},
    document_name="letter.pdf",
    document_bytes=9,
    document_sha256=b"",
    result_key=None,
    result_bytes=None,
    result_sha256=None,
    problem_code=None,
    problem_facts={},
    receipt="",
    accepted_at=ACCEPTED,
    started_at=None,
    finished_at=None,
)
TAKEN_UP = replace(QUEUED, attempt=1, started_at=STARTED)
ARRIVED = Step("Diterima", Phase.DONE, ACCEPTED)
QUEUE_PASSED = Step("Antre", Phase.DONE)


@pytest.mark.parametrize(
    "job, ahead",
    [
        (
            QUEUED,
            [
                Step("Antre", Phase.NOW),
                Step("Pembubuhan meterai", Phase.LATER),
                Step("Selesai", Phase.LATER),
            ],
        ),
        (
            replace(TAKEN_UP, state=State.STAMPING),
            [
                QUEUE_PASSED,
                Step("Pembubuhan meterai", Phase.NOW, STARTED),
                Step("Selesai", Phase.LATER),
            ],
        ),
        (
            replace(TAKEN_UP, state=State.STAMPED, finished_at=FINISHED),
            [
                QUEUE_PASSED,
                Step("Pembubuhan meterai", Phase.DONE, STARTED),
                Step("Selesai", Phase.DONE, FINISHED),
            ],
        ),
        (
            replace(TAKEN_UP, state=State.FAILED, finished_at=FINISHED),
            [QUEUE_PASSED, Step("Gagal", Phase.BAD, FINISHED)],
        ),
        (
            replace(QUEUED, state=State.CANCELLED, finished_at=FINISHED),
            [Step("Dibatalkan", Phase.BAD, FINISHED)],
        ),
    ],
    ids=lambda value: value.state if isinstance(value, JobRecord) else "",
)
def test_the_steps_say_what_happened_and_what_is_ahead(
    speaking: Speaking, job: JobRecord, ahead: list[Step]
) -> None:
    with speaking("id"):
        assert progress.steps(job) == [ARRIVED, *ahead]


def test_a_job_that_came_back_waits_again_and_its_ticket_says_nothing(speaking: Speaking) -> None:
    assert not progress.tried_before(QUEUED)
    assert progress.tried_before(TAKEN_UP)
    with speaking("en"):
        assert progress.headline(TAKEN_UP) == "Waiting to be tried again"
        assert [step.phase for step in progress.steps(TAKEN_UP)] == [
            Phase.DONE,
            Phase.NOW,
            Phase.LATER,
            Phase.LATER,
        ]


def test_every_state_has_a_headline_of_its_own(speaking: Speaking) -> None:
    for lang in ("id", "en"):
        with speaking(lang):
            said = {progress.headline(replace(QUEUED, state=state)) for state in State}
            assert len(said) == len(State)


def test_the_advice_fits_the_reason(speaking: Speaking) -> None:
    with speaking("en"):
        assert "choose another page" in progress.advice(Code.PAGE_OUT_OF_RANGE, {})
        assert "not locked" in progress.advice(Code.DOCUMENT_CERTIFIED, {})
        assert "without the password" in progress.advice(Code.DOCUMENT_ENCRYPTED, {})
        assert "Make a new PDF" in progress.advice(Code.DOCUMENT_UNREADABLE, {})
        assert "not locked" in progress.advice(Code.DOCUMENT_LOCKED, {"field": "Author"})
        assert "with one stamp" in progress.advice(
            Code.DOCUMENT_LOCKED, {"reason": "several stamps"}
        )
        assert "only a picture" in progress.advice(Code.ANCHOR_NOT_FOUND, {})
        assert "another empty signature field" in progress.advice(Code.FIELD_UNUSABLE, {})
