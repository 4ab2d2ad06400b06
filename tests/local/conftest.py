"""A copy of everything, started as a person would."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.servers import ROOT, free_port

READY = "Try it:"


@dataclass
class Running:
    """A started `stampede up` and where it writes."""

    process: subprocess.Popen[bytes]
    data: Path
    port: int
    output: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def said(self) -> str:
        return self.output.read_text()

    def wait_ready(self) -> "Running":
        deadline = time.monotonic() + 90
        while READY not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.1)
        return self

    def end(self, how: signal.Signals = signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(90)


Start = Callable[..., Running]


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the stack of other tests has set in this process: a person's shell has none of it."""
    for name in [name for name in os.environ if name.startswith("STAMPEDE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start copies; whatever is still running at the end of the test is ended."""
    started: list[Running] = []

    def start(
        *, data: Path | None = None, port: int | None = None, flower_port: int | None = None
    ) -> Running:
        folder = data or tmp_path / "var"
        chosen = port or free_port()
        output = tmp_path / f"up-{len(started)}.log"
        with output.open("wb") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "deploy.cli", "--data", str(folder), "up"),
                    *("--port", str(chosen), "--flower-port", str(flower_port or free_port())),
                ],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running = Running(process, folder, chosen, output)
        started.append(running)
        return running

    yield start
    for running in started:
        running.end()


def stampede(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one command against a data folder."""
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", "--data", str(data), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def processes_of(data: Path) -> list[str]:
    """Return the command lines of running processes that name a data folder or hold its settings."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            command = (process / "cmdline").read_bytes()
            environment = (process / "environ").read_bytes()
        except OSError:
            continue
        if (
            str(data).encode() in command
            or b"STAMPEDE_DATA_DIR=%s\0" % str(data).encode() in environment
        ):
            found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


def gone(data: Path, *, seconds: float = 15) -> bool:
    """Say whether every process of a data folder ends within the time."""
    deadline = time.monotonic() + seconds
    while processes_of(data):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
