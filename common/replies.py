"""Asking a worker while the client waits: what the front end, which parses no PDF, cannot answer.

The front end stores the upload under `inbox/`, leaves the question in Valkey, sends its id to the
lane `check` and waits on a list of its own. Nothing here is a record: without a worker, without
Valkey or without a free place to wait, the client is told at once or in time to come back later.

Answers, pictures included, travel through Valkey rather than the object store: they are small and
bounded, their keys end by themselves, and a front end that dies while it waits leaves nothing behind.
"""

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

import kombu.exceptions
import orjson
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from common import lanes
from common.documents import Documents, inbox_key
from common.identifiers import new_id
from common.lanes import LanesApp
from common.problems import Code, ProblemError
from common.settings import Settings, WebSettings
from common.telemetry import QUESTIONS, logger

log = logger(__name__)

# A picture of a page as base64 and some kilobytes of facts; a larger answer is not sent.
ANSWER_BYTES = 4 * 1024 * 1024
# A process that died on a file is not followed by another: noticing a death takes Celery up to five
# seconds, and the client would be gone after the second.
MOST_RUNS = 1
# Past the client's own limit, so that keys end after everybody who could use them.
_GRACE_SECONDS = 30

# Counts a delivery of a question that somebody still waits for. Returns the count and the question.
_TAKE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return false end
return {redis.call('HINCRBY', KEYS[1], 'runs', 1), redis.call('HGET', KEYS[1], 'asked')}
"""


class Asker:
    """The front end's side: asks, and waits a bounded time. Safe to share between threads."""

    def __init__(self, *, settings: WebSettings, documents: Documents, celery: LanesApp) -> None:
        """Take the parts; connects at the first question."""
        self._seconds = settings.answer_seconds
        # A thread that waits serves nobody else: the places leave threads for uploads and pages.
        self._places = threading.BoundedSemaphore(settings.answer_waits)
        self._documents = documents
        self._celery = celery
        self._valkey = _client(settings, patience_seconds=2)
        # For the one question whose answer takes its time.
        self._waiting = _client(settings, patience_seconds=settings.answer_seconds + 2)

    def ask(self, task: str, document: bytes, asked: Mapping[str, Any]) -> Any:
        """Have a worker look into a document; returns what the task answers.

        Args:
            task: a task of the lane `check`, by its name in `common.lanes`.
            document: the file; whoever comes to an end with it removes it from the store.
            asked: JSON values that the task needs besides.

        Raises:
            ProblemError: `service_unavailable` when no answer can be had in time; otherwise the
                problem that the worker found.
        """
        if not self._places.acquire(blocking=False):
            raise _later(task, "full", "too many files are being looked at just now", seconds=5)
        try:
            return self._ask(task, document, asked)
        finally:
            self._places.release()

    def _ask(self, task: str, document: bytes, asked: Mapping[str, Any]) -> Any:
        question_id = new_id()
        answer: dict[str, Any] = {}
        try:
            answer = self._wait(task, question_id, document, asked)
        except (redis.RedisError, kombu.exceptions.OperationalError) as error:
            log.warning("broker away", task=task, error=str(error))
            raise _later(
                task, "away", "the workers cannot be reached just now", seconds=5
            ) from None
        finally:
            if "answer" not in answer:
                self._forget(question_id)
        if not answer:
            raise _later(task, "late", f"no worker answered within {self._seconds:g} s", seconds=10)
        QUESTIONS.labels(task, answer.get("problem", {}).get("code", "answered")).inc()
        if "problem" in answer:
            problem = answer["problem"]
            raise ProblemError(Code(problem["code"]), problem["detail"], problem["facts"])
        return answer["answer"]

    def _wait(
        self, task: str, question_id: UUID, document: bytes, asked: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return what a worker said; nothing when none did in time."""
        deadline = time.monotonic() + self._seconds
        # The question first: when Valkey is away, nothing was stored yet.
        with self._valkey.pipeline() as pipeline:
            pipeline.hset(_question_key(question_id), "asked", orjson.dumps(asked).decode())
            pipeline.expire(_question_key(question_id), round(self._seconds) + _GRACE_SECONDS)
            pipeline.execute()
        self._documents.put(inbox_key(question_id), document, lasting=False)
        lanes.publish_question(self._celery, task, question_id, expires_seconds=self._seconds)
        # A timeout of zero would mean for ever.
        left = max(0.05, deadline - time.monotonic())
        found = cast(
            "tuple[bytes, bytes] | None",
            self._waiting.blpop([_answer_key(question_id)], timeout=left),
        )
        return {} if found is None else orjson.loads(found[1])

    def _forget(self, question_id: UUID) -> None:
        """Leave: a worker that takes the question up later finds nothing."""
        with suppress(redis.RedisError):
            self._valkey.delete(_question_key(question_id))
        # What cannot be removed now, upkeep removes.
        with suppress(Exception):
            self._documents.delete(inbox_key(question_id))


@dataclass(frozen=True, slots=True)
class Question:
    """What a client waits for; `run` counts how often it was handed to a worker, from 1."""

    id: UUID
    asked: dict[str, Any]
    run: int


class Answerer:
    """The workers' side: takes questions and answers them."""

    def __init__(self, settings: Settings) -> None:
        """Prepare a client; connects at the first use."""
        self._valkey = _client(settings, patience_seconds=5)
        self._take = self._valkey.register_script(_TAKE)

    def take(self, question_id: UUID) -> Question | None:
        """Return the question, or None when nobody waits for its answer any more."""
        found = cast("list[Any] | None", self._take(keys=[_question_key(question_id)]))
        if found is None:
            return None
        return Question(question_id, orjson.loads(found[1]), int(found[0]))

    def answer(self, question_id: UUID, value: Any) -> None:
        """Answer with JSON values; what is too large becomes the document's problem."""
        said = orjson.dumps({"answer": value})
        if len(said) > ANSWER_BYTES:
            self.refuse(
                question_id,
                ProblemError(Code.DOCUMENT_UNPROCESSABLE, facts={"reason": "answer too large"}),
            )
            return
        self._say(question_id, said)

    def refuse(self, question_id: UUID, error: ProblemError) -> None:
        """Answer with a problem."""
        problem = {"code": error.code, "detail": error.detail, "facts": error.facts}
        self._say(question_id, orjson.dumps({"problem": problem}))

    def _say(self, question_id: UUID, said: bytes) -> None:
        """Push the answer and close the question, both or neither."""
        with self._valkey.pipeline() as pipeline:
            pipeline.rpush(_answer_key(question_id), said)
            pipeline.expire(_answer_key(question_id), _GRACE_SECONDS)
            pipeline.delete(_question_key(question_id))
            pipeline.execute()


def _later(task: str, outcome: str, detail: str, *, seconds: int) -> ProblemError:
    QUESTIONS.labels(task, outcome).inc()
    return ProblemError(Code.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": str(seconds)})


def _client(settings: Settings, *, patience_seconds: float) -> redis.Redis:
    return redis.Redis.from_url(
        settings.broker_url,
        socket_timeout=patience_seconds,
        socket_connect_timeout=1,
        # Once and at once, for a connection that a restart cut; waiting would hold up the client.
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    )


def _question_key(question_id: UUID) -> str:
    return f"question:{question_id}"


def _answer_key(question_id: UUID) -> str:
    return f"answer:{question_id}"
