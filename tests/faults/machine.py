"""A whole copy of the service in real processes, every wire of it through a proxy, to be broken.

Everything is on the loopback and in one folder. A process that is left behind at the end is a failure.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from sqlalchemy import text

from common import database, lanes
from common.database import Database
from deploy import firststart
from deploy.firststart import Demo
from deploy.servers import ROOT, Postgres, Valkey, free_port
from tests.faults.programs import Program
from tests.faults.proxy import Endpoint, Proxy
from tests.faults.receiver import Receiver

T = TypeVar("T")
LEASE_SECONDS = 5
START_SECONDS = 90
QUOTA = 1_000_000
BUCKET = "faults"
STAMPERS = ("stamp-1", "stamp-2")
BEATS = ("beat-1", "beat-2")
# Where Debian's package puts it, by architecture; None where it is not installed.
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
SETTINGS = {
    "STAMPEDE_LEASE_SECONDS": str(LEASE_SECONDS),
    "STAMPEDE_REPUBLISH_SECONDS": "2",
    "STAMPEDE_WEBHOOK_TIMEOUT_SECONDS": "2",
    "STAMPEDE_WEBHOOK_ALLOW_PRIVATE": "true",
}


class Machine:
    """The copy: servers, proxies, programs, and a partner with a receiver. Made by `running`."""

    def __init__(self, folder: Path, *, s3: bool = False, clock: bool = False) -> None:
        """Take the folder and choose.

        Args:
            folder: empty, for everything the copy keeps.
            s3: documents go to a moto server, through a proxy, instead of a folder.
            clock: PostgreSQL and the programs live under libfaketime, so that clocks can be set.
        """
        self.folder = folder
        self.data = folder / "var"
        self.armed = folder / "armed"
        self.objects = self.data / "objects"
        self.postgres = Postgres(self.data / "postgres")
        self.valkey = Valkey(self.data / "valkey")
        self.receiver = Receiver()
        self.to_postgres: Proxy
        self.to_valkey: Proxy
        self.to_store: Proxy | None = None
        self.keys: Demo
        self.address = f"http://127.0.0.1:{free_port()}"
        self.programs: dict[str, Program] = {}
        # Programs that stay down when they end, because a scenario wants it so.
        self.down: set[str] = set()
        self._s3 = s3
        self._clock = clock
        self._variables: dict[str, str] = {}
        self._resources = ExitStack()

    # Start and end.

    def start(self) -> None:
        """Start servers, proxies and programs, and wait until all of them answer."""
        for made in (self.armed, self.data / "keys", self.data / "logs"):
            made.mkdir(parents=True, exist_ok=True)
        # PostgreSQL may run as another user, who must be able to walk in.
        self.folder.chmod(0o755)
        self.set_clock(0, of="programs")
        self.set_clock(0, of="postgres")
        keep = self._resources
        keep.enter_context(self.receiver)
        for server in (self.postgres, self.valkey):
            keep.callback(server.stop)
        self.start_postgres()
        self.valkey.start()
        self.to_postgres = keep.enter_context(Proxy(Endpoint.of(self.postgres.url)))
        self.to_valkey = keep.enter_context(Proxy(Endpoint.of(self.valkey.url)))
        wires = SETTINGS | {
            "STAMPEDE_PUBLIC_URL": self.address,
            "STAMPEDE_DATABASE_URL": self.to_postgres.url(self.postgres.url),
            "STAMPEDE_BROKER_URL": self.to_valkey.url(self.valkey.url),
        }
        with _without_settings():
            self._variables = firststart.make_settings(self.data, changing=wires)
            if self._s3:
                self._variables |= self._start_store()
        database.migrate(self.postgres.url)
        opened = Database(self.postgres.url)
        self.keys = firststart.make_demo(self.data, opened)
        opened.close()
        added = self.command_line(
            *("quota", "topup", "--partner", firststart.DEMO_PARTNER),
            *("--reference", "for the faults", "--amount", str(QUOTA)),
        )
        assert added.returncode == 0, added.stderr
        for name, command in self._commands().items():
            program = Program(
                name, command, self._environment(), self.data / "logs" / f"{name}.log"
            )
            self.programs[name] = program
            keep.callback(program.end)
            program.start()
        self.wait(self._all_ready, seconds=START_SECONDS, what="the copy to be ready")
        for headers in (self.live, self.test):
            httpx.post(
                f"{self.address}/v1/webhook-endpoints",
                json={"url": self.receiver.url},
                headers=headers,
                trust_env=False,
            ).raise_for_status()

    def end(self) -> None:
        """End everything.

        Raises:
            AssertionError: somebody was left behind, and is ended now.
        """
        self._resources.close()
        left = self.left_behind()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, f"left behind: {left}"

    def start_postgres(self) -> None:
        """Start PostgreSQL, under its own clock where clocks can be set."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self._clock_variables("postgres").items():
                patch.setenv(name, value)
            self.postgres.start()

    def restart_valkey_empty(self) -> None:
        """Let Valkey lose all it had, as one without a disk does."""
        self.valkey.kill()
        for file in self.valkey.folder.rglob("*.*"):
            if file.is_file() and file.suffix in {".aof", ".rdb", ".manifest"}:
                file.unlink()
        self.valkey.start()

    # While it runs.

    @property
    def live(self) -> dict[str, str]:
        """Return the headers of the live key."""
        return {"Authorization": f"Bearer {self.keys.live_key}"}

    @property
    def test(self) -> dict[str, str]:
        """Return the headers of the test key."""
        return {"Authorization": f"Bearer {self.keys.test_key}"}

    @property
    def has_clock(self) -> bool:
        """Say whether clocks can be set."""
        return self._clock

    @property
    def root_certificate(self) -> bytes:
        """Return what signatures are checked against."""
        return Path(self._variables["STAMPEDE_TRUST_ROOTS_FILE"]).read_bytes()

    @property
    def broker_url(self) -> str:
        """Return Valkey's address, past the proxy."""
        return self.valkey.url

    def command_line(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `stampede …` past the proxies."""
        direct = {
            "STAMPEDE_DATABASE_URL": self.postgres.url,
            "STAMPEDE_BROKER_URL": self.valkey.url,
        }
        return subprocess.run(
            [sys.executable, "-m", "deploy.cli", "--data", str(self.data), *arguments],
            cwd=ROOT,
            env=_plain_environment() | self._variables | direct,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )

    def sql(self, statement: str, **values: object) -> None:
        """Change the database by hand, past the proxy and the database's own guards."""
        opened = Database(self.postgres.url)
        with opened.transaction() as connection:
            connection.execute(text("set local session_replication_role = replica"))
            connection.execute(text(statement), values)
        opened.close()

    def arm(self, step: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Let the first process that comes to a step get a signal there."""
        building = self.armed / f".{step}"
        building.write_text(str(int(number)))
        building.rename(self.armed / step)

    def disarm(self, step: str) -> None:
        """Let nobody die at a step who has not yet."""
        (self.armed / step).unlink(missing_ok=True)

    def fired(self, step: str) -> list[int]:
        """Return the processes that a step was fired in, the last one last."""
        files = sorted(self.armed.glob(f"{step}.*"), key=lambda file: file.stat().st_ctime_ns)
        return [int(file.suffix[1:]) for file in files]

    def parent_of(self, pid: int) -> Program:
        """Return the program that a process belongs to."""
        return next(p for p in self.programs.values() if pid in p.processes)

    def set_clock(self, seconds: int, *, of: str) -> None:
        """Set the clock of `programs` or of `postgres` off by so many seconds."""
        file = self.folder / f"{of}.clock"
        building = file.with_suffix(".new")
        building.write_text(f"{seconds:+d}\n")
        building.chmod(0o644)
        building.rename(file)

    def tend(self) -> None:
        """Start again what ended, as a supervisor does."""
        for program in self.programs.values():
            if not program.runs and program.name not in self.down:
                program.send_all(signal.SIGKILL)
                program.start()

    def wait(self, look: Callable[[], T | None], *, seconds: float, what: str) -> T:
        """Return what `look` finds, tending the programs meanwhile.

        Raises:
            AssertionError: it finds nothing in time.
        """
        deadline = time.monotonic() + seconds
        while not (found := look()):
            assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
            self.tend()
            time.sleep(0.05)
        return found

    def pause(self, seconds: float) -> None:
        """Let a time go by, tending the programs."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.tend()
            time.sleep(min(left, 0.1))

    # What it is made of.

    def _commands(self) -> dict[str, list[str]]:
        celery = [sys.executable, "-m", "celery", "-A", "tests.faults.dying_worker"]
        worker = [*celery, "worker", "--loglevel", "INFO", "-E"]
        commands = {
            "web": [
                *(sys.executable, "-m", "granian", "--interface", "wsgi", "--factory"),
                *("--host", "127.0.0.1", "--port", self.address.rpartition(":")[2]),
                *("--workers", "2", "--blocking-threads", "4", "--workers-kill-timeout", "10"),
                *("--respawn-failed-workers", "--respawn-interval", "0.5", "--no-ws"),
                "tests.faults.dying_web:create_app",
            ]
        }
        for name in STAMPERS:
            commands[name] = [
                *(*worker, "-n", f"{name}@faults", "-c", "2", "-Q", ",".join(lanes.STAMP_LANES))
            ]
        commands["courier"] = [
            *(*worker, "-n", "courier@faults", "--pool", "threads", "-c", "4"),
            *("-Q", lanes.WEBHOOK_LANE),
        ]
        commands["upkeep"] = [
            *(*worker, "-n", "upkeep@faults", "--pool", "threads", "-c", "4"),
            *("-Q", lanes.UPKEEP_LANE),
        ]
        for name in BEATS:
            commands[name] = [
                *(*celery, "beat", "--loglevel", "INFO", "-S", "workers.timetable:Timetable"),
            ]
        return commands

    def _environment(self) -> dict[str, str]:
        return (
            _plain_environment()
            | self._variables
            | self._clock_variables("programs")
            | {
                "STAMPEDE_ENV_FILE": os.devnull,
                "FAULTS_FOLDER": str(self.armed),
                "PYTHONUNBUFFERED": "1",
            }
        )

    def _clock_variables(self, of: str) -> dict[str, str]:
        if not self._clock:
            return {}
        return {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self.folder / f"{of}.clock"),
            "FAKETIME_CACHE_DURATION": "1",
            # What a jump of the clock moves is the time of day; how long something took is not.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # Otherwise threads that wait for a time do not wait at all.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
            # PostgreSQL changes its user, who may not open what root shares.
            "FAKETIME_DISABLE_SHM": "1",
            "PYTHONPATH": str(ROOT / "tests" / "faults" / "clock"),
        }

    def _start_store(self) -> dict[str, str]:
        """Start moto, make the bucket; returns the settings that name it, through its proxy."""
        port = free_port()
        moto = Program(
            "moto",
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            _plain_environment() | {"STAMPEDE_DATA_DIR": str(self.data)},
            self.data / "logs" / "moto.log",
        )
        self._resources.callback(moto.end)
        moto.start()
        bucket = f"http://127.0.0.1:{port}/{BUCKET}"
        self.wait(partial(_made, bucket), seconds=START_SECONDS, what="moto")
        self.to_store = self._resources.enter_context(Proxy(Endpoint("127.0.0.1", port)))
        return {
            "STAMPEDE_OBJECT_STORE_URL": f"s3://{BUCKET}/documents",
            "AWS_ENDPOINT_URL": self.to_store.url(f"http://127.0.0.1:{port}"),
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "moto",
            "AWS_SECRET_ACCESS_KEY": "moto",
            "AWS_REGION": "us-east-1",
        }

    def _all_ready(self) -> bool:
        for name, program in self.programs.items():
            assert program.starts == 1, f"{name} ended: {program.log.read_text()[-2000:]}"
        logs = (self.programs[name].log for name in (*STAMPERS, "courier", "upkeep"))
        if not all(b" ready" in log.read_bytes() for log in logs):
            return False
        try:
            return httpx.get(f"{self.address}/readyz", timeout=2, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def left_behind(self) -> dict[int, str]:
        """Return processes that carry this folder in their environment or command."""
        mark, found = str(self.folder).encode(), {}
        for process in Path("/proc").iterdir():
            if not process.name.isdigit() or int(process.name) == os.getpid():
                continue
            try:
                command = (process / "cmdline").read_bytes()
                if mark in command or mark in (process / "environ").read_bytes():
                    found[int(process.name)] = command.replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found


@contextmanager
def running(folder: Path, *, s3: bool = False, clock: bool = False) -> Iterator[Machine]:
    """Run a copy while the block runs, and see that nothing of it is left."""
    machine = Machine(folder, s3=s3, clock=clock)
    try:
        machine.start()
        yield machine
    finally:
        machine.end()


def _made(bucket: str) -> bool:
    try:
        return httpx.put(bucket, trust_env=False).status_code in (200, 409)
    except httpx.TransportError:
        return False


def _plain_environment() -> dict[str, str]:
    return {n: v for n, v in os.environ.items() if not n.startswith(("STAMPEDE_", "AWS_"))}


@contextmanager
def _without_settings() -> Iterator[None]:
    """Hide settings that other tests put into this process's environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith(("STAMPEDE_", "AWS_"))]:
            patch.delenv(name)
        yield
