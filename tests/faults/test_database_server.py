"""A PostgreSQL of the test's own: frozen, killed, restarted, and set up carelessly."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import psycopg
import pytest
from sqlalchemy import text

from common import database, partners
from common.database import EDGE, Database
from common.partners import Mode
from deploy.processes import descendants
from deploy.servers import Postgres
from tests.faults.copies import granian
from tests.stack import eventually


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("own") / "postgres")
    server.start()
    database.migrate(server.url)
    yield server
    send(server, signal.SIGCONT)
    server.stop()


@pytest.fixture(scope="module")
def key(postgres: Postgres) -> dict[str, str]:
    """The header of a partner that this server knows."""
    opened = Database(postgres.url)
    with opened.transaction() as connection:
        partner = partners.create(connection, name="frozen out")
        issued = partners.issue_key(connection, partner_id=partner.id, mode=Mode.TEST, label="test")
    opened.close()
    return {"Authorization": f"Bearer {issued.secret}"}


@pytest.fixture(scope="module")
def web(
    postgres: Postgres, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    own = environment | {"STAMPEDE_DATABASE_URL": postgres.url}
    with granian(own, tmp_path_factory.mktemp("web")) as address:
        yield address


def send(server: Postgres, number: signal.Signals) -> None:
    """Signal the server and all of its processes."""
    assert server.process is not None
    # First the one that starts the others; some of these may be ending just now.
    os.kill(server.process.pid, number)
    for pid in descendants(server.process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def answers_of(address: str, key: dict[str, str], *, callers: int) -> list[tuple[int, float]]:
    """Return status and seconds of requests that come at the same moment."""

    def ask(client: httpx.Client) -> tuple[int, float]:
        began = time.monotonic()
        status = client.get(f"{address}/v1/jobs", headers=key).status_code
        return status, time.monotonic() - began

    with httpx.Client(timeout=60, trust_env=False) as client, ThreadPoolExecutor(callers) as pool:
        return list(pool.map(ask, [client] * callers))


def works(address: str, key: dict[str, str]) -> bool:
    return httpx.get(f"{address}/v1/jobs", headers=key, timeout=60).status_code == 200


def test_frozen_it_costs_each_client_a_bounded_time_and_the_front_end_stays_alive(
    postgres: Postgres, web: str, key: dict[str, str]
) -> None:
    assert {status for status, _ in answers_of(web, key, callers=24)} == {200}
    send(postgres, signal.SIGSTOP)
    try:
        first = answers_of(web, key, callers=24)
        assert {status for status, _ in first} == {503}
        # Eight threads wait, and those behind them do not begin to wait again.
        assert max(seconds for _, seconds in first) < EDGE.answer + 3
        for _ in range(3):
            later = answers_of(web, key, callers=24)
            assert {status for status, _ in later} == {503}
            quick = sorted(seconds for _, seconds in later)
            assert quick[-2] < 1, "all but the one who tries are told at once"
            assert httpx.get(f"{web}/livez", timeout=1).status_code == 200
    finally:
        send(postgres, signal.SIGCONT)
    eventually(lambda: works(web, key))


def test_killed_and_started_again_it_is_used_again(
    postgres: Postgres, web: str, key: dict[str, str]
) -> None:
    eventually(lambda: works(web, key))
    postgres.kill()
    assert {status for status, _ in answers_of(web, key, callers=8)} == {503}
    postgres.start()
    eventually(lambda: works(web, key))


def test_commits_are_synchronous_whatever_server_database_and_role_say(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("alter system set synchronous_commit = off")
        connection.execute("alter database stampede set synchronous_commit = off")
        connection.execute("alter role stampede set synchronous_commit = off")
        connection.execute("select pg_reload_conf()")
    with psycopg.connect(postgres.url) as careless:
        assert careless.execute("show synchronous_commit").fetchone() == ("off",)
    for patience in (database.EDGE, database.WORK):
        opened = Database(postgres.url, patience=patience)
        with opened.transaction() as ours:
            assert ours.execute(text("show synchronous_commit")).scalar_one() == "on"
        opened.close()


def test_the_server_of_make_up_writes_through_to_the_disk(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url) as connection:
        for setting in ("fsync", "full_page_writes"):
            assert connection.execute(f"show {setting}").fetchone() == ("on",)
