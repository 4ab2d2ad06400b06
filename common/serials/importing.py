"""A file of the issuer's serials becomes stock: all of it, or nothing; the same file again adds nothing.

The file is read once, as a stream, into a temporary table (COPY), and goes into the stock by one statement.
One transaction: whatever dies in between leaves nothing behind.
"""

import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from uuid import UUID

from sqlalchemy import Connection, text

from common.codes import LONGEST_SERIAL
from common.identifiers import new_id
from common.serials import low
from common.serials.format import SHORTEST_SERIAL, is_test, may_be_imported

COLUMN = "serial"
# Of a line, in characters: what is longer is no list of serials, and is not read into memory.
LONGEST_LINE = 64 * 1024
SHOWN = 10
_CHUNK_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that cannot go onto a stamp: its line, the beginning of what it says, and why not."""

    line: int
    text: str
    why: str


@dataclass(slots=True, kw_only=True)
class Imported:
    """What an import found. `rows = added + known + refused`; empty lines do not count."""

    reference: str
    sha256: str = ""
    rows: int = 0
    added: int = 0
    # Not new: earlier in the file, in stock, or given to a job before, whatever became of it.
    # None where nothing was imported, and so nobody looked.
    known: int | None = None
    refused: int = 0
    first_refused: list[RefusedRow] = field(default_factory=list)


class UnreadableListError(ValueError):
    """The file is no list of serials; says why in one sentence."""


class RefusedRowsError(ValueError):
    """Some rows cannot be used, and nothing was imported."""

    def __init__(self, found: Imported) -> None:
        """Take what was found."""
        super().__init__(f"{found.refused} of {found.rows} rows cannot be used")
        self.found = found


class ReferenceReusedError(ValueError):
    """This reference stands for another file."""


def import_list(
    connection: Connection, file: BinaryIO, *, reference: str, skip_bad: bool = False
) -> Imported:
    """Put a file's serials into the stock.

    Args:
        connection: a transaction; its commit is the import.
        file: CSV with a column `serial`, or one column without a heading; UTF-8.
        reference: the name of this delivery; it stands for one file.
        skip_bad: import the good rows of a file that has bad ones.

    Raises:
        UnreadableListError: it is no such file.
        RefusedRowsError: it has rows that cannot be used, and they were not to be skipped.
        ReferenceReusedError: another file was imported under this reference.
    """
    connection.execute(text("set local statement_timeout = 0"))
    connection.execute(
        text("create temporary table serial_list (serial text not null) on commit drop")
    )
    found = Imported(reference=reference)
    _copy(connection, file, found)
    if not found.rows:
        # Most likely a pipe whose other end failed: its reference must stay free for the real file.
        raise UnreadableListError("it has no rows")
    if found.refused and not skip_bad:
        raise RefusedRowsError(found)
    import_id = _record(connection, found)
    found.added = _add(connection, import_id)
    found.known = found.rows - found.refused - found.added
    if found.added:
        connection.execute(
            text("update serial_imports set added = added + :added where id = :id"),
            {"id": import_id, "added": found.added},
        )
        # What was estimated and planned before is out of date.
        connection.execute(text("analyze serial_stock"))
        low.arm(connection)
    return found


def _copy(connection: Connection, file: BinaryIO, found: Imported) -> None:
    hashed = _Hashed(file)
    driver = connection.connection.driver_connection
    assert driver is not None
    with driver.cursor().copy("copy serial_list (serial) from stdin") as copy:
        good: list[str] = []
        for line, serial in _serials_of(hashed):
            found.rows += 1
            if not may_be_imported(serial):
                _refuse(found, line, serial)
                continue
            good.append(serial)
            if len(good) == _CHUNK_ROWS:
                copy.write("\n".join(good) + "\n")
                good.clear()
        if good:
            copy.write("\n".join(good) + "\n")
    found.sha256 = hashed.sha256.hexdigest()


def _refuse(found: Imported, line: int, serial: str) -> None:
    found.refused += 1
    if len(found.first_refused) < SHOWN:
        found.first_refused.append(RefusedRow(line, serial[:40], why_not(serial)))


def why_not(serial: str) -> str:
    """Say why a row cannot be imported."""
    if not (SHORTEST_SERIAL <= len(serial) <= LONGEST_SERIAL):
        return f"it has {len(serial)} characters instead of {SHORTEST_SERIAL} to {LONGEST_SERIAL}"
    if is_test(serial):
        return "it looks like a serial of test mode"
    return "QR codes and addresses carry digits and capitals A to Z only"


def _serials_of(file: io.RawIOBase) -> Iterator[tuple[int, str]]:
    """Yield line numbers and what stands in the serials' column, without space around it."""
    stream = io.TextIOWrapper(
        io.BufferedReader(file), encoding="utf-8-sig", errors="replace", newline=""
    )
    first = _line(stream)
    delimiter = next((mark for mark in ";\t" if mark in first), ",")
    column = 0
    try:
        for row in (lines := csv.reader(_lines(first, stream), delimiter=delimiter)):
            if lines.line_num == 1:
                names = [name.strip().lower() for name in row]
                if COLUMN in names:
                    column = names.index(COLUMN)
                    continue
                if len(row) > 1:
                    raise UnreadableListError(
                        f"it has {len(row)} columns, and none is called '{COLUMN}'"
                    )
            if any(row):
                yield lines.line_num, row[column].strip() if column < len(row) else ""
    except csv.Error as error:
        raise UnreadableListError(f"line {lines.line_num}: {error}") from error


def _lines(first: str, stream: io.TextIOWrapper) -> Iterator[str]:
    while first:
        yield first
        first = _line(stream)


def _line(stream: io.TextIOWrapper) -> str:
    line = stream.readline(LONGEST_LINE)
    if len(line) == LONGEST_LINE:
        raise UnreadableListError(f"it has a line of {LONGEST_LINE} characters or more")
    return line


class _Hashed(io.RawIOBase):
    """A file that is hashed while it is read; gives nothing but its bytes, in order."""

    def __init__(self, file: BinaryIO) -> None:
        """Take the file; it is not closed here."""
        self._file = file
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what comes next."""
        content = self._file.read(len(buffer))
        self.sha256.update(content)
        buffer[: len(content)] = content
        return len(content)


def _record(connection: Connection, found: Imported) -> UUID:
    """Write the import down once, and return its id.

    Raises:
        ReferenceReusedError: the reference stands for another file.
    """
    sha256 = bytes.fromhex(found.sha256)
    values = {
        "id": new_id(),
        "reference": found.reference,
        "sha256": sha256,
        "rows": found.rows,
        "refused": found.refused,
    }
    connection.execute(
        text(
            "insert into serial_imports (id, reference, file_sha256, rows, added, refused)"
            " values (:id, :reference, :sha256, :rows, 0, :refused)"
            " on conflict (reference) do nothing"
        ),
        values,
    )
    row = connection.execute(
        text("select id, file_sha256 from serial_imports where reference = :reference"), values
    ).one()
    if row.file_sha256 != sha256:
        raise ReferenceReusedError(f"'{found.reference}' stands for another file")
    known: UUID = row.id
    return known


def _add(connection: Connection, import_id: UUID) -> int:
    """Move what is new from the list into the stock; returns how many.

    In one order, so that two imports at once that have serials in common do not lock each other out.

    A serial that a job takes out of the stock meanwhile is in neither place for this statement, and
    would be taken for new: the second look, with a newer snapshot, sees where it went.
    """
    connection.execute(text("analyze serial_list"))
    added = connection.execute(
        text(
            "insert into serial_stock (serial, import_id)"
            " select serial, :import_id from serial_list l"
            " where not exists (select from serials s where s.serial = l.serial)"
            ' order by serial collate "C" on conflict (serial) do nothing'
        ),
        {"import_id": import_id},
    ).rowcount
    again = connection.execute(
        text(
            "delete from serial_stock k using serial_list l, serials s"
            " where k.serial = l.serial and s.serial = k.serial"
        )
    ).rowcount
    return added - again
