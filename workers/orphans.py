"""Objects that no job names: found shard by shard, in turn, and removed.

What crashes leave behind: a document whose acceptance was never committed, the file of an attempt that
lost its claim, a half-written file, and what a purge had not yet removed. An object is young for a
day, by the store's time against the earlier of two clocks, and young objects are never touched: an
acceptance in progress is seconds old, and a clock that jumps by an hour makes nothing a day older.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import text

from common import documents
from common.database import Database
from common.documents import SHARDS, Documents, StoreAwayError, Stored
from common.jobs import State
from common.telemetry import UPKEEP, logger

log = logger(__name__)

YOUNG = timedelta(hours=24)
# Objects in one look at the store and the database.
SLICE = 1000
# The rest of a turn has to wait for the next run.
ROUND_SECONDS = 15.0
_ROUND = "orphans"


@dataclass(frozen=True, slots=True)
class Named:
    """What a job says of its files."""

    state: State
    attempt: int
    result_key: str | None
    purged: bool


def is_orphan(stored: Stored, job_id: UUID, job: Named | None, *, before: datetime) -> bool:
    """Say whether nobody will ever ask for an object of this job's folder."""
    if stored.at >= before:
        return False
    if job is None or job.purged:
        return True
    if job.state is State.STAMPING and stored.key == documents.result_key(job_id, job.attempt):
        # About to become the result, however slow its worker is.
        return False
    return stored.key not in (documents.original_key(job_id), job.result_key)


class Sweeper:
    """Removes orphans with the parts of one worker process."""

    def __init__(
        self,
        *,
        database: Database,
        documents: Documents,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Take the parts; nothing is opened here."""
        self._database = database
        self._documents = documents
        self._clock = clock
        self._now = now

    def sweep(self) -> int:
        """Look at objects for a while, at most at each once; returns how many were removed.

        The place is kept in the database, so that all shards get their turn. Two sweeps at once look
        at the same objects; removing one twice is harmless.
        """
        until = self._clock() + ROUND_SECONDS
        with self._database.transaction() as connection:
            began: str = (
                connection.execute(
                    text("select place from rounds where name = :name"), {"name": _ROUND}
                ).scalar_one_or_none()
                or SHARDS[0]
            )
            theirs: datetime = connection.execute(text("select now()")).scalar_one()
        before = min(theirs, self._now()) - YOUNG
        removed, place, turned = 0, began, 0
        while self._clock() < until and turned <= len(SHARDS):
            shard = place[:2]
            listed = self._documents.list_shard(shard, after=place[3:] and place, limit=SLICE)
            removed += self._remove(listed, before, until)
            if len(listed) < SLICE:
                place = SHARDS[(SHARDS.index(shard) + 1) % len(SHARDS)]
                turned += 1
            else:
                place = listed[-1].key
        with self._database.transaction() as connection:
            connection.execute(
                text(
                    "insert into rounds (name, place) values (:name, :place)"
                    " on conflict (name) do update set place = excluded.place"
                ),
                {"name": _ROUND, "place": place},
            )
        return removed

    def _remove(self, listed: list[Stored], before: datetime, until: float) -> int:
        old = {s: j for s in listed if s.at < before and (j := documents.job_of(s.key))}
        if not old:
            return 0
        jobs = self._named(set(old.values()))
        orphans = [s for s, j in old.items() if is_orphan(s, j, jobs.get(j), before=before)]
        removed = 0
        for stored in orphans:
            try:
                self._documents.delete_stored(stored.key)
            except StoreAwayError as error:
                # It may be this one only: the others have their turn, as long as there is time.
                log.error("an orphan stays", key=stored.key, reason=str(error))
                UPKEEP.labels("orphan cannot be removed").inc()
                if self._clock() >= until:
                    break
                continue
            removed += 1
            UPKEEP.labels("orphan removed").inc()
            log.info("upkeep", what="orphan removed", key=stored.key, at=stored.at.isoformat())
        return removed

    def _named(self, job_ids: set[UUID]) -> Mapping[UUID, Named]:
        with self._database.transaction() as connection:
            rows = connection.execute(
                text(
                    "select id, state, attempt, result_key, purged_at is not null as purged"
                    " from jobs where id = any(:ids)"
                ),
                {"ids": list(job_ids)},
            ).all()
        return {
            row.id: Named(State(row.state), row.attempt, row.result_key, row.purged) for row in rows
        }
