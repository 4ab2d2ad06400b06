"""Why a document cannot be sealed: a stable code and the facts. And why a design cannot be used."""

from collections.abc import Mapping
from typing import Any

# A fact is for a person to read, and has to pass through JSON and a database.
_LONGEST_TEXT = 200
# Beyond it a number in JSON is not safe to read everywhere (RFC 8259, 6).
_LARGEST_SAFE = 2**53


class DesignError(ValueError):
    """A design cannot be used; the text is one sentence for its maker."""


class SealingError(Exception):
    """The document or the placement is at fault; trying again would end the same way.

    Codes: `document_not_pdf`, `document_encrypted`, `document_no_pages`, `document_unreadable`,
    `document_certified`, `document_locked`, `document_unprocessable`, `page_out_of_range`,
    `box_off_page`, `anchor_not_found`, `no_room`, `stamps_overlap`, `field_not_found`,
    `field_not_empty`, `field_unusable`.
    """

    def __init__(self, code: str, **detail: Any) -> None:
        """Take the code, and facts that help to mend it (JSON values).

        What comes from the document is not to be trusted in them: texts lose what JSON or PostgreSQL
        does not take, and their end; whole numbers stop where they are not safe any more.
        """
        super().__init__(code)
        self.code = code
        self.detail: Mapping[str, Any] = {name: _fact(value) for name, value in detail.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep kind, code and facts on the way from one process to another."""
        return _again, (type(self), self.code, dict(self.detail))


class CrossReferenceError(SealingError):
    """Objects are not where the document says: `document_unreadable`, unless it can be repaired."""

    def __init__(self, **detail: Any) -> None:
        """Take the facts."""
        super().__init__("document_unreadable", **detail)


def _fact(value: Any) -> Any:
    if isinstance(value, str):
        seen = (c for c in value if c >= " " and not "\ud800" <= c <= "\udfff")
        return "".join(seen)[:_LONGEST_TEXT]
    if isinstance(value, int) and abs(value) > _LARGEST_SAFE:
        return _LARGEST_SAFE if value > 0 else -_LARGEST_SAFE
    return value


def _again(kind: type[SealingError], code: str, detail: dict[str, Any]) -> SealingError:
    error = kind.__new__(kind)
    SealingError.__init__(error, code, **detail)
    return error
