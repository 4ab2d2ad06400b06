"""PostgreSQL refuses, breaks off, or says nothing, as a front end and a worker meet it."""

import io
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from flask.testing import FlaskClient
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InternalError, OperationalError

from common import documents
from common.database import EDGE, Database
from common.documents import Documents
from common.pace import Pace
from common.settings import WebSettings, WorkerSettings
from tests.faults.copies import front_end, stamper, submit
from tests.faults.proxy import Endpoint, Proxy
from tests.stack import Account, eventually

# Of what the statement is told that accepts a document, alone a whole transaction.
ACCEPTING = b'"document_sha256"'
# What a client is to wait at the most, and what a loaded machine adds.
BOUND_SECONDS = EDGE.answer + 3


@pytest.fixture
def wire(environment: dict[str, str]) -> Iterator[Proxy]:
    with Proxy(Endpoint.of(environment["STAMPEDE_DATABASE_URL"])) as proxy:
        yield proxy


@pytest.fixture
def edge(web_settings: WebSettings, wire: Proxy) -> Iterator[FlaskClient]:
    """A front end whose database is behind the wire."""
    with front_end(web_settings, database_url=wire.url(web_settings.database_url)) as client:
        yield client


def test_a_session_that_the_server_has_ended_is_a_database_that_is_away(
    edge: FlaskClient, db: Database
) -> None:
    """As when its clock leaps ahead; psycopg calls it an internal error."""
    with db.engine.connect() as connection:
        connection.execute(text("set idle_in_transaction_session_timeout = '1ms'"))

        def ended() -> DBAPIError | None:
            try:
                connection.execute(text("select 1"))
            except DBAPIError as error:
                return error
            return None

        error = eventually(ended)
        connection.invalidate()
    assert isinstance(error, InternalError)
    with edge.application.test_request_context("/v1/quota"):
        answer = edge.application.make_response(edge.application.handle_user_exception(error))
    assert answer.status_code == 503
    assert 3 <= int(answer.headers["Retry-After"]) <= 8


def assert_nothing_was_taken(answer: Any) -> None:
    assert (answer.status_code, answer.json["code"]) == (503, "service_unavailable")
    assert 3 <= int(answer.headers["Retry-After"]) <= 8


def of_account(db: Database, account: Account) -> list[UUID]:
    with db.transaction() as connection:
        return list(
            connection.execute(
                text("select id from jobs where partner_id = :id"), {"id": account.partner_id}
            ).scalars()
        )


def test_while_it_refuses_nothing_is_taken_and_afterwards_all_goes_on(
    edge: FlaskClient, wire: Proxy, account: Account, letter: bytes, db: Database
) -> None:
    assert submit(edge, account.live, letter).status_code == 202
    wire.refuse()
    assert_nothing_was_taken(submit(edge, account.live, letter))
    assert_nothing_was_taken(edge.get("/v1/jobs", headers=account.live))
    ready = edge.get("/readyz")
    assert (ready.status_code, ready.json["checks"]["database"]) == (503, False)
    assert edge.get("/livez").status_code == 200
    metrics = edge.get("/metrics")
    assert metrics.status_code == 200
    assert b"stampede_lane_waiting{" in metrics.data
    wire.forward()
    assert submit(edge, account.live, letter).status_code == 202
    assert len(of_account(db, account)) == 2


def test_a_silent_one_is_waited_for_once_and_then_left_alone(
    edge: FlaskClient, wire: Proxy, account: Account, letter: bytes
) -> None:
    """The pool has a connection already: it, and a new one in its place, would both be waited for."""
    assert submit(edge, account.test, letter).status_code == 202
    wire.stall()
    began = time.monotonic()
    # It is known who asks, so the acceptance itself was sent; nobody can say what became of it.
    answer = submit(edge, account.test, letter)
    assert (answer.status_code, answer.json["code"]) == (503, "outcome_unknown")
    assert time.monotonic() - began < BOUND_SECONDS
    began, taken = time.monotonic(), wire.taken
    for _ in range(20):
        assert_nothing_was_taken(edge.get("/v1/jobs", headers=account.test))
    assert time.monotonic() - began < EDGE.pause, "none of these waited"
    assert wire.taken == taken, "nor asked"
    wire.forward()
    eventually(lambda: submit(edge, account.test, letter).status_code == 202)


def test_a_silent_one_that_was_never_met_is_not_waited_for_longer(
    edge: FlaskClient, wire: Proxy, account: Account, letter: bytes
) -> None:
    wire.stall()
    began = time.monotonic()
    assert_nothing_was_taken(submit(edge, account.test, letter))
    assert time.monotonic() - began < BOUND_SECONDS


@pytest.mark.parametrize("silent", [False, True])
def test_a_commit_without_an_answer_is_called_unknown_and_the_document_stays(
    edge: FlaskClient,
    wire: Proxy,
    account: Account,
    letter: bytes,
    db: Database,
    store: Documents,
    silent: bool,
) -> None:
    if silent:
        wire.hold_answer_to(ACCEPTING)
    else:
        wire.lose_answer_to(ACCEPTING, times=1)
    keyed = account.live | {"Idempotency-Key": "once"}
    answer = submit(edge, keyed, letter)
    assert (answer.status_code, answer.json["code"]) == (503, "outcome_unknown")
    assert int(answer.headers["Retry-After"]) >= 1
    job_id = UUID(answer.json["job_id"])

    wire.forward()
    assert of_account(db, account) == [job_id], "the server had committed"
    assert store.get(documents.original_key(job_id)) == letter
    # What the answer says to do.
    shown = eventually(
        lambda: (
            a if (a := edge.get(f"/v1/jobs/{job_id}", headers=keyed)).status_code != 503 else None
        )
    )
    assert shown.json["state"] == "queued"
    again = submit(edge, keyed, letter)
    assert (again.status_code, again.json["id"]) == (202, str(job_id))
    assert of_account(db, account) == [job_id]


def test_a_commit_that_never_arrived_is_called_unknown_too_and_can_be_sent_again(
    edge: FlaskClient, wire: Proxy, account: Account, letter: bytes, db: Database
) -> None:
    wire.cut_before(ACCEPTING, times=1)
    answer = submit(edge, account.live, letter)
    assert (answer.status_code, answer.json["code"]) == (503, "outcome_unknown")
    assert "Idempotency-Key is safe" not in answer.json["detail"]
    job_id = answer.json["job_id"]
    assert edge.get(f"/v1/jobs/{job_id}", headers=account.live).status_code == 404
    assert of_account(db, account) == []
    quota = edge.get("/v1/quota", headers=account.live).json
    assert (quota["available"], quota["held"]) == (100, 0)


def test_a_batch_whose_commit_got_no_answer_is_there_under_the_id_that_the_problem_names(
    edge: FlaskClient, wire: Proxy, account: Account, letter: bytes, db: Database, store: Documents
) -> None:
    def send() -> Any:
        form = {
            "jobs": '[{"document": "a"}, {"document": "b"}]',
            "a": (io.BytesIO(letter), "a.pdf"),
            "b": (io.BytesIO(letter), "b.pdf"),
        }
        key = {"Idempotency-Key": "batch"}
        return edge.post("/v1/batches", data=form, headers=account.live | key)

    wire.lose_answer_to(b"COMMIT", after=ACCEPTING, times=1)
    answer = send()
    assert (answer.status_code, answer.json["code"]) == (503, "outcome_unknown")
    batch_id = answer.json["batch_id"]
    assert f"/v1/batches/{batch_id}" in answer.json["detail"]
    made = of_account(db, account)
    assert len(made) == 2
    assert all(store.get(documents.original_key(job_id)) == letter for job_id in made)
    again = send()
    assert (again.status_code, again.json["id"]) == (202, batch_id)
    assert of_account(db, account) == made


def test_who_only_looks_is_not_told_that_anything_may_have_been_done(
    edge: FlaskClient, wire: Proxy, account: Account
) -> None:
    wire.lose_answer_to(b"COMMIT", times=1)
    assert_nothing_was_taken(edge.get("/v1/jobs", headers=account.test))


def test_changing_something_else_is_called_unknown_as_well(
    edge: FlaskClient, wire: Proxy, account: Account
) -> None:
    wire.lose_answer_to(b"COMMIT", after=b"insert into webhook_endpoints", times=1)
    answer = edge.post(
        "/v1/webhook-endpoints",
        json={"url": "https://127.0.0.1:9/hook"},
        headers=account.test,
    )
    assert (answer.status_code, answer.json["code"]) == (503, "outcome_unknown")


@pytest.mark.parametrize("committed", [True, False])
def test_a_worker_whose_finish_got_no_answer_is_right_whether_it_was_committed_or_not(
    edge: FlaskClient,
    worker_settings: WorkerSettings,
    wire: Proxy,
    account: Account,
    letter: bytes,
    db: Database,
    store: Documents,
    lane_pace: Pace,
    committed: bool,
) -> None:
    accepted = submit(edge, account.live, letter).json
    job_id = UUID(accepted["id"])
    behind = Database(wire.url(worker_settings.database_url))
    worker = stamper(worker_settings, behind, store, lane_pace)
    break_it = wire.lose_answer_to if committed else wire.cut_before
    # Finishing is one statement and a transaction by itself; this is among what it is given.
    break_it(b"job.stamped", times=1)
    with suppress(Exception):
        worker.stamp(job_id)
    wire.forward()

    def state() -> tuple[str, str | None]:
        with db.transaction() as connection:
            row = connection.execute(
                text("select state, result_key from jobs where id = :id"), {"id": job_id}
            ).one()
        return row.state, row.result_key

    assert state()[0] == ("stamped" if committed else "queued"), "given back if not finished"
    with db.transaction() as connection:
        # The pause after a passing fault is over.
        connection.execute(
            text("update jobs set not_before = now() where id = :id"), {"id": job_id}
        )
    worker.stamp(job_id)
    ended, key = state()
    assert ended == "stamped"
    assert key == documents.result_key(job_id, 1 if committed else 2)
    assert store.get(key).startswith(letter), "the file that the job is finished with is there"
    quota = edge.get("/v1/quota", headers=account.live).json
    assert (quota["available"], quota["held"], quota["captured"]) == (99, 0, 1)
    shown = edge.get(f"/v1/jobs/{job_id}", headers=account.live).json
    assert shown["serial"] == accepted["serial"]
    behind.close()


def insert_twice(connection: Connection) -> None:
    connection.execute(text("create temp table once (n int unique deferrable initially deferred)"))
    connection.execute(text("insert into once values (1), (1)"))


def test_a_refused_commit_is_no_unknown_one(db: Database) -> None:
    """The server says no: a deferred constraint is looked at by the commit itself."""
    with pytest.raises(IntegrityError), db.transaction() as connection:
        insert_twice(connection)


def test_a_statement_that_takes_too_long_is_ended_by_the_server_and_is_no_silence(
    environment: dict[str, str],
) -> None:
    opened = Database(environment["STAMPEDE_DATABASE_URL"], patience=replace(EDGE, statement=0.05))
    with pytest.raises(OperationalError, match="statement timeout"), opened.transaction() as each:
        each.execute(text("select pg_sleep(30)"))
    assert opened.answers()
    opened.close()


def test_an_answer_that_an_interruption_left_behind_is_not_taken_for_the_next_one(
    environment: dict[str, str],
) -> None:
    """Celery's time limit interrupts a worker wherever it is; the connection goes, the pool stays."""
    opened = Database(environment["STAMPEDE_DATABASE_URL"], pool_size=1)

    def interrupt(_number: int, _frame: object) -> None:
        raise SoftTimeLimitExceeded

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(SoftTimeLimitExceeded), opened.transaction() as connection:
            connection.execute(text("select pg_sleep(2)"))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert opened.answers()
    opened.close()
