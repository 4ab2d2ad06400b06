"""Asking a worker while the client waits: answered, refused, or told in time to come back later."""

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
import redis

from common import lanes
from common.documents import Documents, inbox_key
from common.identifiers import new_id
from common.problems import Code, ProblemError
from common.replies import ANSWER_BYTES, MOST_RUNS, Answerer, Asker
from common.settings import WebSettings
from deploy.servers import free_port
from tests.stack import eventually, run, stop
from workers.answering import Desk

# What no worker knows: the question stays without an answer.
NOBODYS = "tests.nobodys"


@pytest.fixture
def valkey(web_settings: WebSettings) -> redis.Redis:
    return redis.Redis.from_url(web_settings.broker_url)


@pytest.fixture
def answerer(web_settings: WebSettings) -> Answerer:
    return Answerer(web_settings)


@pytest.fixture
def desk(store: Documents, answerer: Answerer) -> Desk:
    return Desk(documents=store, answerer=answerer)


def asker(settings: WebSettings, store: Documents, **changed: Any) -> Asker:
    settings = settings.model_copy(update=changed)
    return Asker(settings=settings, documents=store, celery=lanes.make_celery(settings))


def inbox(settings: WebSettings) -> list[Path]:
    return list((settings.data_dir / "objects" / "inbox").glob("*"))


def asked(valkey: redis.Redis, store: Documents, document: bytes = b"%PDF-") -> UUID:
    """Leave a question as a front end does, without waiting."""
    question_id = new_id()
    valkey.hset(f"question:{question_id}", "asked", '{"page": 1}')
    store.put(inbox_key(question_id), document, lasting=False)
    return question_id


def said(valkey: redis.Redis, question_id: UUID) -> Any:
    found: Any = valkey.lpop(f"answer:{question_id}")
    return None if found is None else orjson.loads(found)


def test_nobody_answers_in_time_and_nothing_is_left(
    web_settings: WebSettings, store: Documents, valkey: redis.Redis
) -> None:
    with pytest.raises(ProblemError) as met:
        asker(web_settings, store, answer_seconds=0.3).ask(NOBODYS, b"%PDF-", {})
    assert met.value.code is Code.SERVICE_UNAVAILABLE
    assert "within 0.3 s" in met.value.detail
    assert met.value.headers["Retry-After"]
    assert inbox(web_settings) == []
    assert list(valkey.scan_iter("question:*")) == []


def test_more_than_a_few_do_not_wait_at_once(web_settings: WebSettings, store: Documents) -> None:
    one = asker(web_settings, store, answer_seconds=3.0, answer_waits=1)
    late: list[str] = []

    def first() -> None:
        try:
            one.ask(NOBODYS, b"%PDF-", {})
        except ProblemError as error:
            late.append(error.detail)

    thread = threading.Thread(target=first)
    thread.start()
    eventually(lambda: inbox(web_settings))
    before = time.monotonic()
    with pytest.raises(ProblemError) as met:
        one.ask(NOBODYS, b"%PDF-", {})
    assert time.monotonic() - before < 1
    assert met.value.code is Code.SERVICE_UNAVAILABLE
    assert "too many" in met.value.detail
    assert met.value.headers["Retry-After"]
    thread.join()
    assert "no worker answered" in late[0]
    with pytest.raises(ProblemError, match="no worker answered"):
        # The place is free again.
        one.ask(NOBODYS, b"%PDF-", {})


def test_without_valkey_the_client_is_told_at_once_and_nothing_is_stored(
    web_settings: WebSettings, store: Documents
) -> None:
    away = asker(web_settings, store, broker_url=f"redis://127.0.0.1:{free_port()}/0")
    before = time.monotonic()
    with pytest.raises(ProblemError) as met:
        away.ask(NOBODYS, b"%PDF-", {})
    assert time.monotonic() - before < 3
    assert met.value.code is Code.SERVICE_UNAVAILABLE
    assert met.value.headers["Retry-After"]
    assert inbox(web_settings) == []


def test_a_question_is_answered_once_and_its_file_removed(
    desk: Desk, valkey: redis.Redis, store: Documents, web_settings: WebSettings
) -> None:
    question_id = asked(valkey, store, b"%PDF-7")
    desk.serve(question_id, lambda document, question: [document.decode(), question["page"]])
    assert said(valkey, question_id) == {"answer": ["%PDF-7", 1]}
    assert inbox(web_settings) == []
    desk.serve(question_id, lambda *_: pytest.fail("a second delivery finds nothing"))
    assert said(valkey, question_id) is None


def test_a_client_that_left_is_not_worked_for(desk: Desk) -> None:
    desk.serve(new_id(), lambda *_: pytest.fail("nobody waits"))


def test_a_file_that_took_a_process_down_is_not_given_another(
    desk: Desk, answerer: Answerer, valkey: redis.Redis, store: Documents
) -> None:
    question_id = asked(valkey, store)
    for _ in range(MOST_RUNS):
        assert answerer.take(question_id) is not None
    desk.serve(question_id, lambda *_: pytest.fail("it would take this one down too"))
    problem = said(valkey, question_id)["problem"]
    assert (problem["code"], problem["facts"]) == ("document_unprocessable", {"reason": "crash"})


def test_our_own_fault_is_not_blamed_on_the_file(
    desk: Desk, valkey: redis.Redis, store: Documents
) -> None:
    question_id = asked(valkey, store)

    def broken(_document: bytes, _question: dict[str, Any]) -> None:
        raise ZeroDivisionError

    desk.serve(question_id, broken)
    assert said(valkey, question_id)["problem"]["code"] == "internal_error"


def test_an_answer_has_a_largest_size(desk: Desk, valkey: redis.Redis, store: Documents) -> None:
    question_id = asked(valkey, store)
    desk.serve(question_id, lambda *_: "x" * ANSWER_BYTES)
    assert said(valkey, question_id)["problem"]["code"] == "document_unprocessable"


def test_answers_that_nobody_fetches_end_by_themselves(
    desk: Desk, valkey: redis.Redis, store: Documents
) -> None:
    question_id = asked(valkey, store)
    desk.serve(question_id, lambda *_: "x")
    seconds: Any = valkey.ttl(f"answer:{question_id}")
    assert 0 < seconds <= 60
    valkey.delete(f"answer:{question_id}")


@pytest.mark.parametrize("content", [b"no certificates", None], ids=["not PEM", "missing"])
def test_a_worker_without_roots_ends_at_once_and_says_why(
    content: bytes | None, environment: dict[str, str], tmp_path: Path
) -> None:
    roots, log = tmp_path / "roots.pem", tmp_path / "log"
    if content is not None:
        roots.write_bytes(content)
    command = ["celery", "-A", "workers.desk", "worker", "-Q", lanes.CHECK_LANE, "-c", "1"]
    variables = environment | {"STAMPEDE_TRUST_ROOTS_FILE": str(roots)}
    process = run([*command, "-n", "rootless@test"], variables, log)
    try:
        assert process.wait(60) == 1
    finally:
        stop(process)
    last = log.read_text().strip().splitlines()[-1]
    assert last.startswith("STAMPEDE_TRUST_ROOTS_FILE cannot be used: ")


@pytest.fixture(scope="module")
def deadly_worker(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """A check worker on a broker database of its own whose tasks do what hostile files would."""
    log = tmp_path_factory.mktemp("deadly") / "check.log"
    variables = environment | {
        "STAMPEDE_BROKER_URL": environment["STAMPEDE_BROKER_URL"].rpartition("/")[0] + "/7",
        "STAMPEDE_CHECK_SECONDS": "1",
        "STAMPEDE_CHECK_MEMORY_BYTES": str(256 * 1024 * 1024),
    }
    command = ["celery", "-A", "tests.service.deadly", "worker", "--loglevel", "INFO"]
    process = run(
        [*command, "-n", "deadly@test", "-c", "1", "-Q", lanes.CHECK_LANE], variables, log
    )
    try:
        eventually(lambda: b" ready" in log.read_bytes(), seconds=60)
        yield variables
    finally:
        stop(process)


@pytest.mark.parametrize(
    "task, reason",
    [
        ("tests.burn", "time"),
        ("tests.swallow", "time"),
        ("tests.grow", "memory"),
        ("tests.die", "crash"),
    ],
)
def test_whatever_a_file_does_to_the_process_the_client_is_told(
    task: str,
    reason: str,
    deadly_worker: dict[str, str],
    web_settings: WebSettings,
    store: Documents,
) -> None:
    one = asker(
        web_settings,
        store,
        broker_url=deadly_worker["STAMPEDE_BROKER_URL"],
        answer_seconds=20.0,
    )
    before = time.monotonic()
    with pytest.raises(ProblemError) as met:
        one.ask(task, b"%PDF-", {})
    assert met.value.code is Code.DOCUMENT_UNPROCESSABLE
    assert met.value.facts == {"reason": reason}
    assert time.monotonic() - before < 15
    eventually(partial(_empty, web_settings))


def _empty(settings: WebSettings) -> bool:
    return inbox(settings) == []
