"""The child processes of one machine: started with a log of their own, watched, and ended in order."""

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.servers import ROOT, child, how_it_ended

LOG_BYTES = 10 * 1024 * 1024
_TAIL_LINES = 8


class CrashedError(RuntimeError):
    """A child ended that should not have; the text is for people."""


@dataclass(slots=True)
class Process:
    """One program: its command after `python -m`, its variables and its log."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    # How it is asked to finish what it is doing and end.
    drain_signal: signal.Signals = signal.SIGTERM
    popen: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def launch(self) -> None:
        """Start in a session of its own, so that a terminal's Ctrl-C does not reach it."""
        keep_short(self.log)
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                child(list(self.command)),
                cwd=ROOT,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Return the process id; it is that of the program itself."""
        return self.popen.pid if self.popen is not None else 0

    def check(self) -> None:
        """Notice that the program has ended.

        Raises:
            CrashedError: says how it ended and what it said last.
        """
        how = self.ended()
        if how is not None:
            raise CrashedError(f"{self.name} {how}; its log is {self.log}{last_words(self.log)}")

    def ended(self) -> str | None:
        """Say how the program ended, or None while it runs.

        What it started is ended too: a web server's worker would serve on beside the next one's.
        """
        if self.popen is None:
            return None
        if self.popen.returncode is None:
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            if os.waitid(os.P_PID, self.popen.pid, options) is None:
                return None
            # Before it is waited for: until then, no other session can be given its number.
            for pid in _session(self.popen.pid):
                _signal(pid, signal.SIGKILL)
        return how_it_ended(self.popen.wait())

    def ask_to_end(self) -> None:
        """Ask the program to finish what it is doing and end."""
        if self.popen is not None and self.ended() is None:
            self.popen.send_signal(self.drain_signal)

    def wait(self, seconds: float) -> bool:
        """Wait for the end; returns whether it came in time."""
        deadline = time.monotonic() + seconds
        while self.popen is not None and self.ended() is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def kill(self) -> None:
        """End the program and whatever it started, now."""
        if self.popen is None or self.ended() is not None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in (*descendants(self.popen.pid), self.popen.pid):
                _signal(pid, number)
            if self.wait(2):
                return


def descendants(pid: int) -> list[int]:
    """Return the processes that a process started, and theirs, deepest first (Linux)."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [
            int(found) for task in tasks for found in (task / "children").read_text().split()
        ]
    except OSError:
        return []
    return [pid for own in children for pid in (*descendants(own), own)]


def keep_short(log: Path) -> None:
    """Move a long log aside before it is appended to; one earlier file is kept."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))


def end_all(processes: Sequence[Process], *, seconds: float) -> None:
    """Ask programs to end together, and end by force what has not within the time."""
    for process in processes:
        process.ask_to_end()
    deadline = time.monotonic() + seconds
    for process in processes:
        if not process.wait(max(0.0, deadline - time.monotonic())):
            process.kill()


def last_words(log: Path) -> str:
    """Return the last lines of a log, indented below a sentence; empty when there is none."""
    try:
        with log.open(errors="replace") as lines:
            last = deque(lines, maxlen=_TAIL_LINES)
    except OSError:
        return ""
    return "\n" + "".join(f"    {line}" for line in last).rstrip() if last else ""


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _session(leader: int) -> list[int]:
    """Return the other processes of a session (Linux)."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            # The fourth field after the name, which may hold spaces (proc(5)).
            session = int((process / "stat").read_text().rpartition(")")[2].split()[3])
        except (OSError, IndexError):
            continue
        if session == leader and int(process.name) != leader:
            found.append(int(process.name))
    return found
