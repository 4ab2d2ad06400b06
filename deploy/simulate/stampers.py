"""The workers as simpy processes, and whoever starts and ends them."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import simpy

from common.settings import Settings
from deploy.simulate.cohorts import Cohort
from deploy.simulate.costs import MESSAGE
from deploy.simulate.policies import STAMP_LANES, Scaler, WeightedTurns
from deploy.simulate.setup import Loss
from deploy.simulate.world import World

Events = Generator[simpy.Event, Any, None]

# How often the autoscaler looks.
LOOK_SECONDS = 5
# When a worker died, nobody else may take its documents before so many seconds are over.
_LEASE_SECONDS = float(Settings.model_fields["lease_seconds"].default)


@dataclass(frozen=True, slots=True)
class _Message:
    """What a worker has in hand: up to 16 documents of one lane, stamped one after the other."""

    lane: str
    held: list[Cohort]
    count: int
    begun: float
    seconds: float


class Stampers:
    """The pool of workers."""

    def __init__(self, world: World) -> None:
        """Start the fewest workers at once, and the autoscaler where it has something to decide."""
        self._world = world
        self._alive: dict[simpy.Process, None] = {}
        self._idle: list[simpy.Event] = []
        # Workers for which there is no room at the moment.
        self._lost = 0
        self._target = 0
        self._counted_at = 0.0
        means = world.means
        self._scaler = Scaler(
            minimum=means.minimum,
            maximum=means.maximum,
            target_wait=means.target_wait_seconds,
        )
        self._aim_at(means.minimum, boot=0.0)
        if not means.fixed:
            world.env.process(self._scale())

    @property
    def count(self) -> int:
        """Return how many workers there are, those that are starting included."""
        return len(self._alive)

    def wake(self) -> None:
        """Call as many idle workers as there are messages to take."""
        for _ in range(min(len(self._idle), -(-self._world.waiting // MESSAGE))):
            self._idle.pop().succeed()

    def count_hours(self) -> None:
        """Add what was worked since this was called last to the worker-seconds."""
        now = self._world.env.now
        self._world.book.worker_seconds += self.count * (now - self._counted_at)
        self._world.book.peak_workers = max(self._world.book.peak_workers, self.count)
        self._counted_at = now

    def lose(self, loss: Loss) -> Events:
        """Let a part of the workers die at a time, and their place come back later."""
        world = self._world
        yield world.env.timeout(loss.at)
        dead = world.rng.sample([*self._alive], round(self.count * loss.share))
        for worker in dead:
            self._forget(worker)
            worker.interrupt("died")
        self._lost += len(dead)
        self._aim_at(self._target, boot=world.means.boot_seconds)
        yield world.env.timeout(loss.seconds)
        self._lost -= len(dead)
        self._aim_at(
            self._target if not world.means.fixed else world.means.maximum,
            boot=world.means.boot_seconds,
        )

    def _aim_at(self, workers: int, *, boot: float) -> None:
        """Start or end workers until there are so many, as far as there is room for them."""
        self._target = min(workers, self._world.means.maximum - self._lost)
        for _ in range(self._target - self.count):
            self.count_hours()
            process = self._world.env.process(self._work(boot))
            self._alive[process] = None
        for _ in range(min(len(self._idle), self.count - self._target)):
            self._idle.pop().succeed()

    def _forget(self, worker: simpy.Process | None) -> None:
        self.count_hours()
        if worker is not None:
            self._alive.pop(worker, None)

    def _scale(self) -> Events:
        """Ask the policy every few seconds."""
        world = self._world
        while True:
            yield world.env.timeout(LOOK_SECONDS)
            wanted = self._scaler.workers(
                world.lanes, world.env.now, maximum=world.means.maximum - self._lost
            )
            self._aim_at(wanted, boot=world.means.boot_seconds)

    def _work(self, boot: float) -> Events:
        """Live as one worker: take turns between the lanes until there is one worker too many."""
        world, env = self._world, self._world.env
        me = env.active_process
        turns = WeightedTurns(STAMP_LANES)
        message: _Message | None = None
        call: simpy.Event | None = None
        try:
            yield env.timeout(boot)
            while self.count <= self._target:
                lane = next(
                    (name for name in turns.consume(len(STAMP_LANES)) if world.lines[name].length),
                    None,
                )
                if lane is None:
                    call = env.event()
                    self._idle.append(call)
                    yield call
                    continue
                turns.rotate(lane)
                message = self._take_up(lane)
                yield env.timeout(message.seconds)
                self._hand_out(message)
                message = None
        except simpy.Interrupt:
            if call in self._idle:
                self._idle.remove(call)
            if message is not None:
                yield from self._drop(message)
        else:
            self._forget(me)

    def _take_up(self, lane: str) -> _Message:
        """Take a message and say how long it will take."""
        world = self._world
        held = world.lines[lane].take(MESSAGE)
        count = sum(cohort.count for cohort in held)
        world.in_hands += sum(cohort.count for cohort in held if not cohort.left)
        now = world.env.now
        world.lanes.take_up(lane, count, waited=now - held[-1].entered, now=now)
        more_mb = (world.sizes.of(count) - count * world.costs.bench_bytes) / 1_000_000
        cpu_ms = count * world.costs.stamp_ms + more_mb * world.costs.stamp_ms_per_mb
        seconds = cpu_ms / 1000 / world.cores.speed
        if world.authority is not None:
            seconds += count * world.authority.answers_after(now)
        return _Message(lane, held, count, now, seconds)

    def _hand_out(self, message: _Message) -> None:
        """Write down that a message's documents are stamped, one after the other."""
        world = self._world
        each = message.seconds / message.count
        world.lanes.stamped(message.lane, message.count, each)
        done = 0
        for cohort in message.held:
            done += cohort.count
            if not cohort.left:
                world.in_hands -= cohort.count
            world.book.stamped(cohort, message.begun + done * each)

    def _drop(self, message: _Message) -> Events:
        """Let the lease of a dead worker's documents run out; then they are sent to their lane again.

        Those of the message that it had stamped before it died count as not stamped, which is worse
        than what happens by at most 15 documents a worker.
        """
        world = self._world
        yield world.env.timeout(_LEASE_SECONDS)
        world.book.counts.redone += message.count
        world.lanes.enter(message.lane, message.count, world.env.now)
        for cohort in message.held:
            if not cohort.left:
                world.in_hands -= cohort.count
            world.lines[message.lane].append(cohort)
        self.wake()
