"""What anybody may know of a serial; nothing that names its document's owner."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from common.partners import Mode


@dataclass(frozen=True, slots=True)
class PublicSerial:
    """What is publicly true of one serial."""

    serial: str
    mode: Mode
    state: str
    affixed_at: datetime | None
    document_sha256: bytes | None
    # Of the same document before a timestamp was added to its signature; as good as the other.
    earlier_sha256: bytes | None = None
    # The stamp or its signer says SPECIMEN: always in test mode, and in live mode with what is built in.
    specimen: bool = False


def look_up(connection: Connection, serial: str) -> PublicSerial | None:
    """Return what is publicly true of a serial, or None when no job has it: never given, or in stock."""
    return look_up_all(connection, [serial]).get(serial)


def look_up_all(connection: Connection, wanted: Iterable[str]) -> dict[str, PublicSerial]:
    """Return what is publicly true of these serials; those that no job has are missing."""
    rows = connection.execute(
        text(
            "select s.serial, s.mode, s.state, s.affixed_at, j.result_sha256, j.earlier_sha256,"
            " s.mode = 'test' or s.state = 'affixed' and coalesce(j.specimen, true) as specimen"
            " from serials s join jobs j on j.id = s.job_id where s.serial = any(:wanted)"
        ),
        {"wanted": list(wanted)},
    )
    return {
        r.serial: PublicSerial(
            r.serial,
            Mode(r.mode),
            r.state,
            r.affixed_at,
            r.result_sha256,
            r.earlier_sha256,
            r.specimen,
        )
        for r in rows
    }
