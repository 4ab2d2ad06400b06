"""Brings stored files the timestamp that no authority gave when they were sealed.

The token goes into the place that was kept for it in the signature, which no signature covers: the
file stays as long and as valid. It is stored under a key of its own before the job gets it; who dies
in between leaves a file that nobody reads, and the job is taken up again.
"""

import hashlib
import time
from collections.abc import Callable
from uuid import UUID

from common import documents, upgrades
from common.database import Database
from common.documents import Documents, MissingDocumentError
from common.levels import Level
from common.telemetry import UPKEEP, logger
from common.upgrades import Upgradable
from workers.faults import reason_of
from workers.sealing import TokenTooLongError, add_timestamp
from workers.sealing.signing.certificates import der
from workers.sealing.signing.timestamp import Token
from workers.timestamping import AuthoritiesDownError, Timestamper

log = logger(__name__)

BATCH = 10
# Upkeep has other things to do: the next round comes soon.
ROUND_SECONDS = 3.0


class UnfitError(Exception):
    """The stored file cannot be upgraded, now or later; the text says why."""


class Upgrader:
    """Upgrades with the parts of one worker process."""

    def __init__(
        self,
        *,
        database: Database,
        documents: Documents,
        timestamper: Timestamper,
        tell: Callable[[list[UUID]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the parts; nothing is opened here."""
        self._database = database
        self._documents = documents
        self._timestamper = timestamper
        self._tell = tell
        self._clock = clock

    def upgrade_due(self) -> int:
        """Upgrade files for a few seconds, or until no authority answers; returns how many."""
        until, count = self._clock() + ROUND_SECONDS, 0
        while self._clock() < until:
            with self._database.transaction() as connection:
                due = upgrades.take_due(connection, limit=BATCH)
            if not due:
                break
            try:
                count += sum([self._upgrade_or_leave(each) for each in due])
            except AuthoritiesDownError as error:
                # Those that were taken up come due again by themselves.
                log.warning("no timestamps for stored files", reason=str(error))
                break
        if count:
            UPKEEP.labels("file upgraded").inc(count)
            log.info("upkeep", what="file upgraded", count=count)
        return count

    def _upgrade_or_leave(self, due: Upgradable) -> bool:
        """Upgrade one file; one that nobody can say anything about keeps no other from its turn.

        Raises:
            AuthoritiesDownError: no other would fare better.
        """
        try:
            return self._upgrade(due)
        except AuthoritiesDownError:
            raise
        except Exception as error:
            log.error("not upgraded now", job_id=str(due.job_id), reason=reason_of(error))
            UPKEEP.labels("file not upgraded now").inc()
            return False

    def _upgrade(self, due: Upgradable) -> bool:
        """Upgrade one file, unless it cannot be or somebody else was quicker."""
        try:
            file, token = self._timestamped(due)
        except UnfitError as error:
            log.error("a file stays as it is", job_id=str(due.job_id), reason=str(error))
            UPKEEP.labels("file cannot be upgraded").inc()
            with self._database.transaction() as connection:
                upgrades.give_up(connection, due)
            return False
        key = documents.upgraded_key(due.job_id, due.attempt)
        self._documents.put(key, file)
        with self._database.transaction() as connection:
            changed = upgrades.upgraded(
                connection,
                due,
                key=key,
                sha256=hashlib.sha256(file).digest(),
                level=level_with(due, file, token),
            )
        if changed is None:
            self._documents.delete(key)
            return False
        self._documents.delete(due.result_key)
        self._tell(changed.deliveries)
        return True

    def _timestamped(self, due: Upgradable) -> tuple[bytes, Token]:
        try:
            file = self._documents.get(due.result_key)
        except MissingDocumentError as error:
            raise UnfitError("the stored file is gone") from error
        if hashlib.sha256(file).digest() != due.result_sha256:
            raise UnfitError("the stored file is damaged")
        tokens: list[Token] = []

        def fetch(signature_value: bytes) -> bytes:
            tokens.append(self._timestamper.fetch(signature_value))
            return tokens[-1].der

        try:
            return add_timestamp(file, due.document_bytes, fetch), tokens[-1]
        except (TokenTooLongError, ValueError) as error:
            raise UnfitError(str(error)) from error


def level_with(due: Upgradable, file: bytes, token: Token) -> Level:
    """Return the level that a file has with a token.

    It is B-LT if the file's revocation data still held at the token's time, and is about its signer:
    the security store has certificates as they are, and only of those that it has data about.
    """
    holds = due.evidence_until is not None and token.at < due.evidence_until
    return Level.B_LT if holds and der(token.certificates[0]) in file else Level.B_T
