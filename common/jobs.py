"""The job: its states, and the only ways from one to the next.

    queued -> stamping -> stamped
       |          |-> failed        the document cannot be stamped; the quota is given back
       |          '-> queued        the lease ran out, or a passing fault; same serials
       '-> cancelled                by its owner, while queued

Each change is one conditional update: whoever comes second finds nothing to change. A claim carries
a fencing number (`attempt`); finish, fail and give back hold only while it is still the newest.
Every final change settles the quota and records its event in the same transaction. A job has one or
more stamps, each with a serial of its own; what happens to the job happens to all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, Row, text

from common import events, ledger, serials
from common.events import EventType, Happened
from common.levels import Level
from common.partners import Mode
from common.placements import Placement
from common.problems import Code

# A document whose worker vanished this often is taken to be the cause.
LOST_LEASES_ALLOWED = 2


class State(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    STAMPING = "stamping"
    STAMPED = "stamped"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = frozenset({State.STAMPED, State.FAILED, State.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """What is accepted; the document is already stored under the job's id."""

    id: UUID
    partner_id: UUID
    mode: Mode
    lane: str
    ticket: int | None
    placements: Sequence[Placement]
    external_reference: str | None
    metadata: Mapping[str, str]
    document_name: str
    document_bytes: int
    document_sha256: bytes
    accepted_at: datetime
    receipt: str


@dataclass(frozen=True, slots=True)
class ReservedStamp:
    """One stamp of a job: the serial it carries on every attempt, and where it goes."""

    serial: str
    placement: Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to stamp a job, until the lease runs out or somebody claims it anew."""

    job_id: UUID
    partner_id: UUID
    mode: Mode
    attempt: int
    lane: str
    stamps: Sequence[ReservedStamp]
    document_sha256: bytes
    external_reference: str | None

    @property
    def serials(self) -> list[str]:
        """Return the stamps' serials in order."""
        return [stamp.serial for stamp in self.stamps]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The stamped file: where it is stored, its length in bytes, its SHA-256 and signature level.

    It is a `specimen` when its stamps or their signer say so, also in live mode.

    One that is to be upgraded has room for a timestamp; see `upgrades.py`.
    """

    key: str
    length: int
    sha256: bytes
    level: Level = Level.B_B
    to_be_upgraded: bool = False
    evidence_until: datetime | None = None
    specimen: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """A change that took place, and the webhook deliveries it caused."""

    deliveries: list[UUID]


def accept(connection: Connection, job: NewJob, *, publish_after_seconds: int) -> list[str]:
    """Take the job: row, hold, serials and event; the caller's commit is the acceptance.

    Args:
        publish_after_seconds: when the relay sends the job to its lane if nobody claimed it by then.

    Returns:
        The serials that the job's stamps will carry, in the order of their placements.

    Raises:
        ProblemError: `quota_too_small`.
    """
    connection.execute(
        text(
            "insert into jobs (id, partner_id, mode, state, lane, ticket, placements,"
            " external_reference, metadata, document_name, document_bytes, document_sha256,"
            " receipt, accepted_at, publish_at)"
            " values (:id, :partner_id, :mode, 'queued', :lane, :ticket,"
            " cast(:placements as jsonb), :external_reference, cast(:metadata as jsonb),"
            " :document_name, :document_bytes, :document_sha256, :receipt, :accepted_at,"
            " now() + make_interval(secs => :publish_after))"
        ),
        {
            "id": job.id,
            "partner_id": job.partner_id,
            "mode": job.mode,
            "lane": job.lane,
            "ticket": job.ticket,
            "placements": orjson.dumps([p.as_json() for p in job.placements]).decode(),
            "external_reference": job.external_reference,
            "metadata": orjson.dumps(dict(job.metadata)).decode(),
            "document_name": job.document_name,
            "document_bytes": job.document_bytes,
            "document_sha256": job.document_sha256,
            "receipt": job.receipt,
            "accepted_at": job.accepted_at,
            "publish_after": publish_after_seconds,
        },
    )
    reserved = serials.reserve(connection, mode=job.mode, job_id=job.id, count=len(job.placements))
    events.record(
        connection,
        Happened(
            EventType.ACCEPTED,
            job.id,
            job.partner_id,
            job.mode,
            _facts(State.QUEUED, job.mode, reserved, job.external_reference),
        ),
    )
    # Last, because it locks the partner's account until the commit.
    if job.mode is Mode.LIVE:
        ledger.hold(connection, partner_id=job.partner_id, job_id=job.id, amount=len(reserved))
    return reserved


def claim(connection: Connection, job_id: UUID, *, lease_seconds: int) -> Claim | None:
    """Take a queued job for stamping, or return None when there is nothing to take.

    A second delivery of the same message, or one for a cancelled job, finds nothing.
    """
    row = connection.execute(
        text(
            "update jobs set state = 'stamping', attempt = attempt + 1,"
            " lease_until = now() + make_interval(secs => :lease), publish_at = null,"
            " started_at = coalesce(started_at, now())"
            " where id = :id and state = 'queued'"
            " returning id, partner_id, mode, attempt, lane, placements, document_sha256,"
            " external_reference, " + serials.OF_JOB
        ),
        {"id": job_id, "lease": lease_seconds},
    ).one_or_none()
    if row is None:
        return None
    return Claim(
        job_id=row.id,
        partner_id=row.partner_id,
        mode=Mode(row.mode),
        attempt=row.attempt,
        lane=row.lane,
        stamps=[
            ReservedStamp(serial, Placement.model_validate(placement))
            for serial, placement in zip(row.serials, row.placements, strict=True)
        ],
        document_sha256=row.document_sha256,
        external_reference=row.external_reference,
    )


def finish(connection: Connection, claim: Claim, result: Result) -> Changed | None:
    """Make the result the job's: serials affixed, hold captured, event recorded.

    Returns:
        None when the claim is no longer the newest; the caller throws its result away.
    """
    won = connection.execute(
        text(
            "update jobs set state = 'stamped', lease_until = null, finished_at = now(),"
            " result_key = :key, result_bytes = :bytes, result_sha256 = :sha256,"
            " signature_level = :level, evidence_until = :evidence_until, specimen = :specimen,"
            " upgrade_at = case when :to_be_upgraded then now() end"
            " where id = :id and state = 'stamping' and attempt = :attempt"
        ),
        {
            "id": claim.job_id,
            "attempt": claim.attempt,
            "key": result.key,
            "bytes": result.length,
            "sha256": result.sha256,
            "level": result.level,
            "evidence_until": result.evidence_until,
            "specimen": result.specimen,
            "to_be_upgraded": result.to_be_upgraded,
        },
    ).rowcount
    if not won:
        return None
    serials.affix(connection, job_id=claim.job_id)
    if claim.mode is Mode.LIVE:
        ledger.capture(connection, partner_id=claim.partner_id, job_id=claim.job_id)
    return Changed(
        events.record(
            connection,
            Happened(
                EventType.STAMPED,
                claim.job_id,
                claim.partner_id,
                claim.mode,
                _facts(State.STAMPED, claim.mode, claim.serials, claim.external_reference)
                | {"document_sha256": result.sha256.hex(), "document_bytes": result.length},
            ),
        )
    )


def fail(
    connection: Connection, claim: Claim, code: Code, facts: Mapping[str, Any]
) -> Changed | None:
    """End a job whose document cannot be stamped; the quota is given back.

    Returns:
        None when the claim is no longer the newest.
    """
    row = connection.execute(
        text(
            _FAIL + " where id = :id and state = 'stamping' and attempt = :attempt" + _FAIL_RETURNS
        ),
        {
            "id": claim.job_id,
            "attempt": claim.attempt,
            "code": code,
            "facts": orjson.dumps(dict(facts)).decode(),
        },
    ).one_or_none()
    return None if row is None else _settle_unstamped(connection, row, State.FAILED, code)


def give_back(connection: Connection, claim: Claim, *, retry_after_seconds: float) -> bool:
    """Put a job back into its lane after a passing fault; the relay sends it again.

    Returns:
        False when the claim is no longer the newest.
    """
    return bool(
        connection.execute(
            text(
                "update jobs set state = 'queued', lease_until = null,"
                " publish_at = now() + make_interval(secs => :wait)"
                " where id = :id and state = 'stamping' and attempt = :attempt"
            ),
            {"id": claim.job_id, "attempt": claim.attempt, "wait": retry_after_seconds},
        ).rowcount
    )


def cancel(connection: Connection, *, partner_id: UUID, mode: Mode, job_id: UUID) -> Changed | None:
    """End a queued job for its owner; the quota is given back.

    Returns:
        None when the job is not the caller's, or not queued any more.
    """
    row = connection.execute(
        text(
            "update jobs set state = 'cancelled', publish_at = null, finished_at = now()"
            " where id = :id and partner_id = :partner_id and mode = :mode and state = 'queued'"
            + _FAIL_RETURNS
        ),
        {"id": job_id, "partner_id": partner_id, "mode": mode},
    ).one_or_none()
    return None if row is None else _settle_unstamped(connection, row, State.CANCELLED, None)


def take_back_expired(connection: Connection, *, limit: int) -> tuple[int, list[Changed]]:
    """Requeue jobs whose lease ran out; fail those that lost their worker too often.

    Args:
        limit: how many jobs to look at in this call.

    Returns:
        How many were requeued, and the changes of those that failed.
    """
    requeued = connection.execute(
        text(
            "with expired as (select id from jobs where state = 'stamping'"
            " and lease_until < now() order by lease_until limit :limit for update skip locked)"
            " update jobs set lost_leases = lost_leases + 1, state = 'queued',"
            " lease_until = null, publish_at = now() from expired where jobs.id = expired.id"
            " returning jobs.id, jobs.lost_leases"
        ),
        {"limit": limit},
    ).all()
    blamed = [row.id for row in requeued if row.lost_leases >= LOST_LEASES_ALLOWED]
    failed = []
    for job_id in blamed:
        row = connection.execute(
            text(_FAIL + " where id = :id" + _FAIL_RETURNS),
            {"id": job_id, "code": Code.DOCUMENT_UNPROCESSABLE, "facts": "{}"},
        ).one()
        failed.append(_settle_unstamped(connection, row, State.FAILED, Code.DOCUMENT_UNPROCESSABLE))
    return len(requeued) - len(blamed), failed


_FAIL = (
    "update jobs set state = 'failed', lease_until = null, publish_at = null, finished_at = now(),"
    " problem_code = :code, problem_facts = cast(:facts as jsonb)"
)
_FAIL_RETURNS = " returning id, partner_id, mode, external_reference, " + serials.OF_JOB


def _settle_unstamped(
    connection: Connection, row: Row[Any], state: State, code: Code | None
) -> Changed:
    """Give back what a job without a stamp held, retire its serials and tell its owner."""
    mode = Mode(row.mode)
    serials.void(connection, job_id=row.id)
    if mode is Mode.LIVE:
        ledger.release(connection, partner_id=row.partner_id, job_id=row.id)
    facts = _facts(state, mode, row.serials, row.external_reference)
    return Changed(
        events.record(
            connection,
            Happened(
                EventType.CANCELLED if code is None else EventType.FAILED,
                row.id,
                row.partner_id,
                mode,
                facts if code is None else facts | {"problem": code},
            ),
        )
    )


def _facts(
    state: State, mode: Mode, serials_: Sequence[str], external_reference: str | None
) -> dict[str, Any]:
    return {
        "state": state,
        "mode": mode,
        # The first one also by itself, as before a job could have several.
        "serial": serials_[0],
        "serials": serials_,
        "external_reference": external_reference,
    }
