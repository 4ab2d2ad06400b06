"""A whole copy (`stampede up`) for benches: where it is, its keys, and its processes."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text

from common import database
from common.settings import ENV_FILE_NAME, Settings
from deploy.firststart import Demo, read_demo
from deploy.servers import ROOT, free_port

_PID = re.compile(r"^ {4}(\S+) +pid (\d+)", re.MULTILINE)
START_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Whole:
    """A running copy."""

    data: Path
    port: int
    demo: Demo
    pids: dict[str, int]

    @property
    def url(self) -> str:
        """Return its address."""
        return f"http://127.0.0.1:{self.port}"

    def stamped(self) -> int:
        """Return how many jobs are stamped, as the database has it: the front end may be busy."""
        settings = Settings(_env_file=self.data / ENV_FILE_NAME)
        opened = database.connect(settings)
        try:
            with opened.reading() as connection:
                counted = connection.execute(
                    text("select count(*) from jobs where state = 'stamped'")
                )
                return int(counted.scalar_one())
        finally:
            opened.close()

    def command(self, *arguments: str) -> None:
        """Run a command of `stampede` on this copy."""
        subprocess.run(
            [sys.executable, "-m", "deploy.cli", "--data", str(self.data), *arguments],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )


@contextmanager
def running(folder: Path, *, quota: int, workers: int | None = None) -> Iterator[Whole]:
    """Run a copy of everything in a folder; yields it when it is ready.

    Args:
        folder: empty, of this run.
        quota: live stamps that the demo partner gets.
        workers: how many stamp processes at most; None: as `stampede up` has it.
    """
    # Servers that run as another user must be able to walk in.
    folder.chmod(0o755)
    data, log, port = folder / "var", folder / "up.log", free_port()
    command = [sys.executable, "-m", "deploy.cli", "--data", str(data), "up"]
    command += ["--port", str(port), "--flower-port", str(free_port())]
    if workers is not None:
        command += ["--max-workers", str(workers)]
    with log.open("wb") as output:
        up = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START_SECONDS
        while "Try it:" not in log.read_text():
            if up.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(log.read_text())
            time.sleep(0.2)
        demo = read_demo(data)
        if demo is None:
            raise SystemExit("the copy has no demo partner")
        pids = {name: int(pid) for name, pid in _PID.findall(log.read_text())}
        whole = Whole(data, port, demo, pids)
        whole.command(
            *("quota", "topup", "--partner", "demo", "--reference", "bench"),
            *("--amount", str(quota)),
        )
        yield whole
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(90)
