"""One copy for the tests of single faults; each leaves it whole, and the judge looks at all of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from tests.faults.driver import Driver, Letter, plain_letters
from tests.faults.faults import Fault, Scene
from tests.faults.judge import Judge, Verdict
from tests.faults.machine import Machine, running

LETTERS = 30
# Two threads that offer twenty letters a second: a fault of a second or two meets some.
THREADS = 2
PAUSE = 0.1


class Trial:
    """A copy, its clients and its judge."""

    def __init__(self, machine: Machine) -> None:
        """Take a copy that runs."""
        self.machine = machine
        self.driver = Driver(machine.address, live=machine.live, test=machine.test)
        self.random = Random(1)
        # Jobs whose files were fetched and found right.
        self.judged: set[str] = set()

    @property
    def scene(self) -> Scene:
        """Return what faults happen to."""
        return Scene(self.machine, self.job_ids, self.random)

    def job_ids(self) -> list[str]:
        """Return the accepted jobs, the newest last."""
        return [promise.job_id for promise in list(self.driver.accepted.values())]

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a live job as its owner sees it."""
        address = f"{self.machine.address}/v1/jobs/{job_id}"
        answer = httpx.get(address, headers=self.machine.live, timeout=20, trust_env=False)
        return dict(answer.raise_for_status().json())

    def wait_until(self, state: str, job_id: str) -> None:
        """Wait until a job is in a state; a front end that dies meanwhile is asked again."""

        def is_so() -> bool:
            try:
                return bool(self.job(job_id)["state"] == state)
            except httpx.TransportError:
                return False

        self.machine.wait(is_so, seconds=60, what=f"{job_id} to be {state}")

    def wait_until_fired(self, step: str) -> int:
        """Wait until an armed step was reached; returns the process that it was reached in."""
        armed = self.machine.armed / step
        self.machine.wait(lambda: not armed.exists(), seconds=60, what=f"somebody to be {step}")
        return self.machine.fired(step)[-1]

    def submit(self, letters: list[Letter], *, threads: int = 4, pause: float = 0) -> None:
        """Submit letters and wait until all are accepted."""
        self.driver.start(letters, threads=threads, pause=pause)
        self.wait_for_driver()

    def wait_for_driver(self, *, seconds: float = 90) -> None:
        """Wait until every letter is accepted."""
        self.machine.wait(lambda: not self.driver.busy, seconds=seconds, what="the clients")

    def suffer(self, fault: Fault, *, seconds: float, letters: int = LETTERS) -> Verdict:
        """Submit letters, break something in the middle for so long, and judge."""
        name = f"{fault.name} {time.monotonic_ns()}"
        self.driver.start(plain_letters(name, letters), threads=THREADS, pause=PAUSE)
        self.machine.pause(0.3)
        end = fault.begin(self.scene)
        self.machine.pause(seconds)
        end()
        ended_at = time.monotonic()
        self.wait_for_driver()
        return self.judge(faults_ended_at=ended_at)

    def judge(
        self, *, faults_ended_at: float | None = None, within: float = 120, whole: bool = False
    ) -> Verdict:
        """Look at everything that this copy ever accepted; files are fetched once.

        Args:
            faults_ended_at: on the monotonic clock; None: now.
            within: seconds until a job that is not final counts as lost.
            whole: with the whole audit, which reads all files again.
        """
        ended_at = time.monotonic() if faults_ended_at is None else faults_ended_at
        judge = Judge(self.machine, self.driver, known=self.judged, whole=whole)
        verdict = judge.judge(faults_ended_at=ended_at, within=within)
        if verdict.clean:
            self.judged.update(self.job_ids())
        return verdict


@contextmanager
def tried(folder: Path, *, s3: bool = False, clock: bool = False) -> Iterator[Trial]:
    """Run a copy for the tests in the block; after the last one the whole audit looks at it."""
    with running(folder, s3=s3, clock=clock) as machine:
        trial = Trial(machine)
        yield trial
        verdict = trial.judge(whole=True)
        assert verdict.clean, verdict.as_json()


@pytest.fixture(scope="session")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    with tried(tmp_path_factory.mktemp("faults") / "copy") as trial:
        yield trial
