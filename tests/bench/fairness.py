"""One partner dumps all that it has: what the others and an applicant wait, against the same load without.

Starts a copy of everything (`stampede up`) in a temporary folder and gives it jobs past the front end, by
the front end's own functions: paces, lanes, tickets, one transaction, publishing. First it finds how many
a second are stamped. Then applicants with vouchers and partners submit at random times, together a share of
that; then the same again, at the same times, while one partner's dump waits. Among the partners are one
that shares no lane with the dumper, one that shares one of its two, and one that shares both. A wait is
the time from the acceptance to the stamp.

Example: python -m tests.bench.fairness --json
"""

import hashlib
import json
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import text

from common import (
    accounts,
    allowances,
    database,
    documents,
    jobs,
    lanes,
    ledger,
    pace,
    partners,
    rates,
)
from common.accounts import Kind
from common.identifiers import new_id
from common.partners import Mode
from common.rates import Bucket
from common.settings import ENV_FILE_NAME, WebSettings
from deploy.sample import sample_letter
from tests.bench import arguments, whole
from tests.bench.offering import percentile
from tests.bench.usual import usual_job

APPLICANT = "applicant"
SHARES = ("shares no lane", "shares one lane", "shares both lanes")
OTHERS = 3
QUOTA = 10_000_000
# Of a dump, in one transaction; as much as a partner's lanes take at once is a multiple of it.
CHUNK = 10
PATIENCE_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Sender:
    """Somebody who submits: an account, whose partner it is, and what it is called here."""

    name: str
    account_id: UUID
    partner_id: UUID


class Submitting:
    """Takes jobs as the front end does, without HTTP."""

    def __init__(self, settings: WebSettings) -> None:
        """Connect to the copy that these settings belong to."""
        self._settings = settings
        self.database = database.connect(settings)
        self._documents = documents.connect(settings)
        self._pace = pace.connect(settings)
        self._rates = rates.connect(settings)
        self._app = lanes.make_celery(settings)
        self._letter = sample_letter()
        self._sha256 = hashlib.sha256(self._letter).digest()
        self._prompt = allowances.default(settings).prompt

    def make_partner(self) -> UUID:
        """Make a partner with as much live quota as it may need; returns its id."""
        with self.database.transaction() as connection:
            made = partners.create(connection, name=f"bench {new_id()}")
            account = accounts.of_partner(connection, partner_id=made.id, mode=Mode.LIVE)
        self._top_up(account)
        return made.id

    def partner(self, name: str, partner_id: UUID) -> Sender:
        """Return a partner as a sender."""
        with self.database.transaction() as connection:
            account = accounts.of_partner(connection, partner_id=partner_id, mode=Mode.LIVE)
        return Sender(name, account, partner_id)

    def applicant(self, partner_id: UUID) -> Sender:
        """Make the account of a voucher, which stands for all applicants; sold by this partner."""
        with self.database.transaction() as connection:
            account = accounts.create(
                connection, kind=Kind.VOUCHER, partner_id=partner_id, mode=Mode.LIVE
            )
        self._top_up(account)
        return Sender(APPLICANT, account, partner_id)

    def submit(self, sender: Sender, count: int = 1) -> list[UUID]:
        """Accept so many jobs of a sender, as it stands with its pace; returns their ids."""
        entries = [self._pace.enter(lane) for lane in [self._lanes(sender, count)] * count]
        accepted = [
            replace(
                usual_job(sender.account_id, sender.partner_id),
                lane=entry.lane,
                ticket=entry.ticket,
                document_bytes=len(self._letter),
                document_sha256=self._sha256,
            )
            for entry in entries
        ]
        for job in accepted:
            self._documents.put(documents.original_key(job.id), self._letter)
        with self.database.transaction() as connection:
            jobs.accept(
                connection, accepted, publish_after_seconds=self._settings.republish_seconds
            )
        for job in accepted:
            lanes.publish_stamp(self._app, job.id, job.lane)
        return [job.id for job in accepted]

    def stamped(self) -> int:
        """Return how many jobs are stamped."""
        with self.database.reading() as connection:
            found = text("select count(*) from jobs where state = 'stamped'")
            return int(connection.execute(found).scalar_one())

    def waits(self, job_ids: Sequence[UUID]) -> list[float]:
        """Return the seconds from acceptance to stamp, once all of these jobs have theirs."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with self.database.reading() as connection:
                rows = connection.execute(
                    text(
                        "select extract(epoch from finished_at - accepted_at)::float from jobs"
                        " where id = any(:ids) and state = 'stamped'"
                    ),
                    {"ids": list(job_ids)},
                )
                seconds = list(rows.scalars())
            if len(seconds) == len(job_ids):
                return seconds
            if time.monotonic() > deadline:
                raise SystemExit(f"only {len(seconds)} of {len(job_ids)} jobs are stamped")
            time.sleep(0.2)

    def _lanes(self, sender: Sender, count: int) -> tuple[str, ...]:
        if sender.name == APPLICANT:
            return (lanes.APPLICANT_LANE,)
        bucket = Bucket(self._prompt, str(sender.partner_id))
        [standing] = self._rates.take(bucket, count=count)
        return lanes.lanes_of(sender.partner_id, prompt=standing.allowed)

    def _top_up(self, account_id: UUID) -> None:
        with self.database.transaction() as connection:
            ledger.top_up(
                connection, account_id=account_id, amount=QUOTA, reference="bench", by="bench"
            )


def cast(submitting: Submitting) -> tuple[Sender, list[Sender]]:
    """Return the dumper, and who submits beside it."""
    dumper = submitting.partner("dumper", submitting.make_partner())
    theirs = set(lanes.partner_lanes(dumper.partner_id))
    missing, senders = {0, 1, 2}, [submitting.applicant(dumper.partner_id)]
    while missing or len(senders) < 1 + len(SHARES) + OTHERS:
        made = submitting.make_partner()
        shared = len(theirs & set(lanes.partner_lanes(made)))
        if shared in missing:
            missing.discard(shared)
            senders.append(submitting.partner(SHARES[shared], made))
        elif len(senders) - (3 - len(missing)) < 1 + OTHERS:
            senders.append(submitting.partner("others", made))
    return dumper, senders


def times(rate: float, seconds: float, senders: Sequence[Sender]) -> Iterator[tuple[float, Sender]]:
    """Yield who submits when: a third applicants, the rest the partners in equal parts."""
    draw = random.Random(11)
    applicant, *others = senders
    at = draw.expovariate(rate)
    while at < seconds:
        yield at, applicant if draw.random() < 1 / 3 else draw.choice(others)
        at += draw.expovariate(rate)


def play(
    submitting: Submitting, rate: float, seconds: float, senders: Sequence[Sender]
) -> dict[str, list[float]]:
    """Submit at those times; return what the jobs of each waited, in seconds."""
    made: dict[str, list[UUID]] = {sender.name: [] for sender in senders}
    began = time.perf_counter()
    for at, sender in times(rate, seconds, senders):
        time.sleep(max(0.0, began + at - time.perf_counter()))
        made[sender.name] += submitting.submit(sender)
    return {name: submitting.waits(ids) for name, ids in made.items()}


def capacity(submitting: Submitting, sender: Sender, count: int) -> float:
    """Return how many jobs a second are stamped when more wait than can be."""
    ids = [job for _ in range(count // CHUNK) for job in submitting.submit(sender, CHUNK)]
    done, began = submitting.stamped(), time.perf_counter()
    # Until a quarter is left, so that all workers are busy all the time.
    while submitting.stamped() < done + (count - done) * 3 // 4:
        time.sleep(0.05)
    rate = (submitting.stamped() - done) / (time.perf_counter() - began)
    submitting.waits(ids)
    return rate


def measure(submitting: Submitting, choices: Any) -> dict[str, Any]:
    """Return the waits of everybody without and with the dump."""
    dumper, senders = cast(submitting)
    can = capacity(submitting, dumper, choices.warm_up)
    rate = choices.load * can
    before = play(submitting, rate, choices.seconds, senders)
    accepted = submitting.stamped()
    for _ in range(choices.dump // CHUNK):
        submitting.submit(dumper, CHUNK)
    during = play(submitting, rate, choices.seconds, senders)
    own = accepted + sum(map(len, during.values()))
    return {
        "stamped_per_s": round(can, 1),
        "offered_per_s": round(rate, 1),
        "dump": choices.dump,
        "dump_left": choices.dump - max(0, submitting.stamped() - own),
        "waits": {name: _compared(before[name], during[name]) for name in before},
    }


def _compared(before: Sequence[float], during: Sequence[float]) -> dict[str, Any]:
    quiet, dumped = percentile(before, 0.95), percentile(during, 0.95)
    if quiet is None or dumped is None:
        raise SystemExit("nobody submitted anything; choose more seconds or a higher load")
    return {
        "jobs": len(before),
        "p95_ms": round(quiet * 1000, 1),
        "p95_ms_with_dump": round(dumped * 1000, 1),
        "growth": round(dumped / quiet, 2),
    }


def main() -> None:
    """Print the figures, and with --json one JSON object as the last line."""
    parser = arguments.parser("fairness", __doc__)
    parser.add_argument("--dump", type=int, default=3000, help="documents dumped (default 3000)")
    parser.add_argument("--seconds", type=float, default=20, help="of each load (default 20)")
    parser.add_argument("--load", type=float, default=0.5, help="of the capacity (default 0.5)")
    parser.add_argument("--warm-up", type=int, default=400, help="documents before (default 400)")
    choices = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, whole.running(Path(folder), quota=1) as copy:
        settings = WebSettings(_env_file=copy.data / ENV_FILE_NAME)
        figures = measure(Submitting(settings), choices)
    print(
        f"{figures['stamped_per_s']} stamped/s, {figures['offered_per_s']}/s offered, "
        f"{figures['dump']} dumped, of which {figures['dump_left']} were left at the end"
    )
    for name, waits in figures["waits"].items():
        print(
            f"{name:<18} {waits['jobs']:>5} jobs, p95 {waits['p95_ms']} ms, with the dump "
            f"{waits['p95_ms_with_dump']} ms: {waits['growth']} times"
        )
    if choices.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
