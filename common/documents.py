"""Object storage: documents as they came and as they left.

`obstore` speaks to a local folder, S3 and others alike. A put returns when the bytes would survive a
power cut: on S3 that is the acknowledged put; in a local folder the file and the folders above it
are synced here, which the store itself does not do.
"""

import os
from collections.abc import Sequence
from datetime import datetime
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
_SHARDS = tuple(f"{number:02x}" for number in range(256))


class MissingDocumentError(LookupError):
    """No object has this key."""


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


def _folder_of(job_id: UUID) -> str:
    # The id starts with the time; its random end spreads the jobs over 256 folders.
    return f"{job_id.hex[-2:]}/{job_id}"


def _make_shards(folder: Path) -> None:
    """Make the 256 folders that jobs are spread over, and make sure that they stay.

    Made by whoever opens the store first, so that nobody stores into one that is not on the disk yet.
    """
    if (folder / _SHARDS[-1]).exists():
        return
    for name in _SHARDS:
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
