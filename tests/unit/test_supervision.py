"""The supervisor: when it starts something again, when it gives up, and that nothing is left behind."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.processes import CrashedError, Process, descendants
from deploy.supervision import Patience, Supervisor
from tests.stack import eventually

SLEEPS = "import time; time.sleep(600)"
HAS_A_CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{SLEEPS}'])"
# A child that would not hear a polite signal.
HAS_A_DEAF_CHILD = HAS_A_CHILD.replace("import time;", "import signal, time; signal.signal(15, 1);")


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Callable[[str], Process]]:
    """Start a Python program as a part; it is ended with the test."""
    started: list[Process] = []

    def make(program: str) -> Process:
        made = Process("part", [sys.executable, "-c", program], os.environ, tmp_path / "part.log")
        started.append(made)
        made.launch()
        return made

    yield make
    for each in started:
        each.kill()


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def end(process: Process) -> None:
    """Kill a process, and wait until the kernel has it."""
    assert process.popen is not None
    process.popen.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def runs(pid: int) -> bool:
    """Say whether a process runs; one that nobody waits for has ended too."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_pauses_double_up_to_the_longest() -> None:
    patience = Patience()
    ends = [20.0 * n for n in range(1, 9)]
    pauses = [patience.pause(started=at - 10, ended=at) for at in ends]
    assert pauses == [0.5, 1, 2, 4, 8, 10, 10, 10]


def test_a_minute_of_health_forgives() -> None:
    patience = Patience()
    for at in (1.0, 2.0, 3.0, 4.0):
        patience.pause(started=at, ended=at)
    assert patience.pause(started=4.0, ended=64.0) == 0.5


def test_the_fifth_end_within_a_minute_is_the_last() -> None:
    patience = Patience()
    pauses = [patience.pause(started=at, ended=at) for at in (0.0, 10.0, 20.0, 30.0, 59.9)]
    assert pauses == [0.5, 1, 2, 4, None]


def test_what_ended_is_started_again_after_its_pause_and_said_in_one_line(
    process: Callable[[str], Process],
) -> None:
    part, clock, said = process(SLEEPS), Clock(), list[str]()
    supervisor = Supervisor([part], said.append, now=clock)
    before = part.pid
    end(part)
    supervisor.look()
    clock.now += 0.4
    supervisor.look()
    assert (part.pid, said) == (before, [])
    clock.now += 0.1
    supervisor.look()
    assert part.pid != before
    assert part.ended() is None
    assert said == [f"part was killed by SIGKILL; started again as pid {part.pid}, log {part.log}"]
    supervisor.look()
    assert len(said) == 1


def test_what_ends_again_and_again_at_once_is_given_up_with_its_last_words(
    process: Callable[[str], Process],
) -> None:
    part, clock, said = process("raise SystemExit('no such key')"), Clock(), list[str]()
    supervisor = Supervisor([part], said.append, now=clock)

    def watch() -> None:
        for _ in range(20):
            part.wait(20)
            supervisor.look()
            clock.now += 5

    with pytest.raises(CrashedError, match="part ended with 1, 5 times") as raised:
        watch()
    assert "no such key" in str(raised.value)
    assert len(said) == 4


def test_what_cannot_be_started_is_tried_again(
    process: Callable[[str], Process], tmp_path: Path
) -> None:
    part, clock, said = process(SLEEPS), Clock(), list[str]()
    supervisor = Supervisor([part], said.append, now=clock)
    end(part)
    supervisor.look()
    part.log = Path("/proc/nothing/part.log")
    clock.now += 0.5
    supervisor.look()
    assert said == []
    part.log = tmp_path / "part.log"
    clock.now += 1
    supervisor.look()
    assert part.ended() is None
    assert said[0].startswith("part could not be started (No such file or directory); started")


def test_what_is_stopped_has_not_ended(process: Callable[[str], Process]) -> None:
    part, clock, said = process(SLEEPS), Clock(), list[str]()
    supervisor = Supervisor([part], said.append, now=clock)
    before = part.pid
    os.kill(part.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, part.pid, os.WSTOPPED | os.WNOWAIT)
    for _ in range(10):
        clock.now += 100
        supervisor.look()
    assert (part.pid, said) == (before, [])


@pytest.mark.parametrize("program", [HAS_A_CHILD, HAS_A_DEAF_CHILD])
def test_what_a_killed_program_had_started_does_not_run_on(
    process: Callable[[str], Process], program: str
) -> None:
    part = process(program)

    orphan = eventually(lambda: descendants(part.pid))[0]
    end(part)
    assert runs(orphan)
    assert part.ended() == "was killed by SIGKILL"
    eventually(lambda: not runs(orphan))
