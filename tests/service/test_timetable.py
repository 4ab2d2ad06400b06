"""Beat: one leads, the next takes over within seconds, and neither falls with the database or the broker."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from subprocess import Popen

import pytest
from celery import Celery
from sqlalchemy import text

from common import lanes
from common.database import Database
from common.settings import WorkerSettings
from tests.stack import eventually, run
from workers.timetable import MOST_WAITING, OFFICE, RENEW_SECONDS, Timetable


@pytest.fixture(autouse=True)
def _nobody_leads(db: Database) -> Iterator[None]:
    def forget() -> None:
        with db.transaction() as connection:
            connection.execute(text("delete from leaders"))

    forget()
    yield
    forget()


@pytest.fixture
def settings(worker_settings: WorkerSettings) -> WorkerSettings:
    """Those of the other tests, with a part of the broker that nobody else uses."""
    broker = worker_settings.broker_url.removesuffix("/0") + "/7"
    return worker_settings.model_copy(update={"broker_url": broker})


@pytest.fixture
def celery(settings: WorkerSettings) -> Iterator[Celery]:
    app = make_app(settings)
    yield app
    with app.connection_for_write() as connection:
        connection.default_channel.client.flushdb()


def make_app(settings: WorkerSettings) -> Celery:
    app = lanes.make_celery(settings)
    app.conf.beat_schedule = {
        name: {"task": f"tests.{name}", "schedule": 3600.0} for name in ("one", "two")
    }
    return app


def timetable(app: Celery, settings: WorkerSettings) -> Timetable:
    return Timetable(app, settings=settings)


def waiting(app: Celery) -> int:
    with app.connection_for_read() as connection:
        return int(connection.default_channel.client.llen(lanes.UPKEEP_LANE))


def holder(db: Database) -> str | None:
    with db.transaction() as connection:
        found: str | None = connection.execute(
            text("select holder from leaders where office = :office"), {"office": OFFICE}
        ).scalar_one_or_none()
    return found


def set_lease(db: Database, until: str) -> None:
    with db.transaction() as connection:
        connection.execute(
            text("update leaders set lease_until = now() + cast(:until as interval)"),
            {"until": until},
        )


def test_the_one_that_leads_sends_each_round_once_and_the_other_none(
    celery: Celery, settings: WorkerSettings, db: Database
) -> None:
    first, second = (timetable(celery, settings) for _ in range(2))
    assert 0 < first.tick() <= RENEW_SECONDS
    assert holder(db) == first.holder
    assert waiting(celery) == 2
    assert second.tick() == RENEW_SECONDS
    first.tick()
    assert waiting(celery) == 2, "they come again in an hour"
    for each in (first, second):
        each.close()


def test_one_that_ends_leaves_the_lead_to_the_next_at_once(
    celery: Celery, settings: WorkerSettings, db: Database
) -> None:
    first, second = (timetable(celery, settings) for _ in range(2))
    first.tick()
    first.close()
    second.tick()
    assert holder(db) == second.holder
    assert waiting(celery) == 4
    second.close()


@pytest.mark.parametrize("until", ["-1 second", "1 hour"], ids=["frozen", "the clock went back"])
def test_a_lease_that_nobody_renews_is_over_and_whoever_wakes_up_sends_nothing(
    celery: Celery, settings: WorkerSettings, db: Database, until: str
) -> None:
    sleeper, second = (timetable(celery, settings) for _ in range(2))
    sleeper.tick()
    set_lease(db, until)
    second.tick()
    assert holder(db) == second.holder
    sent = waiting(celery)
    sleeper._due.clear()
    sleeper.tick()
    assert waiting(celery) == sent
    for each in (sleeper, second):
        each.close()


def test_without_the_database_it_does_not_lead_and_does_not_fall(
    celery: Celery, settings: WorkerSettings, db: Database
) -> None:
    gone = settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:9/x"})
    alone = timetable(celery, gone)
    assert alone.tick() == RENEW_SECONDS
    assert waiting(celery) == 0
    alone.close()


def test_without_the_broker_it_leads_and_sends_later(
    settings: WorkerSettings, celery: Celery, db: Database
) -> None:
    app = make_app(settings.model_copy(update={"broker_url": "redis://127.0.0.1:9/0"}))
    beat = timetable(app, settings)
    assert 0 < beat.tick() <= RENEW_SECONDS
    assert holder(db) == beat.holder
    beat.app = celery

    def sent() -> bool:
        beat.tick()
        return waiting(celery) == 2

    eventually(sent)
    beat.close()


def test_nothing_is_added_to_a_lane_that_nobody_empties(
    celery: Celery, settings: WorkerSettings
) -> None:
    beat = timetable(celery, settings)
    for _ in range(MOST_WAITING):
        beat._due.clear()
        beat.tick()
    assert waiting(celery) == MOST_WAITING
    beat.close()


def start(name: str, environment: dict[str, str], folder: Path) -> "Popen[bytes]":
    command = ["celery", "-A", "workers.app", "beat", "-S", "workers.timetable:Timetable"]
    pid_file = ["--pidfile", str(folder / f"{name}.pid")]
    return run([*command, *pid_file, "--loglevel", "INFO"], environment, folder / f"{name}.log")


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "freezes"])
def test_a_second_beat_takes_over_within_seconds(
    environment: dict[str, str],
    settings: WorkerSettings,
    celery: Celery,
    db: Database,
    tmp_path: Path,
    sign: signal.Signals,
) -> None:
    variables = environment | {"STAMPEDE_BROKER_URL": settings.broker_url}
    beats = {}
    try:
        for name in ("one", "two"):
            process = start(name, variables, tmp_path)
            beats[process.pid] = process
        leader = eventually(partial(holder, db), seconds=60)
        eventually(partial(waiting, celery))
        pid = int(leader.split("/")[1])
        os.kill(pid, sign)
        eventually(lambda: holder(db) != leader, seconds=60)
        (other,) = beats.keys() - {pid}
        successor = holder(db)
        assert successor is not None
        assert int(successor.split("/")[1]) == other
        if sign is signal.SIGSTOP:
            os.kill(pid, signal.SIGCONT)
            eventually(lambda: b"another one does" in b"".join(logs(tmp_path)), seconds=30)
            assert beats[pid].poll() is None
            assert holder(db) == successor
    finally:
        for process in beats.values():
            with suppress(ProcessLookupError):
                process.kill()
            process.wait(10)


def logs(folder: Path) -> list[bytes]:
    return [log.read_bytes() for log in folder.glob("*.log")]
