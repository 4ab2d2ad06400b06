"""Fixtures: one PostgreSQL, one Valkey, workers and granian, each started at its first use."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from flask import Flask
from flask.testing import FlaskClient

from common import accounts, database, documents, jwks, ledger, pace, partners
from common.database import Database
from common.documents import Documents
from common.identifiers import new_id
from common.lanes import CHECK_LANE, STAMP_LANES, WEBHOOK_LANE
from common.pace import Pace
from common.partners import Caller, Mode
from common.settings import WebSettings, WorkerSettings
from deploy.roles import SERVING
from deploy.sample import sample_letter
from deploy.servers import embedded_postgres, embedded_valkey, free_port
from deploy.specimen import make_specimen_chain
from web.app import create_app

T = TypeVar("T")
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Account:
    """A partner of its own for one test, with its keys."""

    partner_id: UUID
    test_key: str
    live_key: str
    test_key_id: UUID
    test_account_id: UUID
    live_account_id: UUID

    @property
    def test(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.test_key}"}

    @property
    def live(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.live_key}"}

    def id(self, mode: Mode = Mode.LIVE) -> UUID:
        return self.live_account_id if mode is Mode.LIVE else self.test_account_id

    def caller(self, mode: Mode = Mode.TEST) -> Caller:
        return Caller(self.partner_id, mode, self.test_key_id, self.id(mode))


@pytest.fixture(scope="session")
def letter() -> bytes:
    return sample_letter()


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The STAMPEDE_ variables that every process of these tests gets."""
    folder = tmp_path_factory.mktemp("stack")
    chain = make_specimen_chain(folder / "keys")
    receipt_key = folder / "receipt.key.pem"
    receipt_key.write_bytes(
        Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
    )
    code_key = Ed25519PrivateKey.generate()
    (folder / "code.key.pem").write_bytes(
        code_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (folder / "code.pub.pem").write_bytes(jwks.public_pem(code_key.public_key()))
    # A copy, so that tests may trust further issuers; it is read anew for each check.
    trust_roots = folder / "trust-roots.pem"
    trust_roots.write_bytes(chain.root.read_bytes())
    port = free_port()
    with (
        embedded_postgres(folder / "postgres") as database_url,
        embedded_valkey(folder / "valkey") as broker_url,
    ):
        database.migrate(database_url)
        variables = {
            "STAMPEDE_DATA_DIR": str(folder / "data"),
            "STAMPEDE_ENV_FILE": str(folder / "none.env"),
            "STAMPEDE_DATABASE_URL": database_url,
            "STAMPEDE_BROKER_URL": broker_url,
            "STAMPEDE_PUBLIC_URL": f"http://127.0.0.1:{port}",
            "STAMPEDE_LINK_KEY": "a key for the links of these tests",
            "STAMPEDE_RECEIPT_KEY_FILE": str(receipt_key),
            "STAMPEDE_CODE_KEY_FILE": str(folder / "code.key.pem"),
            "STAMPEDE_CODE_PUBLIC_KEYS_FILE": str(folder / "code.pub.pem"),
            "STAMPEDE_SIGNING_KEY_FILE": str(chain.signer_key),
            "STAMPEDE_SIGNING_CHAIN_FILE": str(chain.chain),
            "STAMPEDE_TRUST_ROOTS_FILE": str(trust_roots),
            "STAMPEDE_WEBHOOK_ALLOW_PRIVATE": "true",
            "STAMPEDE_WEBHOOK_TIMEOUT_SECONDS": "2",
            "STAMPEDE_MAX_DOCUMENT_BYTES": str(1024 * 1024),
            # All tests come from one address; those of the limits have apps of their own.
            "STAMPEDE_CHECKS_PER_MINUTE": "100000",
            "STAMPEDE_CHECKS_PER_MINUTE_BY_KEY": "100000",
            "STAMPEDE_WRONG_LINKS_PER_HOUR": "100000",
            "ROOT_CERTIFICATE": str(chain.root),
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            yield variables


@pytest.fixture(scope="session")
def web_settings(environment: dict[str, str]) -> WebSettings:
    return WebSettings.load()


@pytest.fixture(scope="session")
def worker_settings(environment: dict[str, str]) -> WorkerSettings:
    return WorkerSettings.load()


@pytest.fixture(scope="session")
def root_certificate(environment: dict[str, str]) -> bytes:
    return Path(environment["ROOT_CERTIFICATE"]).read_bytes()


@pytest.fixture(scope="session")
def db(web_settings: WebSettings) -> Iterator[Database]:
    opened = database.connect(web_settings)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def store(web_settings: WebSettings) -> Documents:
    return documents.connect(web_settings)


@pytest.fixture(scope="session")
def lane_pace(web_settings: WebSettings) -> Pace:
    return pace.connect(web_settings)


@pytest.fixture(scope="session")
def app(web_settings: WebSettings) -> Flask:
    return create_app(web_settings)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def make_account(db: Database, make_account_in: Callable[..., Account]) -> Callable[..., Account]:
    """Make partners; each has a test key, a live key and some live quota."""
    return partial(make_account_in, db)


@pytest.fixture(scope="session")
def make_account_in() -> Callable[..., Account]:
    """Make partners in a database of one's own."""

    def make(db: Database, *, quota: int = 100) -> Account:
        with db.transaction() as connection:
            partner = partners.create(connection, name=f"partner {new_id()}")
            test = partners.issue_key(
                connection, partner_id=partner.id, mode=Mode.TEST, label="test"
            )
            live = partners.issue_key(
                connection, partner_id=partner.id, mode=Mode.LIVE, label="live"
            )
            ids = [
                accounts.of_partner(connection, partner_id=partner.id, mode=mode)
                for mode in (Mode.TEST, Mode.LIVE)
            ]
            if quota:
                ledger.top_up(
                    connection, account_id=ids[1], amount=quota, reference="first", by="tests"
                )
        return Account(partner.id, test.secret, live.secret, test.id, *ids)

    return make


@pytest.fixture
def account(make_account: Callable[..., Account]) -> Account:
    return make_account()


def run(
    arguments: list[str], environment: dict[str, str], log: Path, *, before: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """Start a program of ours in its own session, its output in a file.

    `before` is a program that starts it, such as strace with its options.
    """
    with log.open("wb") as output:
        return subprocess.Popen(
            [*before, sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=os.environ | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process by its id, kindly first."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)


def eventually(look: Callable[[], T | None], *, seconds: float = 20) -> T:
    """Return what `look` finds, looking again until it finds something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


def _says_ready(log: Path) -> bool:
    return b" ready" in log.read_bytes()


@pytest.fixture(scope="session")
def checkers(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The worker that looks into files while clients wait; yields its log."""
    log = tmp_path_factory.mktemp("checkers") / "check.log"
    command = ["celery", "-A", "workers.desk", "worker", "--loglevel", "INFO", "-E"]
    process = run([*command, "-n", "check@test", "-c", "2", "-Q", CHECK_LANE], environment, log)
    try:
        eventually(partial(_says_ready, log), seconds=60)
        yield log
    finally:
        stop(process)


@pytest.fixture(scope="session")
def workers(
    environment: dict[str, str], checkers: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """All workers, as real processes; yields the folder of the stamp worker's and courier's logs."""
    logs = tmp_path_factory.mktemp("workers")
    base = ["celery", "-A", "workers.app", "worker", "--loglevel", "INFO", "-E"]
    started = [
        run(
            [*base, "-n", "stamp@test", "--autoscale", "2,1", "-Q", ",".join(STAMP_LANES)],
            environment,
            logs / "stamp.log",
        ),
        run(
            [*base, "-n", "courier@test", "--pool", "threads", "-c", "4", "-Q", WEBHOOK_LANE],
            environment,
            logs / "courier.log",
        ),
    ]
    try:
        for log in (logs / "stamp.log", logs / "courier.log"):
            eventually(partial(_says_ready, log), seconds=60)
        yield logs
    finally:
        for process in started:
            stop(process)


@contextmanager
def serving(
    environment: dict[str, str], port: int, log: Path, *, app: str = "web.app"
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run the front end on granian, as a real process; yields its address and the process."""
    address = f"http://127.0.0.1:{port}"
    process = run(
        [
            *("granian", "--interface", "wsgi", "--factory", f"{app}:create_app"),
            *("--host", "127.0.0.1", "--port", str(port), *SERVING),
        ],
        environment,
        log,
    )

    def ready() -> bool:
        if process.poll() is not None:
            raise AssertionError(log.read_text())
        try:
            return httpx.get(f"{address}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    try:
        eventually(ready, seconds=60)
        yield address, process
    finally:
        stop(process)


@pytest.fixture(scope="session")
def server(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The front end at the public address; yields it."""
    port = int(environment["STAMPEDE_PUBLIC_URL"].rpartition(":")[2])
    with serving(environment, port, tmp_path_factory.mktemp("web") / "web.log") as (address, _):
        yield address
