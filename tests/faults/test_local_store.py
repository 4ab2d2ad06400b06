"""The local store when its disk is full, when it is killed in mid-write, when its disk is gone."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from common import documents
from common.database import Database
from common.documents import Documents, StoreAwayError
from common.identifiers import new_id
from common.pace import Pace
from common.settings import WebSettings, WorkerSettings
from deploy.sample import sample_of
from tests.faults.copies import end_wait, front_end, stamper, submit
from tests.faults.disks import Disk, small_disk
from tests.stack import ROOT, Account, eventually


@pytest.fixture(scope="module")
def letter() -> bytes:
    return sample_of(700_000)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk") as small:
        yield small


@pytest.fixture
def edge(web_settings: WebSettings, disk: Disk) -> Iterator[FlaskClient]:
    with front_end(web_settings, object_store_url=disk.folder.as_uri()) as client:
        yield client


def files_of(folder: Path) -> list[Path]:
    return [f for f in folder.rglob("*") if f.is_file() and f.name != "filler"]


def test_a_full_disk_takes_nothing_says_so_and_recovers_by_itself(
    edge: FlaskClient, disk: Disk, account: Account, letter: bytes
) -> None:
    assert submit(edge, account.live, letter).status_code == 202
    (kept,) = files_of(disk.folder)
    disk.fill()
    for _ in range(3):
        answer = submit(edge, account.live, letter)
        assert (answer.status_code, answer.json["code"]) == (503, "service_unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
    ready = edge.get("/readyz")
    assert ready.status_code == 503
    assert ready.json["checks"] == {"database": True, "documents": False, "broker": True}
    assert files_of(disk.folder) == [kept], "no half file, no temporary one"
    quota = edge.get("/v1/quota", headers=account.live).json
    assert (quota["available"], quota["held"]) == (99, 1)
    assert len(edge.get("/v1/jobs", headers=account.live).json["data"]) == 1

    disk.free()
    assert edge.get("/readyz").status_code == 200
    assert submit(edge, account.live, letter).status_code == 202
    assert len(files_of(disk.folder)) == 2


def test_to_a_worker_a_full_disk_is_a_passing_fault(
    edge: FlaskClient,
    disk: Disk,
    worker_settings: WorkerSettings,
    account: Account,
    letter: bytes,
    db: Database,
    lane_pace: Pace,
) -> None:
    accepted = submit(edge, account.live, letter).json
    job_id = UUID(accepted["id"])
    worker = stamper(worker_settings, db, Documents(disk.folder.as_uri()), lane_pace)
    disk.fill()
    with suppress(Exception):
        worker.stamp(job_id)
    assert len(files_of(disk.folder)) == 1
    with db.transaction() as connection:
        state = connection.execute(
            text("select state from jobs where id = :id"), {"id": job_id}
        ).scalar_one()
    assert state == "queued"
    disk.free()
    end_wait(db, job_id)
    worker.stamp(job_id)
    shown = edge.get(f"/v1/jobs/{job_id}", headers=account.live).json
    assert (shown["state"], shown["serial"]) == ("stamped", accepted["serial"])


PUT_FOR_EVER = """
import sys
from common.documents import Documents
store = Documents(sys.argv[1])
content = [bytes(1024 * 1024)] * 200
print("begins", flush=True)
while True:
    store.put(sys.argv[2], content)
"""


def test_a_put_that_is_killed_leaves_no_half_file_under_its_name(tmp_path: Path) -> None:
    """The 200 MB take a good part of a second: the kill meets the put in the middle."""
    store = Documents(tmp_path.as_uri())
    key = documents.original_key(new_id())
    process = subprocess.Popen(
        [sys.executable, "-c", PUT_FOR_EVER, tmp_path.as_uri(), key],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    inbox = tmp_path / documents.INBOX

    def halfway() -> bool:
        return any(f.stat().st_size > 10_000_000 for f in inbox.glob("*"))

    eventually(halfway)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    written = tmp_path / key
    assert not written.exists() or written.stat().st_size == 200 * 1024 * 1024
    (left,) = inbox.iterdir()
    assert left.stat().st_size <= 200 * 1024 * 1024
    # Who repairs it: upkeep, which clears the inbox of what is old.
    later = datetime.now(UTC) + timedelta(minutes=1)
    assert store.clear_inbox(before=later, limit=10) == 1
    assert list(inbox.iterdir()) == []


def test_a_disk_that_is_not_mounted_is_not_written_past(tmp_path: Path) -> None:
    """The folders that were made at the first start are not there: it is another disk's folder."""
    store = Documents(tmp_path.as_uri())
    for folder in tmp_path.iterdir():
        folder.rmdir()
    with pytest.raises(StoreAwayError):
        store.put(documents.original_key(new_id()), b"one")
