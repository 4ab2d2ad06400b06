"""Who is asking: the API key, or the voucher code, in the Authorization header."""

from collections.abc import Callable

from flask import request
from sqlalchemy import Connection

from common import partners
from common.known_callers import Known, Memory
from common.partners import Caller, Operator
from common.problems import Code, ProblemError
from common.vouchers import code, spending
from common.vouchers.spending import Holder
from web import limits
from web.parts import parts

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="stampede"'}


Recall = Callable[[str], Memory]


def caller(*, vouchers: bool = False, recall: Recall | None = None) -> Caller:
    """Return which partner the request's key belongs to; reads nothing of the body.

    Args:
        vouchers: a voucher's code is taken as well. Its form tells it from a key.
        recall: returns what is remembered of a secret, where that is asked for with other things.

    Raises:
        ProblemError: `key_missing`, `key_invalid`, `key_revoked`; `forbidden` for an operator's key;
            for a code `voucher_invalid` and `too_many_attempts`, or `forbidden` where none is taken.
    """
    secret = _secret()
    if code.is_meant_as_code(secret):
        if not vouchers:
            raise ProblemError(Code.FORBIDDEN, "a voucher opens jobs, previews and its own quota")
        return _holder(secret, recall)
    known = _known(secret, recall)
    if isinstance(known, Operator):
        raise ProblemError(Code.FORBIDDEN, "this address takes a partner's key")
    return known


def operator() -> Operator:
    """Return whose operator's key the request has; reads nothing of the body.

    Raises:
        ProblemError: `key_missing`, `key_invalid`, `key_revoked`; `forbidden` for a partner's key
            and for a voucher's code, which is not looked up.
    """
    secret = _secret()
    known = None if code.is_meant_as_code(secret) else _known(secret)
    if not isinstance(known, Operator):
        raise ProblemError(Code.FORBIDDEN, "this address takes an operator's key")
    with parts().database.reading() as connection:
        revoked = partners.is_revoked(connection, known.key_id)
    if revoked:
        # It moves money, and seldom: it is worth looking.
        raise ProblemError(Code.KEY_REVOKED)
    return known


def bearer(header: str) -> str:
    """Return the secret that an Authorization header carries; empty when it carries none."""
    scheme, _, secret = header.partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _secret() -> str:
    secret = bearer(request.headers.get("Authorization", ""))
    if not secret:
        raise ProblemError(Code.KEY_MISSING)
    return secret


def require_still_valid(connection: Connection, asking: Caller) -> None:
    """See in the transaction of a change that the key is not revoked; a voucher is looked at by itself.

    Who somebody is may be remembered from half a minute ago; what is accepted goes by what is true now.

    Raises:
        ProblemError: `key_revoked`.
    """
    if isinstance(asking, Holder) or not partners.is_revoked(connection, asking.key_id):
        return
    parts().known.forget_all()
    raise ProblemError(Code.KEY_REVOKED)


def _known(secret: str, recall: Recall | None = None) -> Caller | Operator:
    """Return whom a key belongs to, from memory or from the database."""
    if not partners.may_be_key(secret):
        raise ProblemError(Code.KEY_INVALID)
    known = _recalled_or_asked(secret, partners.authenticate, recall)
    if isinstance(known, Code):
        raise ProblemError(known)
    return known


def _holder(typed: str, recall: Recall | None) -> Holder:
    """Return who holds the voucher of this code; asks nothing of the database for a guesser."""
    limits.refuse_guessing()
    known = _recalled_or_asked(code.as_written(typed), spending.authenticate, recall)
    if isinstance(known, Holder):
        return known
    limits.count_wrong_code()
    raise ProblemError(Code.VOUCHER_INVALID)


def _recalled_or_asked(
    secret: str, ask: Callable[[Connection, str], Known], recall: Recall | None
) -> Known:
    """Return what is remembered of a secret, or ask the database and remember the answer."""
    memory = (recall or parts().known.recall)(secret)
    if memory.known is not None:
        return memory.known
    known: Known
    try:
        with parts().database.reading() as connection:
            known = ask(connection, secret)
    except ProblemError as error:
        known = error.code
    parts().known.remember(memory, known)
    return known
