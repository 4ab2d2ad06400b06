"""What must be true once every fault is over: nothing lost, nothing twice, every book balanced."""

import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import jwt
from sqlalchemy import text

from common.audit import audit
from common.database import Database
from tests.faults.driver import Accepted, Driver, Kind
from tests.faults.machine import Machine
from workers.checking import check

FINAL = {"stamped", "failed", "cancelled"}
# Nobody but an operator moves it on: waiting for its end is of no use.
ENDED = FINAL | {"parked"}
FINAL_EVENTS = {"job.stamped", "job.failed", "job.cancelled"}
SAMPLE = 20
# Seconds. One that is gone is answered as an error of ours, which may also pass.
PATIENCE_FOR_FILES = 5
# How a letter of each kind may end: state, and problem code where there is one.
STAMPED = ("stamped", None)
BLAMED = ("failed", "document_unprocessable")
ENDS: dict[Kind, set[tuple[str, str | None]]] = {
    Kind.PLAIN: {STAMPED, BLAMED},
    Kind.TEST: {STAMPED, BLAMED},
    Kind.BAD: {("failed", "page_out_of_range"), BLAMED},
    Kind.DEADLY: {BLAMED},
    Kind.CANCELLED: {STAMPED, BLAMED, ("cancelled", None)},
}


@dataclass(slots=True)
class Verdict:
    """The judgement: three lists that must be empty, and figures."""

    jobs: int = 0
    faults: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    unbalanced: list[str] = field(default_factory=list)
    # Documents without fault whose workers were killed so often that they got the blame.
    blamed: list[str] = field(default_factory=list)
    # Jobs that were not final when the last fault was over, and the time until they were.
    waiting: int = 0
    recovery_seconds: float = 0.0
    webhooks: int = 0
    webhooks_repeated: int = 0
    answers: dict[int, int] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Say whether nothing was lost, duplicated or unbalanced."""
        return not (self.lost or self.duplicated or self.unbalanced)

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {
            "jobs": self.jobs,
            "faults": self.faults,
            "lost": len(self.lost),
            "duplicated": len(self.duplicated),
            "unbalanced": len(self.unbalanced),
            "blamed": len(self.blamed),
            "waiting": self.waiting,
            "recovery_seconds": round(self.recovery_seconds, 1),
            "webhooks": self.webhooks,
            "webhooks_repeated": self.webhooks_repeated,
            "answers": {str(status): count for status, count in sorted(self.answers.items())},
            "offences": [*self.lost, *self.duplicated, *self.unbalanced][:50],
        }


class Judge:
    """Looks at a copy from outside: its API, its audit, its webhooks, its files."""

    def __init__(
        self,
        machine: Machine,
        driver: Driver,
        *,
        known: Collection[str] = (),
        whole: bool = True,
    ) -> None:
        """Take the copy, whose faults are over, and what its clients were promised.

        Args:
            machine: the copy.
            driver: the clients.
            known: jobs whose files were fetched before, and are not fetched again.
            whole: also look past the API at every receipt and every file, with the audit.
        """
        self._machine = machine
        self._driver = driver
        self._known = known
        self._whole = whole
        self._client = httpx.Client(base_url=machine.address, timeout=30, trust_env=False)
        self._seen: list[dict[str, Any]] = []
        self._verdict = Verdict(jobs=len(driver.accepted), answers=dict(driver.answers))

    def judge(self, *, faults_ended_at: float, within: float = 120) -> Verdict:
        """Wait until every accepted job is final, then look at everything.

        Args:
            faults_ended_at: on the monotonic clock.
            within: seconds until a job that is not final counts as lost.
        """
        verdict = self._verdict
        recovering_since = max(faults_ended_at, self._driver.last_accepted_at)
        verdict.waiting = self._not_final()
        final = self._wait(self._all_final, within)
        verdict.recovery_seconds = max(0.0, time.monotonic() - recovering_since)
        if not final:
            self._seen = [job for mode in ("live", "test") for job in self._jobs(mode)]
            verdict.lost.append(f"jobs still wait after {within:.0f} s")
        verdict.lost += self._driver.wrong
        jobs = self._seen
        self._judge_promises(jobs)
        self._judge_serials(jobs)
        self._judge_books(jobs)
        self._judge_files(jobs)
        self._judge_receipts_and_replays()
        self._judge_webhooks(jobs, within)
        self._judge_audit()
        self._client.close()
        return verdict

    # Each of these looks at one promise.

    def _judge_promises(self, jobs: Sequence[dict[str, Any]]) -> None:
        """Every 202 has its job, there is one job a key, and it ended as its letter may end."""
        by_id = {job["id"]: job for job in jobs}
        for promise in self._driver.accepted.values():
            job = by_id.get(promise.job_id)
            if job is None:
                self._verdict.lost.append(f"{promise.job_id}: accepted and not there")
                continue
            end = (job["state"], (job["problem"] or {}).get("code"))
            if end not in ENDS[promise.letter.kind]:
                self._verdict.lost.append(f"{promise.job_id}: a {promise.letter.kind} ended {end}")
            elif end == BLAMED and promise.letter.kind is not Kind.DEADLY:
                self._verdict.blamed.append(promise.job_id)
        keys = Counter(job["external_reference"] for job in jobs)
        promised = {promise.job_id for promise in self._driver.accepted.values()}
        self._verdict.duplicated += [
            f"{key}: {n} jobs of one key" for key, n in keys.items() if n > 1
        ]
        self._verdict.duplicated += [
            f"{id_}: nobody asked for it" for id_ in by_id if id_ not in promised
        ]

    def _judge_serials(self, jobs: Sequence[dict[str, Any]]) -> None:
        """Every stamp has a serial of its own, and it is the one that was promised."""
        owners = defaultdict(list)
        now = {job["id"]: tuple(stamp["serial"] for stamp in job["stamps"]) for job in jobs}
        for job_id, serials in now.items():
            for serial in serials:
                owners[serial].append(job_id)
        self._verdict.duplicated += [
            f"{serial}: of {', '.join(ids)}" for serial, ids in owners.items() if len(ids) > 1
        ]
        for promise in self._driver.accepted.values():
            serials = now.get(promise.job_id, ())
            # A job that waits for stock gets its serials later.
            if len(serials) != promise.letter.stamps or not set(promise.serials) <= set(serials):
                self._verdict.lost.append(f"{promise.job_id}: promised other serials")

    def _judge_books(self, jobs: Sequence[dict[str, Any]]) -> None:
        """What was charged is what was stamped, and nothing is held; in both modes."""
        for mode in ("live", "test"):
            stamped = sum(
                len(job["stamps"])
                for job in jobs
                if job["mode"] == mode and job["state"] == "stamped"
            )
            quota = self._get("/v1/quota", mode).json()
            if quota["captured"] != stamped or quota["held"] != 0:
                self._verdict.unbalanced.append(
                    f"{stamped} {mode} stamps made, and the account says {quota}"
                )

    def _judge_files(self, jobs: Sequence[dict[str, Any]]) -> None:
        """Every stamped file is there as the job says; a sample of signatures is intact."""
        stamped = [
            job for job in jobs if job["state"] == "stamped" and job["id"] not in self._known
        ]
        sampled = {job["id"] for job in stamped[:: max(1, len(stamped) // SAMPLE)]}
        for job in stamped:
            path = f"/v1/jobs/{job['id']}/document"
            file = self._get(path, job["mode"], patience=PATIENCE_FOR_FILES)
            if hashlib.sha256(file.content).hexdigest() != job["stamped"]["sha256"]:
                self._verdict.lost.append(f"{job['id']}: its file is not what it should be")
            elif job["id"] in sampled:
                self._judge_signature(job, file.content)

    def _judge_signature(self, job: dict[str, Any], file: bytes) -> None:
        checked = check(file, trust_roots_pem=self._machine.root_certificate)
        serials = [stamp["serial"] for stamp in job["stamps"]]
        if not checked.good or [each.serials for each in checked.signatures] != [serials]:
            self._verdict.lost.append(
                f"{job['id']}: its signature is not good: {checked.as_json()}"
            )

    def _judge_receipts_and_replays(self) -> None:
        """A sample of keys is answered as before, and receipts speak of their jobs."""
        keys = jwt.PyJWKSet.from_dict(self._client.get("/.well-known/jwks.json").json())
        by_kid = {key.key_id: key for key in keys.keys}
        promises = list(self._driver.accepted.values())
        for promise in promises[:: max(1, len(promises) // SAMPLE)]:
            answer = self._driver.send(self._client, promise.letter)
            if answer.status_code != 202 or answer.json()["id"] != promise.job_id:
                self._verdict.duplicated.append(
                    f"{promise.letter.key}: answered anew {answer.text}"
                )
            if not _speaks_of(promise, by_kid):
                self._verdict.lost.append(f"{promise.job_id}: its receipt is of something else")

    def _judge_webhooks(self, jobs: Sequence[dict[str, Any]], within: float) -> None:
        """Each end was told at least once, and under one id however often."""
        told = self._machine.receiver.of_job
        ids = [job["id"] for job in jobs]
        self._wait(lambda: all(told(id_).taken for id_ in ids), within)
        for job in jobs:
            about = told(job["id"])
            ends = [m for m, kind in about.types.items() if kind in FINAL_EVENTS]
            if not about.taken.intersection(ends):
                self._verdict.lost.append(f"{job['id']}: its end was not told")
            if len(ends) > 1 or any(about.types[m] != f"job.{job['state']}" for m in ends):
                self._verdict.duplicated.append(f"{job['id']}: told as {about.types}")
            self._verdict.webhooks += sum(about.times.values())
            self._verdict.webhooks_repeated += sum(n - 1 for n in about.times.values())

    def _judge_audit(self) -> None:
        """`stampede audit` finds every invariant kept."""
        count = self._audit_all() if self._whole else self._audit_the_database()
        if count != len(self._driver.accepted):
            self._verdict.duplicated.append(f"{count} jobs of {len(self._driver.accepted)}")

    def _audit_all(self) -> int:
        done = self._machine.command_line("audit", "--documents", "--json")
        if done.returncode != 0:
            self._verdict.unbalanced.append(f"audit: {done.stdout} {done.stderr}")
            return len(self._driver.accepted)
        return int(json.loads(done.stdout.splitlines()[-1])["jobs"])

    def _audit_the_database(self) -> int:
        opened = Database(self._machine.postgres.url)
        with opened.transaction() as connection:
            found = audit(connection)
        opened.close()
        self._verdict.unbalanced += [f"audit: {each.as_json()}" for each in found.violations]
        return found.jobs

    # How it looks.

    def _not_final(self) -> int:
        opened = Database(self._machine.postgres.url)
        with opened.transaction() as connection:
            waiting = connection.execute(
                text("select count(*) from jobs where finished_at is null")
            ).scalar_one()
        opened.close()
        return int(waiting)

    def _all_final(self) -> bool:
        if any(
            self._get(f"/v1/jobs?limit=1&state={state}", mode).json()["data"]
            for state in ("queued", "stamping")
            for mode in ("live", "test")
        ):
            return False
        # One that went from one of these states into another between two questions is seen here.
        self._seen = [job for mode in ("live", "test") for job in self._jobs(mode)]
        return all(job["state"] in ENDED for job in self._seen)

    def _jobs(self, mode: str) -> Iterator[dict[str, Any]]:
        cursor = ""
        while cursor is not None:
            after = f"&cursor={cursor}" if cursor else ""
            page = self._get(f"/v1/jobs?limit=100{after}", mode).json()
            yield from page["data"]
            cursor = page["next_cursor"]

    def _get(self, path: str, mode: str, *, patience: float = 60) -> httpx.Response:
        headers = self._machine.live if mode == "live" else self._machine.test
        deadline = time.monotonic() + patience
        while True:
            try:
                answer = self._client.get(path, headers=headers)
                if answer.status_code < 500 or time.monotonic() > deadline:
                    return answer
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
            self._machine.pause(0.2)

    def _wait(self, look: Any, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not look():
            if time.monotonic() > deadline:
                return False
            self._machine.pause(0.1)
        return True


def _speaks_of(promise: Accepted, keys: dict[str | None, jwt.PyJWK]) -> bool:
    key = keys[jwt.get_unverified_header(promise.receipt)["kid"]]
    # Its time may lie ahead: clocks are among what we set wrong.
    claims = jwt.decode(promise.receipt, key, algorithms=["EdDSA"], options={"verify_iat": False})
    digest = hashlib.sha256(promise.letter.document).hexdigest()
    return (claims["sub"], claims["document_sha256"]) == (promise.job_id, digest)
