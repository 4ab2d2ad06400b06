"""A worker that scales itself: grows with a burst, shrinks after it, and interrupts nobody."""

import base64
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import redis
from flask.testing import FlaskClient
from sqlalchemy import text

from common.database import Database
from common.lanes import STAMP_LANES, make_celery
from common.settings import WebSettings
from deploy.processes import descendants
from deploy.servers import embedded_valkey
from tests.stack import Account, eventually, run, stop
from web.app import create_app
from web.parts import parts

MOST = 4


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey of its own, whose lanes no other worker empties."""
    with embedded_valkey(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture(scope="module")
def front(web_settings: WebSettings, broker: str) -> Iterator[FlaskClient]:
    app = create_app(web_settings.model_copy(update={"broker_url": broker}))
    yield app.test_client()
    with app.app_context():
        parts().database.close()


@contextmanager
def working(
    environment: dict[str, str], broker: str, log: Path, limits: str
) -> Iterator[subprocess.Popen[bytes]]:
    variables = environment | {
        "STAMPEDE_BROKER_URL": broker,
        "STAMPEDE_TARGET_WAIT_SECONDS": "0.1",
        # None of what follows is the relay's doing.
        "STAMPEDE_REPUBLISH_SECONDS": "600",
    }
    command = ["celery", "-A", "tests.service.hasty", "worker", "--loglevel", "INFO", "-E"]
    command += ["-n", "stamp@scaled", "-Q", ",".join(STAMP_LANES), "--autoscale", limits]
    process = run(command, variables, log)
    try:
        eventually(lambda: b" ready" in log.read_bytes(), seconds=60)
        yield process
    finally:
        stop(process)


def submit(front: FlaskClient, account: Account, letter: bytes, count: int) -> list[str]:
    headers = account.live | {"Content-Type": "application/pdf"}
    answers = [front.post("/v1/jobs", data=letter, headers=headers) for _ in range(count)]
    assert all(answer.status_code == 202 for answer in answers)
    return [answer.json["id"] for answer in answers]


def ended(db: Database, ids: list[str], state: str = "stamped") -> bool:
    with db.reading() as connection:
        found = connection.execute(
            text(
                "select count(*) from jobs where id = any(cast(:ids as uuid[])) and state = :state"
            ),
            {"ids": ids, "state": state},
        ).scalar_one()
    return bool(found == len(ids))


def attempts(db: Database, ids: list[str]) -> set[int]:
    with db.reading() as connection:
        return set(
            connection.execute(
                text("select attempt from jobs where id = any(cast(:ids as uuid[]))"), {"ids": ids}
            ).scalars()
        )


def test_a_burst_grows_the_pool_and_a_lull_shrinks_it_and_nothing_is_interrupted(
    environment: dict[str, str],
    broker: str,
    front: FlaskClient,
    make_account: Callable[..., Account],
    letter: bytes,
    db: Database,
    tmp_path: Path,
) -> None:
    account = make_account(quota=1000)
    waiting = submit(front, account, letter, 250)
    with working(environment, broker, tmp_path / "stamp.log", f"{MOST},1") as worker:
        eventually(lambda: len(descendants(worker.pid)) == MOST, seconds=30)
        eventually(partial(ended, db, waiting), seconds=60)
        # While it shrinks, more comes in: what leaves is never what has just been given a job.
        trickle = []
        while len(descendants(worker.pid)) > 1:
            trickle += submit(front, account, letter, 3)
            assert len(trickle) < 600
            time.sleep(0.2)
        eventually(partial(ended, db, trickle), seconds=30)
        again = submit(front, account, letter, 100)
        eventually(partial(ended, db, again), seconds=60)
    assert attempts(db, waiting + trickle + again) == {1}
    log = (tmp_path / "stamp.log").read_text()
    assert "process gone" not in log
    assert "Traceback" not in log


def test_a_process_that_took_a_job_up_a_moment_ago_is_not_ended(
    environment: dict[str, str],
    broker: str,
    front: FlaskClient,
    account: Account,
    web_settings: WebSettings,
    letter: bytes,
    db: Database,
    tmp_path: Path,
) -> None:
    """To billiard a process is busy once its word is read: here the order to shrink is read before it."""
    log = tmp_path / "stamp.log"
    valkey = redis.Redis.from_url(broker)
    control = make_celery(web_settings.model_copy(update={"broker_url": broker})).control
    with working(environment, broker, log, "2,2") as worker:
        eventually(partial(ended, db, submit(front, account, letter, 4)))
        processes = descendants(worker.pid)
        assert len(processes) == 2
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        jobs = submit(front, account, letter, 2)
        eventually(lambda: valkey.hlen("unacked") == 2)
        # Until it has written them into the pipes of its processes.
        time.sleep(0.5)
        worker.send_signal(signal.SIGSTOP)
        control.autoscale(max=1, min=1)
        with db.transaction() as connection:
            # Nothing is captured meanwhile: they are at work until the transaction ends.
            connection.execute(
                text("select 1 from accounts where id = :id for update"),
                {"id": account.live_account_id},
            )
            for process in processes:
                os.kill(process, signal.SIGCONT)
            eventually(partial(ended, db, jobs, "stamping"))
            worker.send_signal(signal.SIGCONT)
            time.sleep(1.5)
            assert descendants(worker.pid) == processes
        eventually(partial(ended, db, jobs))
        eventually(lambda: len(descendants(worker.pid)) == 1)
    assert attempts(db, jobs) == {1}
    assert "process gone" not in log.read_text()


def queued(db: Database, ids: list[str]) -> list[str]:
    with db.reading() as connection:
        found = connection.execute(
            text("select id from jobs where id = any(cast(:ids as uuid[])) and state = 'queued'"),
            {"ids": ids},
        ).scalars()
        return [str(each) for each in found]


def in_the_lanes(valkey: redis.Redis) -> list[str]:
    """Return the jobs that messages in the broker are about; one may be about several."""
    messages = [each for lane in STAMP_LANES for each in valkey.lrange(lane, 0, -1)]
    bodies = [base64.b64decode(json.loads(each)["body"]) for each in messages]
    return [job for body in bodies for job in json.loads(body)[0]]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGQUIT])
def test_a_worker_ended_amid_a_burst_finishes_what_it_has_and_gives_the_rest_back_at_once(
    how: signal.Signals,
    environment: dict[str, str],
    broker: str,
    front: FlaskClient,
    make_account: Callable[..., Account],
    letter: bytes,
    db: Database,
    tmp_path: Path,
) -> None:
    waiting = submit(front, make_account(quota=300), letter, 300)
    with working(environment, broker, tmp_path / "stamp.log", f"{MOST},1") as worker:
        eventually(lambda: len(queued(db, waiting)) < 280, seconds=30)
        worker.send_signal(how)
        worker.wait(30)
    left = queued(db, waiting)
    assert 0 < len(left) < 280
    valkey = redis.Redis.from_url(broker)
    assert valkey.hlen("unacked") == 0
    assert sorted(in_the_lanes(valkey)) == sorted(left)
    with working(environment, broker, tmp_path / "next.log", "2,2"):
        eventually(partial(ended, db, waiting), seconds=60)
    assert attempts(db, waiting) == {1}
