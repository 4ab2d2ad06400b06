"""The file that voucher codes are written to: the one place where they exist in clear.

It is written and on the disk under another name before the batch is committed, and gets its own name
afterwards. So whatever dies when, no batch exists whose codes nobody has, and no file under its own
name holds codes that do not exist:

    before the commit      `codes.csv.unfinished`, and no batch: the file may be deleted
    after the commit       `codes.csv.unfinished`, whole, and the batch: the file is to be renamed
    after the renaming     `codes.csv` and the batch

A run that holds `….unfinished` keeps every other from the same file.
"""

import contextlib
import csv
import os
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path

UNFINISHED = ".unfinished"


class CodeFileError(Exception):
    """The file cannot be written; says why and what to do."""


class CodeFile:
    """A file of codes in the making; only its owner may read it."""

    def __init__(self, file: Path) -> None:
        """Take the file's unfinished name.

        Raises:
            CodeFileError: one of its names is taken, or the folder cannot be written to.
        """
        self.file = file
        self.unfinished = unfinished_name(file)
        try:
            descriptor = os.open(self.unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise CodeFileError(
                f"{self.unfinished} is there: another run is under way, or one was interrupted"
            ) from error
        except OSError as error:
            raise CodeFileError(f"{self.unfinished} cannot be written: {error.strerror}") from error
        self._opened = os.fdopen(descriptor, "wb")
        # Only now: no other run can give the file its name any more.
        if os.path.lexists(file):
            self.discard()
            raise CodeFileError(f"{file} is there already; codes are never written over others")

    def write(self, rows: Iterable[Sequence[object]]) -> None:
        """Write the rows as CSV (RFC 4180) and see them on the disk, file and folder.

        Raises:
            CodeFileError: the disk did not take them; nothing is left.
        """
        text = StringIO(newline="")
        csv.writer(text).writerows(rows)
        try:
            with self._opened as opened:
                opened.write(text.getvalue().encode())
                opened.flush()
                os.fsync(opened.fileno())
            _sync_folder(self.file)
        except OSError as error:
            self.discard()
            raise CodeFileError(f"{self.unfinished} cannot be written: {error.strerror}") from error

    def finish(self) -> None:
        """Give the file its name; its batch exists.

        Raises:
            CodeFileError: it could not be renamed, and is whole under the unfinished name.
        """
        try:
            self.unfinished.rename(self.file)
            _sync_folder(self.file)
        except OSError as error:
            raise CodeFileError(
                f"the batch is issued, but {self.unfinished} could not be renamed to {self.file}:"
                f" {error.strerror}"
            ) from error

    def discard(self) -> None:
        """Remove the file; only while it is certain that none of its codes exists."""
        with contextlib.suppress(OSError):
            self._opened.close()
        self.unfinished.unlink(missing_ok=True)


def unfinished_name(file: Path) -> Path:
    """Return the name that a file of codes has until its batch exists."""
    return file.with_name(file.name + UNFINISHED)


def _sync_folder(file: Path) -> None:
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
