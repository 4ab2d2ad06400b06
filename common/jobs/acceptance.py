"""What a job's owner does: have it accepted, and cancel it while it is queued.

An acceptance is one call of `accept_jobs`, a function in the database (migration 0011), which is told all
of it as one JSON text: jobs, serials, events, the answer that is kept, and last the hold. A round trip
for each table would cost several times the CPU, and each one after the hold would lengthen its lock.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

import orjson
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from common import idempotency
from common.database import Database
from common.events import EventType
from common.idempotency import Answer, Keyed
from common.identifiers import new_id
from common.jobs import ending
from common.jobs.life import Changed, NewJob, State
from common.problems import Code, ProblemError
from common.serials import GENERATED, Chosen, Supply

_ACCEPT: LiteralString = "select verdict, facts, body from accept_jobs(%s, %s)"
# The function is asked with what the first row says, so there is none to ask it for a key that is revoked.
_ACCEPT_FROM_KEY: LiteralString = (
    "with key as (select id from api_keys where id = %s and revoked_at is null)"
    " select said.verdict, said.facts, said.body from key"
    " cross join lateral accept_jobs(case when key.id is not null then cast(%s as json) end, %s) said"
    " union all select 'key_revoked', '{}'::jsonb, null where not exists (select from key)"
)
# Raised by the function when another hold took what had been there a moment before.
_OVERTAKEN = "ST402"

# Makes the answer from the serials of each job, which has none while it waits for some.
Answering = Callable[[list[list[str]]], Answer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """Jobs of one account that are to be accepted together, all or none.

    Attributes:
        publish_after_seconds: when the relay sends a job to its lane if nobody claimed it by then.
        answering: makes what is answered, and kept for the key.
        keyed: the request, when it carries a key.
        voucher: the account is a voucher's; it may not expire or be made void before the commit.
        key_id: the key that they came with, if they came with one; it may not be revoked.
    """

    jobs: Sequence[NewJob]
    publish_after_seconds: int
    answering: Answering
    keyed: Keyed | None = None
    voucher: bool = False
    key_id: UUID | None = None

    @property
    def stamps(self) -> dict[UUID, int]:
        """Return how many stamps each job needs."""
        return {job.id: len(job.placements) for job in self.jobs}


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What is answered; a replay is what was answered to the same request before.

    Attributes:
        serials: of each job, in the order of its placements; none when it waits for some.
        stamps_left: on a voucher.
    """

    answer: Answer
    replay: bool = False
    serials: Sequence[Sequence[str]] = ()
    stamps_left: int | None = None


def accept_alone(database: Database, wanted: Acceptance, *, supply: Supply) -> Accepted:
    """Accept jobs in a transaction of their own: one statement, where no serial has to be looked for.

    Args:
        supply: where their serials come from.

    Raises:
        ProblemError: `quota_too_small`, `voucher_expired`, `voucher_void`, `idempotency_key_in_use`,
            `idempotency_key_reused`.
        OutcomeUnknownError: the connection broke before the answer came.
    """
    mode = wanted.jobs[0].mode
    if not supply.makes(mode):
        with database.transaction() as connection:
            return accept_within(connection, wanted, supply=supply)
    chosen = supply.make(mode, wanted.stamps)
    answer, parameters = _parameters(wanted, chosen, supply)
    with _overtaken(wanted):
        said = database.call(*_asked(wanted, parameters))
    return _outcome(wanted, _texts(wanted, chosen), answer, *said)


def accept_within(connection: Connection, wanted: Acceptance, *, supply: Supply) -> Accepted:
    """Accept jobs in the caller's transaction, whose commit is the acceptance; raises as `accept_alone`."""
    chosen = supply.choose(connection, mode=wanted.jobs[0].mode, stamps=wanted.stamps)
    answer, parameters = _parameters(wanted, chosen, supply)
    with _overtaken(wanted):
        said = connection.exec_driver_sql(*_asked(wanted, parameters)).one()
    return _outcome(wanted, _texts(wanted, chosen), answer, *said)


def accept(
    connection: Connection,
    jobs: Sequence[NewJob],
    *,
    publish_after_seconds: int,
    supply: Supply = GENERATED,
) -> list[list[str]]:
    """Accept jobs that nobody waits for an answer to, as `accept_within`; returns their serials."""
    wanted = Acceptance(
        jobs=jobs, publish_after_seconds=publish_after_seconds, answering=lambda _: _NO_ANSWER
    )
    return [list(own) for own in accept_within(connection, wanted, supply=supply).serials]


def _asked(
    wanted: Acceptance, parameters: tuple[str, bytes]
) -> tuple[LiteralString, tuple[Any, ...]]:
    """Return the statement and what it is told."""
    if wanted.key_id is None:
        return _ACCEPT, parameters
    return _ACCEPT_FROM_KEY, (wanted.key_id, *parameters)


def _parameters(
    wanted: Acceptance, chosen: Mapping[UUID, Sequence[Chosen]], supply: Supply
) -> tuple[Answer, tuple[str, bytes]]:
    """Return the answer, and what `accept_jobs` is told.

    Raises:
        ValueError: the jobs are not of one account.
    """
    ((account_id, partner_id, mode),) = {
        (job.account_id, job.partner_id, job.mode) for job in wanted.jobs
    }
    serials = _texts(wanted, chosen)
    answer = wanted.answering(serials)
    asked = {
        "account_id": account_id,
        "partner_id": partner_id,
        "mode": mode,
        "event": EventType.ACCEPTED,
        "stamps": sum(wanted.stamps.values()),
        "publish_after": wanted.publish_after_seconds,
        "voucher": wanted.voucher,
        "once": None if wanted.keyed is None else _kept(wanted.keyed, answer),
        "jobs": [_job(job, own) for job, own in zip(wanted.jobs, serials, strict=True)],
        "serials": [
            {
                "serial": each.serial,
                "job_id": job_id,
                "position": position,
                "import_id": each.import_id,
                "returns": each.import_id is not None and supply.returns,
            }
            for job_id, of_job in chosen.items()
            for position, each in enumerate(of_job, start=1)
        ],
        "from_stock": [
            each.number for of_job in chosen.values() for each in of_job if each.number is not None
        ],
    }
    return answer, (orjson.dumps(asked).decode(), answer.body)


_NO_ANSWER = Answer(202, {}, b"")


def _texts(wanted: Acceptance, chosen: Mapping[UUID, Sequence[Chosen]]) -> list[list[str]]:
    return [[each.serial for each in chosen[job.id]] for job in wanted.jobs]


def _kept(keyed: Keyed, answer: Answer) -> dict[str, Any]:
    return {
        "owner_id": keyed.owner_id,
        "key": keyed.key,
        "lock": keyed.lock,
        "fingerprint": keyed.fingerprint.hex(),
        "status": answer.status,
        "headers": answer.headers,
    }


def _job(job: NewJob, serials: list[str]) -> dict[str, Any]:
    return {
        "id": job.id,
        "batch_id": job.batch_id,
        "lane": job.lane,
        "ticket": job.ticket,
        "waits": not serials,
        "placements": [placement.as_json() for placement in job.placements],
        "stamps": len(job.placements),
        "external_reference": job.external_reference,
        "metadata": job.metadata,
        "document_name": job.document_name,
        "document_bytes": job.document_bytes,
        "document_sha256": job.document_sha256.hex(),
        "receipt": job.receipt,
        "accepted_at": job.accepted_at,
        "event_id": new_id(),
        "payload": ending.facts_of(State.QUEUED, job.mode, serials, job.external_reference),
    }


def _outcome(
    wanted: Acceptance,
    serials: Sequence[Sequence[str]],
    answer: Answer,
    verdict: str,
    facts: Mapping[str, Any],
    body: bytes | None,
) -> Accepted:
    """Return what the function's verdict means; every other one than `accepted` did nothing.

    Raises:
        ProblemError: it refused.
    """
    match verdict:
        case "accepted":
            left = facts["available"] - sum(wanted.stamps.values()) if wanted.voucher else None
            return Accepted(answer=answer, serials=serials, stamps_left=left)
        case "replay" if wanted.keyed is not None and body is not None:
            wanted.keyed.require_same(bytes.fromhex(facts["fingerprint"]))
            earlier = Answer(facts["status"], facts["headers"], body)
            return Accepted(answer=earlier, replay=True)
        case "key_in_use":
            raise idempotency.in_use()
        case "key_revoked":
            raise ProblemError(Code.KEY_REVOKED)
        case "voucher_void":
            raise ProblemError(Code.VOUCHER_VOID)
        case "voucher_expired":
            expired_at = datetime.fromisoformat(facts["expires_at"]).isoformat()
            raise ProblemError(Code.VOUCHER_EXPIRED, facts={"expired_at": expired_at})
        case "quota_too_small":
            raise _too_small(wanted, facts["available"])
    raise AssertionError(f"accept_jobs said {verdict}")


@contextmanager
def _overtaken(wanted: Acceptance) -> Iterator[None]:
    """Turn what the function raises when another hold came first into the problem that it is."""
    try:
        yield
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _OVERTAKEN:
            raise
        raise _too_small(wanted, int(error.orig.diag.message_primary)) from error  # type: ignore[union-attr]


def _too_small(wanted: Acceptance, available: int) -> ProblemError:
    needed = sum(wanted.stamps.values())
    return ProblemError(Code.QUOTA_TOO_SMALL, facts={"available": available, "needed": needed})


def cancel(connection: Connection, *, account_id: UUID, job_id: UUID) -> Changed | None:
    """End a queued job for its owner, also while it waits for serials; the quota is given back.

    Returns:
        None when the job is not the account's, or not queued any more.
    """
    row = connection.execute(
        text(
            "update jobs set state = 'cancelled', publish_at = null, waiting_for = null,"
            " finished_at = now()"
            " where id = :id and account_id = :account_id and state = 'queued'" + ending.RETURNING
        ),
        {"id": job_id, "account_id": account_id},
    ).one_or_none()
    return None if row is None else ending.settle_unstamped(connection, row, State.CANCELLED, None)
