"""What one hot account takes: acceptances and settlements a second, through the transactions of the service.

Every connection is a process of its own with one connection to one database. `hot` is all of them on one
account; `spread`, the floor, is the same work in the same run with an account for each. A settlement
is the whole finish of a job. CPU milliseconds are those of a connection's process and of its backend
together, so they hold on a busy machine too. The database's own count of deadlocks must be 0.

Example: python -m tests.bench.ledger --json
"""

import json
import multiprocessing
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from uuid import UUID

from sqlalchemy import text

from common import accounts, database, jobs, ledger, partners
from common.database import Database
from common.identifiers import new_id
from common.jobs import Claim, Result
from common.partners import Mode
from deploy.servers import embedded_postgres
from tests.bench import arguments
from tests.bench.processes import cpu_seconds
from tests.bench.usual import usual_job

STAMPS = 10_000_000
WARM_UP = 50
RESULT = Result(key="bench", length=1, sha256=b"r" * 32)


@dataclass(frozen=True)
class Owner:
    """An account and its partner."""

    account_id: UUID
    partner_id: UUID


@dataclass(frozen=True)
class Pace:
    """Transactions a second, of all connections together, and CPU milliseconds for each."""

    holds_per_s: float
    settles_per_s: float
    hold_cpu_ms: float
    settle_cpu_ms: float


def make_owner(db: Database) -> Owner:
    """Return a partner's live account with more stamps than a run takes."""
    with db.transaction() as connection:
        partner = partners.create(connection, name=f"bench {new_id()}")
        account_id = accounts.of_partner(connection, partner_id=partner.id, mode=Mode.LIVE)
        ledger.top_up(
            connection, account_id=account_id, amount=STAMPS, reference="bench", by="bench"
        )
    return Owner(account_id, partner.id)


def accept(db: Database, owner: Owner) -> UUID:
    """Accept one job in a transaction of its own."""
    job = usual_job(owner.account_id, owner.partner_id)
    with db.transaction() as connection:
        jobs.accept(connection, [job], publish_after_seconds=3600)
    return job.id


def claim(db: Database, job_id: UUID) -> Claim:
    """Claim one job in a transaction of its own."""
    with db.transaction() as connection:
        claimed = jobs.claim(connection, job_id, lease_seconds=3600)
    if claimed is None:
        raise SystemExit(f"{job_id} could not be claimed")
    return claimed


def work(
    url: str, owner: Owner, seconds: float, together: Barrier, out: "multiprocessing.Queue[Pace]"
) -> None:
    """Accept for `seconds`, then finish as many of these jobs; each phase starts with the others'."""
    db = Database(url, pool_size=1)
    for _ in range(WARM_UP):
        accept(db, owner)
    backend = backend_of(db)
    together.wait()
    began, spent = time.perf_counter(), cpu(backend)
    made = []
    while time.perf_counter() - began < seconds:
        made.append(accept(db, owner))
    holds = len(made) / (time.perf_counter() - began)
    hold_cpu = (cpu(backend) - spent) * 1000 / len(made)
    together.wait()
    claims = [claim(db, job_id) for job_id in made]
    together.wait()
    began, spent = time.perf_counter(), cpu(backend)
    settled = 0
    for claimed in claims:
        if time.perf_counter() - began >= seconds:
            break
        with db.transaction() as connection:
            if jobs.finish(connection, claimed, RESULT) is None:
                raise SystemExit(f"{claimed.job_id} could not be finished")
        settled += 1
    settles = settled / (time.perf_counter() - began)
    settle_cpu = (cpu(backend) - spent) * 1000 / settled
    db.close()
    out.put(Pace(holds, settles, hold_cpu, settle_cpu))


def backend_of(db: Database) -> int:
    """Return the process id of the server's end of the one connection."""
    with db.transaction() as connection:
        return int(connection.execute(text("select pg_backend_pid()")).scalar_one())


def cpu(backend: int) -> float:
    """Return the CPU seconds of this process and of its backend."""
    return time.process_time() + cpu_seconds(backend)


def measure(url: str, owners: list[Owner], seconds: float) -> Pace:
    """Run one process for each owner at the same time, and add up what they did."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(len(owners))
    out: multiprocessing.Queue[Pace] = context.Queue()
    processes = [
        context.Process(target=work, args=(url, owner, seconds, together, out)) for owner in owners
    ]
    for process in processes:
        process.start()
    paces = [out.get(timeout=60 + 10 * seconds) for _ in processes]
    for process in processes:
        process.join()
    return Pace(
        sum(p.holds_per_s for p in paces),
        sum(p.settles_per_s for p in paces),
        median(p.hold_cpu_ms for p in paces),
        median(p.settle_cpu_ms for p in paces),
    )


def deadlocks(db: Database) -> int:
    """Return the deadlocks that the server has seen in this database."""
    with db.transaction() as connection:
        return int(
            connection.execute(
                text("select deadlocks from pg_stat_database where datname = current_database()")
            ).scalar_one()
        )


def main() -> None:
    """Print the figures, and with --json one JSON object as the last line."""
    parser = arguments.parser("ledger", __doc__)
    parser.add_argument("--connections", type=int, default=8, help="at once (default 8)")
    parser.add_argument("--seconds", type=float, default=10.0, help="per figure (default 10)")
    choices = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="stampede-bench-") as folder,
        embedded_postgres(Path(folder)) as url,
    ):
        database.migrate(url)
        db = Database(url, pool_size=1)
        owners = [make_owner(db) for _ in range(choices.connections)]
        hot = measure(url, [owners[0]] * choices.connections, choices.seconds)
        spread = measure(url, owners, choices.seconds)
        figures = {
            "connections": choices.connections,
            "hot_holds_per_s": round(hot.holds_per_s, 1),
            "spread_holds_per_s": round(spread.holds_per_s, 1),
            "settles_per_s": round(hot.settles_per_s, 1),
            "spread_settles_per_s": round(spread.settles_per_s, 1),
            "hot_hold_cpu_ms": round(hot.hold_cpu_ms, 2),
            "spread_hold_cpu_ms": round(spread.hold_cpu_ms, 2),
            "settle_cpu_ms": round(hot.settle_cpu_ms, 2),
            "deadlocks": deadlocks(db),
        }
        db.close()
    print(
        f"{choices.connections} connections, {choices.seconds:g} s a figure, transactions a second"
    )
    print(f"one account        holds {hot.holds_per_s:8.1f}   settlements {hot.settles_per_s:8.1f}")
    print(
        f"an account each    holds {spread.holds_per_s:8.1f}"
        f"   settlements {spread.settles_per_s:8.1f}"
    )
    print(f"deadlocks {figures['deadlocks']}")
    if choices.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
