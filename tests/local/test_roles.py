"""The parts one by one, as containers start them: variables and files of secrets, servers of others."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import pytest
import redis
from sqlalchemy import text

from common import partners
from common.database import Database
from common.partners import Mode
from deploy import firststart, roles
from deploy.servers import ROOT, embedded_postgres, embedded_valkey, free_port
from tests.faults import buckets
from tests.stack import eventually

# What a container is given to end in; nothing here takes longer than its last letter.
GRACE_SECONDS = 20
SECRETS = ("STAMPEDE_DATABASE_URL", "STAMPEDE_BROKER_URL", "STAMPEDE_LINK_KEY", "FLOWER_BASIC_AUTH")


@dataclass
class Site:
    """Servers, settings and the parts that run; nothing of it is `stampede up`'s."""

    folder: Path
    variables: dict[str, str]
    ports: dict[str, int]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def web(self) -> str:
        return f"http://127.0.0.1:{self.ports['web']}"

    def secret(self, name: str) -> str:
        return (self.folder / "secrets" / name).read_text().strip()

    def environment(self) -> dict[str, str]:
        return dict(os.environ) | self.variables

    def log(self, role: str) -> Path:
        return self.folder / f"{role}.log"

    def start(self, role: str) -> None:
        options = ["--port", str(self.ports[role])] if role in self.ports else []
        with self.log(role).open("ab") as log:
            self.running[role] = subprocess.Popen(
                [sys.executable, "-m", "deploy.cli", "run", role, *options],
                cwd=ROOT,
                env=self.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def end(self, names: tuple[str, ...]) -> dict[str, int]:
        """End parts together, as their containers are; returns the exit codes."""
        ending = {name: self.running.pop(name) for name in names}
        for process in ending.values():
            process.send_signal(signal.SIGTERM)
        return {name: process.wait(GRACE_SECONDS) for name, process in ending.items()}

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "deploy.cli", *arguments],
            cwd=ROOT,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def said(self, *arguments: str) -> str:
        done = self.command(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def seen_by(self, role: str) -> set[str]:
        """Return the names of the variables that a part was started with."""
        environment = Path(f"/proc/{self.running[role].pid}/environ").read_bytes()
        return {each.partition(b"=")[0].decode() for each in environment.split(b"\0")}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    tmp_path.chmod(0o755)
    ports = {"web": free_port(), "flower": free_port()}
    with (
        embedded_postgres(tmp_path / "postgres") as database_url,
        embedded_valkey(tmp_path / "valkey") as broker_url,
        buckets.bucket(tmp_path) as store,
    ):
        (tmp_path / "made" / "keys").mkdir(parents=True)
        variables = firststart.make_settings(
            tmp_path / "made",
            changing={
                "STAMPEDE_DATABASE_URL": database_url,
                "STAMPEDE_BROKER_URL": broker_url,
                "STAMPEDE_PUBLIC_URL": f"http://127.0.0.1:{ports['web']}",
                "STAMPEDE_OBJECT_STORE_URL": buckets.URL,
            },
        )
        secrets = tmp_path / "secrets"
        secrets.mkdir()
        for name in SECRETS:
            (secrets / name).write_text(variables.pop(name) + "\n")
        variables |= buckets.VARIABLES | {
            "AWS_ENDPOINT_URL": store,
            "STAMPEDE_DATA_DIR": str(tmp_path / "data"),
            "STAMPEDE_SECRETS_DIR": str(secrets),
            "STAMPEDE_METRICS_DIR": str(tmp_path / "metrics"),
        }
        (tmp_path / "data").mkdir()
        with ended_at_last(Site(tmp_path, variables, ports)) as made:
            yield made


@contextmanager
def ended_at_last(site: Site) -> Iterator[Site]:
    try:
        yield site
    finally:
        for process in site.running.values():
            # Granian's server process would live on without its parent.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(site: Site) -> bool:
    assert all(process.poll() is None for process in site.running.values())
    try:
        return httpx.get(f"{site.web}/readyz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def probed(site: Site, role: str) -> bool:
    options = ("--port", str(site.ports[role])) if role in site.ports else ()
    return eventually(lambda: site.command("probe", role, *options).returncode == 0, seconds=60)


def all_stamped(database: Database, jobs: list[str]) -> bool:
    with database.reading() as connection:
        found = connection.execute(text("select id from jobs where state = 'stamped'")).scalars()
        return {str(each) for each in found} == set(jobs)


def new_key(site: Site) -> str:
    opened = Database(site.secret("STAMPEDE_DATABASE_URL"))
    with opened.transaction() as connection:
        partner = partners.create(connection, name="Portal A")
        key = partners.issue_key(connection, partner_id=partner.id, mode=Mode.TEST, label="by hand")
    opened.close()
    return key.secret


def stamped(client: httpx.Client, jobs: list[str]) -> bool:
    return all(client.get(f"/v1/jobs/{job}").json()["state"] == "stamped" for job in jobs)


def test_the_parts_run_by_hand_stamp_a_letter_and_end_on_a_signal_with_nothing_lost(
    site: Site, letter: bytes
) -> None:
    early = site.command("run", "migrate", "--wait", "1")
    assert early.returncode == 1
    assert early.stderr == "Error: nobody brought the tables up to date in 1 s\n"
    assert site.said("run", "migrate") == "the tables are up to date\n"
    secret = new_key(site)

    for role in roles.ROLES:
        site.start(role)
    eventually(partial(answers, site), seconds=60)
    asked = ("web", "flower", "stamp", "check")
    with ThreadPoolExecutor(len(asked)) as together:
        assert all(together.map(partial(probed, site), asked))
    variables_are_kept_apart(site)

    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/pdf"}
    with httpx.Client(base_url=site.web, headers=headers, timeout=30, trust_env=False) as client:
        first = client.post("/v1/jobs", content=letter).json()["id"]
        eventually(partial(stamped, client, [first]), seconds=30)
        file = client.get(f"/v1/jobs/{first}/document", follow_redirects=True).content
        checked = httpx.post(
            f"{site.web}/v1/verifications",
            files={"document": file},
            headers={"Authorization": headers["Authorization"]},
            timeout=30,
            trust_env=False,
        )
        assert (checked.json()["verdict"], checked.json()["known"]) == ("specimen", True)
        assert client.get("/scaling/stamp").json()["desired_workers"] == 1
        many = [client.post("/v1/jobs", content=letter).json()["id"] for _ in range(30)]

    for names in roles.ENDING:
        codes = site.end(names)
        assert codes == dict.fromkeys(names, 0), codes
    with redis.Redis.from_url(site.secret("STAMPEDE_BROKER_URL")) as valkey:
        assert valkey.hlen("unacked") == 0
    audited = json.loads(site.said("audit", "--json"))
    assert (audited["jobs"], audited["violations"]) == (31, [])

    site.start("stamp")
    opened = Database(site.secret("STAMPEDE_DATABASE_URL"))
    eventually(partial(all_stamped, opened, [first, *many]), seconds=60)
    opened.close()


def variables_are_kept_apart(site: Site) -> None:
    """What a part may know in a container is what it may know under `stampede up`."""
    assert "STAMPEDE_RECEIPT_KEY_FILE" in site.seen_by("web")
    assert "STAMPEDE_DATABASE_URL" in site.seen_by("web")
    assert "FLOWER_BASIC_AUTH" in site.seen_by("flower")
    for role, part in roles.ROLES.items():
        assert not [name for name in site.seen_by(role) if name.startswith(part.kept_from)], role
    assert "STAMPEDE_DATABASE_URL" not in site.seen_by("check")


def test_a_part_that_is_not_there_does_not_answer(tmp_path: Path) -> None:
    site = Site(tmp_path, {"STAMPEDE_DATA_DIR": str(tmp_path)}, {"web": free_port()})
    done = site.command("probe", "web", "--port", str(site.ports["web"]))
    assert (done.returncode, done.stderr) == (1, "Error: web does not answer\n")
