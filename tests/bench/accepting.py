"""What accepting one document costs: CPU milliseconds by process, with nobody there to stamp.

Starts PostgreSQL, Valkey and one web server as `stampede up` does, submits letters over keep-alive
connections, and reads each process's CPU time from the kernel. The clock stops when the lanes hold a
message for every job. With --profile, py-spy looks at the web server meanwhile and writes its stacks
with their counts.

Example: python -m tests.bench.accepting --json
"""

import base64
import contextlib
import http.client
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson
import redis
from sqlalchemy import text

from common import accounts, database, lanes, ledger
from common.partners import Mode
from deploy import firststart
from deploy.sample import sample_of
from deploy.servers import ROOT, Postgres, Valkey, free_port
from tests.bench import arguments
from tests.bench.processes import cpu_seconds

WARM_UP = 100
PATIENCE_SECONDS = 60
MARK = "mark"


@dataclass(frozen=True)
class Front:
    """A running front end: where it is, what a submission carries, and its processes."""

    port: int
    headers: Mapping[str, str]
    broker_url: str
    pids: Mapping[str, int]


@contextlib.contextmanager
def front(folder: Path, *, quota: int) -> Iterator[Front]:
    """Run the front end with its servers, and a partner who has quota."""
    postgres, valkey = Postgres(folder / "postgres"), Valkey(folder / "valkey")
    with contextlib.ExitStack() as running:
        for server in (postgres, valkey):
            server.start()
            running.callback(server.stop)
        variables = firststart.make_settings(
            folder,
            changing={
                "STAMPEDE_PUBLIC_URL": "http://127.0.0.1",
                "STAMPEDE_DATABASE_URL": postgres.url,
                "STAMPEDE_BROKER_URL": valkey.url,
            },
        )
        database.migrate(postgres.url)
        key = _key_with_quota(folder, postgres.url, quota)
        port = free_port()
        web = _start_web(folder, port, variables)
        running.callback(web.wait, 30)
        running.callback(web.send_signal, signal.SIGTERM)
        _until(lambda: _answers(port), "the web server to answer")
        yield Front(
            port,
            {"Authorization": f"Bearer {key}"},
            valkey.url,
            {"web": web.pid, "PostgreSQL": postgres.pid, "Valkey": valkey.pid},
        )


def _key_with_quota(folder: Path, database_url: str, quota: int) -> str:
    opened = database.Database(database_url)
    demo = firststart.make_demo(folder, opened)
    with opened.transaction() as connection:
        partner_id = connection.execute(text("select id from partners")).scalar_one()
        account_id = accounts.of_partner(connection, partner_id=partner_id, mode=Mode.LIVE)
        ledger.top_up(
            connection, account_id=account_id, amount=quota, reference="bench", by="bench"
        )
    opened.close()
    return demo.live_key


def _start_web(folder: Path, port: int, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    metrics = folder / "metrics"
    metrics.mkdir()
    environment = os.environ | dict(variables) | {"PROMETHEUS_MULTIPROC_DIR": str(metrics)}
    with (folder / "web.log").open("wb") as log:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "granian", "--interface", "wsgi", "--factory"),
                *("--host", "127.0.0.1", "--port", str(port)),
                *("--blocking-threads", "8", "--workers-kill-timeout", "20", "--no-ws"),
                "web.app:create_app",
            ],
            cwd=ROOT,
            env=environment | {"STAMPEDE_ENV_FILE": os.devnull},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _answers(port: int) -> bool:
    try:
        url = f"http://127.0.0.1:{port}/readyz"
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def body_of(document: bytes, *, form: bool) -> tuple[str, bytes]:
    """Return the content type and the body, bare or as a browser sends it."""
    if not form:
        return "application/pdf", document
    head = f'--{MARK}\r\nContent-Disposition: form-data; name="document"; filename="a.pdf"\r\n\r\n'
    whole = head.encode() + document + f"\r\n--{MARK}--\r\n".encode()
    return f"multipart/form-data; boundary={MARK}", whole


def submit(
    port: int, body: bytes, headers: Mapping[str, str], *, jobs: int, at_once: int, keyed: bool
) -> None:
    """Submit so many documents over so many connections.

    Args:
        keyed: each under an idempotency key of its own.
    """
    left = threading.Semaphore(jobs)
    refused: list[str] = []

    def work() -> None:
        wire = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while left.acquire(blocking=False) and not refused:
            key = {"Idempotency-Key": os.urandom(16).hex()} if keyed else {}
            wire.request("POST", "/v1/jobs", body, {**headers, **key})
            answer = wire.getresponse()
            said = answer.read()
            if answer.status != 202:
                refused.append(said.decode())
        wire.close()

    threads = [threading.Thread(target=work) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if refused:
        raise SystemExit(f"refused: {refused[0]}")


def published(broker_url: str) -> list[int]:
    """Return for how many jobs each message of the lanes stands."""
    with contextlib.closing(redis.Redis.from_url(broker_url)) as client:
        messages = [m for lane in lanes.STAMP_LANES for m in client.lrange(lane, 0, -1)]
    bodies = (base64.b64decode(orjson.loads(message)["body"]) for message in messages)
    return [len(orjson.loads(body)[0]) for body in bodies]


def measure(
    front: Front, document: bytes, *, jobs: int, at_once: int, form: bool, keyed: bool
) -> list[float]:
    """Accept so many documents; returns CPU ms a document by process, and documents a second."""
    kind, body = body_of(document, form=form)
    headers = {**front.headers, "Content-Type": kind}
    known = sum(published(front.broker_url))
    before = [cpu_seconds(pid) for pid in front.pids.values()]
    started = time.perf_counter()
    submit(front.port, body, headers, jobs=jobs, at_once=at_once, keyed=keyed)
    seconds = time.perf_counter() - started
    time.sleep(0.2)
    spent = [cpu_seconds(pid) - was for pid, was in zip(front.pids.values(), before, strict=True)]
    _until(lambda: sum(published(front.broker_url)) == known + jobs, "every job to be in its lane")
    return [each * 1000 / jobs for each in spent] + [jobs / seconds]


def _until(question: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not question():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {PATIENCE_SECONDS} s for {what}")
        time.sleep(0.1)


@contextlib.contextmanager
def _profile(pid: int, file: Path | None) -> Iterator[None]:
    """Let py-spy write the stacks of a web server's threads that run Python while the block runs."""
    if file is None:
        yield
        return
    spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if spy is None:
        raise SystemExit("py-spy is not installed")
    (worker,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[-1:]
    command = [spy, "record", "--gil", "-r", "200", "-f", "raw", "-d", "600", "-p", worker]
    process = subprocess.Popen([*command, "-o", str(file)], stdout=subprocess.DEVNULL)
    yield
    process.send_signal(signal.SIGINT)
    process.wait(60)


def main() -> None:
    """Print the figures, and with --json one JSON object as the last line."""
    parser = arguments.parser("accepting", __doc__)
    parser.add_argument("--jobs", type=int, default=1000, help="documents a round (default 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="the median counts (default 3)")
    parser.add_argument("--bytes", type=int, default=355_000, help="size of one (default 355000)")
    parser.add_argument("--connections", type=int, default=4, help="at once (default 4)")
    parser.add_argument("--form", action="store_true", help="send multipart/form-data")
    parser.add_argument("--keyed", action="store_true", help="send an Idempotency-Key each time")
    parser.add_argument("--profile", type=Path, help="a file for py-spy's raw stacks")
    choices = parser.parse_args()
    document = sample_of(choices.bytes)
    with tempfile.TemporaryDirectory() as folder:
        # Servers that run as another user must be able to walk in.
        Path(folder).chmod(0o755)
        quota = choices.jobs * choices.rounds + WARM_UP
        with front(Path(folder), quota=quota) as running:
            how = {"at_once": choices.connections, "form": choices.form, "keyed": choices.keyed}
            measure(running, document, jobs=WARM_UP, **how)
            with _profile(running.pids["web"], choices.profile):
                rounds = [
                    measure(running, document, jobs=choices.jobs, **how)
                    for _ in range(choices.rounds)
                ]
            sizes = published(running.broker_url)
    *costs, pace = (round(statistics.median(each), 2) for each in zip(*rounds, strict=True))
    by_process = dict(zip(running.pids, costs, strict=True))
    figures = {
        "jobs": choices.jobs,
        "accepts_per_s": pace,
        "cpu_ms_per_accept": round(sum(costs), 2),
        "cpu_ms_by_process": by_process,
        "jobs_per_message": round(sum(sizes) / len(sizes), 1),
    }
    print(
        f"{choices.jobs} documents of {len(document):,} bytes: {figures['cpu_ms_per_accept']} CPU ms"
        f" each ({', '.join(f'{n} {ms}' for n, ms in by_process.items())}), {pace} a second,"
        f" {figures['jobs_per_message']} jobs a message"
    )
    if choices.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
