"""What goes in and what comes out: a stamp to draw, a sealed document."""

from dataclasses import dataclass
from datetime import date

from workers.sealing.placing.placement import Box, Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """One stamp to draw: what it says and where it goes; `face_value` is in rupiah."""

    serial: str
    qr_text: str
    face_value: int
    date: date
    specimen: bool
    placement: Placement


@dataclass(frozen=True, slots=True)
class Drawn:
    """A document with stamps drawn on it and no signature: its own bytes and the revision behind them."""

    document: bytes
    revision: bytes
    boxes: tuple[Box, ...]

    @property
    def bytes(self) -> bytes:
        """Return the whole file, copied once."""
        return self.document + self.revision


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed document: its own bytes and the revision behind them."""

    document: bytes
    revision: bytes
    boxes: tuple[Box, ...]
    # SHA-256 of the document as it came, and of the whole sealed file.
    document_sha256: bytes
    sha256: bytes

    @property
    def chunks(self) -> tuple[bytes, bytes]:
        """Return the file in two parts, without copying either."""
        return self.document, self.revision

    @property
    def bytes(self) -> bytes:
        """Return the whole file, copied once."""
        return self.document + self.revision
