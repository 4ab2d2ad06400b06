"""The front end with its wires in our hands, here or as a process of its own; and a stamper beside it."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from flask.testing import FlaskClient
from sqlalchemy import text

from common import database, jobs, lanes, pace
from common.codes import CodeSigner
from common.database import Database
from common.documents import Documents
from common.pace import Pace
from common.settings import WebSettings, WorkerSettings
from deploy.servers import free_port
from tests.stack import eventually, run, stop
from web.app import create_app
from web.parts import parts
from workers.keyring import Keyring
from workers.sealer import Sealer
from workers.stamping import Stamper


@contextmanager
def front_end(settings: WebSettings, **changed: object) -> Iterator[FlaskClient]:
    """Run the front end in this process with some settings of its own.

    What still waits at the end is cancelled, and not counted: other tests share the lanes.
    """
    app = create_app(settings.model_copy(update=changed))
    try:
        yield app.test_client()
    finally:
        with app.app_context():
            parts().database.close()
        _empty_lanes(settings)


def _empty_lanes(settings: WebSettings) -> None:
    opened, counters = database.connect(settings), pace.connect(settings)
    with opened.transaction() as connection:
        for row in connection.execute(text("select * from jobs where state = 'queued'")).all():
            jobs.cancel(connection, account_id=row.account_id, job_id=row.id)
    opened.close()
    for lane in lanes.STAMP_LANES:
        counters.recount(lane, queued=0, highest_ticket=0)


def submit(client: FlaskClient, headers: dict[str, str], letter: bytes) -> Any:
    """Send a letter as a job; returns the answer, whatever it is."""
    return client.post(
        "/v1/jobs", data=letter, headers=headers | {"Content-Type": "application/pdf"}
    )


def stamper(
    settings: WorkerSettings, database: Database, documents: Documents, pace: Pace
) -> Stamper:
    """Return the work of the stamp lanes over these parts, which tells nobody."""
    return Stamper(
        settings=settings,
        database=database,
        documents=documents,
        pace=pace,
        keys=Keyring(settings),
        sealer=Sealer.from_settings(settings),
        codes=CodeSigner.from_pem(
            settings.code_key_file.read_bytes(), public_url=settings.public_url
        ),
        design=None,
        tell=lambda _deliveries: None,
    )


def end_wait(db: Database, job_id: UUID) -> None:
    """Let the time be over for which a job waits after a fault."""
    with db.transaction() as connection:
        connection.execute(
            text("update jobs set not_before = now(), publish_at = now() where id = :id"),
            {"id": job_id},
        )


@contextmanager
def granian(
    environment: Mapping[str, str], folder: Path, *, before: Sequence[str] = ()
) -> Iterator[str]:
    """Run the front end as `stampede up` does, until it is ready; yields its address.

    Args:
        environment: the STAMPEDE_ variables.
        folder: for its log.
        before: a program that starts it, such as strace with its options.
    """
    port, log = free_port(), folder / "web.log"
    address = f"http://127.0.0.1:{port}"
    arguments = [
        *("granian", "--interface", "wsgi", "--factory", "--host", "127.0.0.1"),
        *("--port", str(port), "--blocking-threads", "8", "--no-ws", "web.app:create_app"),
    ]
    process = run(arguments, os.environ | dict(environment), log, before=before)

    def ready() -> bool:
        if process.poll() is not None:
            raise AssertionError(log.read_text())
        try:
            return httpx.get(f"{address}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    try:
        eventually(ready, seconds=60)
        yield address
    finally:
        stop(process)
