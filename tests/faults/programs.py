"""One program of the copy: started in a session of its own, signalled by its id, ended with all it has."""

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from deploy.processes import descendants
from deploy.servers import ROOT, child


@dataclass(slots=True)
class Program:
    """A program: its command, its variables, its log, and its process once it was started."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    popen: subprocess.Popen[bytes] | None = field(default=None, init=False)
    starts: int = field(default=0, init=False)

    def start(self) -> None:
        """Start it; it ends with the thread that calls this at the latest."""
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                child(self.command),
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.starts += 1

    @property
    def pid(self) -> int:
        """Return the id of the parent process."""
        if self.popen is None:
            raise LookupError(f"{self.name} was not started")
        return self.popen.pid

    @property
    def runs(self) -> bool:
        """Say whether its parent process is there."""
        return self.popen is not None and self.popen.poll() is None

    @property
    def processes(self) -> list[int]:
        """Return the parent process and those below it."""
        return [self.pid, *descendants(self.pid)] if self.runs else []

    def lines(self) -> list[str]:
        """Return what it has written so far."""
        return self.log.read_text(errors="replace").splitlines()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the parent alone."""
        if self.runs:
            os.kill(self.pid, number)

    def send_all(self, number: signal.Signals) -> None:
        """Send a signal to the whole group, also where the parent is gone already."""
        if self.popen is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.popen.pid, number)

    def kill(self) -> None:
        """Kill the group at once, as a machine that loses its power."""
        self.send_all(signal.SIGKILL)
        if self.popen is not None:
            self.popen.wait(10)

    def end(self) -> None:
        """End it kindly, then by force, and whatever it leaves."""
        if self.popen is None:
            return
        self.send_all(signal.SIGCONT)
        self.send(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(15)
        self.kill()
