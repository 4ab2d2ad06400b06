"""Reading jobs: one, or many by cursor. Nothing here changes a job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from common import cursors, serials
from common.jobs import setbacks
from common.jobs.life import State
from common.partners import Mode
from common.problems import Code, ProblemError


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPicture:
    """What is shown of a job to its owner."""

    id: UUID
    account_id: UUID
    partner_id: UUID
    mode: Mode
    state: State
    lane: str
    ticket: int | None
    attempt: int
    lost_leases: int
    waiting_for: str | None = None
    kills: int = 0
    faults: int = 0
    setbacks: Sequence[Mapping[str, Any]] = ()
    serials: Sequence[str]
    placements: Sequence[Mapping[str, Any]]
    external_reference: str | None
    metadata: Mapping[str, str]
    document_name: str
    document_bytes: int
    document_sha256: bytes
    result_bytes: int | None
    result_sha256: bytes | None
    signature_level: str | None = None
    earlier_sha256: bytes | None = None
    specimen: bool | None = None
    problem_code: Code | None
    problem_facts: Mapping[str, Any]
    batch_id: UUID | None = None
    accepted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    purged_at: datetime | None = None

    @property
    def serial(self) -> str | None:
        """Return the first stamp's serial; None while the job has none, or has none any more."""
        return self.serials[0] if self.serials else None

    @property
    def has_place(self) -> bool:
        """Say whether the job's ticket tells its place: one that comes back from an attempt has none."""
        fresh = self.state is State.QUEUED and self.attempt == 0
        return fresh and self.waiting_for is None and self.ticket is not None

    @property
    def stamps(self) -> list[dict[str, Any]]:
        """Return each stamp's serial and where it goes, as JSON values."""
        return [
            {"serial": serial, "placement": placement}
            for serial, placement in zip_longest(self.serials, self.placements)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord(JobPicture):
    """A job as it stands in the database: its picture, its receipt, and where its result lies."""

    receipt: str
    result_key: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs, newest first, and the cursor that asks for the ones after them."""

    jobs: Sequence[JobRecord]
    next_cursor: str | None


_SELECT = f"""
select id, account_id, partner_id, mode, state, lane, ticket, attempt, lost_leases, kills, faults,
       waiting_for, {setbacks.OF_JOB}, {serials.OF_JOB}, placements, external_reference, metadata,
       document_name, document_bytes, document_sha256,
       result_key, result_bytes, result_sha256,
       case when state = 'stamped' then coalesce(signature_level, 'B-B') end as signature_level,
       earlier_sha256,
       case when state = 'stamped' then mode = 'test' or coalesce(specimen, true) end as specimen,
       problem_code, problem_facts, receipt, batch_id, accepted_at, started_at, finished_at,
       purged_at
from jobs
"""


def show(connection: Connection, job_id: UUID) -> JobRecord | None:
    """Return a job, whoever owns it."""
    row = connection.execute(text(_SELECT + "where id = :id"), {"id": job_id}).one_or_none()
    return None if row is None else _record(row)


def in_state(connection: Connection, state: State, *, limit: int) -> list[JobRecord]:
    """Return jobs in a state, whoever owns them, the longest there first."""
    rows = connection.execute(
        text(_SELECT + "where state = :state order by id limit :limit"),
        {"state": state, "limit": limit},
    )
    return [_record(row) for row in rows]


def show_own(connection: Connection, *, account_id: UUID, job_id: UUID) -> JobRecord:
    """Return a job of this account.

    Raises:
        ProblemError: `not_found`, also for a job of somebody else: its existence is not told.
    """
    job = show(connection, job_id)
    if job is None or job.account_id != account_id:
        raise ProblemError(Code.NOT_FOUND)
    return job


def page(
    connection: Connection,
    *,
    account_id: UUID,
    limit: int,
    cursor: str | None = None,
    batch_id: UUID | None = None,
    state: State | None = None,
    external_reference: str | None = None,
    accepted_from: datetime | None = None,
    accepted_before: datetime | None = None,
) -> Page:
    """Return an account's jobs, newest first.

    Raises:
        ProblemError: `cursor_invalid`.
    """
    rows = cursors.rows(
        connection,
        _SELECT,
        account_id=account_id,
        limit=limit,
        filters=(
            ("id < :before", "before", None if cursor is None else cursors.open_(cursor)),
            ("batch_id = :batch_id", "batch_id", batch_id),
            ("state = :state", "state", state),
            ("external_reference = :reference", "reference", external_reference),
            ("accepted_at >= :accepted_from", "accepted_from", accepted_from),
            ("accepted_at < :accepted_before", "accepted_before", accepted_before),
        ),
    )
    jobs = [_record(row) for row in rows[:limit]]
    return Page(jobs, cursors.after(jobs[-1].id) if len(rows) > limit else None)


def _record(row: Row[Any]) -> JobRecord:
    values = dict(row._mapping)
    return JobRecord(
        **values
        | {
            "mode": Mode(row.mode),
            "state": State(row.state),
            "problem_code": None if row.problem_code is None else Code(row.problem_code),
            "problem_facts": row.problem_facts or {},
            "setbacks": row.setbacks or [],
        }
    )
