"""Lists that are ordered by id, newest first: their rows, and cursors.

A cursor is opaque to clients, and the last id to us.
"""

import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from common.problems import Code, ProblemError


def rows(
    connection: Connection,
    select: str,
    *,
    account_id: UUID,
    limit: int,
    filters: Iterable[tuple[str, str, object]],
) -> Sequence[Row[Any]]:
    """Return an account's rows, newest first: one more than the limit, if there is a page behind it.

    Args:
        connection: a transaction.
        select: the statement up to its conditions.
        account_id: whose.
        limit: how many a page has.
        filters: conditions, each with the name and the value of its parameter; None: left out.
    """
    conditions = ["account_id = :account_id"]
    values: dict[str, object] = {"account_id": account_id, "limit": limit + 1}
    for condition, name, value in filters:
        if value is not None:
            conditions.append(condition)
            values[name] = value
    return connection.execute(
        text(select + "where " + " and ".join(conditions) + " order by id desc limit :limit"),
        values,
    ).all()


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
