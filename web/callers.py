"""Who is asking: the API key in the Authorization header."""

from flask import request

from common import partners
from common.partners import Caller
from common.problems import Code, ProblemError
from web.parts import parts

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="stampede"'}


def caller() -> Caller:
    """Return whom the request's key belongs to; reads nothing of the body.

    Raises:
        ProblemError: `key_missing`, `key_invalid`, `key_revoked`.
    """
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise ProblemError(Code.KEY_MISSING, headers=_CHALLENGE)
    try:
        with parts().database.reading() as connection:
            return partners.authenticate(connection, secret.strip())
    except ProblemError as error:
        error.headers.update(_CHALLENGE)
        raise
