"""All faults mixed at random times over many jobs, from one seed; then the judge."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from tests.faults import faults
from tests.faults.driver import Driver, mixed_letters
from tests.faults.faults import Fault, Scene
from tests.faults.judge import Judge, Verdict
from tests.faults.machine import Machine

THREADS = 12
AT_ONCE = 3
# Jobs accepted from the start of one fault to that of the next, on the average, in a long run; a
# short one has so many faults at least.
BETWEEN_JOBS = 33
FEWEST = 20


@dataclass(slots=True)
class Going:
    """A fault that has begun, when it ends, and how."""

    fault: Fault
    ends_at: float
    end: Callable[[], None]


@dataclass(slots=True)
class Campaign:
    """One run. The seed decides letters and faults; the machine decides how they meet."""

    machine: Machine
    seed: int
    jobs: int
    full: bool
    say: Callable[[str], None]
    inflicted: Counter[str] = field(default_factory=Counter)
    _going: list[Going] = field(default_factory=list)

    def run(self, *, seconds: float) -> Verdict:
        """Submit the jobs over about so many seconds, break what can be broken meanwhile, and judge."""
        machine, random = self.machine, Random(self.seed)
        driver = Driver(machine.address, live=machine.live, test=machine.test)
        letters = mixed_letters(f"letter-{self.seed}", self.jobs, Random(self.seed))
        driver.start(letters, threads=THREADS, pause=seconds * THREADS / self.jobs)
        scene = Scene(machine, lambda: [p.job_id for p in list(driver.accepted.values())], random)
        started = time.monotonic()
        known = faults.of(machine, full=self.full)
        self.say(f"{len(known)} kinds of faults")
        # By jobs and not by time: while an outage lets none in there is no use in another.
        between = self.jobs / max(FEWEST, self.jobs / BETWEEN_JOBS)
        next_at = between
        while driver.busy:
            now = time.monotonic()
            self._end([going for going in self._going if going.ends_at <= now])
            if len(driver.accepted) >= next_at:
                next_at += random.expovariate(1 / between)
                self._begin(scene, known, started)
            machine.pause(0.05)
        self._end(self._going)
        ended_at = time.monotonic()
        verdict = Judge(machine, driver).judge(
            faults_ended_at=ended_at, within=240 + self.jobs / 10
        )
        verdict.faults = self.inflicted.total()
        return verdict

    def _begin(self, scene: Scene, known: list[Fault], started: float) -> None:
        """Begin a fault that meets no other on its target; the rarest kind so far first."""
        busy = {going.fault.target for going in self._going}
        free = [fault for fault in known if fault.target not in busy]
        if len(self._going) >= AT_ONCE or not free:
            return
        least = min(self.inflicted[fault.name] for fault in free)
        fault = scene.random.choice([f for f in free if self.inflicted[f.name] == least])
        lasts = scene.random.uniform(*fault.seconds)
        self.say(f"{time.monotonic() - started:7.1f} s  {fault.name} ({lasts:.1f} s)")
        self.inflicted[fault.name] += 1
        end = fault.begin(scene)
        self._going.append(Going(fault, time.monotonic() + lasts, end))

    def _end(self, over: list[Going]) -> None:
        for going in list(over):
            going.end()
            self._going.remove(going)
