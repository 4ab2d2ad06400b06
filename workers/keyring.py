"""The stamping keys of one worker process: which one signs now, and when each one ends.

Of the keys that are valid now, the one that began last signs. The files are looked at again every
few seconds, so a new key is taken up without a restart; where something new cannot be used, the
key from before stays, and the other keys are used. Each key is read once and kept.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from threading import Lock
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256

from common.settings import WorkerSettings
from common.telemetry import KEY_EXPIRES, logger
from workers.keyfile import Entry, read_entries
from workers.sealing import KeyUnusableError, Signer
from workers.sealing.signing import hsm
from workers.sealing.signing.hsm import TokenError

log = logger(__name__)

LOOK_EVERY = timedelta(seconds=5)
ENDS_SOON = timedelta(days=30)
# Where a problem of the list as a whole is kept; no key has an empty name.
_LIST = ""

# Files as they were seen: when each was written, its size and its inode, or None if it is missing.
_Seen = dict[Path, tuple[int, int, int] | None]


class NoValidKeyError(Exception):
    """No stamping key can be used now; jobs wait until there is one. The text says why."""


class State(StrEnum):
    """What a key does."""

    SIGNS = "signs"
    SPARE = "spare"
    WAITS = "waits"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key that was read, and when it may sign: while its entry and all its certificates say so."""

    name: str
    source: str
    signer: Signer
    since: datetime
    until: datetime

    def is_valid(self, now: datetime) -> bool:
        """Say whether it may sign now."""
        return self.since <= now < self.until

    def as_json(self, state: State, now: datetime) -> dict[str, Any]:
        """Return the facts about it as JSON values; nothing of the private key."""
        leaf = self.signer.certificates[0]
        return {
            "name": self.name,
            "source": self.source,
            "algorithm": self.signer.algorithm.name,
            "subject": leaf.subject.rfc4514_string(),
            "certificate_sha256": leaf.fingerprint(SHA256()).hex(),
            "valid_from": self.since.isoformat(),
            "valid_until": self.until.isoformat(),
            "state": state.value,
            "ends_soon": self.ends_soon(now),
        }

    def ends_soon(self, now: datetime) -> bool:
        """Say whether somebody should see to its successor, or should have."""
        return self.until - now < ENDS_SOON


def choose(keys: Iterable[Key], now: datetime) -> Key | None:
    """Return the key that signs now: of the valid ones the one that began last."""
    valid = (key for key in keys if key.is_valid(now))
    return max(valid, key=lambda key: (key.since, key.name), default=None)


def state(key: Key, keys: Iterable[Key], now: datetime) -> State:
    """Return what a key does now, among all keys."""
    if key is choose(keys, now):
        return State.SIGNS
    if now < key.since:
        return State.WAITS
    return State.SPARE if key.is_valid(now) else State.ENDED


class Keyring:
    """The keys that the settings name, as they are now."""

    def __init__(self, settings: WorkerSettings) -> None:
        """Take the settings; nothing is read yet."""
        self._settings = settings
        self._lock = Lock()
        self._keys: dict[str, _Held] = {}
        self._problems: dict[str, str] = {}
        self._seen: _Seen | None = None
        self._looked: datetime | None = None
        self._warned: dict[str, date] = {}

    def signer(self, now: datetime) -> Signer:
        """Return the key to sign with.

        Raises:
            NoValidKeyError: there is none now; a passing fault.
        """
        keys = self.keys(now)
        chosen = choose(keys, now)
        if chosen is None:
            whys = [_why_not(key, now) for key in keys] + self.problems()
            raise NoValidKeyError(f"no stamping key is valid now: {'; '.join(whys)}")
        return chosen.signer

    def keys(self, now: datetime) -> list[Key]:
        """Return all keys that can be used, having looked for new ones if it is time to."""
        with self._lock:
            if self._looked is None or not timedelta(0) <= now - self._looked < LOOK_EVERY:
                self._looked = now
                self._look()
                self._tell(now)
            return [held.key for held in self._keys.values()]

    def problems(self) -> list[str]:
        """Return what was in the way when keys were last looked for."""
        return list(self._problems.values())

    def close(self) -> None:
        """End the sessions with tokens."""
        hsm.close()

    def _look(self) -> None:
        """Read what is new, if anything is, or what could not be reached the last time."""
        if self._seen is not None and self._seen == _look_at(self._seen):
            return
        # Files are looked at before they are read: what changes in between is seen the next time.
        list_file = self._settings.signing_keys_file
        seen = _look_at([] if list_file is None else [list_file])
        try:
            entries = read_entries(self._settings)
        except KeyUnusableError as error:
            self._report({_LIST: str(error)})
            self._seen = seen
            return
        keys: dict[str, _Held] = {}
        problems: dict[str, str] = {}
        out_of_reach = False
        for entry in entries:
            files = _look_at(file for file in entry.files() if file is not None)
            seen |= files
            held = self._keys.get(entry.name)
            if held is None or (held.entry, held.files) != (entry, files):
                try:
                    held = _Held(entry, files, _load(entry))
                except (KeyUnusableError, TokenError) as error:
                    problems[entry.name] = f"key '{entry.name}': {error}"
                    out_of_reach |= isinstance(error, TokenError)
            if held is not None:
                keys[entry.name] = held
        if keys.keys() != self._keys.keys() or any(keys[n] is not self._keys[n] for n in keys):
            log.info("stamping keys read", keys=list(keys))
        self._keys = keys
        self._report(problems)
        # A token may come back without any file changing.
        self._seen = None if out_of_reach else seen

    def _report(self, problems: dict[str, str]) -> None:
        for name, problem in problems.items():
            if self._problems.get(name) != problem:
                log.error("stamping key cannot be used; what there was before stays", why=problem)
        self._problems = problems

    def _tell(self, now: datetime) -> None:
        """Say how long each key has left: always as a metric, near its end once a day in the log."""
        for name in self._warned.keys() - self._keys.keys():
            del self._warned[name]
            KEY_EXPIRES.labels(name).set(math.nan)
        for held in self._keys.values():
            key = held.key
            KEY_EXPIRES.labels(key.name).set((key.until - now).total_seconds())
            if key.ends_soon(now) and self._warned.get(key.name) != now.date():
                log.warning(
                    "stamping key ends soon; see to its successor",
                    key=key.name,
                    until=key.until.isoformat(),
                    days=(key.until - now).days,
                )
                self._warned[key.name] = now.date()
            self._warned.setdefault(key.name, date.min)


@dataclass(frozen=True, slots=True)
class _Held:
    """A key with what it was read from."""

    entry: Entry
    files: _Seen
    key: Key


def _load(entry: Entry) -> Key:
    signer = entry.load()
    certificates = signer.certificates
    begins = [certificate.not_valid_before_utc for certificate in certificates]
    ends = [certificate.not_valid_after_utc for certificate in certificates]
    if entry.since is not None:
        begins.append(entry.since)
    if entry.until is not None:
        ends.append(entry.until)
    return Key(
        name=entry.name,
        source=entry.source,
        signer=signer,
        since=max(begins).astimezone(UTC),
        until=min(ends).astimezone(UTC),
    )


def _why_not(key: Key, now: datetime) -> str:
    if now < key.since:
        return f"'{key.name}' begins on {key.since.isoformat()}"
    return f"'{key.name}' ended on {key.until.isoformat()}; put its successor in its place"


def _look_at(files: Iterable[Path]) -> _Seen:
    seen: _Seen = {}
    for file in files:
        try:
            status = file.stat()
        except OSError:
            seen[file] = None
        else:
            seen[file] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return seen
