"""`stampede audit` over a million jobs: how long, how much memory, and what it takes from the service.

Builds a database by SQL on the embedded PostgreSQL (tests/bulk.py), audits it, damages it in every way
that tests/damages.py knows and audits it again: each damage must be found. Then jobs are accepted,
claimed and finished as fast as a few connections can, with and without an audit running beside them.
CPU seconds are those of PostgreSQL's processes; seconds by the clock depend on who else uses the machine.

Example: python -m tests.bench.audit --json --jobs 1000000
"""

import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import text

from common import accounts, audit, database, jobs, ledger, partners
from common.database import Database
from common.jobs import NewJob, Result
from common.partners import Mode
from deploy.servers import Postgres
from tests import bulk, damages
from tests.bench import arguments
from tests.bench.processes import cpu_seconds, own_memory
from tests.bench.usual import usual_job

WRITERS = 2
WINDOW_SECONDS = 4.0
WINDOWS = 3


def build(opened: Database, url: str, count: int) -> float:
    """Fill the database, as it is after its autovacuum; returns the seconds."""
    started = time.perf_counter()
    database.migrate(url)
    with opened.transaction() as connection:
        connection.execute(text("set local statement_timeout = 0"))
        bulk.fill(connection, jobs=count)
    with opened.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("set statement_timeout = 0"))
        connection.execute(text("vacuum analyze"))
        connection.execute(text("reset statement_timeout"))
    return time.perf_counter() - started


def measure(opened: Database, server: Postgres) -> dict[str, Any]:
    """Audit once; returns seconds by look, CPU seconds, and the most memory the backend held."""
    with opened.engine.connect() as connection:
        backend = connection.exec_driver_sql("select pg_backend_pid()").scalar_one()
        connection.rollback()
        before = cpu_seconds(server.pid)
        started = time.perf_counter()
        found = audit.audit(connection)
        seconds = time.perf_counter() - started
        spent = cpu_seconds(server.pid) - before
        memory = own_memory(backend)
    if found.violations:
        raise SystemExit(f"a database that was never damaged is not clean: {found.violations}")
    return {
        "jobs": found.jobs,
        "audit_seconds": round(seconds, 2),
        "audit_cpu_seconds": round(spent, 2),
        "backend_mb": round(memory / 1e6, 1),
        "seconds": {what: round(each, 2) for what, each in found.seconds.items()},
    }


def find_damages(opened: Database) -> tuple[int, float]:
    """Do every damage to a job of its own and audit once; returns how many, and the seconds."""
    done: list[tuple[str, str]] = []
    with opened.engine.connect() as connection:
        connection.execute(text("set local statement_timeout = 0"))
        for rule, several in damages.DAMAGES.items():
            for damage in several:
                with contextlib.ExitStack() as stack:
                    if any("drop" in statement for statement in damage.statements):
                        # Without an index it is asked by itself, and undone.
                        stack.callback(connection.begin_nested().rollback)
                        offender = damages.do(connection, damage, nth=len(done))
                        _require(audit.look(connection), [(rule, offender)])
                        continue
                    done.append((rule, damages.do(connection, damage, nth=len(done))))
        started = time.perf_counter()
        _require(audit.look(connection, ids_shown=100), done)
        seconds = time.perf_counter() - started
        connection.rollback()
    return sum(len(several) for several in damages.DAMAGES.values()), seconds


def _require(found: audit.Audit, done: list[tuple[str, str]]) -> None:
    missed = [(rule, who) for rule, who in done if not damages.speaks(found, rule, who)]
    if missed:
        raise SystemExit(f"not found: {missed}")


def throughput_ratio(opened: Database) -> dict[str, float]:
    """Return jobs/s with an audit running all the time against without, in turns, and both."""
    owners = [_owner(opened, number) for number in range(WRITERS)]
    rates: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(WINDOWS):
        for beside in (False, True):
            with auditing(opened) if beside else contextlib.nullcontext():
                rates[beside].append(_rate(opened, owners))
    alone, beside_audit = (sum(rates[key]) / WINDOWS for key in (False, True))
    return {
        "jobs_per_s_alone": round(alone, 1),
        "jobs_per_s_beside_audit": round(beside_audit, 1),
        "ratio": round(beside_audit / alone, 3),
    }


@contextlib.contextmanager
def auditing(opened: Database) -> Iterator[None]:
    """Audit again and again while the block runs."""
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            with opened.transaction() as connection:
                audit.audit(connection)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _owner(opened: Database, number: int) -> Callable[[], NewJob]:
    """Make a partner with quota; returns what makes a new job of theirs."""
    with opened.transaction() as connection:
        partner = partners.create(connection, name=f"writer {number}")
        account = accounts.of_partner(connection, partner_id=partner.id, mode=Mode.LIVE)
        ledger.top_up(connection, account_id=account, amount=10**6, reference="bench", by="bench")

    def make() -> NewJob:
        return usual_job(account, partner.id)

    return make


def _rate(opened: Database, owners: list[Callable[[], NewJob]]) -> float:
    """Accept, claim and finish jobs for a while; returns jobs a second."""
    ends = time.perf_counter() + WINDOW_SECONDS
    counts: list[int] = []

    def work(make: Callable[[], NewJob]) -> None:
        count = 0
        while time.perf_counter() < ends:
            job = make()
            with opened.transaction() as connection:
                jobs.accept(connection, [job], publish_after_seconds=60)
            with opened.transaction() as connection:
                claim = jobs.claim(connection, job.id, lease_seconds=60)
            if claim is None:
                raise SystemExit("a new job could not be claimed")
            with opened.transaction() as connection:
                jobs.finish(connection, claim, Result(key=str(job.id), length=1, sha256=bytes(32)))
            count += 1
        counts.append(count)

    threads = [threading.Thread(target=work, args=(make,)) for make in owners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / WINDOW_SECONDS


def main() -> None:
    """Print the figures, and with --json one JSON object as the last line."""
    parser = arguments.parser("audit", __doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000, help="default 1000000")
    choices = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # A server that runs as another user must be able to walk in.
        Path(folder).chmod(0o755)
        server = Postgres(Path(folder) / "postgres")
        server.start()
        opened = Database(server.url, pool_size=WRITERS + 2)
        try:
            seconds = build(opened, server.url, choices.jobs)
            print(f"built {choices.jobs:,} jobs in {seconds:.0f} s")
            figures = {"build_seconds": round(seconds, 1)} | measure(opened, server)
            print(
                f"audited in {figures['audit_seconds']} s, {figures['audit_cpu_seconds']} s of CPU,"
                f" {figures['backend_mb']} MB in the backend"
            )
            for what, each in figures["seconds"].items():
                print(f"{each:8.2f} s  {what}")
            damaged, with_damages = find_damages(opened)
            figures |= {"damages_found": damaged, "damaged_seconds": round(with_damages, 2)}
            print(f"{damaged} damages, all found; audited in {with_damages:.1f} s")
            figures |= {"beside": throughput_ratio(opened)}
            print(
                f"accept, claim and finish: {figures['beside']['jobs_per_s_alone']} jobs/s alone,"
                f" {figures['beside']['jobs_per_s_beside_audit']} beside an audit"
                f" ({figures['beside']['ratio']})"
            )
        finally:
            opened.close()
            server.stop()
    if choices.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
