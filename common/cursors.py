"""Cursors of lists that are ordered by id, newest first: opaque to clients, the last id to us."""

import base64
import binascii
from uuid import UUID

from common.problems import Code, ProblemError


def after(last: UUID) -> str:
    """Return the cursor that asks for what comes after this id."""
    return base64.urlsafe_b64encode(last.bytes).decode().rstrip("=")


def open_(cursor: str) -> UUID:
    """Return the id that a cursor stands for.

    Raises:
        ProblemError: `cursor_invalid`.
    """
    try:
        raw = base64.b64decode(cursor + "==", altchars=b"-_", validate=True)
        return UUID(bytes=raw)
    except (binascii.Error, ValueError) as error:
        raise ProblemError(Code.CURSOR_INVALID) from error
