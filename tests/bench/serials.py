"""Imported serials: rows a second into the stock, and acceptances a second out of it.

Eight processes with a connection each accept jobs of their own partners through `jobs.accept`, commit
included: with generated serials, with imported ones, and with imported ones while a repeatable-read
snapshot stays open, as an audit keeps one, and behind it 100,000 serials went out, as they do in 200 s
at 500 a second. `reserve_…` is the serials' part, `first` that of a process that has no place in the
stock yet. In the end the same with a place that is forgotten each time: what remembering it saves.

Example: python -m tests.bench.serials --json
"""

import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from common import accounts, audit, database, jobs, ledger, partners
from common.database import Database
from common.partners import Mode
from common.serials import Chosen, Supply, importing, stock
from common.serials.stock import Place
from deploy.servers import Postgres
from tests.bench import arguments
from tests.bench.processes import cpu_seconds, peak_memory
from tests.bench.usual import usual_job

CONNECTIONS = 8
WENT_OUT = 100_000


class Timed(Supply):
    """Notes how long each reservation took, in seconds; forgets its place when told to."""

    def __init__(self, source: Any, *, forgets: bool) -> None:
        super().__init__(source=source)
        self.took: list[float] = []
        self._forgets = forgets

    def choose(self, connection: Connection, **what: Any) -> dict[UUID, list[Chosen]]:
        """Choose, timed."""
        if self._forgets:
            self._place = Place()
        before = time.perf_counter()
        reserved = super().choose(connection, **what)
        self.took.append(time.perf_counter() - before)
        return reserved


def accept_for(work: tuple[str, UUID, UUID, str, bool, float]) -> tuple[int, list[float]]:
    """Accept jobs one after the other for some seconds; returns how many, and each reservation's time."""
    url, account_id, partner_id, source, forgets, seconds = work
    db = Database(url, pool_size=1)
    supply = Timed(source, forgets=forgets)
    try:
        with db.transaction() as connection:
            connection.execute(text("select 1"))
        until, count = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            with db.transaction() as connection:
                (given,) = jobs.accept(
                    connection,
                    [usual_job(account_id, partner_id)],
                    publish_after_seconds=3600,
                    supply=supply,
                )
            if not given:
                raise SystemExit("a job had to wait though there was stock")
            count += 1
        return count, supply.took
    finally:
        db.close()


class Bench:
    """One database, its partners, and the processes that accept."""

    def __init__(self, url: str, server_pid: int, pool: Pool, seconds: float) -> None:
        self._url = url
        self._server_pid = server_pid
        self._pool = pool
        self._seconds = seconds
        self.db = Database(url)
        self._owners = [self._owner(f"partner {number}") for number in range(CONNECTIONS)]

    def _owner(self, name: str) -> tuple[UUID, UUID]:
        with self.db.transaction() as connection:
            partner = partners.create(connection, name=name)
            account_id = accounts.of_partner(connection, partner_id=partner.id, mode=Mode.LIVE)
            ledger.top_up(
                connection, account_id=account_id, amount=10_000_000, reference="r", by="bench"
            )
        return account_id, partner.id

    def accepts(self, source: str, *, forgets: bool = False) -> dict[str, float]:
        """Return acceptances a second, what one costs, and what the reservations took."""
        before = cpu_seconds(self._server_pid)
        done = self._pool.map(
            accept_for,
            [(self._url, *each, source, forgets, self._seconds) for each in self._owners],
            chunksize=1,
        )
        server = cpu_seconds(self._server_pid) - before
        took = sorted(1000 * each for _, times in done for each in times)
        count = sum(count for count, _ in done)
        return {
            "per_s": round(count / self._seconds, 1),
            "server_cpu_ms": round(1000 * server / count, 3),
            "reserve_p50_ms": round(statistics.median(took), 3),
            "reserve_p99_ms": round(took[len(took) * 99 // 100], 3),
            "reserve_first_ms": round(1000 * statistics.median(times[0] for _, times in done), 3),
        }

    def imports(self, file: Path) -> dict[str, float]:
        """Import the file twice and once more; returns rows a second."""
        first, cpu, added = self._import(file)
        again, _, nothing = self._import(file)
        if nothing:
            raise SystemExit("the same file added serials")
        return {
            "rows": added,
            "file_bytes": file.stat().st_size,
            "rows_per_s": round(added / first),
            "again_rows_per_s": round(added / again),
            "rows_per_cpu_s": round(added / cpu),
            "peak_memory_bytes": peak_memory(),
        }

    def _import(self, file: Path) -> tuple[float, float, int]:
        before, cpu = time.perf_counter(), self._cpu()
        with file.open("rb") as content, self.db.transaction() as connection:
            found = importing.import_list(connection, content, reference="bench")
        return time.perf_counter() - before, self._cpu() - cpu, found.added

    def _cpu(self) -> float:
        return cpu_seconds(self._server_pid) + time.process_time()

    def let_go_out(self) -> None:
        """Delete the first of the stock, as if jobs had taken them."""
        with self.db.transaction() as connection:
            connection.execute(
                text(
                    "delete from serial_stock where id in"
                    " (select id from serial_stock order by id limit :count)"
                ),
                {"count": WENT_OUT},
            )
            connection.execute(
                text("update serial_imports set added = added - :count"), {"count": WENT_OUT}
            )

    def level_ms(self) -> float:
        """Return what one look at the stock's level takes, as a scrape does it."""
        times = []
        for _ in range(5):
            before = time.perf_counter()
            with self.db.transaction() as connection:
                stock.level(connection)
            times.append(1000 * (time.perf_counter() - before))
        return round(statistics.median(times), 2)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Keep a repeatable-read snapshot open."""
        with self.db.engine.connect() as connection:
            connection.execute(text("set transaction isolation level repeatable read, read only"))
            connection.execute(text("set local idle_in_transaction_session_timeout = 0"))
            connection.execute(text("select count(*) from serial_imports"))
            yield
            connection.rollback()


@contextmanager
def running(folder: Path) -> Iterator[tuple[str, int]]:
    """Run PostgreSQL; yields its URL and its process."""
    server = Postgres(folder)
    server.start()
    try:
        yield server.url, int((folder / "postmaster.pid").read_text().split()[0])
    finally:
        server.stop()


def write_list(file: Path, rows: int) -> None:
    """Write a list as an issuer sends it: random numbers of 22 characters."""
    with file.open("w") as out:
        out.write("serial\n")
        for _ in range(0, rows, 10_000):
            digits = os.urandom(10 * 10_000).hex().upper()
            out.writelines(f"E0{digits[at : at + 20]}\n" for at in range(0, len(digits), 20))


def main() -> None:
    """Print the figures, and with --json one JSON object as the last line."""
    parser = arguments.parser("serials", __doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the list (1,000,000)")
    parser.add_argument("--seconds", type=float, default=5.0, help="per figure (default 5)")
    choices = parser.parse_args()
    figures: dict[str, Any] = {"connections": CONNECTIONS}
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder) / "postgres") as (url, pid),
        spawn.Pool(CONNECTIONS) as pool,
    ):
        database.migrate(url)
        bench = Bench(url, pid, pool, choices.seconds)
        file = Path(folder) / "list.csv"
        write_list(file, choices.rows)
        figures["import"] = bench.imports(file)
        figures["level_ms"] = bench.level_ms()
        bench.accepts("generated")
        figures["generated"] = bench.accepts("generated")
        figures["imported"] = bench.accepts("imported")
        with bench.snapshot():
            bench.let_go_out()
            figures["generated_beside_a_snapshot"] = bench.accepts("generated")
            figures["imported_beside_a_snapshot"] = bench.accepts("imported")
            figures["without_a_place_beside_a_snapshot"] = bench.accepts("imported", forgets=True)
            figures["level_beside_a_snapshot_ms"] = bench.level_ms()
        with bench.db.transaction() as connection:
            figures["violations"] = [v.rule for v in audit.audit(connection).violations]
        bench.db.close()
    for name, figure in figures.items():
        print(f"{name:<36} {figure}")
    if choices.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
