"""Everything on one machine: starts all parts in order, watches them, ends them in order.

One process at the top, everything else its child. A child that ends on its own is started again. One
that does not come up at the start, or does not stay up, ends the whole with one clear sentence: a copy
that half works would only puzzle whoever runs it.
"""

import fcntl
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

import httpx
from celery import Celery
from pydantic import ValidationError

from common import database, lanes
from common.settings import Settings, WorkerSettings
from deploy import firststart, roles
from deploy.firststart import Demo
from deploy.processes import Process, end_all
from deploy.roles import Places
from deploy.servers import Postgres, Server, Valkey, is_free
from deploy.supervision import Supervisor

READY_SECONDS = 90
DRAIN_SECONDS = 60


class UpError(RuntimeError):
    """The copy cannot run; the text is one sentence for people."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What a person may choose for a copy."""

    data: Path
    host: str
    port: int
    flower_port: int
    max_workers: int


class Interrupted(BaseException):
    """Somebody asked for the end."""


class Copy:
    """One running copy: its servers and processes, in the order they were started."""

    def __init__(self, choices: Choices, say: Callable[[str], None]) -> None:
        """Take the choices, and how to tell about progress."""
        self._choices = choices
        self._say = say
        self._data = choices.data.resolve()
        self._servers: list[Server] = []
        self._processes: list[Process] = []
        self._variables: dict[str, str] = {}

    def run(self) -> None:
        """Start everything, tell where it is, and keep it running until somebody asks for the end.

        Raises:
            UpError, ServerError, CrashedError: something is in the way; all is ended again.
        """
        self._make_folder()
        with self._only_copy(), _signals_raise():
            try:
                self._start()
                supervisor = Supervisor([*self._servers, *self._processes], self._say)
                while True:
                    supervisor.look()
                    time.sleep(0.2)
            except Interrupted:
                self._say("ending: taking no more requests, finishing what is being stamped …")
            finally:
                self._end()

    def _start(self) -> None:
        choices = self._choices
        for port, what, option in (
            (choices.port, "the web server", "PORT=…"),
            (choices.flower_port, "Flower", "FLOWER_PORT=…"),
        ):
            if not is_free(port, choices.host):
                raise UpError(
                    f"port {port} for {what} is in use; end what uses it, or choose another with"
                    f" {option}"
                )
        self._say("keys and settings")
        changing = {"STAMPEDE_PUBLIC_URL": self._public_url()}
        changing |= self._start_servers()
        self._variables = firststart.make_settings(self._data, changing=changing)
        self._require_worker_settings()
        settings = self._settings()
        self._say("database tables")
        database.migrate(settings.database_url)
        connected = database.connect(settings)
        demo = firststart.make_demo(self._data, connected)
        connected.close()
        letter = firststart.make_letter(self._data)
        self._start_processes()
        self._wait_until_ready(lanes.make_celery(settings))
        self._tell(demo, letter)

    def _start_servers(self) -> dict[str, str]:
        """Start the embedded servers that no setting replaces; returns their addresses."""
        addresses = {}
        for variable, server in (
            ("STAMPEDE_DATABASE_URL", Postgres(self._data / "postgres")),
            ("STAMPEDE_BROKER_URL", Valkey(self._data / "valkey")),
        ):
            if variable in os.environ:
                self._say(f"{server.name}: the one that {variable} names")
                continue
            self._say(server.name)
            self._servers.append(server)
            server.start()
            addresses[variable] = server.url
        return addresses

    def _start_processes(self) -> None:
        choices = self._choices
        metrics = self._data / "metrics"
        shutil.rmtree(metrics, ignore_errors=True)
        metrics.mkdir()
        for role in roles.ROLES.values():
            self._say(role.name)
            places = Places(
                data=self._data,
                host=choices.host,
                port=choices.flower_port if role.name == "flower" else choices.port,
                most=choices.max_workers if role.name == "stamp" else None,
            )
            environment = role.environment(
                os.environ | self._variables | {roles.METRICS_VARIABLE: str(metrics)}
            )
            process = Process(
                role.name,
                role.command(places),
                environment,
                self._data / "logs" / f"{role.name}.log",
            )
            self._processes.append(process)
            process.launch()

    def _wait_until_ready(self, celery: Celery) -> None:
        def workers_answer() -> bool:
            try:
                answers = celery.control.ping(timeout=1.0)
            except OSError:
                return False
            return _workers_among(name for answer in answers for name in answer)

        def flower_lists_lanes() -> bool:
            # It asks the workers once, as it starts, and lists no lanes of those that were not up yet.
            user, _, password = self._variables["FLOWER_BASIC_AUTH"].partition(":")
            url = f"http://{self._reachable_host()}:{self._choices.flower_port}/api/workers"
            with httpx.Client(auth=(user, password), timeout=10, trust_env=False) as client:
                for asking in ("", "?refresh=1"):
                    try:
                        answer = client.get(url + asking)
                    except httpx.TransportError:
                        return False
                    if answer.status_code != httpx.codes.OK:
                        return answer.status_code == httpx.codes.UNAUTHORIZED
                    known = answer.json().items()
                    if _workers_among(name for name, facts in known if "active_queues" in facts):
                        return True
            return False

        checks: tuple[tuple[str, Callable[[], bool]], ...] = (
            ("web", lambda: _answers(f"{self._local_url()}/readyz")),
            ("the workers", workers_answer),
            ("Flower", flower_lists_lanes),
        )
        for what, ready in checks:
            self._say(f"waiting for {what}")
            deadline = time.monotonic() + READY_SECONDS
            while not ready():
                for process in self._processes:
                    process.check()
                for server in self._servers:
                    if how := server.ended():
                        raise UpError(f"{server.name} {how}; its log is {server.log}")
                if time.monotonic() > deadline:
                    raise UpError(
                        f"{what} did not answer within {READY_SECONDS} s; see {self._data / 'logs'}"
                    )
                time.sleep(0.2)

    def _end(self) -> None:
        """End in order: first who brings work, then who does it, then who keeps it."""
        by_name = {process.name: process for process in self._processes}
        try:
            for names in roles.ENDING:
                end_all([by_name[n] for n in names if n in by_name], seconds=DRAIN_SECONDS)
        except Interrupted:
            self._say("ending at once")
            for process in self._processes:
                process.kill()
        for server in reversed(self._servers):
            server.stop()

    def _make_folder(self) -> None:
        try:
            self._data.mkdir(parents=True, exist_ok=True)
            for folder in ("keys", "logs"):
                (self._data / folder).mkdir(exist_ok=True)
            probe = self._data / ".probe"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UpError(
                f"cannot write into {self._data} ({error.strerror}); choose another folder with"
                " DATA=…"
            ) from error

    @contextmanager
    def _only_copy(self) -> Iterator[IO[str]]:
        """Hold the data folder; a second copy on the same folder would spoil it."""
        with (self._data / "up.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UpError(
                    f"another copy is running on {self._data}; end it, or choose another folder"
                    " with DATA=… and other ports with PORT=…"
                ) from error
            yield lock

    def _settings(self) -> Settings:
        return Settings(**self._values_of(Settings))

    def _require_worker_settings(self) -> None:
        """Say here what is wrong with them; a worker would only say it into its log."""
        try:
            WorkerSettings(**self._values_of(WorkerSettings))
        except ValidationError as error:
            said = "; ".join(each["msg"].removeprefix("Value error, ") for each in error.errors())
            raise UpError(f"the settings cannot be used: {said}") from error

    def _values_of(self, kind: type[Settings]) -> dict[str, Any]:
        return {
            name: self._variables[f"STAMPEDE_{name.upper()}"]
            for name in kind.model_fields
            if f"STAMPEDE_{name.upper()}" in self._variables
        }

    def _reachable_host(self) -> str:
        everywhere = self._choices.host in ("0.0.0.0", "::")  # noqa: S104
        return "127.0.0.1" if everywhere else self._choices.host

    def _local_url(self) -> str:
        return f"http://{self._reachable_host()}:{self._choices.port}"

    def _public_url(self) -> str:
        return os.environ.get("STAMPEDE_PUBLIC_URL", self._local_url())

    def _tell(self, demo: Demo, letter: Path) -> None:
        user, _, password = self._variables["FLOWER_BASIC_AUTH"].partition(":")
        rows = [(p.name, p.pid, p.log) for p in self._processes]
        rows += [(s.name, s.pid, s.log) for s in self._servers]
        flower = f"http://{self._reachable_host()}:{self._choices.flower_port}"
        lines = [
            "",
            f"Stampede is up. {self._worth()}",
            "",
            *(f"    {name:<12} pid {pid:<8} {log}" for name, pid, log in rows),
            "",
            f"    web          {self._public_url()}    API: {self._public_url()}/docs",
            f"    Flower       {flower}    user {user}, password {password}",
            f"    test key     {demo.test_key}",
            f"    live key     {demo.live_key}",
            f"    voucher      {demo.voucher}    used as a key is; of test mode",
            "",
            "Try it:",
            "",
            f"    curl -sS -H 'Authorization: Bearer {demo.test_key}' \\",
            f"         -F 'document=@{letter}' {self._public_url()}/v1/jobs",
            "",
            "or, in another terminal: make demo. Ctrl-C here finishes what is being stamped and ends.",
        ]
        for line in lines:
            self._say(line)

    def _worth(self) -> str:
        """Say what its stamps are worth, as far as the settings tell."""
        own = self._variables.get("STAMPEDE_STAMP_DESIGN_FILE")
        if own is None:
            return "Everything it stamps is a SPECIMEN without any value as duty."
        return f"Test keys stamp SPECIMENs, live keys the design {own}."


def up(choices: Choices, say: Callable[[str], None]) -> None:
    """Run a copy until somebody asks for its end.

    Raises:
        UpError, ServerError, CrashedError: one sentence that says what is in the way.
    """
    Copy(choices, say).run()


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into `Interrupted` while the block runs."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise Interrupted

    kinds: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(kind, interrupt) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def _workers_among(names: Iterable[str]) -> bool:
    return {name.partition("@")[0] for name in names} >= roles.WORKERS


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
