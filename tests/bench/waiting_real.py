"""A real surge: front end, workers, PostgreSQL and Valkey; what clients are told, and what came true.

The workers wait for a timestamp authority that takes its time, so that their number and not this machine's
other business makes the pace.
"""

import json
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import text
from werkzeug.wrappers import Request, Response

from common import database, jwks, partners
from common.database import Database
from common.lanes import STAMP_LANES, UPKEEP_LANE, WEBHOOK_LANE
from common.partners import Mode
from deploy.sample import sample_letter
from deploy.servers import embedded_postgres, embedded_valkey, free_port
from deploy.specimen import make_specimen_chain
from tests.authorities import Pki, Unruly, make_pki
from tests.authorities import serving as serving_application
from tests.bench.waiting_model import POLL_SECONDS, Record, Told
from tests.stack import eventually, run, serving, stop

# The part of the letters that come alone, and how many come together otherwise.
ALONE = 0.2
BATCH = 50
WORKERS = 2
PROCESSES = 2
AUTHORITY_SECONDS = 0.8
# One job in so many is asked for, again and again.
POLLED = 20
# The part of the jobs after which a worker is killed, and the seconds until there is another.
KILLED_AFTER = 0.45
AWAY_SECONDS = 20.0
WARM_UP = 20
WAIT_SECONDS = 240


@dataclass
class Surge:
    """What was told and came true, when workers came or went, and how fast jobs were stamped."""

    record: Record
    changes: list[float]
    jobs_per_second: float


@contextmanager
def slow_authority(folder: Path) -> Iterator[Pki]:
    """Run a timestamp authority that takes its time."""
    server = Unruly()
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    with serving_application(server) as url:
        pki = make_pki(server, url, folder)

        def answer(request: Request) -> Response:
            time.sleep(AUTHORITY_SECONDS)
            return Response(
                pki.answer(request.get_data()), content_type="application/timestamp-reply"
            )

        server.misbehaves["/"] = answer
        yield pki


def environment(
    folder: Path, database_url: str, broker_url: str, port: int, pki: Pki
) -> dict[str, str]:
    """Return the settings of a service whose keys lie in a folder; makes them there."""
    chain = make_specimen_chain(folder / "keys")
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(pem)
    (folder / "public.pem").write_bytes(jwks.public_pem(key.public_key()))
    return {
        "STAMPEDE_DATA_DIR": str(folder / "data"),
        "STAMPEDE_DATABASE_URL": database_url,
        "STAMPEDE_BROKER_URL": broker_url,
        "STAMPEDE_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "STAMPEDE_LINK_KEY": "k" * 32,
        "STAMPEDE_RECEIPT_KEY_FILE": str(folder / "key.pem"),
        "STAMPEDE_CODE_KEY_FILE": str(folder / "key.pem"),
        "STAMPEDE_CODE_PUBLIC_KEYS_FILE": str(folder / "public.pem"),
        "STAMPEDE_SIGNING_KEY_FILE": str(chain.signer_key),
        "STAMPEDE_SIGNING_CHAIN_FILE": str(chain.chain),
        "STAMPEDE_SIGNATURE_LEVEL": "B-T",
        "STAMPEDE_TIMESTAMP_URLS": pki.authority(),
        "STAMPEDE_TIMESTAMP_ROOTS_FILE": str(pki.file("roots.pem", pki.root_pem)),
    }


class Crew:
    """The stamping workers, of `PROCESSES` each."""

    def __init__(self, settings: dict[str, str], folder: Path) -> None:
        """Start them all."""
        self._settings = settings
        self._folder = folder
        self._started = 0
        self._workers = [self._start() for _ in range(WORKERS)]

    def kill_one(self) -> None:
        """Kill a worker and its pool, as a machine that goes away does."""
        worker = self._workers.pop()
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(10)

    def start_one(self) -> None:
        """Start another; returns when it takes jobs."""
        self._workers.append(self._start())

    def stop(self) -> None:
        """End them all."""
        for worker in self._workers:
            stop(worker)

    def _start(self) -> subprocess.Popen[bytes]:
        self._started += 1
        log = self._folder / f"stamp-{self._started}.log"
        command = [
            "celery",
            "-A",
            "workers.app",
            "worker",
            "--loglevel",
            "INFO",
            "-c",
            str(PROCESSES),
        ]
        queues = ",".join(STAMP_LANES)
        worker = run(
            [*command, "-n", f"stamp{self._started}@bench", "-Q", queues], self._settings, log
        )
        eventually(lambda: b" ready" in log.read_bytes(), seconds=60)
        return worker


@contextmanager
def service(folder: Path) -> Iterator[tuple[str, Crew, Database, dict[str, str]]]:
    """Run everything; yields the front end's address, the workers, the database and a key's header."""
    port = free_port()
    with ExitStack() as stack:
        database_url = stack.enter_context(embedded_postgres(folder / "postgres"))
        broker_url = stack.enter_context(embedded_valkey(folder / "valkey"))
        database.migrate(database_url)
        authority = folder / "authority"
        authority.mkdir()
        pki = stack.enter_context(slow_authority(authority))
        settings = environment(folder, database_url, broker_url, port, pki)
        opened = Database(database_url, pool_size=2)
        stack.callback(opened.close)
        with opened.transaction() as connection:
            partner = partners.create(connection, name="waiting")
            key = partners.issue_key(
                connection, partner_id=partner.id, mode=Mode.TEST, label="waiting"
            )
        crew = Crew(settings, folder)
        stack.callback(crew.stop)
        celery = ["celery", "-A", "workers.app"]
        threads = ["worker", "-n", "courier@bench", "--pool", "threads", "-c", "4"]
        for name, command in (
            ("courier", [*threads, "-Q", f"{WEBHOOK_LANE},{UPKEEP_LANE}"]),
            ("beat", ["beat", "-S", "workers.timetable:Timetable"]),
        ):
            process = run([*celery, *command], settings, folder / f"{name}.log")
            stack.callback(partial(stop, process))
        address, _ = stack.enter_context(serving(settings, port, folder / "web.log"))
        yield address, crew, opened, {"Authorization": f"Bearer {key.secret}"}


class Clients:
    """Submit letters faster than they are stamped, and ask for some of them until they are."""

    def __init__(self, address: str, headers: dict[str, str], record: Record) -> None:
        self._api = f"{address}/v1"
        self._headers = headers
        self._record = record
        self._letter = sample_letter()
        self._numbers: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def numbers(self) -> dict[str, int]:
        """Return the jobs' numbers in the record by their ids."""
        return self._numbers

    def submit(self, count: int) -> None:
        """Submit so many letters: a few at a time in batches, and some of them alone beside those."""
        alone = int(count * ALONE)
        threads = [
            threading.Thread(target=self._submit_alone, args=(alone,)),
            threading.Thread(target=self._submit_batches, args=(count - alone,)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _submit_alone(self, count: int) -> None:
        with self._client() as client:
            for _ in range(count):
                answer = client.post(
                    f"{self._api}/jobs",
                    content=self._letter,
                    headers={"Content-Type": "application/pdf"},
                )
                self._note(time.time(), [answer.raise_for_status().json()])

    def _submit_batches(self, count: int) -> None:
        with self._client() as client:
            for begin in range(0, count, BATCH):
                names = [f"d{number}" for number in range(min(BATCH, count - begin))]
                answer = client.post(
                    f"{self._api}/batches",
                    data={"jobs": json.dumps([{"document": name} for name in names])},
                    files={name: (f"{name}.pdf", self._letter) for name in names},
                )
                self._note(time.time(), answer.raise_for_status().json()["jobs"])

    def _client(self) -> httpx.Client:
        return httpx.Client(timeout=60, trust_env=False, headers=self._headers)

    def poll(self, done: threading.Event) -> None:
        """Ask for a part of the jobs again and again until somebody says that it is done."""
        with self._client() as client:
            while not done.wait(POLL_SECONDS):
                with self._lock:
                    some = list(self._numbers.items())[::POLLED]
                for job_id, number in some:
                    job = client.get(f"{self._api}/jobs/{job_id}").raise_for_status().json()
                    if job["state"] == "queued":
                        told = Told(time.time(), number, job["seconds_left"])
                        self._record.polled.append(told)

    def _note(self, at: float, jobs: list[dict[str, Any]]) -> None:
        with self._lock:
            for job in jobs:
                number = self._numbers.setdefault(job["id"], len(self._numbers))
                self._record.accepted.append(Told(at, number, job["seconds_left"]))


def surge(folder: Path, jobs: int) -> Surge:
    """Submit more than can be stamped, kill a worker in the middle and start another."""
    changes: list[float] = []
    with service(folder) as (address, crew, opened, headers):
        Clients(address, headers, Record()).submit(WARM_UP)
        eventually(lambda: _stamped(opened) >= WARM_UP, seconds=60)
        record = Record()
        clients, done, began = Clients(address, headers, record), threading.Event(), time.time()
        threads = [
            threading.Thread(target=clients.submit, args=(jobs,)),
            threading.Thread(target=clients.poll, args=(done,)),
        ]
        for thread in threads:
            thread.start()
        try:
            eventually(
                lambda: _stamped(opened) >= WARM_UP + jobs * KILLED_AFTER, seconds=WAIT_SECONDS
            )
            crew.kill_one()
            changes.append(time.time())
            time.sleep(AWAY_SECONDS)
            crew.start_one()
            changes.append(time.time())
            threads[0].join()
            eventually(lambda: _stamped(opened) >= WARM_UP + jobs, seconds=WAIT_SECONDS)
        finally:
            done.set()
            threads[1].join()
        with opened.transaction() as connection:
            ended: dict[str, datetime] = {
                str(row.id): row.finished_at
                for row in connection.execute(text("select id, finished_at from jobs"))
            }
    for job_id, number in clients.numbers.items():
        record.stamped[number] = ended[job_id].timestamp()
    seconds = max(record.stamped.values()) - began
    return Surge(record, changes, round(jobs / seconds, 1))


def _stamped(opened: Database) -> int:
    with opened.transaction() as connection:
        return int(
            connection.execute(
                text("select count(*) from jobs where state = 'stamped'")
            ).scalar_one()
        )
