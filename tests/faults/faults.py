"""The faults: each breaks one thing of a running copy and says how it is mended.

A fault's `begin` breaks it and returns what ends it. Those that are over at once return `_over`.
"""

import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from uuid import UUID

from common import lanes
from common.settings import Settings
from deploy.servers import ServerError
from tests.faults.machine import BEATS, LEASE_SECONDS, STAMPERS, Machine
from tests.faults.proxy import Proxy
from tests.faults.steps import WebStep, WorkerStep

HOUR = 3600
COPIES = 50
# A file may grow no further: what a full disk is to who writes, for any user.
FULL_AT_BYTES = 512


@dataclass(frozen=True, slots=True)
class Scene:
    """What a fault happens to: the copy, and the jobs that it has accepted so far."""

    machine: Machine
    jobs: Callable[[], Sequence[str]]
    random: Random


End = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault; two of one `target` never happen together."""

    name: str
    target: str
    begin: Callable[[Scene], End]
    # How long it lasts in the campaign, in seconds, from and to.
    seconds: tuple[float, float] = (0.5, 2.0)


def _over() -> None:
    """Do nothing: the fault is over."""


# Processes.


def _at_step(step: str, number: signal.Signals = signal.SIGKILL) -> Callable[[Scene], End]:
    def begin(scene: Scene) -> End:
        scene.machine.arm(step, number)
        return lambda: scene.machine.disarm(step)

    return begin


def _frozen_at(step: str) -> Callable[[Scene], End]:
    """Stop whoever comes to a step; who is not killed for its silence goes on after the end."""

    def begin(scene: Scene) -> End:
        machine = scene.machine
        before = set(machine.fired(step))
        machine.arm(step, signal.SIGSTOP)

        def end() -> None:
            machine.disarm(step)
            stamping = {pid for name in STAMPERS for pid in machine.programs[name].processes}
            for pid in (set(machine.fired(step)) - before) & stamping:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

        return end

    return begin


def _killed(*names: str, all_: bool = False) -> Callable[[Scene], End]:
    """Kill the parent of one of these programs, or of all; its orphans live until it starts again."""

    def begin(scene: Scene) -> End:
        chosen = names if all_ else (scene.random.choice(names),)
        for name in chosen:
            scene.machine.down.add(name)
            scene.machine.programs[name].send(signal.SIGKILL)
        return lambda: scene.machine.down.difference_update(chosen)

    return begin


def _frozen(*names: str) -> Callable[[Scene], End]:
    def begin(scene: Scene) -> End:
        program = scene.machine.programs[scene.random.choice(names)]
        program.send_all(signal.SIGSTOP)
        return lambda: program.send_all(signal.SIGCONT)

    return begin


# Servers and the wires to them.


def _valkey_emptied(scene: Scene) -> End:
    scene.machine.restart_valkey_empty()
    return _over


def _postgres_restarted(scene: Scene) -> End:
    scene.machine.postgres.stop()
    scene.machine.start_postgres()
    return _over


def _postgres_killed(scene: Scene) -> End:
    scene.machine.postgres.kill()
    # Its children may hold the old memory for a moment.
    for _ in range(20):
        try:
            scene.machine.start_postgres()
        except ServerError:
            time.sleep(0.5)
        else:
            return _over
    raise AssertionError("PostgreSQL does not come back")


Wire = Callable[[Machine], Proxy]


def _wire(of: Wire, breaks: Callable[[Proxy], None]) -> Callable[[Scene], End]:
    def begin(scene: Scene) -> End:
        proxy = of(scene.machine)
        breaks(proxy)
        return proxy.forward

    return begin


def _to_postgres(machine: Machine) -> Proxy:
    return machine.to_postgres


def _to_valkey(machine: Machine) -> Proxy:
    return machine.to_valkey


def _to_store(machine: Machine) -> Proxy:
    if machine.to_store is None:
        raise LookupError("this copy stores into a folder")
    return machine.to_store


# The disk.


def _disk_full(scene: Scene) -> End:
    """Let nobody who stores documents write more than a few bytes into any file."""
    pids = [pid for name in ("web", *STAMPERS) for pid in scene.machine.programs[name].processes]
    return _limited(pids)


def _limited(pids: Sequence[int]) -> End:
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

    def limit(limits: tuple[int, int]) -> None:
        for pid in pids:
            if Path(f"/proc/{pid}").exists():
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)

    limit((FULL_AT_BYTES, resource.RLIM_INFINITY))
    return lambda: limit(unlimited)


# Messages.


def _published(choose: Callable[[Scene], Sequence[str]], copies: int) -> Callable[[Scene], End]:
    """Send messages of jobs once more, or many times, in any order and to any lane."""

    def begin(scene: Scene) -> End:
        celery = lanes.make_celery(
            Settings(link_key="k" * 32, broker_url=scene.machine.broker_url)  # type: ignore[arg-type]
        )
        messages = [job for job in choose(scene) for _ in range(copies)]
        scene.random.shuffle(messages)
        for job in messages:
            lanes.publish_stamp(celery, UUID(job), scene.random.choice(lanes.PARTNER_LANES))
        celery.close()
        return _over

    return begin


def _newest(scene: Scene) -> Sequence[str]:
    return scene.jobs()[-5:]


def _oldest(scene: Scene) -> Sequence[str]:
    return scene.jobs()[:50]


# Clocks.


def _clock(of: str, seconds: int) -> Callable[[Scene], End]:
    def begin(scene: Scene) -> End:
        scene.machine.set_clock(seconds, of=of)
        return lambda: scene.machine.set_clock(0, of=of)

    return begin


STEPS = [
    *(
        Fault(f"a worker killed when {step}", f"{step}", _at_step(step), (1, 3))
        for step in WorkerStep
    ),
    *(
        Fault(f"the front end killed when {step}", f"{step}", _at_step(step), (1, 3))
        for step in WebStep
    ),
]
FROZEN_SECONDS = (LEASE_SECONDS + 2, LEASE_SECONDS + 4)
PROCESSES = [
    Fault("the parent of workers killed", "stamp", _killed(*STAMPERS)),
    Fault("the courier killed", "courier", _killed("courier")),
    Fault("the worker for upkeep killed", "upkeep", _killed("upkeep")),
    Fault("the whole front end killed", "web", _killed("web")),
    Fault("one beat killed", "beat", _killed(*BEATS), (2, 6)),
    Fault("both beats killed", "beat", _killed(*BEATS, all_=True), (1, 3)),
    Fault("workers frozen past their lease", "stamp", _frozen(*STAMPERS), FROZEN_SECONDS),
    Fault(
        "a worker frozen past its lease, its file stored",
        "stored",
        _frozen_at(WorkerStep.STORED),
        FROZEN_SECONDS,
    ),
]
VALKEY = [
    Fault("Valkey killed and empty", "valkey", _valkey_emptied),
    Fault("Valkey refuses", "valkey", _wire(_to_valkey, Proxy.refuse), (2, 8)),
    Fault("Valkey silent", "valkey", _wire(_to_valkey, Proxy.stall), (2, 8)),
]
POSTGRES = [
    Fault("PostgreSQL restarted", "postgres", _postgres_restarted),
    Fault("PostgreSQL killed", "postgres", _postgres_killed),
    Fault("PostgreSQL refuses", "postgres", _wire(_to_postgres, Proxy.refuse), (2, 8)),
    Fault("PostgreSQL silent", "postgres", _wire(_to_postgres, Proxy.stall), (2, 8)),
    Fault("PostgreSQL's connections cut", "postgres", _wire(_to_postgres, Proxy.cut)),
    Fault(
        "the answers to ten commits lost",
        "postgres",
        _wire(_to_postgres, lambda wire: wire.lose_answer_to(b"COMMIT", times=10)),
    ),
]
MESSAGES = [
    Fault("a message sent 50 times, to several lanes", "messages", _published(_newest, COPIES)),
    Fault("messages of jobs long done", "messages", _published(_oldest, 1)),
]
DISK = [Fault("the disk full", "store", _disk_full, (1, 4))]
STORE = [
    Fault("the object store refuses", "store", _wire(_to_store, Proxy.refuse), (1, 4)),
    Fault("the object store silent", "store", _wire(_to_store, Proxy.stall), (1, 4)),
    Fault("the object store slow", "store", _wire(_to_store, lambda wire: wire.delay(0.5)), (1, 4)),
    Fault(
        "the object store lost in mid-write",
        "store",
        _wire(_to_store, lambda wire: wire.cut_after(1500, times=20)),
    ),
]
CLOCKS = [
    Fault("clocks an hour ahead", "clock", _clock("programs", HOUR), (2, 5)),
    Fault("clocks an hour behind", "clock", _clock("programs", -HOUR), (2, 5)),
    Fault("PostgreSQL's clock an hour ahead", "server clock", _clock("postgres", HOUR), (2, 5)),
    Fault("PostgreSQL's clock an hour behind", "server clock", _clock("postgres", -HOUR), (2, 5)),
]


LONG = [
    Fault(f"{fault.name} for 30 s", fault.target, fault.begin, (30, 30))
    for fault in (*VALKEY, *POSTGRES)
    if fault.name.endswith(("refuses", "silent"))
]


def of(machine: Machine, *, full: bool) -> list[Fault]:
    """Return every fault that can happen to a copy as it was made; `full` adds outages of 30 s."""
    return [
        *(*STEPS, *PROCESSES, *VALKEY, *POSTGRES, *MESSAGES),
        *(LONG if full else ()),
        *(STORE if machine.to_store is not None else DISK),
        *(CLOCKS if machine.has_clock else ()),
    ]
