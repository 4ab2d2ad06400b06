"""A POST that is sent twice is done once: the answer to an Idempotency-Key is kept and given again.

The answer is kept in the transaction of what it answers for, so there is never one without the
other: who dies after the commit has answered already, whoever asks. A refusal did nothing and is
not kept; the same key may be sent again, after topping up for instance.
"""

import hashlib
from collections.abc import Callable
from uuid import UUID

from flask import Response, request
from sqlalchemy import Connection

from common import idempotency
from common.idempotency import Answer, Keyed
from common.problems import Code
from web.answers import JSON
from web.parts import parts

HEADER = "Idempotency-Key"
# What an operation that is done once says of it in its description.
DESCRIBED = {
    HEADER: 'Your own name for this request, up to 255 printable ASCII characters, as `"…"` or bare. '
    "Sent again within 24 hours, the same request is answered again and done once. A refusal is "
    "not kept: the same key may be sent again, after topping up for instance."
}
REPLAYED = "Idempotent-Replayed"
PROBLEMS = (
    Code.IDEMPOTENCY_KEY_INVALID,
    Code.IDEMPOTENCY_KEY_IN_USE,
    Code.IDEMPOTENCY_KEY_REUSED,
)


def keyed(owner_id: UUID, fingerprint: bytes) -> Keyed | None:
    """Return this request with its key, or None when it carries none.

    Args:
        owner_id: whose key it is, an account or an operator's key; the same of another is another.
        fingerprint: SHA-256 over all that is asked for.

    Raises:
        ProblemError: `idempotency_key_invalid`.
    """
    header = request.headers.get(HEADER)
    if header is None:
        return None
    return Keyed(owner_id, idempotency.key_of(header), fingerprint)


def fingerprint(asked: bytes = b"") -> bytes:
    """Return a SHA-256 over this request's method and path, and what it asks for beside them."""
    return hashlib.sha256(f"{request.method} {request.path}\n".encode() + asked).digest()


def earlier(keyed: Keyed | None) -> Answer | None:
    """Return what was answered to this request before; for those with much to do before they commit.

    Raises:
        ProblemError: `idempotency_key_reused`.
    """
    if keyed is None:
        return None
    with parts().database.reading() as connection:
        return idempotency.earlier_answer(connection, keyed)


def is_on_record(owner_id: UUID) -> bool:
    """Say whether this request's key has an answer already; for those who look before they read.

    Raises:
        ProblemError: `idempotency_key_invalid`.
    """
    header = request.headers.get(HEADER)
    if header is None:
        return False
    with parts().database.reading() as connection:
        return idempotency.is_known(connection, owner_id=owner_id, key=idempotency.key_of(header))


def do(keyed: Keyed | None, work: Callable[[Connection], Answer]) -> tuple[Answer, bool]:
    """Do the work and keep its answer in one transaction, or return the answer that was kept.

    Of two requests with one key, also on two machines, one does the work; the other is refused
    while the first is at it, and gets its answer afterwards.

    Returns:
        The answer, and whether it is a replay.

    Raises:
        ProblemError: `idempotency_key_in_use`, `idempotency_key_reused`, and what the work raises.
    """

    def keeping(connection: Connection) -> Answer:
        answer = work(connection)
        if keyed is not None:
            idempotency.keep(connection, keyed, answer)
        return answer

    return do_keeping(keyed, keeping)


def do_keeping(keyed: Keyed | None, work: Callable[[Connection], Answer]) -> tuple[Answer, bool]:
    """As `do`, for work that keeps its answer itself, before it locks what others wait for."""
    with parts().database.transaction() as connection:
        if keyed is not None and (kept := idempotency.begin(connection, keyed)) is not None:
            return kept, True
        return work(connection), False


def response(answer: Answer, *, replay: bool) -> Response:
    """Return an answer as it goes out, marked when it is a replay."""
    made = Response(answer.body, answer.status, dict(answer.headers), content_type=JSON)
    made.headers["Cache-Control"] = "no-store"
    if replay:
        made.headers[REPLAYED] = "true"
    return made
