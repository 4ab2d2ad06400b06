"""Serial numbers: made unguessable, reserved for one job, affixed at most once.

22 characters of Crockford's base 32 (no I, L, O, U): a mode letter (`T` test, `S` live), 20 random
ones (100 bits) and a Luhn mod 32 check character.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text
from stdnum import luhn

from common.partners import Mode

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH = 22
_MODE_LETTER = {Mode.TEST: "T", Mode.LIVE: "S"}


@dataclass(frozen=True, slots=True)
class PublicSerial:
    """What anybody may know of a serial; nothing that names its document's owner."""

    serial: str
    mode: Mode
    state: str
    affixed_at: datetime | None
    document_sha256: bytes | None


def generate(mode: Mode) -> str:
    """Return a new serial that nobody can guess."""
    body = _MODE_LETTER[mode] + "".join(secrets.choice(ALPHABET) for _ in range(LENGTH - 2))
    return body + str(luhn.calc_check_digit(body, alphabet=ALPHABET))


def is_well_formed(serial: str) -> bool:
    """Say whether length, characters and check character are right; asks no database."""
    return (
        len(serial) == LENGTH
        and all(character in ALPHABET for character in serial)
        and bool(luhn.is_valid(serial, alphabet=ALPHABET))
    )


def reserve(connection: Connection, *, mode: Mode, job_id: UUID) -> str:
    """Bind a new serial to a job; every attempt of the job uses this one."""
    serial = generate(mode)
    connection.execute(
        text(
            "insert into serials (serial, mode, job_id, state)"
            " values (:serial, :mode, :job_id, 'reserved')"
        ),
        {"serial": serial, "mode": mode, "job_id": job_id},
    )
    return serial


def affix(connection: Connection, *, job_id: UUID) -> None:
    """Note that the job's serial now stands on its document."""
    connection.execute(
        text(
            "update serials set state = 'affixed', affixed_at = now()"
            " where job_id = :job_id and state = 'reserved'"
        ),
        {"job_id": job_id},
    )


def void(connection: Connection, *, job_id: UUID) -> None:
    """Retire the serial of a job that ended without a stamp."""
    connection.execute(
        text("update serials set state = 'void' where job_id = :job_id and state = 'reserved'"),
        {"job_id": job_id},
    )


def look_up(connection: Connection, serial: str) -> PublicSerial | None:
    """Return what is publicly true of a serial, or None when it was never given out."""
    row = connection.execute(
        text(
            "select s.serial, s.mode, s.state, s.affixed_at, j.result_sha256"
            " from serials s join jobs j on j.id = s.job_id where s.serial = :serial"
        ),
        {"serial": serial},
    ).one_or_none()
    if row is None:
        return None
    return PublicSerial(row.serial, Mode(row.mode), row.state, row.affixed_at, row.result_sha256)
