"""Accepted to stamped, without the front end: CPU milliseconds a job by process, by ids a message.

Starts a copy of everything, stops its front end's part short by putting letters into the store and
the database directly, and publishes them in messages of several ids: once for each size that is asked
for. What accepting costs is left out of every figure, PostgreSQL's included.

Example: python -m tests.bench.stamping --json --ids 1,4,16
"""

import hashlib
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import text

from common import database, documents, jobs, lanes
from common.database import Database
from common.settings import Settings
from deploy.sample import sample_of
from tests.bench import arguments
from tests.bench.pipeline import Stack, ours
from tests.bench.processes import cpu_seconds
from tests.bench.usual import usual_job

LANE = lanes.PARTNER_LANES[0]
# No relay while a run is prepared.
LATER_SECONDS = 3600
WARM_UP = 64
WAIT_SECONDS = 300


class Jobs:
    """Letters of the demo partner, put into a running copy past its front end."""

    def __init__(self, settings: Settings, document: bytes) -> None:
        """Open the copy's database, store and broker."""
        self._document = document
        self._database: Database = database.connect(settings)
        self._documents = documents.connect(settings)
        self._app = lanes.make_celery(settings)
        with self._database.transaction() as connection:
            self._account_id, self._partner_id = connection.execute(
                text("select id, partner_id from accounts where mode = 'live' and kind = 'partner'")
            ).one()

    def accept(self, count: int) -> list[UUID]:
        """Accept so many letters and tell no worker."""
        made = [
            replace(
                usual_job(self._account_id, self._partner_id),
                lane=LANE,
                document_bytes=len(self._document),
                document_sha256=hashlib.sha256(self._document).digest(),
            )
            for _ in range(count)
        ]
        for job in made:
            self._documents.put(documents.original_key(job.id), self._document, lasting=False)
        with self._database.transaction() as connection:
            jobs.accept(connection, made, publish_after_seconds=LATER_SECONDS)
        return [job.id for job in made]

    def publish(self, ids: Sequence[UUID], ids_a_message: int) -> None:
        """Send them to their lane, so many in a message."""
        for first in range(0, len(ids), ids_a_message):
            lanes.publish_stamps(self._app, ids[first : first + ids_a_message], LANE)

    def wait(self, ids: Sequence[UUID]) -> None:
        """Wait until all of them are stamped; looks rarely, for looking costs the database too."""
        deadline = time.monotonic() + WAIT_SECONDS
        left = len(ids)
        while left:
            if time.monotonic() > deadline:
                raise SystemExit(f"{left} of {len(ids)} jobs are not stamped")
            time.sleep(0.2)
            with self._database.transaction() as connection:
                left = connection.execute(
                    text("select count(*) from jobs where id = any(:ids) and state <> 'stamped'"),
                    {"ids": list(ids)},
                ).scalar_one()


def measure(stack: Stack, letters: Jobs, *, count: int, ids_a_message: int) -> dict[str, Any]:
    """Return what one run came to, a job."""
    ids = letters.accept(count)
    before = {name: cpu_seconds(pid) for name, pid in stack.pids.items()}
    began = time.perf_counter()
    letters.publish(ids, ids_a_message)
    letters.wait(ids)
    seconds = time.perf_counter() - began
    spent = {n: (cpu_seconds(pid) - before[n]) * 1000 / count for n, pid in stack.pids.items()}
    return {
        "ids_a_message": ids_a_message,
        "jobs": count,
        "jobs_per_s": round(count / seconds, 1),
        "cpu_ms_per_job": round(sum(spent.values()), 2),
        "cpu_ms_by_process": {name: round(ms, 2) for name, ms in spent.items()},
    }


def main() -> None:
    """Print the figures, and with --json one JSON object as the last line."""
    parser = arguments.parser("stamping", __doc__)
    parser.add_argument("--jobs", type=int, default=1000, help="a run (default 1000)")
    parser.add_argument("--ids", default="1,4,16", help="ids a message, by run (default 1,4,16)")
    parser.add_argument("--bytes", type=int, default=355_000, help="size of one (default 355000)")
    choices = parser.parse_args()
    sizes = [int(size) for size in choices.ids.split(",")]
    document = sample_of(choices.bytes)
    with tempfile.TemporaryDirectory() as folder:
        # Servers that run as another user must be able to walk in.
        Path(folder).chmod(0o755)
        quota = choices.jobs * len(sizes) + WARM_UP
        with ours(Path(folder), document, quota) as stack:
            settings = Settings(_env_file=Path(folder) / "var" / "stampede.env")  # type: ignore[call-arg]
            letters = Jobs(settings, document)
            warm_up = letters.accept(WARM_UP)
            letters.publish(warm_up, 1)
            letters.wait(warm_up)
            runs = [
                measure(stack, letters, count=choices.jobs, ids_a_message=size) for size in sizes
            ]
    for run in runs:
        by_process = ", ".join(f"{n} {ms}" for n, ms in run["cpu_ms_by_process"].items())
        print(
            f"{run['ids_a_message']} ids a message: {run['jobs_per_s']} jobs/s,"
            f" {run['cpu_ms_per_job']} CPU ms a job ({by_process})"
        )
    if choices.json:
        print(json.dumps({"bytes": len(document), "runs": runs}))


if __name__ == "__main__":
    main()
