"""Object storage: documents as they came and as they left.

`obstore` speaks to a local folder, S3 and others alike. A put returns when the bytes would survive a
power cut: on S3 that is the acknowledged put; in a local folder the file and the folders above it
are synced here, which the store itself does not do.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import UUID

import obstore
from obstore.exceptions import NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

from common.identifiers import new_id
from common.settings import Settings

INBOX = "inbox"
# The last two digits of a job's id, which are random.
SHARDS = tuple(f"{number:02x}" for number in range(256))


class MissingDocumentError(LookupError):
    """No object has this key."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as the store lists it; the time is the store's."""

    key: str
    at: datetime


class Documents:
    """The object store, by keys that the two functions below make."""

    def __init__(self, url: str) -> None:
        """Open the store.

        Args:
            url: `file:///folder` (made when missing), `s3://bucket/prefix`, …; credentials of S3
                come from the usual AWS_… variables.
        """
        parts = urlsplit(url)
        self._folder = Path(unquote(parts.path)) if parts.scheme == "file" else None
        self._store: ObjectStore = (
            LocalStore(self._folder, mkdir=True) if self._folder is not None else from_url(url)
        )
        if self._folder is not None:
            _make_shards(self._folder)

    def put(self, key: str, content: bytes | Sequence[bytes], *, lasting: bool = True) -> None:
        """Store an object; an object of this key is replaced.

        Args:
            key: where.
            content: the object, or its chunks, which are written one behind the other without
                another copy of them being made.
            lasting: it is there after a power cut; needless for what only a waiting client needs.
        """
        chunks = [content] if isinstance(content, bytes) else content
        if self._folder is None or not lasting:
            # In one request, whatever the size: parts that nobody completed would stay and cost.
            obstore.put(self._store, key, chunks, use_multipart=False)
            return
        path = self._folder / key
        existing = next(folder for folder in path.parents if folder.exists())
        obstore.put(self._store, key, chunks, use_multipart=False)
        _sync_up_to(path, existing)

    def get(self, key: str) -> bytes:
        """Return an object.

        Raises:
            MissingDocumentError: there is none of this key.
        """
        try:
            if self._folder is not None:
                # What the store hands out would be copied once more: a second 50 MB for a moment.
                return (self._folder / key).read_bytes()
            return obstore.get(self._store, key).bytes().to_bytes()
        except (NotFoundError, FileNotFoundError) as error:
            raise MissingDocumentError(key) from error

    def delete(self, key: str) -> None:
        """Remove an object; harmless when there is none."""
        try:
            obstore.delete(self._store, key)
        except (NotFoundError, FileNotFoundError):
            return

    def clear_inbox(self, *, before: datetime, limit: int) -> int:
        """Remove objects of the inbox that were stored before a time; returns how many.

        Looks at `limit` objects at the most: the few that belong to waiting clients, and what crashes
        left.
        """
        listed = obstore.list(self._store, prefix=INBOX, chunk_size=limit)
        old = [o["path"] for o in next(iter(listed), ()) if o["last_modified"] < before]
        for key in old:
            self.delete(key)
        return len(old)

    def list_shard(self, shard: str, *, after: str, limit: int) -> list[Stored]:
        """Return objects of one of the shards, in the order of their keys.

        In a local folder also what a crash left of a file that was being written.

        Args:
            shard: one of SHARDS.
            after: a key; only objects behind it are returned. Empty: from the beginning.
            limit: how many at the most.
        """
        if self._folder is not None:
            return list(islice(_walk(self._folder, shard, after), limit))
        listed = obstore.list(self._store, prefix=shard, offset=after or None, chunk_size=limit)
        return [Stored(o["path"], o["last_modified"]) for o in next(iter(listed), ())]

    def delete_job(self, job_id: UUID) -> None:
        """Remove everything that is stored of a job; harmless when there is nothing."""
        folder = _folder_of(job_id)
        if self._folder is not None:
            found = [_key(self._folder, path) for path in _files(self._folder / folder)]
        else:
            found = [o["path"] for part in obstore.list(self._store, prefix=folder) for o in part]
        for key in found:
            self.delete_stored(key)

    def delete_stored(self, key: str) -> None:
        """Remove an object that was listed, and its job's folder when nothing else is in it."""
        if self._folder is None:
            self.delete(key)
            return
        path = self._folder / key
        path.unlink(missing_ok=True)
        with suppress(OSError):
            path.parent.rmdir()

    def answers(self) -> bool:
        """Say whether the store can be read now."""
        try:
            obstore.head(self._store, "readiness-probe")
        except (NotFoundError, FileNotFoundError):
            return True
        except Exception:
            return False
        return True


def connect(settings: Settings) -> Documents:
    """Return the store that the settings name."""
    return Documents(settings.objects_url)


def original_key(job_id: UUID) -> str:
    """Return where a job's document lies as it came."""
    return f"{_folder_of(job_id)}/original.pdf"


def result_key(job_id: UUID, attempt: int) -> str:
    """Return where an attempt's stamped file lies; another attempt never writes there."""
    return f"{_folder_of(job_id)}/stamped-{attempt}.pdf"


def upgraded_key(job_id: UUID, attempt: int) -> str:
    """Return a new place for a stamped file that got its timestamp later; no other is the same."""
    return f"{_folder_of(job_id)}/stamped-{attempt}-{new_id()}.pdf"


def inbox_key(question_id: UUID) -> str:
    """Return where an upload lies that a worker is asked about while its client waits."""
    return f"{INBOX}/{question_id}.pdf"


def job_of(key: str) -> UUID | None:
    """Return whose object this is; None when it is none of a job's."""
    shard, _, rest = key.partition("/")
    name, separator, _ = rest.partition("/")
    try:
        job_id = UUID(name)
    except ValueError:
        return None
    return job_id if separator and _folder_of(job_id) == f"{shard}/{name}" else None


def _folder_of(job_id: UUID) -> str:
    # The id starts with the time; its random end spreads the jobs over 256 folders.
    return f"{job_id.hex[-2:]}/{job_id}"


def _walk(top: Path, shard: str, after: str) -> Iterator[Stored]:
    """Yield the files of a shard behind a key, in the order of their keys."""
    within = f"{shard}/"
    folder, _, name = after.removeprefix(within).partition("/")
    for job in sorted(entry.name for entry in _entries(top / shard) if entry.name >= folder):
        for path in _files(top / shard / job):
            if job == folder and path.name <= name:
                continue
            # Another round may have removed it since.
            with suppress(FileNotFoundError):
                at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                yield Stored(_key(top, path), at)


def _files(folder: Path) -> list[Path]:
    return sorted(Path(entry.path) for entry in _entries(folder) if entry.is_file())


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _key(top: Path, path: Path) -> str:
    return path.relative_to(top).as_posix()


def _make_shards(folder: Path) -> None:
    """Make the 256 folders that jobs are spread over, and make sure that they stay.

    Made by whoever opens the store first, so that nobody stores into one that is not on the disk yet.
    """
    if (folder / SHARDS[-1]).exists():
        return
    for name in SHARDS:
        (folder / name).mkdir(exist_ok=True)
    _sync_up_to(folder, folder)


def _sync_up_to(path: Path, top: Path) -> None:
    """Flush a file and every folder from it up to `top` to the disk."""
    for place in (path, *path.parents):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if place == top:
            return
