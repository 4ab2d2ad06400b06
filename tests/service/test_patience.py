"""A worker whose database is away: it waits, keeps its message, and loses nothing of what it did."""

from collections.abc import Iterator
from contextlib import ExitStack
from uuid import UUID

import pytest

from common import documents
from common.codes import CodeSigner
from common.database import Database
from common.documents import Documents
from common.jobs import State
from common.pace import Pace
from common.settings import WorkerSettings
from tests.service.test_job_states import AtOnce, accept, assert_clean, new_job, shown
from tests.service.test_signing_keys import nobody
from tests.stack import Account
from workers.keyring import Keyring
from workers.sealer import Sealer
from workers.stamping import AttemptEndedError, NotClaimedError, Stamper


class Away:
    """The database, behind a pool of one connection: it is away while somebody else has it."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.database = Database(settings.database_url, pool_size=1)
        self._has_it = ExitStack()
        self.paused = 0

    def take(self) -> None:
        self._has_it.enter_context(self.database.engine.connect())

    def pause(self, _seconds: float) -> None:
        self.paused += 1
        self._has_it.close()


@pytest.fixture
def away(worker_settings: WorkerSettings) -> Iterator[Away]:
    made = Away(worker_settings)
    yield made
    made.pause(0)
    made.database.close()


def stamper(settings: WorkerSettings, away: Away, store: Documents, pace: Pace) -> Stamper:
    return Stamper(
        settings=settings,
        database=away.database,
        documents=store,
        pace=pace,
        keys=Keyring(settings),
        sealer=Sealer.from_settings(settings),
        codes=CodeSigner.from_pem(
            settings.code_key_file.read_bytes(), public_url=settings.public_url
        ),
        design=None,
        tell=nobody,
        random=AtOnce(),
        pause=away.pause,
    )


@pytest.fixture
def job_id(db: Database, account: Account) -> UUID:
    return accept(db, new_job(account))


def test_a_claim_waits_for_the_database(
    worker_settings: WorkerSettings,
    away: Away,
    store: Documents,
    lane_pace: Pace,
    db: Database,
    job_id: UUID,
) -> None:
    away.take()
    # Its document is missing: that comes after the claim.
    with pytest.raises(AttemptEndedError):
        stamper(worker_settings, away, store, lane_pace).stamp(job_id)
    assert away.paused == 1
    assert shown(db, job_id).attempt == 1


def test_a_worker_that_cannot_claim_for_long_says_so_and_the_job_is_as_it_was(
    worker_settings: WorkerSettings,
    away: Away,
    store: Documents,
    lane_pace: Pace,
    db: Database,
    job_id: UUID,
) -> None:
    short = worker_settings.model_copy(update={"lease_seconds": 5})
    away.take()
    with pytest.raises(NotClaimedError):
        stamper(short, away, store, lane_pace).stamp(job_id)
    job = shown(db, job_id)
    assert (job.state, job.attempt) == (State.QUEUED, 0)


def test_what_went_wrong_is_written_down_once_the_database_is_back(
    worker_settings: WorkerSettings,
    away: Away,
    lane_pace: Pace,
    db: Database,
    store: Documents,
    job_id: UUID,
) -> None:
    class Fetching(Documents):
        """The database goes away while the document is read."""

        def get(self, key: str) -> bytes:
            away.take()
            return super().get(key)

    reading = Fetching(worker_settings.objects_url)
    with pytest.raises(AttemptEndedError, match="the accepted document is gone"):
        stamper(worker_settings, away, reading, lane_pace).stamp(job_id)
    assert away.paused == 1
    job = shown(db, job_id)
    assert (job.state, [each["kind"] for each in job.setbacks]) == (State.QUEUED, ["ours"])
    with pytest.raises(documents.MissingDocumentError):
        store.get(documents.result_key(job_id, 1))
    assert_clean(db)
