"""A fault of ours, from the worker to the operator: parked, seen, mended and stamped, or given up."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient

from common import documents
from common.database import Database
from common.documents import Documents
from common.jobs import State
from common.pace import Pace
from common.settings import WebSettings, WorkerSettings
from deploy.cli import main
from tests.service.test_job_states import accept, assert_clean, balance, new_job, shown
from tests.service.test_signing_keys import stamper
from tests.stack import Account
from workers.stamping import AttemptEndedError


@pytest.fixture
def job_id(db: Database, account: Account, letter: bytes) -> UUID:
    """A job whose document is not where it should be."""
    job = replace(
        new_job(account),
        document_bytes=len(letter),
        document_sha256=hashlib.sha256(letter).digest(),
    )
    return accept(db, job)


Attempt = Callable[[], None]


@pytest.fixture
def attempt(
    worker_settings: WorkerSettings, db: Database, store: Documents, lane_pace: Pace, job_id: UUID
) -> Attempt:
    settings = worker_settings.model_copy(update={"attempts_before_parking": 2})
    work = stamper(settings, db, store, lane_pace)
    return lambda: work.stamp(job_id)


@pytest.fixture
def parked(attempt: Attempt, job_id: UUID) -> UUID:
    for _ in range(2):
        with pytest.raises(AttemptEndedError, match="the accepted document is gone"):
            attempt()
    return job_id


def stampede(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["job", *map(str, arguments)])


def said(*arguments: object) -> Any:
    result = stampede(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_owner_and_operator_see_a_parked_job_each_what_is_theirs(
    parked: UUID, db: Database, account: Account, client: FlaskClient, web_settings: WebSettings
) -> None:
    job = client.get(f"/v1/jobs/{parked}", headers=account.live)
    assert job.json["state"] == "parked"
    assert job.json["finished_at"] is None
    assert job.headers["Retry-After"] == "30", "an operator takes longer than a lane"
    assert [(each["attempt"], each["kind"]) for each in job.json["setbacks"]] == [
        (1, "ours"),
        (2, "ours"),
    ]
    assert set(job.json["setbacks"][0]) == {"attempt", "at", "kind"}
    (listed,) = client.get("/v1/jobs?state=parked", headers=account.live).json["data"]
    assert listed["id"] == str(parked)
    refused = client.post(f"/v1/jobs/{parked}/cancel", headers=account.live)
    assert refused.json["code"] == "job_not_cancellable"
    waiting = client.get(f"/v1/jobs/{parked}/document", headers=account.live)
    assert waiting.json["code"] == "document_not_ready"

    page = client.get(job.json["links"]["status_page"].removeprefix(web_settings.public_url))
    assert "Tertunda: sedang kami periksa" in page.text
    assert "Tidak ada yang hilang" in page.text
    assert "gone" not in page.text

    shown_ = said("show", parked)
    assert [each["reason"] for each in shown_["setbacks"]] == [
        "DocumentChangedError: the accepted document is gone"
    ] * 2
    assert "the accepted document is gone" in stampede("show", parked).output
    assert str(parked) in [each["id"] for each in said("list", "--state", "parked")["jobs"]]
    assert "the accepted document is gone" in stampede("list", "--state", "parked").output
    assert b'stampede_backlog{what="parked"}' in client.get("/metrics").data
    assert balance(db, account) == (99, 1, 0)
    assert_clean(db)


def test_a_job_that_is_requeued_once_the_cause_is_mended_is_stamped_with_its_serial(
    parked: UUID,
    attempt: Attempt,
    db: Database,
    store: Documents,
    account: Account,
    letter: bytes,
) -> None:
    serials = shown(db, parked).serials
    attempt()
    assert shown(db, parked).state is State.PARKED, "nobody may claim it"
    store.put(documents.original_key(parked), letter)
    assert stampede("requeue", parked).exit_code == 0
    again = stampede("requeue", parked)
    assert again.exit_code == 1
    assert f"not parked: {parked}" in again.output
    attempt()
    job = shown(db, parked)
    assert (job.state, job.attempt, job.serials) == (State.STAMPED, 3, serials)
    assert balance(db, account) == (99, 0, 1)
    assert_clean(db)


def test_all_parked_jobs_are_requeued_together(parked: UUID, db: Database) -> None:
    assert stampede("requeue").exit_code == 2
    assert stampede("requeue", parked, "--parked").exit_code == 2
    assert "queued again" in stampede("requeue", "--parked").output
    assert shown(db, parked).state is State.QUEUED
    assert said("list", "--state", "parked") == {"jobs": []}


def test_a_job_that_is_given_up_says_why_and_gives_the_quota_back(
    parked: UUID, db: Database, account: Account, client: FlaskClient, web_settings: WebSettings
) -> None:
    assert stampede("give-up", parked, "--reason", " ").exit_code == 2
    assert stampede("give-up", parked, "--reason", "x" * 201).exit_code == 2
    assert stampede("give-up", parked, "--reason", "the stored\n file is gone").exit_code == 0
    assert stampede("give-up", parked, "--reason", "again").exit_code == 1
    job = client.get(f"/v1/jobs/{parked}", headers=account.live).json
    assert (job["state"], job["problem"]["code"]) == ("failed", "stamping_failed")
    assert job["problem"]["facts"] == {"reason": "the stored file is gone"}
    page = client.get(job["links"]["status_page"].removeprefix(web_settings.public_url)).text
    assert "gangguan di pihak kami" in page
    assert "Keterangan petugas: the stored file is gone" in page
    assert "Dokumennya tidak salah" in page
    assert balance(db, account) == (100, 0, 0)
    assert_clean(db)
