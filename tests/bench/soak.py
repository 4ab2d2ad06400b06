"""Hours at most of what it can: whether memory, file handles, threads and connections stay as they are.

Starts a copy of everything (`stampede up`) in a temporary folder, finds how many documents a second it
accepts and stamps, and offers a share of that at random times for some minutes. Every few seconds it looks
at all processes of each part: private memory (`Pss_Anon`), all of it (`Pss`), file handles and threads
(proc(5)), and asks PostgreSQL and Valkey for their connections. A line is laid through what was seen after
the first third: flat is what it would not grow by more than a twentieth in that time, or by little.

Example: python -m tests.bench.soak --minutes 30 --json
"""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from sqlalchemy import text

from common import database, lanes
from common.settings import ENV_FILE_NAME, Settings
from deploy.processes import descendants
from deploy.sample import sample_letter, sample_of
from tests.bench import arguments, offering, whole
from tests.bench.offering import Offer, milliseconds
from tests.bench.whole import Whole

# What something may differ by at its end and still be called flat, beside a twentieth.
LITTLE = {"anon_mb": 8.0, "pss_mb": 8.0, "handles": 6, "threads": 3, "connections": 4}
SHARE = 0.05
# Of the time, before what is seen counts: pools fill, processes are forked, caches are filled.
WARM_UP = 1 / 3
POLLS_PER_S = 10


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at one time: seconds from the start, and numbers by what they are of."""

    at: float
    numbers: Mapping[str, float]


def look(copy: Whole, watch: "Watch", at: float) -> Sample:
    """Look at every part of the copy."""
    numbers: dict[str, float] = {}
    for name, pid in copy.pids.items():
        seen = [_process(each) for each in (pid, *descendants(pid))]
        for what in ("anon_mb", "pss_mb", "handles", "threads"):
            numbers[f"{name} {what}"] = round(sum(one.get(what, 0) for one in seen), 1)
    return Sample(at, numbers | watch.numbers())


class Watch:
    """Asks the servers."""

    def __init__(self, settings: Settings) -> None:
        """Connect, once, so that what is asked does not change what is seen."""
        self._database = database.Database(settings.database_url, pool_size=1)
        self._valkey = redis.Redis.from_url(settings.broker_url)

    def numbers(self) -> dict[str, float]:
        """Return connections, and how many jobs wait."""
        with self._database.reading() as connection:
            row = connection.execute(
                text(
                    "select (select count(*) from pg_stat_activity"
                    " where backend_type = 'client backend') as connections,"
                    " (select count(*) from jobs where state = 'queued') as waiting"
                )
            ).one()
        return {
            "PostgreSQL connections": row.connections,
            "Valkey connections": self._valkey.info("clients")["connected_clients"],
            "Valkey used_mb": round(self._valkey.info("memory")["used_memory"] / 2**20, 2),
            "waiting": row.waiting,
            "messages": sum(self._valkey.llen(lane) for lane in lanes.STAMP_LANES),
        }


def _process(pid: int) -> dict[str, float]:
    """Return the numbers of one process; none of one that has just ended."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        handles, threads = (
            sum(1 for _ in Path(f"/proc/{pid}/{what}").iterdir()) for what in ("fd", "task")
        )
    except OSError:
        return {}
    kilobytes = {
        line.partition(":")[0]: int(line.split()[1])
        for line in rollup.splitlines()
        if line.startswith("Pss")
    }
    return {
        "anon_mb": kilobytes["Pss_Anon"] / 1024,
        "pss_mb": kilobytes["Pss"] / 1024,
        "handles": handles,
        "threads": threads,
    }


def trend(samples: Sequence[Sample], what: str) -> dict[str, Any]:
    """Return how a number went: its first and last thirds' means, growth an hour, and whether it is flat."""
    began = samples[0].at + (samples[-1].at - samples[0].at) * WARM_UP
    points = [(s.at, s.numbers[what]) for s in samples if s.at >= began and what in s.numbers]
    slope = slope_of(points)
    mean = sum(value for _, value in points) / len(points)
    grew = slope * (points[-1][0] - points[0][0])
    little = LITTLE.get(what.rpartition(" ")[2])
    told: dict[str, Any] = {
        "mean": round(mean, 1),
        "last": points[-1][1],
        "an_hour": round(slope * 3600, 1),
    }
    if little is not None:
        told["flat"] = grew <= max(little, SHARE * mean)
    return told


def slope_of(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the line that lies closest to these points (least squares)."""
    count = len(points)
    middle = sum(at for at, _ in points) / count
    mean = sum(value for _, value in points) / count
    spread = sum((at - middle) ** 2 for at, _ in points)
    return sum((at - middle) * (value - mean) for at, value in points) / spread if spread else 0.0


def throughput(copy: Whole, submit: Offer) -> float:
    """Return how many documents a second are accepted and stamped when a few are sent all the time."""
    began, stamped = time.perf_counter(), copy.stamped()
    accepted = len(offering.make(submit).with_status(202))
    while copy.stamped() < stamped + accepted:
        time.sleep(0.1)
    return accepted / (time.perf_counter() - began)


def measure(copy: Whole, document: Path, choices: Any) -> dict[str, Any]:
    """Offer for all the time, and return what became of every number."""
    headers = f"Host: bench\r\nAuthorization: Bearer {copy.demo.live_key}\r\n"
    head = f"POST /v1/jobs HTTP/1.1\r\n{headers}Content-Type: application/pdf\r\n"
    can = throughput(copy, Offer(port=copy.port, heads=[head], body_file=str(document), seconds=10))
    rate, seconds = choices.load * can, choices.minutes * 60
    submitting = offering.start(
        Offer(port=copy.port, heads=[head], body_file=str(document), rate=rate, seconds=seconds)
    )
    polling = offering.start(
        Offer(
            port=copy.port,
            heads=[f"GET /v1/jobs?limit=5 HTTP/1.1\r\n{headers}"],
            rate=POLLS_PER_S,
            seconds=seconds,
        )
    )
    watch = Watch(Settings(_env_file=copy.data / ENV_FILE_NAME))
    samples, began = [], time.perf_counter()
    while submitting.poll() is None and (passed := time.perf_counter() - began) < seconds:
        samples.append(look(copy, watch, round(passed, 1)))
        time.sleep(min(choices.every, max(0.1, seconds - (time.perf_counter() - began))))
    came, polls = offering.finish(submitting), offering.finish(polling)
    trends = {what: trend(samples, what) for what in samples[-1].numbers}
    return {
        "minutes": choices.minutes,
        "documents_per_s": round(can, 1),
        "offered_per_s": round(rate, 1),
        "answers": came.counts(),
        "accept_ms": milliseconds(came.with_status(202)),
        "polls": {"answers": polls.counts()} | milliseconds(polls.with_status(200)),
        "trends": trends,
        "not_flat": [what for what, told in trends.items() if not told.get("flat", True)],
        "samples": [{"at": s.at} | dict(s.numbers) for s in samples],
    }


def main() -> None:
    """Print the figures, and with --json one JSON object as the last line."""
    parser = arguments.parser("soak", __doc__)
    parser.add_argument("--minutes", type=float, default=30, help="how long (default 30)")
    parser.add_argument("--load", type=float, default=0.8, help="of what it can (default 0.8)")
    parser.add_argument("--every", type=float, default=5, help="seconds between looks (default 5)")
    parser.add_argument("--bytes", type=int, default=355_000, help="size of one (default 355000)")
    choices = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        document = Path(folder) / "letter.pdf"
        document.write_bytes(
            sample_of(choices.bytes) if choices.bytes > 10_000 else sample_letter()
        )
        with whole.running(Path(folder), quota=10_000_000) as copy:
            figures = measure(copy, document, choices)
    print(
        f"{figures['documents_per_s']} documents/s can be stamped, {figures['offered_per_s']}/s were "
        f"offered for {figures['minutes']} minutes: answers {figures['answers']}, accepts p99 "
        f"{figures['accept_ms']['p99']} ms"
    )
    for what, told in figures["trends"].items():
        flat = {True: "flat", False: "NOT FLAT", None: ""}[told.get("flat")]
        print(f"{what:<26} {told['mean']:>9} {told['an_hour']:>+9} an hour  {flat}")
    if choices.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
