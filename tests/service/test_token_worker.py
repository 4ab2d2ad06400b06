"""A real worker whose key is on a token: prefork children, a token that goes away and comes back."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from common import documents, lanes
from common.database import Database
from common.documents import Documents
from common.jobs import State
from common.jobs.records import JobRecord
from common.settings import WorkerSettings
from deploy.servers import embedded_valkey
from tests.chains import Issued, issue, rsa_key
from tests.service.test_job_states import accept, new_job, shown
from tests.softhsm import MODULE, PIN, SoftToken
from tests.stack import Account, eventually, run, stop
from workers.checking import check

pytestmark = pytest.mark.system

Send = Callable[[UUID], None]


@pytest.fixture
def token(tmp_path: Path) -> SoftToken:
    made = SoftToken(tmp_path)
    made.store(rsa_key(), label="2026", key_id="01")
    return made


@pytest.fixture
def issued(token: SoftToken, tmp_path: Path) -> Issued:
    made = issue(rsa_key().public_key())
    token.store_certificate(made.leaf, key_id="01")
    token.store_certificate(made.root, key_id="02")
    (tmp_path / "pin").write_text(PIN)
    (tmp_path / "keys.toml").write_text(
        f"[[key]]\nname = 'hsm'\nsource = 'pkcs11'\nmodule = '{MODULE}'\ntoken = 'stamp'\n"
        "key_label = '2026'\npin_file = 'pin'\n"
    )
    return made


@pytest.fixture
def send(
    environment: dict[str, str],
    worker_settings: WorkerSettings,
    token: SoftToken,
    issued: Issued,
    tmp_path: Path,
) -> Iterator[Send]:
    """Start a worker with a broker of its own; yields how to send it a job."""
    log = tmp_path / "worker.log"
    with embedded_valkey(tmp_path / "valkey") as broker_url:
        kept = {n: v for n, v in environment.items() if not n.startswith("STAMPEDE_SIGNING_")}
        variables = kept | {
            "STAMPEDE_BROKER_URL": broker_url,
            "STAMPEDE_SIGNING_KEYS_FILE": str(tmp_path / "keys.toml"),
            "SOFTHSM2_CONF": str(token.configuration),
        }
        with pytest.MonkeyPatch.context() as patch:
            for name in environment.keys() - kept.keys():
                patch.delenv(name)
            worker = run(
                [
                    *("celery", "-A", "workers.app", "worker", "--loglevel", "INFO"),
                    *("-n", "token@test", "-c", "2", "-Q", ",".join(lanes.STAMP_LANES)),
                ],
                variables,
                log,
            )
        try:
            eventually(lambda: b" ready" in log.read_bytes(), seconds=60)
            app = lanes.make_celery(worker_settings.model_copy(update={"broker_url": broker_url}))

            def send(job_id: UUID) -> None:
                app.send_task(lanes.STAMP_TASK, [str(job_id)], queue=lanes.STAMP_LANES[0])

            yield send
        finally:
            stop(worker)
    assert worker.returncode == 0, log.read_text()


def test_jobs_are_stamped_by_children_wait_for_the_token_and_go_on(
    send: Send,
    token: SoftToken,
    issued: Issued,
    db: Database,
    store: Documents,
    account: Account,
    letter: bytes,
) -> None:
    def submit() -> UUID:
        job = replace(
            new_job(account),
            document_bytes=len(letter),
            document_sha256=hashlib.sha256(letter).digest(),
        )
        store.put(documents.original_key(job.id), letter)
        accept(db, job)
        send(job.id)
        return job.id

    def seen(job_id: UUID, wanted: State, attempt: int) -> JobRecord | None:
        job = shown(db, job_id)
        return job if (job.state, job.attempt) == (wanted, attempt) else None

    for job_id in [submit() for _ in range(6)]:
        done = eventually(partial(seen, job_id, State.STAMPED, 1))
        stamped = store.get(documents.result_key(job_id, done.attempt))
        assert check(stamped, trust_roots_pem=issued.root_pem).good

    token.take_away()
    waiting = [submit() for _ in range(4)]
    for job_id in waiting:
        eventually(partial(seen, job_id, State.QUEUED, 1))

    token.bring_back()
    sent: dict[UUID, int] = {}

    def stamped_at_last(job_id: UUID) -> bool:
        """Send the job again after each attempt, as the relay does: a child looks every few seconds."""
        job = shown(db, job_id)
        if job.state is State.QUEUED and sent.get(job_id) != job.attempt:
            sent[job_id] = job.attempt
            with db.transaction() as connection:
                # Its wait after the attempt is over.
                connection.execute(
                    text("update jobs set not_before = now() where id = :id"), {"id": job_id}
                )
            send(job_id)
        return job.state is State.STAMPED

    for job_id in waiting:
        eventually(partial(stamped_at_last, job_id))
