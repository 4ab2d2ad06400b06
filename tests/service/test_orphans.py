"""Objects that no job names are found in turn and removed; whatever is young or named stays."""

import errno
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from common import documents
from common.database import Database
from common.documents import SHARDS, Documents, Stored
from common.identifiers import new_id
from common.jobs import State
from tests.service.test_job_states import accept, claim, finish, new_job
from tests.stack import Account
from workers import orphans
from workers.orphans import ROUND_SECONDS, YOUNG, Named, Sweeper, is_orphan

DAY_AGO = timedelta(hours=25)


@pytest.fixture
def own(tmp_path: Path) -> Documents:
    """A store of the test's own: those of the others would take its time."""
    return Documents((tmp_path / "objects").as_uri())


@pytest.fixture(autouse=True)
def _from_the_beginning(db: Database) -> None:
    with db.transaction() as connection:
        connection.execute(text("delete from rounds"))


def put(folder: Path, key: str, *, age: timedelta = DAY_AGO) -> str:
    path = folder / "objects" / key
    # Some of them no store would write under such a name.
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"%PDF-")
    then = time.time() - age.total_seconds()
    os.utime(path, (then, then))
    return key


def there(folder: Path, key: str) -> bool:
    return (folder / "objects" / key).exists()


def stamped(db: Database, account: Account) -> UUID:
    job_id = accept(db, new_job(account))
    taken = claim(db, job_id)
    assert taken is not None
    assert finish(db, taken)
    with db.transaction() as connection:
        connection.execute(
            text("update jobs set result_key = :key, attempt = 2 where id = :id"),
            {"key": documents.result_key(job_id, 2), "id": job_id},
        )
    return job_id


def test_what_crashes_left_behind_is_removed_and_all_else_stays(
    own: Documents, db: Database, account: Account, tmp_path: Path
) -> None:
    done, purged, unknown, young = stamped(db, account), stamped(db, account), new_id(), new_id()
    with db.transaction() as connection:
        connection.execute(text("update jobs set purged_at = now() where id = :id"), {"id": purged})
        connection.execute(
            text(
                "insert into events (id, partner_id, mode, type, job_id, payload) select"
                " gen_random_uuid(), partner_id, mode, 'job.purged', id, '{}' from jobs"
                " where id = :id"
            ),
            {"id": purged},
        )
    kept = [
        put(tmp_path, documents.original_key(done)),
        put(tmp_path, documents.result_key(done, 2)),
        put(tmp_path, documents.original_key(young), age=timedelta(hours=23)),
        put(tmp_path, f"{SHARDS[0]}/no-job/file"),
        put(tmp_path, f"inbox/{new_id()}.pdf"),
    ]
    left = [
        put(tmp_path, documents.result_key(done, 1)),
        # What is left of a file that was being written when its process died.
        put(tmp_path, f"{documents.original_key(done)}#1"),
        put(tmp_path, documents.original_key(unknown)),
        put(tmp_path, documents.result_key(purged, 2)),
    ]
    sweeper = Sweeper(database=db, documents=own)
    assert sweeper.sweep() == len(left)
    assert [there(tmp_path, key) for key in kept] == [True] * len(kept)
    assert not any(there(tmp_path, key) for key in left)
    assert not (tmp_path / "objects" / left[2]).parent.exists(), "its folder is gone too"
    assert sweeper.sweep() == 0


def test_a_clock_that_jumps_makes_nothing_old(own: Documents, db: Database, tmp_path: Path) -> None:
    key = put(tmp_path, documents.original_key(new_id()), age=timedelta(hours=23, minutes=30))

    def ahead() -> datetime:
        return datetime.now(UTC) + timedelta(days=30)

    assert Sweeper(database=db, documents=own, now=ahead).sweep() == 0
    assert there(tmp_path, key)


def test_a_round_goes_on_where_the_last_one_ended(
    own: Documents, db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "SLICE", 2)
    for shard in (0, 0, 0, 0, 0, 255):
        # The last digits say the shard.
        job_id = UUID(int=(new_id().int & ~0xFF) | shard)
        put(tmp_path, documents.original_key(job_id))
    seconds = iter(range(0, 10_000, int(ROUND_SECONDS)))
    removed = [
        Sweeper(database=db, documents=own, clock=lambda: next(seconds)).sweep()
        for _ in range(3 + len(SHARDS))
    ]
    assert removed[:3] == [0, 0, 0], "no time is left after the first look at the clock"
    per_round = iter(range(10_000))
    slow = [
        Sweeper(
            database=db, documents=own, clock=lambda: next(per_round) * ROUND_SECONDS * 0.6
        ).sweep()
        for _ in range(3)
    ]
    assert slow == [2, 2, 1], "one slice a round"
    assert Sweeper(database=db, documents=own).sweep() == 1, "the other end of the store"


def test_one_that_cannot_be_removed_keeps_no_other_from_its_turn(
    own: Documents, db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The last digits say the shard.
    first, other = (UUID(int=(new_id().int & ~0xFF) | shard) for shard in (0, 255))
    stuck, loose = (put(tmp_path, documents.original_key(job_id)) for job_id in (first, other))
    unlink = Path.unlink

    def refuse_one(path: Path, missing_ok: bool = False) -> None:
        if path == tmp_path / "objects" / stuck:
            raise PermissionError(errno.EPERM, "Operation not permitted", str(path))
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse_one)
    assert Sweeper(database=db, documents=own).sweep() == 1
    assert (there(tmp_path, stuck), there(tmp_path, loose)) == (True, False)


@pytest.mark.parametrize("attempt", [1, 2])
def test_the_file_of_an_attempt_in_progress_is_nobodys_orphan(attempt: int) -> None:
    job_id, now = new_id(), datetime.now(UTC)
    stored = Stored(documents.result_key(job_id, attempt), now - timedelta(days=2))
    job = Named(State.STAMPING, 2, None, purged=False)
    assert is_orphan(stored, job_id, job, before=now - YOUNG) == (attempt == 1)


def test_a_shard_is_listed_in_order_from_any_place_in_a_folder_and_elsewhere(
    tmp_path: Path,
) -> None:
    for store in (Documents((tmp_path / "objects").as_uri()), Documents("memory:///")):
        ids = sorted(UUID(int=(new_id().int & ~0xFF) | 0xAB) for _ in range(3))
        keys = [k for i in ids for k in (documents.original_key(i), documents.result_key(i, 1))]
        for key in [*keys, documents.original_key(UUID(int=0xAC))]:
            store.put(key, b"x")
        assert [each.key for each in store.list_shard("ab", after="", limit=100)] == keys
        assert [each.key for each in store.list_shard("ab", after="", limit=3)] == keys[:3]
        assert [each.key for each in store.list_shard("ab", after=keys[2], limit=100)] == keys[3:]
        assert store.list_shard("ab", after=keys[-1], limit=100) == []
        assert store.list_shard("00", after="", limit=100) == []
        assert [documents.job_of(key) for key in keys[::2]] == ids
        store.delete_job(ids[0])
        store.delete_job(ids[0])
        assert [each.key for each in store.list_shard("ab", after="", limit=100)] == keys[2:]


@pytest.mark.parametrize("key", ["", "ab", "ab/x/original.pdf", f"ab/{UUID(int=1)}/a", "inbox/a"])
def test_what_is_not_in_a_jobs_folder_is_nobodys(key: str) -> None:
    assert documents.job_of(key) is None
