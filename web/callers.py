"""Who is asking: the API key, or the voucher code, in the Authorization header."""

from flask import request

from common import partners
from common.partners import Caller, Operator
from common.problems import Code, ProblemError
from common.vouchers import code, spending
from common.vouchers.spending import Holder
from web import limits
from web.parts import parts

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="stampede"'}


def caller(*, vouchers: bool = False) -> Caller:
    """Return which partner the request's key belongs to; reads nothing of the body.

    Args:
        vouchers: a voucher's code is taken as well. Its form tells it from a key.

    Raises:
        ProblemError: `key_missing`, `key_invalid`, `key_revoked`; `forbidden` for an operator's key;
            for a code `voucher_invalid` and `too_many_attempts`, or `forbidden` where none is taken.
    """
    secret = _secret()
    if code.is_meant_as_code(secret):
        if not vouchers:
            raise ProblemError(Code.FORBIDDEN, "a voucher opens jobs, previews and its own quota")
        return _holder(secret)
    known = _known(secret)
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
    return known


def _secret() -> str:
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret:
        raise ProblemError(Code.KEY_MISSING, headers=_CHALLENGE)
    return secret


def _known(secret: str) -> Caller | Operator:
    try:
        with parts().database.reading() as connection:
            return partners.authenticate(connection, secret)
    except ProblemError as error:
        error.headers.update(_CHALLENGE)
        raise


def _holder(typed: str) -> Holder:
    """Return who holds the voucher of this code; asks nothing of the database for a guesser."""
    limits.refuse_guessing()
    try:
        with parts().database.reading() as connection:
            return spending.authenticate(connection, typed)
    except ProblemError as error:
        limits.count_wrong_code()
        error.headers.update(_CHALLENGE)
        raise
