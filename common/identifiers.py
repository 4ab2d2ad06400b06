"""Ids that sort by time (UUIDv7, RFC 9562, 5.7)."""

from uuid import UUID

from uuid_utils.compat import uuid7

__all__ = ["new_id"]


def new_id() -> UUID:
    """Return a new UUIDv7."""
    return uuid7()
