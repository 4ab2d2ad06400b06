"""The order that makes "accepted" mean it, seen from outside: what the processes ask of the kernel."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.lanes import STAMP_LANES
from deploy.sample import sample_of
from deploy.servers import Valkey
from tests.faults.copies import granian
from tests.faults.proxy import Endpoint
from tests.faults.traces import Call, calls, tracing
from tests.stack import Account, eventually, run, stop


@pytest.fixture(scope="module")
def own(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Variables with a broker and a store of this test's own: no other worker takes the job."""
    folder = tmp_path_factory.mktemp("own")
    valkey = Valkey(folder / "valkey")
    valkey.start()
    yield environment | {
        "STAMPEDE_BROKER_URL": valkey.url,
        "STAMPEDE_OBJECT_STORE_URL": (folder / "objects").as_uri(),
    }
    valkey.stop()


def the_one(found: list[Call]) -> Call:
    assert len(found) == 1, found
    return found[0]


def committed(trace: list[Call], environment: dict[str, str], statement: str) -> tuple[Call, Call]:
    """Return how the transaction with a statement was committed: what was sent, and its answer."""
    socket = f":{Endpoint.of(environment['STAMPEDE_DATABASE_URL']).port}]"
    said = the_one([c for c in trace if c.is_one("sendto", socket, statement)])
    connection = said.text.partition("(")[2].partition(",")[0]
    sent = next(c for c in trace if said.before(c) and c.is_one("sendto", connection, "COMMIT"))
    answer = next(c for c in trace if sent.before(c) and c.is_one("recvfrom", connection, "COMMIT"))
    return sent, answer


def committed_alone(
    trace: list[Call], environment: dict[str, str], statement: str
) -> tuple[Call, Call]:
    """Return how a statement was committed that is a transaction by itself: sent, and its answer."""
    socket = f":{Endpoint.of(environment['STAMPEDE_DATABASE_URL']).port}]"
    sent = the_one([c for c in trace if c.is_one("sendto", socket, statement)])
    connection = sent.text.partition("(")[2].partition(",")[0]
    before = [c for c in trace if c.before(sent) and c.is_one("sendto", connection)]
    assert not before[-1].is_one("sendto", "BEGIN"), "it is in no transaction with others"
    return sent, next(c for c in trace if sent.before(c) and c.is_one("recvfrom", connection))


def assert_on_disk_before(
    trace: list[Call], *, folder: Path, name: str, bytes_: int, then: Call
) -> None:
    """The file was written and synced, got its name, and both folders above were synced."""
    renamed = the_one([c for c in trace if c.is_one("rename.*", str(folder), f"/{name}")])
    partial = renamed.text.split('"')[1]
    writes = [c for c in trace if c.is_one("write|pwrite64|writev", f"<{partial}>")]
    assert sum(int(c.text.rpartition("= ")[2]) for c in writes) >= bytes_
    synced = the_one([c for c in trace if c.is_one("fsync", f"<{partial}>")])
    assert all(write.before(synced) for write in writes)
    assert synced.before(renamed)
    job_folder = Path(renamed.text.split('"')[3]).parent
    after = [c for c in trace if renamed.before(c) and c.is_one("fsync")]
    folders = [next(c for c in after if c.is_one("fsync", f"<{job_folder}>"))]
    if name == "original.pdf":
        # The first file of the job: its folder is new, and the one above it knows it from now on.
        folders.append(next(c for c in after if c.is_one("fsync", f"<{job_folder.parent}>")))
    assert all(sync.before(then) for sync in folders)


@pytest.mark.system
def test_disk_then_commit_then_answer(
    own: dict[str, str], account: Account, tmp_path: Path
) -> None:
    letter = sample_of(355_000)
    store = Path(own["STAMPEDE_OBJECT_STORE_URL"].removeprefix("file://"))
    web_trace, stamp_trace = tmp_path / "web.strace", tmp_path / "stamp.strace"
    with granian(own, tmp_path, before=tracing(web_trace)) as address:
        accepted = httpx.post(
            f"{address}/v1/jobs",
            content=letter,
            headers=account.live | {"Content-Type": "application/pdf"},
            timeout=60,
        )
        assert accepted.status_code == 202
        stamp = run(
            [
                *("celery", "-A", "workers.app", "worker", "--loglevel", "INFO"),
                *("-n", "traced@test", "-c", "1", "-Q", ",".join(STAMP_LANES)),
            ],
            os.environ | own,
            tmp_path / "stamp.log",
            before=tracing(stamp_trace),
        )
        try:

            def stamped() -> dict[str, Any] | None:
                shown = httpx.get(
                    f"{address}/v1/jobs/{accepted.json()['id']}", headers=account.live
                ).json()
                return shown if shown["state"] == "stamped" else None

            done = eventually(stamped, seconds=90)
        finally:
            stop(stamp)

    accepting = list(calls(web_trace))
    sent, answered = committed_alone(accepting, own, "job.accepted")
    assert_on_disk_before(
        accepting, folder=store, name="original.pdf", bytes_=len(letter), then=sent
    )
    assert answered.before(
        the_one([c for c in accepting if c.is_one("write|writev|sendto|sendmsg", "HTTP/1.1 202")])
    )

    stamping = list(calls(stamp_trace))
    sent, answered = committed_alone(stamping, own, "set state = 'stamped'")
    assert_on_disk_before(
        stamping,
        folder=store,
        name="stamped-1.pdf",
        bytes_=done["stamped"]["bytes"],
        then=sent,
    )
    told = [c for c in stamping if answered.before(c) and c.is_one("sendto", "ZREM")]
    assert told, "only then is the message done with"
