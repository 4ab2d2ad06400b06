"""The worker of the lane `check` with tasks that do what hostile files would like to do."""

import os
import signal
from typing import Any
from uuid import UUID

from workers.desk import PARTS, Answered, app


def _serve(question_id: str, work: Any) -> None:
    PARTS.bounded_desk.serve(UUID(question_id), work)


def _burn(_document: bytes, _asked: dict[str, Any]) -> None:
    while True:
        pass


def _swallow(_document: bytes, _asked: dict[str, Any]) -> None:
    while True:
        try:
            _burn(_document, _asked)
        except Exception:
            continue


def _grow(_document: bytes, _asked: dict[str, Any]) -> None:
    held = b""
    while True:
        held += bytes(16 * 1024 * 1024)


def _die(_document: bytes, _asked: dict[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="tests.burn", base=Answered)
def burn(question_id: str) -> None:
    _serve(question_id, _burn)


@app.task(name="tests.swallow", base=Answered)
def swallow(question_id: str) -> None:
    _serve(question_id, _swallow)


@app.task(name="tests.grow", base=Answered)
def grow(question_id: str) -> None:
    _serve(question_id, _grow)


# Celery may take five seconds to notice a death; the time limit must not come first.
@app.task(name="tests.die", base=Answered, soft_time_limit=20, time_limit=22)
def die(question_id: str) -> None:
    _serve(question_id, _die)
