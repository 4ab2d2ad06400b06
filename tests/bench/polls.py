"""What a look at a waiting job costs: CPU by process, beside a bare Flask hello on the same server.

Asks a front end of one process over kept connections: by API and for the page's moving part, with and
without If-None-Match, with 10 and with 1,000,000 jobs in the lane, and hello in turns with them. The
asker's own CPU time is not counted. `transactions` is what PostgreSQL says that it committed meanwhile.

Example: python -m tests.bench.polls --json
"""

import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import redis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from flask import Flask
from sqlalchemy import Connection, text

from common import database, jwks, partners
from common.links import StatusLinks
from common.partners import Mode
from common.settings import WebSettings
from deploy.servers import ROOT, Postgres, Valkey, child, free_port
from tests.bench import arguments
from tests.bench.processes import cpu_seconds

LANE = "stamp.partner.0"
ROUNDS = 5
POLLS = 2000
AT_ONCE = 50_000
CONNECTIONS = 4


@dataclass(frozen=True)
class Look:
    """One kind of request: where, with what, and what is to come."""

    path: str
    headers: Mapping[str, str]
    status: int = 200


def hello() -> Flask:
    """Return the application that everything is held against."""
    app = Flask(__name__)
    app.add_url_rule("/v1/jobs/<job_id>", "hello", lambda job_id: {"hello": job_id})
    return app


def measure(
    port: int, look: Look, pids: Mapping[str, int], *, polls: int = POLLS
) -> dict[str, float]:
    """Ask so often; return polls a second, and CPU milliseconds of each by process."""
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    started = time.perf_counter()
    _ask(port, look, polls)
    seconds = time.perf_counter() - started
    spent = {name: (cpu_seconds(pid) - before[name]) * 1000 / polls for name, pid in pids.items()}
    return {"polls_per_s": polls / seconds, **spent}


def etag_of(port: int, look: Look) -> str:
    """Return the ETag of a look's answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", look.path, headers=dict(look.headers))
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return str(answer.headers["ETag"])


def _ask(port: int, look: Look, polls: int) -> None:
    failures: list[str] = []

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for _ in range(polls // CONNECTIONS):
            connection.request("GET", look.path, headers=dict(look.headers))
            answer = connection.getresponse()
            answer.read()
            if answer.status != look.status:
                failures.append(f"{look.path}: {answer.status}")
                return
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise SystemExit(failures[0])


def fill(connection: Connection, partner: partners.Partner, *, waiting: int) -> UUID:
    """Put jobs into the lane until so many wait; returns the last one's id."""
    connection.execute(text("set local synchronous_commit = off"))
    connection.execute(text("set local session_replication_role = replica"))
    connection.execute(text("set local statement_timeout = 0"))
    last: UUID = connection.execute(
        text(
            "with made as (insert into jobs (id, account_id, partner_id, mode, state, lane, ticket,"
            " placements, metadata, document_name, document_bytes, document_sha256, receipt,"
            " accepted_at, publish_at)"
            " select uuidv7(), a.id, a.partner_id, a.mode, 'queued', :lane, n,"
            """ '[{"page": "last", "corner": "bottom-right", "margin": 36, "width": 80,"""
            """ "height": 80}]', '{"office": "Bandung"}', 'letter.pdf', 355000,"""
            " sha256(n::text::bytea), repeat(md5(n::text), 14), now(), now() + interval '1 day'"
            " from generate_series((select coalesce(max(ticket), 0) from jobs) + 1, :waiting) n,"
            " accounts a where a.partner_id = :partner and a.mode = 'test' returning id, ticket)"
            " select id from made order by ticket desc limit 1"
        ),
        {"lane": LANE, "waiting": waiting, "partner": partner.id},
    ).scalar_one()
    connection.execute(
        text(
            "insert into serials (serial, mode, job_id, position, state)"
            " values ('T' || upper(substr(md5(cast(:id as text)), 1, 21)), 'test', :id, 1,"
            " 'reserved')"
        ),
        {"id": last},
    )
    return last


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    quiet = arguments.parser("polls", __doc__).parse_args().json
    with _stack() as (settings, ports, pids):
        found = _measure_all(settings, ports, pids)
    if not quiet:
        for name, value in found.items():
            print(f"{name:<28} {value}")
    print(json.dumps(found))


def _measure_all(
    settings: WebSettings, ports: Mapping[str, int], pids: Mapping[str, int]
) -> dict[str, Any]:
    opened = database.connect(settings)
    valkey = redis.Redis.from_url(settings.broker_url)
    with opened.transaction() as connection:
        partner = partners.create(connection, name="bench")
        key = partners.issue_key(
            connection, partner_id=partner.id, mode=Mode.TEST, label="bench"
        ).secret
    found: dict[str, Any] = {}
    for waiting in (10, 1_000_000):
        # In portions: our own patience with a statement ends after half a minute.
        for some in range(min(AT_ONCE, waiting), waiting + 1, AT_ONCE):
            with opened.transaction() as connection:
                job_id = fill(connection, partner, waiting=some)
        valkey.hset(
            f"pace:{LANE}",
            mapping={"accepted": waiting, "served": 0, "interval_us": 3600, "service_us": 7000},
        )
        bearer = {"Authorization": f"Bearer {key}"}
        api = Look(f"/v1/jobs/{job_id}", bearer)
        page = Look(f"/j/{StatusLinks(settings).token(job_id)}/live", {})
        looks = {
            "api_200": api,
            "api_304": _known_already(ports["web"], api),
            "page_200": page,
            "page_304": _known_already(ports["web"], page),
        }
        before = _committed(opened)
        found[str(waiting)] = _in_turns(looks, ports, pids)
        # Each of our own questions is one.
        found[str(waiting)]["transactions"] = _committed(opened) - before - 1
    valkey.close()
    opened.close()
    return found


def _known_already(port: int, look: Look) -> Look:
    return Look(look.path, {**look.headers, "If-None-Match": etag_of(port, look)}, 304)


def _in_turns(
    looks: Mapping[str, Look], ports: Mapping[str, int], pids: Mapping[str, int]
) -> dict[str, Any]:
    """Return medians over some rounds, in each of which everything has its turn."""
    ours = {name: pid for name, pid in pids.items() if name != "hello"}
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in ("hello", *looks)}
    for _ in range(ROUNDS):
        plain = Look("/v1/jobs/1", {})
        taken["hello"].append(measure(ports["hello"], plain, {"hello": pids["hello"]}))
        for name, look in looks.items():
            taken[name].append(measure(ports["web"], look, ours))
    medians = {
        name: {fact: statistics.median(each[fact] for each in rounds) for fact in rounds[0]}
        for name, rounds in taken.items()
    }
    bare = medians["hello"]["hello"]
    return {
        name: {
            "polls_per_s": round(facts["polls_per_s"]),
            "share_of_hello": round(bare / facts["web" if name != "hello" else "hello"], 2),
            **{f"{of}_ms": round(ms, 3) for of, ms in facts.items() if of != "polls_per_s"},
        }
        for name, facts in medians.items()
    }


def _committed(opened: database.Database) -> int:
    # Backends report what they did when they are idle, a second late at the most.
    time.sleep(1.5)
    with opened.transaction() as connection:
        return int(
            connection.execute(
                text("select xact_commit from pg_stat_database where datname = current_database()")
            ).scalar_one()
        )


@contextlib.contextmanager
def _stack() -> Iterator[tuple[WebSettings, dict[str, int], dict[str, int]]]:
    """Run PostgreSQL, Valkey, a front end of one process and hello; yields ports and process ids."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres, valkey = Postgres(folder / "postgres"), Valkey(folder / "valkey")
        for server in (postgres, valkey):
            server.start()
            stack.callback(server.stop)
        database.migrate(postgres.url)
        settings = _settings(folder, postgres.url, valkey.url)
        pids = {"postgres": postgres.pid, "valkey": valkey.pid}
        ports = {}
        for name, target in (("web", "web.app:create_app"), ("hello", "tests.bench.polls:hello")):
            ports[name] = free_port()
            pids[name] = stack.enter_context(_granian(target, ports[name], folder / name))
        yield settings, ports, pids


@contextlib.contextmanager
def _granian(target: str, port: int, log: Path) -> Iterator[int]:
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--factory", "--no-ws"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--blocking-threads", "8", target]
    with log.open("wb") as output:
        server = subprocess.Popen(
            child(command), cwd=ROOT, env=dict(os.environ), stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + 60
        while not _answers(port):
            if time.monotonic() > deadline or server.poll() is not None:
                raise SystemExit(f"{target} does not start:\n{log.read_text()}")
            time.sleep(0.1)
        yield server.pid
    finally:
        server.terminate()
        server.wait(30)


def _answers(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", "/v1/jobs/1")
        connection.getresponse().read()
    except OSError:
        return False
    connection.close()
    return True


def _settings(folder: Path, database_url: str, broker_url: str) -> WebSettings:
    key = Ed25519PrivateKey.generate()
    private, public = folder / "key.pem", folder / "public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(jwks.public_pem(key.public_key()))
    os.environ |= {
        "STAMPEDE_ENV_FILE": str(folder / "none.env"),
        "STAMPEDE_DATA_DIR": str(folder),
        "STAMPEDE_DATABASE_URL": database_url,
        "STAMPEDE_BROKER_URL": broker_url,
        "STAMPEDE_LINK_KEY": "a key for the links of this bench",
        "STAMPEDE_RECEIPT_KEY_FILE": str(private),
        "STAMPEDE_CODE_PUBLIC_KEYS_FILE": str(public),
        "STAMPEDE_LOG_LEVEL": "ERROR",
    }
    return WebSettings.load()


if __name__ == "__main__":
    main()
