"""The parts of the service as programs: what starts each, and which variables it may not see.

One place for `stampede up`, for `stampede run ROLE`, and through it for containers and clusters: all of
them start the same thing with the same flags.
"""

import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from common import lanes

SECRETS_VARIABLE = "STAMPEDE_SECRETS_DIR"
# Where the processes of a machine, or of a pod, put what they count; /metrics reads it.
METRICS_VARIABLE = "STAMPEDE_METRICS_DIR"
# What the courier does at once; a thread waits for one receiver.
COURIER_THREADS = 8
CHECK_PROCESSES = 2
# Three rounds may take long (the purge, the search for orphans, keys to forget); the relay and leases then
# still have a thread.
UPKEEP_THREADS = 4
# How granian serves the front end: threads for all requests with a body (`requests_at_once`), and some that
# are always left for status polls. Its connections are counted open or idle: at 1,024, which it
# has by itself, as many browsers that keep theirs would shut everybody else out.
SERVING = (
    *("--blocking-threads", "32", "--backlog", "4096", "--backpressure", "4096"),
    *("--workers-kill-timeout", "20", "--no-ws"),
)

_KEYS = ("STAMPEDE_SIGNING_", "STAMPEDE_CODE_KEY_")
_RECEIPT = "STAMPEDE_RECEIPT_"
_FLOWER = "FLOWER_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a role listens, what it keeps, and how many it may be."""

    data: Path
    host: str = "127.0.0.1"
    # Of the web server or of Flower, whichever is meant.
    port: int = 8000
    # Processes of stamp and check, threads of courier; None: what the role takes by itself.
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Role:
    """One part: how it is started, and what is kept from it."""

    name: str
    # After `python -m`.
    arguments: Callable[[Places], tuple[str, ...]]
    # Beginnings of the names of variables that it has no use for, or must not know.
    kept_from: tuple[str, ...]
    # Whether it answers pings through the broker, under its name and the host's.
    is_worker: bool = False

    def command(self, places: Places) -> list[str]:
        """Return the command line."""
        return [sys.executable, "-m", *self.arguments(places)]

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Return the variables without those that are kept from it; no settings file is read then."""
        given = dict(variables)
        if METRICS_VARIABLE in given:
            # Under a name of ours until here: a command such as a probe would count itself in, too.
            given["PROMETHEUS_MULTIPROC_DIR"] = given.pop(METRICS_VARIABLE)
        seen = {n: v for n, v in given.items() if not n.startswith(self.kept_from)}
        return seen | {"STAMPEDE_ENV_FILE": os.devnull, "PYTHONUNBUFFERED": "1"}

    @property
    def node(self) -> str:
        """Return the name of this host's worker of the role, as Celery and Flower show it."""
        return f"{self.name}@{socket.gethostname()}"


def read_secrets() -> None:
    """Put files of secrets into the environment, where a variable is not set already.

    A file in the folder `STAMPEDE_SECRETS_DIR` has the name of a variable, and holds its value; this
    is how containers get secrets that nobody reads off the container's description.
    """
    folder = os.environ.get(SECRETS_VARIABLE)
    if folder is None:
        return
    for file in sorted(Path(folder).iterdir()):
        if file.name.startswith(("STAMPEDE_", "FLOWER_", "AWS_")) and file.is_file():
            os.environ.setdefault(file.name, file.read_text().rstrip("\n"))


def default_max_workers() -> int:
    """Return how many stamp processes a machine may have: as many as processors, which they keep busy."""
    return max(2, os.cpu_count() or 1)


def _web(places: Places) -> tuple[str, ...]:
    return (
        *("granian", "--interface", "wsgi", "--factory"),
        *("--host", places.host, "--port", str(places.port)),
        *SERVING,
        "web.app:create_app",
    )


def _worker(app: str, name: str, *flags: str) -> tuple[str, ...]:
    return ("celery", "-A", app, "worker", "--loglevel", "INFO", "-E", "-n", f"{name}@%h", *flags)


def _stamp(places: Places) -> tuple[str, ...]:
    most = places.most or default_max_workers()
    queues = ",".join(lanes.STAMP_LANES)
    return _worker("workers.app", "stamp", "-Q", queues, "--autoscale", f"{most},1")


def _courier(places: Places) -> tuple[str, ...]:
    threads = str(places.most or COURIER_THREADS)
    return _worker(
        "workers.app", "courier", "--pool", "threads", "-c", threads, "-Q", lanes.WEBHOOK_LANE
    )


def _check(places: Places) -> tuple[str, ...]:
    # One process until files wait; a hostile one then holds up no other.
    most = places.most or CHECK_PROCESSES
    return _worker("workers.desk", "check", "-Q", lanes.CHECK_LANE, "--autoscale", f"{most},1")


def _upkeep(_: Places) -> tuple[str, ...]:
    threads = str(UPKEEP_THREADS)
    return _worker(
        "workers.app", "upkeep", "--pool", "threads", "-c", threads, "-Q", lanes.UPKEEP_LANE
    )


def _beat(_: Places) -> tuple[str, ...]:
    return (
        *("celery", "-A", "workers.app", "beat", "--loglevel", "INFO"),
        *("-S", "workers.timetable:Timetable"),
    )


def _flower(places: Places) -> tuple[str, ...]:
    return (
        *("celery", "-A", "workers.app", "flower"),
        *(f"--address={places.host}", f"--port={places.port}"),
        *(f"--db={places.data / 'flower'}", "--persistent=True", "--state_save_interval=5000"),
    )


# In the order in which they are started. The front end has no use for the keys of stamps and codes, the
# workers none for the receipt key; who opens the files of strangers gets none of them, nor the database.
ROLES = {
    role.name: role
    for role in (
        Role("web", _web, (*_KEYS, _FLOWER)),
        Role("stamp", _stamp, (_RECEIPT, _FLOWER), is_worker=True),
        Role("courier", _courier, (_RECEIPT, _FLOWER), is_worker=True),
        Role("check", _check, (*_KEYS, _RECEIPT, "STAMPEDE_DATABASE_", _FLOWER), is_worker=True),
        Role("upkeep", _upkeep, (_RECEIPT, _FLOWER), is_worker=True),
        Role("beat", _beat, (_RECEIPT, _FLOWER)),
        Role("flower", _flower, (_RECEIPT, "PROMETHEUS_")),
    )
}
# Who brings work ends first, then who does it; what a drain may take is in DRAIN_SECONDS.
ENDING = (("web", "beat"), ("stamp", "courier", "check", "upkeep", "flower"))
WORKERS = frozenset(role.name for role in ROLES.values() if role.is_worker)
