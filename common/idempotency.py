"""Idempotency keys: the same request sent twice is one request with one answer.

As the IETF draft "The Idempotency-Key HTTP Header Field" describes: the same key and request replays
the first answer, the same key with another request is refused, and so is a key whose first request
is still being worked on. The answer is kept in the transaction of what it answers for.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from common.problems import Code, ProblemError

MAX_LENGTH = 255
# A string of structured fields without its quotes (RFC 9651, 3.3.3).
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: status, the headers that belong to it, and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Keyed:
    """A request that carries a key: whose, which, and a SHA-256 over all that it asks for.

    The owner is an account, or an operator's key: one's keys never meet another's.
    """

    owner_id: UUID
    key: str
    fingerprint: bytes

    def __post_init__(self) -> None:
        """Refuse a key that is empty, too long or not printable ASCII."""
        if not 1 <= len(self.key) <= MAX_LENGTH or not all(" " <= c <= "~" for c in self.key):
            raise ProblemError(Code.IDEMPOTENCY_KEY_INVALID)

    @property
    def lock(self) -> int:
        """Return the number of the advisory lock that whoever works on this request holds."""
        seed = f"{self.owner_id}/{self.key}".encode()
        return int.from_bytes(hashlib.sha256(seed).digest()[:8], signed=True)

    def require_same(self, fingerprint: bytes) -> None:
        """See that what an earlier answer was given to is this request.

        Raises:
            ProblemError: `idempotency_key_reused`.
        """
        if fingerprint != self.fingerprint:
            raise ProblemError(Code.IDEMPOTENCY_KEY_REUSED)


def in_use() -> ProblemError:
    """Return the refusal of a key whose first request is still at its commit."""
    return ProblemError(Code.IDEMPOTENCY_KEY_IN_USE, headers={"Retry-After": "1"})


def key_of(header: str) -> str:
    """Return the key that a header carries: `"…"`, as the draft writes it, or the same without quotes.

    Raises:
        ProblemError: `idempotency_key_invalid`, for quotes that do not end where the header does.
    """
    if not header.startswith('"'):
        return header
    quoted = _QUOTED.fullmatch(header)
    if quoted is None:
        raise ProblemError(Code.IDEMPOTENCY_KEY_INVALID)
    return re.sub(r'\\(["\\])', r"\1", quoted[1])


def earlier_answer(connection: Connection, request: Keyed) -> Answer | None:
    """Return what was answered to this request before, if it was.

    Raises:
        ProblemError: `idempotency_key_reused`, when the key stands for another request.
    """
    row = connection.execute(
        text(
            "select fingerprint, status, headers, body from idempotency_keys"
            " where owner_id = :owner_id and key = :key"
        ),
        _where(request),
    ).one_or_none()
    if row is None:
        return None
    request.require_same(row.fingerprint)
    return Answer(row.status, row.headers, row.body)


def is_known(connection: Connection, *, owner_id: UUID, key: str) -> bool:
    """Say whether an answer is kept under this key, whatever was asked for."""
    return bool(
        connection.execute(
            text(
                "select exists (select from idempotency_keys"
                " where owner_id = :owner_id and key = :key)"
            ),
            {"owner_id": owner_id, "key": key},
        ).scalar_one()
    )


def begin(connection: Connection, request: Keyed) -> Answer | None:
    """Hold the key until the transaction ends, and look for an earlier answer under it.

    Raises:
        ProblemError: `idempotency_key_in_use` while another transaction holds it,
            `idempotency_key_reused`.
    """
    held = connection.execute(
        text("select pg_try_advisory_xact_lock(:lock)"), {"lock": request.lock}
    ).scalar_one()
    if not held:
        raise in_use()
    return earlier_answer(connection, request)


def keep(connection: Connection, request: Keyed, answer: Answer) -> None:
    """Keep the answer; it stands when the caller's transaction commits."""
    connection.execute(
        text(
            "insert into idempotency_keys (owner_id, key, fingerprint, status, headers, body)"
            " values (:owner_id, :key, :fingerprint, :status, cast(:headers as jsonb), :body)"
        ),
        _where(request)
        | {
            "fingerprint": request.fingerprint,
            "status": answer.status,
            "headers": _json(answer.headers),
            "body": answer.body,
        },
    )


def _where(request: Keyed) -> dict[str, object]:
    return {"owner_id": request.owner_id, "key": request.key}


def _json(headers: Mapping[str, str]) -> str:
    return orjson.dumps(dict(headers)).decode()
