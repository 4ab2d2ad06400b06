"""What `stampede verify` says of a file: for people in lines, for programs in JSON."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy.exc import OperationalError, ProgrammingError

from common import database, serials
from common.settings import Settings, env_file
from common.verdicts import CHANGES, HEADLINES, CheckedSignature, KnownSerial, judge, know
from workers.checking import Checked

_GOOD = "good: every signature holds and is trusted, and nothing came after the last"
_BAD = "NOT good: not every signature holds and is trusted, or something came after the last"
_UNSIGNED = "not signed"
_STATES = {
    "unknown": "never issued here",
    "reserved": "reserved, not affixed yet",
    "void": "void",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A checked file, and what the database knows of its serials.

    Attributes:
        document: the file.
        checked: its signatures.
        known: what is known of each serial; None when nobody was asked.
        not_asked: why nobody was asked.
    """

    document: bytes
    checked: Checked
    known: Mapping[str, KnownSerial] | None
    not_asked: str

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON values; what is not known of a serial is null."""
        return {
            "good": self.checked.good,
            "verdict": None if self.known is None else judge(self.checked.signatures, self.known),
            "signatures": [
                asdict(signature)
                | {"serials": [self._serial_json(serial) for serial in signature.serials]}
                for signature in self.checked.signatures
            ],
            "document": {"bytes": len(self.document), "sha256": self._sha256()},
            "serials_looked_up": self.known is not None,
        }

    def lines(self) -> Iterator[str]:
        """Yield the lines that a person reads."""
        yield f"{len(self.document)} bytes, SHA-256 {self._sha256()}"
        for number, signature in enumerate(self.checked.signatures, start=1):
            yield ""
            yield f"signature {number}   {signature.field}"
            yield from self._signature_lines(signature)
        yield ""
        if self.known is not None:
            yield HEADLINES[judge(self.checked.signatures, self.known)].english
        signed = bool(self.checked.signatures)
        yield _GOOD if self.checked.good else _BAD if signed else _UNSIGNED

    def _signature_lines(self, signature: CheckedSignature) -> Iterator[str]:
        if signature.fault is not None:
            yield f"  unreadable  {signature.fault}"
            return
        yield "  intact      " + (
            "yes: not one byte of what was signed has changed"
            if signature.intact
            else "NO: the content is no longer what was signed, so nothing else is certain either"
        )
        if signature.intact:
            yield "  trusted     " + (
                "yes: its certificate leads to a root that you trust"
                if signature.trusted
                else "NO: its certificate leads to no root that you trust"
            )
            yield f"  after it    {CHANGES[signature.changed_after].english}"
        pades = "PAdES " if signature.level.startswith("B-") else ""
        yield f"  level       {pades}{signature.level}"
        yield f"  signer      {signature.signer}"
        yield f"  time        {signature.signed_at or 'not given'} (what the signer says)"
        for serial in signature.serials:
            yield f"  serial      {serial}: {self._known_of(serial)}"

    def _known_of(self, serial: str) -> str:
        if self.known is None:
            return f"not looked up, {self.not_asked}"
        known = self.known[serial]
        if known.affixed_at is None:
            return _STATES[known.state]
        very = "to this very file" if known.is_this_file else "but NOT to exactly this file"
        return f"{known.mode} serial, affixed {known.affixed_at.isoformat()} {very}"

    def _serial_json(self, serial: str) -> dict[str, Any]:
        if self.known is not None:
            return self.known[serial].as_json()
        unknown = dict.fromkeys(("state", "mode", "affixed_at", "is_this_file", "specimen"))
        return {"serial": serial} | unknown

    def _sha256(self) -> str:
        return hashlib.sha256(self.document).hexdigest()


def look_up(checked: Checked, document: bytes) -> tuple[dict[str, KnownSerial] | None, str]:
    """Return what the database knows of a file's serials, or None and why it was not asked."""
    carried = {serial for signature in checked.signatures for serial in signature.serials}
    if not carried:
        return {}, ""
    try:
        opened = database.connect(Settings.load())
    except ValidationError:
        return None, f"no database is configured in {env_file()}"
    try:
        with opened.transaction() as connection:
            found = serials.look_up_all(connection, carried)
    except (OperationalError, ProgrammingError):
        return None, "the database cannot be used"
    finally:
        opened.close()
    sha256 = hashlib.sha256(document).digest()
    return {serial: know(serial, found.get(serial), sha256=sha256) for serial in carried}, ""
