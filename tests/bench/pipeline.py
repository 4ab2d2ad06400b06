"""Submit to stamped through the real stack: jobs a second, and CPU milliseconds a job by process.

Starts a copy of everything (`stampede up`) in a temporary folder, submits letters with a live key
over keep-alive connections (a closed loop: each sends its next letter when the last one is answered),
waits until all are stamped, and reads each process's CPU time from the kernel. Then the same for a
Celery and pyHanko app of the usual kind, in the same run. The driver runs on the same processors; its
own CPU time is told apart and not added.

Example: python -m tests.bench.pipeline --json
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx

from deploy.firststart import read_demo
from deploy.sample import sample_letter, sample_of
from deploy.servers import ROOT, Valkey, child, free_port
from deploy.specimen import make_specimen_chain
from tests.bench import arguments
from tests.bench.processes import cpu_seconds

WAIT_SECONDS = 600
_PID = re.compile(r"^ {4}(\S+) +pid (\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Stack:
    """A running system: how to submit one document, how many are done, and its processes."""

    submit: Callable[[HTTPConnection], None]
    port: int
    done: Callable[[], int]
    pids: dict[str, int]


@dataclass(frozen=True)
class Figures:
    """What a run came to; CPU milliseconds are per job."""

    jobs: int
    connections: int
    seconds: float
    cpu_ms_by_process: dict[str, float]
    driver_cpu_ms: float

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {
            "jobs": self.jobs,
            "connections": self.connections,
            "jobs_per_s": round(self.jobs / self.seconds, 1),
            "cpu_ms_per_job": round(sum(self.cpu_ms_by_process.values()), 2),
            "cpu_ms_by_process": {n: round(ms, 2) for n, ms in self.cpu_ms_by_process.items()},
            "driver_cpu_ms_per_job": round(self.driver_cpu_ms, 2),
        }


def measure(stack: Stack, *, jobs: int, connections: int) -> Figures:
    """Submit `jobs` documents over `connections` connections and wait until all are done."""
    warm_up = 64
    _submit_all(stack, warm_up, connections)
    _wait(stack, warm_up)
    before = {name: cpu_seconds(pid) for name, pid in stack.pids.items()}
    done_before = stack.done()
    started, driver_before = time.perf_counter(), time.process_time()
    _submit_all(stack, jobs, connections)
    driver = time.process_time() - driver_before
    _wait(stack, done_before + jobs)
    seconds = time.perf_counter() - started
    spent = {n: (cpu_seconds(pid) - before[n]) * 1000 / jobs for n, pid in stack.pids.items()}
    return Figures(jobs, connections, seconds, spent, driver * 1000 / jobs)


def _submit_all(stack: Stack, jobs: int, connections: int) -> None:
    left = threading.Semaphore(jobs)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            # Plainer than httpx, which would take as much of the processors as the front end does.
            with contextlib.closing(HTTPConnection("127.0.0.1", stack.port, timeout=60)) as client:
                while left.acquire(blocking=False):
                    stack.submit(client)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _wait(stack: Stack, wanted: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while stack.done() < wanted:
        if time.monotonic() > deadline:
            raise SystemExit(f"only {stack.done()} of {wanted} jobs are done")
        time.sleep(0.1)


@contextlib.contextmanager
def ours(folder: Path, document: bytes, quota: int) -> Iterator[Stack]:
    """Run a copy of everything; yields it when it is ready."""
    port, data = free_port(), folder / "var"
    log = folder / "up.log"
    command = [sys.executable, "-m", "deploy.cli", "--data", str(data)]
    with log.open("wb") as output:
        up = subprocess.Popen(
            [*command, "up", "--port", str(port), "--flower-port", str(free_port())],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _until(lambda: "Try it:" in log.read_text(), up, log)
        subprocess.run(
            [
                *(*command, "quota", "topup", "--partner", "demo"),
                *("--reference", "bench", "--amount", str(quota)),
            ],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        keys = read_demo(data)
        if keys is None:
            raise SystemExit("the copy has no demo partner")
        url = f"http://127.0.0.1:{port}"
        headers = {"Authorization": f"Bearer {keys.live_key}", "Content-Type": "application/pdf"}

        def submit(client: HTTPConnection) -> None:
            client.request("POST", "/v1/jobs", document, headers)
            answer = client.getresponse()
            said = answer.read()
            if answer.status != httpx.codes.ACCEPTED:
                raise SystemExit(f"refused: {said.decode()}")

        def done() -> int:
            quota_now = httpx.get(f"{url}/v1/quota", headers=headers, trust_env=False).json()
            return int(quota_now["captured"])

        pids = {name: int(pid) for name, pid in _PID.findall(log.read_text())}
        yield Stack(submit, port, done, pids)
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(90)


@contextlib.contextmanager
def peer(folder: Path, document: bytes) -> Iterator[Stack]:
    """Run the usual kind of app; yields it when it is ready."""
    chain = make_specimen_chain(folder / "chain")
    end = b"-----END CERTIFICATE-----\n"
    first, _, rest = chain.chain.read_bytes().partition(end)
    leaf, ca, files = folder / "leaf.pem", folder / "ca.pem", folder / "files"
    leaf.write_bytes(first + end)
    ca.write_bytes(rest)
    files.mkdir()
    port = free_port()
    valkey = Valkey(folder / "valkey")
    valkey.start()
    environment = os.environ | {
        "PEER_BROKER": valkey.url,
        "PEER_FOLDER": str(files),
        "PEER_KEY": str(chain.signer_key),
        "PEER_LEAF": str(leaf),
        "PEER_CA": str(ca),
    }
    module = "tests.bench.peer"
    commands = {
        "web": ["granian", "--interface", "wsgi", "--port", str(port), f"{module}:app"],
        "worker": ["celery", "-A", f"{module}:celery", "worker", "-c", "2", "-E", "-l", "INFO"],
    }
    log = folder / "peer.log"
    with log.open("wb") as output:
        started = {
            name: subprocess.Popen(
                child([sys.executable, "-m", *command]),
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            for name, command in commands.items()
        }
    url = f"http://127.0.0.1:{port}"
    try:
        _until(lambda: _answers(f"{url}/ready"), started["web"], log)
        _until(lambda: " ready." in log.read_text(), started["worker"], log)

        def submit(client: HTTPConnection) -> None:
            client.request("POST", "/jobs", document)
            answer = client.getresponse()
            said = answer.read()
            if answer.status != httpx.codes.ACCEPTED:
                raise SystemExit(f"refused: {said.decode()}")

        pids = {name: process.pid for name, process in started.items()}
        if valkey.process is not None:
            pids["Valkey"] = valkey.process.pid
        yield Stack(submit, port, lambda: sum(1 for _ in files.glob("*.signed.pdf")), pids)
    finally:
        for process in started.values():
            process.terminate()
            process.wait(60)
        valkey.stop()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(log.read_text())
        time.sleep(0.2)


def main() -> None:
    """Print the figures, and with --json one JSON object as the last line."""
    parser = arguments.parser("pipeline", __doc__)
    parser.add_argument("--jobs", type=int, default=1000, help="documents (default 1000)")
    parser.add_argument("--peer-jobs", type=int, default=60, help="for the peer (default 60)")
    parser.add_argument("--bytes", type=int, default=355_000, help="size of one (default 355000)")
    parser.add_argument("--connections", type=int, default=8, help="at once (default 8)")
    choices = parser.parse_args()
    document = sample_of(choices.bytes) if choices.bytes > 10_000 else sample_letter()
    with tempfile.TemporaryDirectory() as folder:
        # Servers that run as another user must be able to walk in.
        Path(folder).chmod(0o755)
        (Path(folder) / "peer").mkdir()
        with ours(Path(folder), document, choices.jobs + 100) as stack:
            own = measure(stack, jobs=choices.jobs, connections=choices.connections).as_json()
        with peer(Path(folder) / "peer", document) as stack:
            other = measure(
                stack, jobs=choices.peer_jobs, connections=choices.connections
            ).as_json()
    for name, figures in (("Stampede", own), ("Celery and pyHanko", other)):
        by_process = ", ".join(f"{n} {ms}" for n, ms in figures["cpu_ms_by_process"].items())
        print(
            f"{name}: {figures['jobs']} jobs of {len(document):,} bytes,"
            f" {figures['jobs_per_s']} jobs/s, {figures['cpu_ms_per_job']} CPU ms a job"
            f" ({by_process})"
        )
    ratio = other["cpu_ms_per_job"] / own["cpu_ms_per_job"]
    print(f"CPU of the peer / ours: {ratio:.1f}")
    if choices.json:
        print(json.dumps(own | {"peer": other}))


if __name__ == "__main__":
    main()
