"""Whether what lies in the object store and what clients hold is what the database says of it.

Each job is looked at for itself, in the order of ids, in short transactions: no snapshot is held while
files are read. A job that changed while it was looked at is looked at once more before it is reported.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text

from common import documents, serials
from common.audit import Violation
from common.database import Database
from common.documents import Documents, MissingDocumentError
from common.receipts import Arrival, ReceiptChecker
from workers.checking import UncheckableError, check

PAGE = 500

RECEIPT = "every receipt verifies, and says of its job what is true"
WAITING = "every job that is not final has its document, as it was accepted"
STAMPED = "every stamped job has its file, of the recorded length and hash"
SIGNED = "every stamped file's signature is intact, and carries the job's serials"
APART = "no two jobs' files lie at one place"
RULES = (RECEIPT, WAITING, STAMPED, SIGNED, APART)

_JOBS = f"""
    select id, state, mode, attempt, {serials.OF_JOB}, receipt, accepted_at, external_reference,
        jsonb_array_length(placements) as stamps, document_bytes, document_sha256,
        result_key, result_bytes, result_sha256, finished_at, purged_at
    from jobs"""


@dataclass(slots=True)
class Progress:
    """How far the look has come."""

    jobs: int
    looked_at: int = 0
    files: int = 0
    last: UUID | None = None


class DocumentAudit:
    """Looks at receipts and files with the parts that it is given."""

    def __init__(
        self,
        *,
        database: Database,
        documents: Documents,
        receipts: ReceiptChecker,
        trust_roots_pem: bytes | None = None,
        parallel: int = 8,
        ids_shown: int = 20,
    ) -> None:
        """Take the parts.

        Args:
            trust_roots_pem: with these, signatures are checked too: about 11 ms of CPU a file more.
            parallel: files that are read at the same time; each is held in memory as a whole.
            ids_shown: how many offenders to name per rule.
        """
        self._database = database
        self._documents = documents
        self._receipts = receipts
        self._trust_roots_pem = trust_roots_pem
        self._parallel = parallel
        self._ids_shown = ids_shown

    def run(
        self,
        *,
        sample: int | None = None,
        after: UUID | None = None,
        tell: Callable[[Progress], None] = lambda _: None,
    ) -> tuple[Progress, list[Violation]]:
        """Look at all jobs, or at some.

        Args:
            sample: look at so many jobs, chosen by chance.
            after: look only at jobs behind this one: where an earlier run ended.
            tell: is told after every page of jobs.

        Raises:
            Exception: the store or the database cannot be read now; nothing was found out thereby.
        """
        offenders: dict[str, list[str]] = {}
        progress = Progress(self._count(after) if sample is None else sample)
        pages = self._all(after) if sample is None else self._some(sample, after)
        shared = self._at_one_place()
        if shared:
            offenders[APART] = shared
        with ThreadPoolExecutor(self._parallel) as pool:
            for page in pages:
                for job, broken in zip(page, pool.map(self._broken_by, page), strict=True):
                    for rule in broken:
                        offenders.setdefault(rule, []).append(str(job.id))
                progress.looked_at += len(page)
                progress.files += sum(
                    job.state == "stamped" and job.purged_at is None for job in page
                )
                progress.last = page[-1].id
                tell(progress)
        return progress, [
            Violation(rule, offenders[rule][: self._ids_shown], len(offenders[rule]))
            for rule in RULES
            if rule in offenders
        ]

    def _broken_by(self, job: Row[Any]) -> list[str]:
        """Return the rules that the job breaks, also when it is looked at as it is now."""
        broken = list(self._look_at(job))
        while broken:
            now = self._rows(_JOBS + " where id = :id", id=job.id)
            if not now:
                return []
            if now[0] == job:
                return broken
            job = now[0]
            broken = list(self._look_at(job))
        return []

    def _look_at(self, job: Row[Any]) -> Iterator[str]:
        arrival = Arrival(
            job_id=job.id,
            arrived_at=job.accepted_at,
            mode=job.mode,
            document_sha256=job.document_sha256,
            document_bytes=job.document_bytes,
            external_reference=job.external_reference,
            stamps=job.stamps,
        )
        if not self._receipts.vouches(job.receipt, arrival):
            yield RECEIPT
        if job.finished_at is None:
            key = documents.original_key(job.id)
            if self._read(key, job.document_bytes, job.document_sha256) is None:
                yield WAITING
        if job.state == "stamped" and job.purged_at is None:
            file = self._read(job.result_key, job.result_bytes, job.result_sha256)
            if file is None:
                yield STAMPED
            elif self._trust_roots_pem is not None and not _carries(
                file, job.serials, self._trust_roots_pem
            ):
                yield SIGNED

    def _read(self, key: str, length: int, sha256: bytes) -> bytes | None:
        """Return the object, or None when it is not there or is another one."""
        try:
            content = self._documents.get(key)
        except MissingDocumentError:
            return None
        same = len(content) == length and hashlib.sha256(content).digest() == sha256
        return content if same else None

    def _at_one_place(self) -> list[str]:
        return [
            str(row.id)
            for row in self._rows(
                "select id from (select id, count(*) over (partition by result_key) as sharing"
                " from jobs where result_key is not null) placed where sharing > 1 order by id"
            )
        ]

    def _count(self, after: UUID | None) -> int:
        (row,) = self._rows(
            "select count(*) as jobs from jobs where cast(:after as uuid) is null or id > :after",
            after=after,
        )
        return int(row.jobs)

    def _all(self, after: UUID | None) -> Iterator[Sequence[Row[Any]]]:
        while True:
            page = self._rows(
                _JOBS + " where cast(:after as uuid) is null or id > :after"
                " order by id limit :page",
                after=after,
                page=PAGE,
            )
            if not page:
                return
            yield page
            after = page[-1].id

    def _some(self, sample: int, after: UUID | None) -> Iterator[Sequence[Row[Any]]]:
        chosen = self._rows(
            "select id from (select id from jobs where cast(:after as uuid) is null or id > :after"
            " order by random() limit :sample) chosen order by id",
            after=after,
            sample=sample,
        )
        for start in range(0, len(chosen), PAGE):
            ids = [row.id for row in chosen[start : start + PAGE]]
            yield self._rows(_JOBS + " where id = any(:ids) order by id", ids=ids)

    def _rows(self, query: str, **values: object) -> Sequence[Row[Any]]:
        with self._database.transaction() as connection:
            connection.execute(text("set transaction read only"))
            connection.execute(text("set local statement_timeout = 0"))
            return connection.execute(text(query), values).all()


def _carries(file: bytes, wanted: Sequence[str], trust_roots_pem: bytes) -> bool:
    """Say whether one signature of the file is intact and names these serials and no others.

    Whether its certificate is still trusted is not asked: it may have ended since.
    """
    try:
        checked = check(file, trust_roots_pem=trust_roots_pem)
    except UncheckableError:
        return False
    return any(s.holds and sorted(s.serials) == sorted(wanted) for s in checked.signatures)
