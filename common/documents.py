"""Object storage: documents as they came and as they left.

`obstore` speaks to a local folder, S3 and others alike. A put returns when the bytes would survive a
power cut: on S3 that is the acknowledged put. In a local folder, where `obstore` syncs nothing, a file
is written here: under another name, synced, renamed, and the folders above it synced. So a file has
all its bytes or does not exist.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit
from uuid import UUID

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

from common.identifiers import new_id
from common.settings import Settings

if TYPE_CHECKING:
    from obstore.store import ClientConfig

INBOX = "inbox"
# The last two digits of a job's id, which are random.
SHARDS = tuple(f"{number:02x}" for number in range(256))
# What a client of S3 may be told by the environment, beside its credentials, region and endpoint.
_CLIENT_OPTIONS = ("allow_http", "allow_invalid_certificates", "proxy_url", "proxy_excludes")


class MissingDocumentError(LookupError):
    """No object has this key."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as the store lists it; the time is the store's."""

    key: str
    at: datetime


class StoreAwayError(Exception):
    """The store cannot take or give objects now: out of reach, too slow, or its disk is full.

    A put that raised this left nothing that anybody reads; an object may be there all the same, whose
    acknowledgement was lost.
    """


class Documents:
    """The object store, by keys that the two functions below make."""

    def __init__(self, url: str, *, timeout_seconds: float = 10.0) -> None:
        """Open the store.

        Args:
            url: `file:///folder` (made when missing), `s3://bucket/prefix`, …; credentials of S3
                come from the usual AWS_… variables.
            timeout_seconds: how long one request to S3 may take. Another try is begun within this
                time only, so that nobody waits longer than twice as long.
        """
        parts = urlsplit(url)
        self._folder = Path(unquote(parts.path)) if parts.scheme == "file" else None
        self._store: ObjectStore = (
            LocalStore(self._folder, mkdir=True)
            if self._folder is not None
            else _remote(url, timedelta(seconds=timeout_seconds))
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

        Raises:
            StoreAwayError: the store did not acknowledge it.
        """
        chunks = [content] if isinstance(content, bytes) else content
        with _store_errors():
            if self._folder is None:
                # In one request, whatever the size: parts that nobody completed would stay and cost.
                obstore.put(self._store, key, chunks, use_multipart=False)
            else:
                _write(self._folder, key, chunks, lasting=lasting)

    def get(self, key: str) -> bytes:
        """Return an object.

        Raises:
            MissingDocumentError: there is none of this key.
            StoreAwayError: the store cannot say.
        """
        with _store_errors():
            try:
                if self._folder is not None:
                    # What the store hands out would be copied once more: a second 50 MB for a moment.
                    return (self._folder / key).read_bytes()
                return obstore.get(self._store, key).bytes().to_bytes()
            except (NotFoundError, FileNotFoundError) as error:
                raise MissingDocumentError(key) from error

    def delete(self, key: str) -> None:
        """Remove an object; harmless when there is none.

        Raises:
            StoreAwayError: it may still be there.
        """
        with _store_errors(), suppress(NotFoundError, FileNotFoundError):
            obstore.delete(self._store, key)

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
        with _store_errors():
            if self._folder is not None:
                return list(islice(_walk(self._folder, shard, after), limit))
            listed = obstore.list(self._store, prefix=shard, offset=after or None, chunk_size=limit)
            return [Stored(o["path"], o["last_modified"]) for o in next(iter(listed), ())]

    def delete_job(self, job_id: UUID) -> None:
        """Remove everything that is stored of a job; harmless when there is nothing."""
        folder = _folder_of(job_id)
        with _store_errors():
            if self._folder is not None:
                found = [_key(self._folder, path) for path in _files(self._folder / folder)]
            else:
                listed = obstore.list(self._store, prefix=folder)
                found = [o["path"] for part in listed for o in part]
        for key in found:
            self.delete_stored(key)

    def delete_stored(self, key: str) -> None:
        """Remove an object that was listed, and its job's folder when nothing else is in it."""
        if self._folder is None:
            self.delete(key)
            return
        path = self._folder / key
        with _store_errors():
            path.unlink(missing_ok=True)
        with suppress(OSError):
            path.parent.rmdir()

    def answers(self, *, room: int) -> bool:
        """Say whether the store can be read and written now.

        Args:
            room: bytes that a local folder's disk must have left for one object.
        """
        try:
            with _store_errors():
                if self._folder is None:
                    # A missing bucket is an error here; asked for an object, S3 would only say no.
                    next(iter(obstore.list(self._store, prefix=INBOX, chunk_size=1)), None)
                else:
                    _find_room(self._folder, room)
        except StoreAwayError:
            return False
        return True


def connect(settings: Settings) -> Documents:
    """Return the store that the settings name."""
    return Documents(settings.objects_url, timeout_seconds=settings.object_store_timeout_seconds)


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


@contextmanager
def _store_errors() -> Iterator[None]:
    """Turn what a disk or a client of S3 raises into one error."""
    try:
        yield
    except (BaseError, OSError) as error:
        raise StoreAwayError(str(error).partition("\n")[0]) from error


def _remote(url: str, timeout: timedelta) -> ObjectStore:
    """Open a store behind a network; by itself its client tries ten times over three minutes.

    A put that is tried again writes the same bytes to the same key.
    """
    options: dict[str, Any] = {
        "timeout": timeout,
        "connect_timeout": min(timeout, timedelta(seconds=3)),
    }
    # Given any options, the client takes none of these from the environment any more.
    for name in _CLIENT_OPTIONS:
        if (value := os.environ.get(f"AWS_{name.upper()}")) is not None:
            options[name] = value
    return from_url(
        url,
        client_options=cast("ClientConfig", options),
        retry_config={"max_retries": 3, "retry_timeout": timeout},
    )


def _write(folder: Path, key: str, chunks: Sequence[bytes], *, lasting: bool) -> None:
    """Write a file so that it is there with all its bytes, or not at all."""
    path, partial = folder / key, _new_partial(folder)
    file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        try:
            for chunk in chunks:
                rest = memoryview(chunk)
                while rest:
                    rest = rest[os.write(file, rest) :]
            if lasting:
                os.fsync(file)
        finally:
            os.close(file)
        # No folder above: where they are missing, the disk that the store lies on is not mounted.
        is_new = _make_folder(path.parent)
        partial.rename(path)
    except BaseException:
        partial.unlink()
        raise
    if lasting:
        _sync(path.parent)
        if is_new:
            _sync(path.parent.parent)


def _new_partial(folder: Path) -> Path:
    """Return a name for a file that is renamed when it is written.

    What a crash leaves behind lies in the inbox, which is cleared of old files.
    """
    return folder / INBOX / f"{new_id()}.part"


def _make_folder(folder: Path) -> bool:
    """Make a folder; says whether it is new."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def _find_room(folder: Path, room: int) -> None:
    """Take so many bytes of the disk for a moment."""
    path = _new_partial(folder)
    try:
        with path.open("xb") as file:
            os.posix_fallocate(file.fileno(), 0, room)
    finally:
        path.unlink(missing_ok=True)


def _make_shards(folder: Path) -> None:
    """Make the 256 folders that jobs are spread over, and make sure that they stay.

    Made by whoever opens the store first, so that nobody stores into one that is not on the disk yet.
    """
    (folder / INBOX).mkdir(exist_ok=True)
    if (folder / SHARDS[-1]).exists():
        return
    for name in SHARDS:
        (folder / name).mkdir(exist_ok=True)
    _sync(folder)


def _sync(folder: Path) -> None:
    """Flush a folder to the disk: what it names is there after a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
