"""What it costs to accept, claim, poll and look after jobs while 10 or 1,000,000 wait.

Two databases on one PostgreSQL, each with as many jobs as the other and filled by SQL: in one all but ten
are stamped, in the other all wait; and a Valkey for each, with their messages and counters. Then the same
things are done in both by turns, and the CPU time of everybody who took part is read from the kernel: this
process (the front end and the worker's side of it), PostgreSQL and Valkey. Medians of their rounds.

Example: python -m tests.bench.depth --json
"""

import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import redis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from flask.testing import FlaskClient
from sqlalchemy import text

from common import accounts, documents, jobs, jwks, lanes, pace, partners
from common.database import Database
from common.identifiers import new_id
from common.lanes import LanesApp
from common.pace import Pace
from common.partners import Mode
from common.settings import Settings, WebSettings, WorkerSettings
from deploy.sample import sample_letter
from deploy.servers import Postgres, Valkey
from tests.bench import arguments
from tests.bench.processes import own_memory, running_seconds
from tests.databases import own_database
from web.app import create_app
from workers.upkeep import Caretaker

FEW = 10
_AT_ONCE = 90_000
GROUP = 16
# Each round of each thing is done in so many portions, here and there by turns.
PORTIONS = 4
LETTER = sample_letter()
_QUEUED = """select lane, count(*) as queued, max(ticket) as highest from jobs
             where state = 'queued' group by lane"""
_LAST = "select id from jobs where state = 'queued' order by id desc limit 1"
_FILL = (
    "set local session_replication_role = replica",
    "set local synchronous_commit = off",
    "set local statement_timeout = 0",
    """with made as (insert into jobs (id, account_id, partner_id, mode, state, lane, ticket, attempt,
           publish_at, publications, placements, metadata, document_name, document_bytes, document_sha256,
           result_key, result_bytes, result_sha256, specimen, signature_level, receipt, accepted_at,
           started_at, finished_at)
       select uuidv7(interval '1 hour' * n / :jobs - interval '1 hour'), :account, :partner, 'test',
           case when n > :stamped then 'queued' else 'stamped' end,
           (cast(:lanes as text[]))[1 + n % 9], (n + 8) / 9, (n <= :stamped)::int,
           case when n > :stamped then now() - interval '1 minute' end, 0,
           '[{"page": "last", "corner": "bottom-right"}]', '{}', 'letter.pdf', 355000,
           sha256(n::text::bytea), case when n <= :stamped then n::text end,
           case when n <= :stamped then 369000 end,
           case when n <= :stamped then sha256(n::text::bytea) end,
           case when n <= :stamped then true end, case when n <= :stamped then 'B-B' end,
           repeat(md5(n::text), 18), now() - interval '1 hour' + interval '1 hour' * n / :jobs,
           case when n <= :stamped then now() end, case when n <= :stamped then now() end
       from generate_series(cast(:first as int), cast(:last as int)) n returning id, state, finished_at)
       insert into serials (serial, mode, job_id, position, state, affixed_at)
       select 'T' || upper(substr(translate(gen_random_uuid()::text, '-', ''), 1, 21)), 'test', id,
           1, case state when 'stamped' then 'affixed' else 'reserved' end, finished_at from made""",
)


@dataclass
class Side:
    """A service with its queue."""

    counters: Pace
    opened: Database
    client: FlaskClient
    headers: dict[str, str]
    caretaker: Caretaker
    broker: Valkey
    # One that is asked for, and those that came meanwhile and are claimed next.
    polled: UUID
    entered: list[UUID] = field(default_factory=list)


def settings_of(folder: Path, database_url: str, broker_url: str) -> dict[str, Any]:
    """Return the settings of a service whose keys lie in a folder; makes them there."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(pem)
    (folder / "public.pem").write_bytes(jwks.public_pem(key.public_key()))
    return {
        "data_dir": folder,
        "database_url": database_url,
        "broker_url": broker_url,
        "link_key": "k" * 32,
        "receipt_key_file": folder / "key.pem",
        "code_public_keys_file": folder / "public.pem",
        "code_key_file": folder / "key.pem",
        "log_level": "ERROR",
        # Nobody stamps here.
        "signing_key_file": folder / "key.pem",
        "signing_chain_file": folder / "key.pem",
    }


def fill(opened: Database, *, total: int, waiting: int) -> str:
    """Write so many jobs of one partner, of which some wait; returns the partner's key."""
    with opened.transaction() as connection:
        partner = partners.create(connection, name="depth")
        key = partners.issue_key(connection, partner_id=partner.id, mode=Mode.TEST, label="depth")
        values = {
            "jobs": total,
            "stamped": total - waiting,
            "account": accounts.of_partner(connection, partner_id=partner.id, mode=Mode.TEST),
            "partner": partner.id,
            "lanes": [lanes.APPLICANT_LANE, *lanes.PARTNER_LANES],
        }
    for first in range(1, total + 1, _AT_ONCE):
        # In portions: no statement may take longer than the patience of a connection of ours.
        bounds = {"first": first, "last": min(total, first + _AT_ONCE - 1)}
        with opened.transaction() as connection:
            for step in _FILL:
                asked = {n: each for n, each in (values | bounds).items() if f":{n}" in step}
                connection.execute(text(step), asked)
    with opened.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("set statement_timeout = 0"))
        connection.execute(text("vacuum analyze"))
        connection.execute(text("reset statement_timeout"))
    return key.secret


def fill_lane(broker: redis.Redis, app: LanesApp, lane: str, jobs: int) -> None:
    """Send the messages of so many jobs, in groups; after the first all are copies of it."""
    whole, rest = divmod(jobs, GROUP)
    for count, messages in ((GROUP, whole), (rest, min(1, rest))):
        if not messages:
            continue
        lanes.publish_stamps(app, [new_id() for _ in range(count)], lane)
        message = str(broker.lindex(lane, 0))
        with broker.pipeline(transaction=False) as several:
            for _ in range(messages - 1):
                several.lpush(lane, message)
            several.execute()


def bytes_per_job(broker: redis.Redis, app: LanesApp, group: int) -> float:
    """Return how much Valkey's memory grows by a job whose message stands for so many."""
    messages = 2000
    before = broker.info("memory")["used_memory"]
    for _ in range(messages // 10):
        lanes.publish_stamps(app, [new_id() for _ in range(group)], lanes.BULK_LANE)
    message = str(broker.lindex(lanes.BULK_LANE, 0))
    for _ in range(messages - messages // 10):
        broker.lpush(lanes.BULK_LANE, message)
    grown = broker.info("memory")["used_memory"] - before
    broker.delete(lanes.BULK_LANE)
    return float(grown / messages / group)


@contextlib.contextmanager
def side(folder: Path, server: Postgres, *, total: int, waiting: int) -> Iterator[Side]:
    """Make a service with so many jobs, of which some wait."""
    folder.mkdir(mode=0o755)
    broker = Valkey(folder / "valkey")
    broker.start()
    with contextlib.ExitStack() as stack:
        stack.callback(broker.stop)
        settings = settings_of(folder, stack.enter_context(own_database(server.url)), broker.url)
        worker = WorkerSettings(**settings)
        opened = Database(worker.database_url, pool_size=2)
        stack.callback(opened.close)
        key = fill(opened, total=total, waiting=waiting)
        counters, app = pace.connect(worker), lanes.make_celery(worker)
        counters.remember()
        with opened.transaction() as connection:
            rows = connection.execute(text(_QUEUED)).all()
            polled = connection.execute(text(_LAST)).scalar_one()
        with redis.Redis.from_url(broker.url, decode_responses=True) as client:
            for row in rows:
                counters.recount(row.lane, queued=row.queued, highest_ticket=row.highest)
                fill_lane(client, app, row.lane, row.queued)
        for lane in lanes.STAMP_LANES:
            counters.progress(lane, taken_up=0, waited_seconds=None, service_seconds=(0.01,))
        yield Side(
            opened=opened,
            counters=counters,
            client=create_app(WebSettings(**settings)).test_client(),
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/pdf"},
            caretaker=Caretaker(
                settings=worker,
                database=opened,
                documents=documents.connect(worker),
                pace=counters,
                app=app,
            ),
            broker=broker,
            polled=polled,
        )


def accept(side: Side) -> None:
    """Submit a letter over the API; the few that waited before stay the few."""
    answer = side.client.post("/v1/jobs", data=LETTER, headers=side.headers)
    _require(answer.status_code == 202, answer.text)
    side.entered.append(UUID(answer.json["id"]))


def claim(side: Side) -> None:
    """Claim a job as a worker does, and say so."""
    with side.opened.transaction() as connection:
        taken = jobs.claim(connection, side.entered.pop(), lease_seconds=600)
    if taken is None:
        raise SystemExit("a job that waits could not be claimed")
    side.counters.progress(
        taken.lane, taken_up=1, waited_seconds=taken.waited_seconds, service_seconds=(0.01,)
    )


def get(path: str) -> Callable[[Side], None]:
    """Return what asks the front end for something."""

    def ask(side: Side) -> None:
        answer = side.client.get(path.format(job=side.polled), headers=side.headers)
        _require(answer.status_code == 200, answer.text)

    return ask


def _require(right: bool, told: str) -> None:
    if not right:
        raise SystemExit(told)


# What is done, and how often in one round.
WORK: dict[str, tuple[Callable[[Side], object], int]] = {
    "accept": (accept, 40),
    "claim": (claim, 40),
    "poll": (get("/v1/jobs/{job}"), 80),
    "place": (lambda side: side.counters.wait(lanes.APPLICANT_LANE, 1), 80),
    "pace": (get("/v1/pace"), 40),
    "metrics": (get("/metrics"), 8),
    "readyz": (get("/readyz"), 20),
    "relay": (lambda side: side.caretaker.relay_jobs(), 4),
    "recount": (lambda side: side.caretaker.recount(), 4),
}


def measure(few: Side, many: Side, server: Postgres, rounds: int) -> dict[str, Any]:
    """Do everything on both sides by turns; returns CPU ms of one, with few and with many, and the ratio."""
    spent: dict[str, dict[bool, list[float]]] = {name: {False: [], True: []} for name in WORK}
    for number in range(rounds + 1):
        for name, (work, times) in WORK.items():
            sums = {False: 0.0, True: 0.0}
            for portion in range(PORTIONS):
                for is_many in (portion % 2 == 0, portion % 2 == 1):
                    each = many if is_many else few
                    sums[is_many] += _cost(work, each, server, times // PORTIONS)
            # The first round fills the caches.
            if number:
                for is_many, seconds in sums.items():
                    spent[name][is_many].append(seconds * 1000 / times)
    return {
        name: {
            "few_ms": round(statistics.median(of[False]), 3),
            "many_ms": round(statistics.median(of[True]), 3),
            "ratio": round(statistics.median(of[True]) / statistics.median(of[False]), 3),
        }
        for name, of in spent.items()
    }


def _cost(work: Callable[[Side], object], side: Side, server: Postgres, times: int) -> float:
    """Return the CPU seconds that everybody spent on doing something so often."""
    others = running_seconds(server.pid) + running_seconds(side.broker.pid)
    own = time.process_time()
    for _ in range(times):
        work(side)
    own = time.process_time() - own
    return own + running_seconds(server.pid) + running_seconds(side.broker.pid) - others


def main() -> None:
    """Print the figures, and with --json one JSON object as the last line."""
    parser = arguments.parser("depth", __doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000, help="default 1000000")
    parser.add_argument("--rounds", type=int, default=15, help="default 15")
    choices = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # Servers that run as another user must be able to walk in.
        folder.chmod(0o755)
        server = Postgres(folder / "postgres")
        server.start()
        stack.callback(server.stop)
        few, many = (
            stack.enter_context(side(folder / name, server, total=choices.jobs, waiting=waiting))
            for name, waiting in (("few", FEW), ("many", choices.jobs))
        )
        print(f"{choices.jobs:,} jobs in each database; {FEW} or all of them wait")
        held = own_memory(os.getpid())
        costs = measure(few, many, server, choices.rounds)
        grown = own_memory(os.getpid()) - held
        with redis.Redis.from_url(many.broker.url, decode_responses=True) as broker:
            app = lanes.make_celery(Settings(link_key="k" * 32, broker_url=many.broker.url))
            figures = {
                "waiting": choices.jobs,
                "cpu": costs,
                "process_grew_mb": round(grown / 1e6, 1),
                "valkey_mb": round(broker.info("memory")["used_memory"] / 1e6, 1),
                "valkey_bytes_per_job": {
                    "alone": round(bytes_per_job(broker, app, 1)),
                    f"in groups of {GROUP}": round(bytes_per_job(broker, app, GROUP)),
                },
            }
    for name, cost in costs.items():
        print(
            f"{name:8} {cost['few_ms']:8.3f} ms with {FEW}, {cost['many_ms']:8.3f} ms with"
            f" {choices.jobs:,}: {cost['ratio']}"
        )
    print(f"Valkey holds {figures['valkey_mb']} MB; {figures['valkey_bytes_per_job']} bytes a job")
    if choices.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
