"""Serial numbers: made unguessable, reserved for one stamp of one job, affixed at most once.

22 characters of Crockford's base 32 (no I, L, O, U): a mode letter (`T` test, `S` live), 20 random
ones (100 bits) and a Luhn mod 32 check character.
"""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text
from stdnum import luhn

from common.partners import Mode

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH = 22
_OF_BYTES = (ALPHABET * (256 // len(ALPHABET))).encode("ascii")
_MODE_LETTER = {Mode.TEST: "T", Mode.LIVE: "S"}


@dataclass(frozen=True, slots=True)
class PublicSerial:
    """What anybody may know of a serial; nothing that names its document's owner."""

    serial: str
    mode: Mode
    state: str
    affixed_at: datetime | None
    document_sha256: bytes | None
    # Of the same document before a timestamp was added to its signature; as good as the other.
    earlier_sha256: bytes | None = None
    # The stamp or its signer says SPECIMEN: always in test mode, and in live mode with what is built in.
    specimen: bool = False


def generate(mode: Mode) -> str:
    """Return a new serial that nobody can guess."""
    # Every character stands for eight of the 256 bytes, so each is as likely as the others.
    body = _MODE_LETTER[mode] + secrets.token_bytes(LENGTH - 2).translate(_OF_BYTES).decode("ascii")
    return body + str(luhn.calc_check_digit(body, alphabet=ALPHABET))


def is_well_formed(serial: str) -> bool:
    """Say whether length, characters and check character are right; asks no database."""
    return (
        len(serial) == LENGTH
        and all(character in ALPHABET for character in serial)
        and bool(luhn.is_valid(serial, alphabet=ALPHABET))
    )


def is_test(serial: str) -> bool:
    """Say whether a serial is one of test mode, without any value; asks no database."""
    return serial.startswith(_MODE_LETTER[Mode.TEST])


# A job's serials in order, in the select list or the returning clause of a statement over `jobs`.
OF_JOB = (
    "(select array_agg(serial order by position) from serials where job_id = jobs.id) as serials"
)


def reserve(
    connection: Connection, *, mode: Mode, stamps: Mapping[UUID, int]
) -> dict[UUID, list[str]]:
    """Bind new serials to jobs, one for each of a job's stamps; every attempt of it uses these.

    Args:
        stamps: how many each job needs, by its id.
    """
    made = {job_id: [generate(mode) for _ in range(count)] for job_id, count in stamps.items()}
    rows = [
        (serial, job_id, position)
        for job_id, serials in made.items()
        for position, serial in enumerate(serials, start=1)
    ]
    connection.execute(
        text(
            "insert into serials (serial, mode, job_id, position, state)"
            " select serial, :mode, job_id, position, 'reserved'"
            " from unnest(cast(:serials as text[]), cast(:jobs as uuid[]),"
            " cast(:positions as smallint[])) as made (serial, job_id, position)"
        ),
        {
            "mode": mode,
            "serials": [serial for serial, _, _ in rows],
            "jobs": [job_id for _, job_id, _ in rows],
            "positions": [position for _, _, position in rows],
        },
    )
    return made


def affix(connection: Connection, *, job_id: UUID) -> None:
    """Note that the job's serials now stand on its document."""
    connection.execute(
        text(
            "update serials set state = 'affixed', affixed_at = now()"
            " where job_id = :job_id and state = 'reserved'"
        ),
        {"job_id": job_id},
    )


def void(connection: Connection, *, job_id: UUID) -> None:
    """Retire the serials of a job that ended without a stamp."""
    connection.execute(
        text("update serials set state = 'void' where job_id = :job_id and state = 'reserved'"),
        {"job_id": job_id},
    )


def look_up(connection: Connection, serial: str) -> PublicSerial | None:
    """Return what is publicly true of a serial, or None when it was never given out."""
    return look_up_all(connection, [serial]).get(serial)


def look_up_all(connection: Connection, wanted: Iterable[str]) -> dict[str, PublicSerial]:
    """Return what is publicly true of these serials; those never given out are missing."""
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
