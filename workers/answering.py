"""Answers one question about one file: whatever the file does to the process, the client is told.

Time and memory that run out, and a process that died on the file, are the document's problem
(`document_unprocessable`); everything else that goes wrong is ours.
"""

import resource
from collections.abc import Callable
from typing import Any
from uuid import UUID

from billiard.exceptions import SoftTimeLimitExceeded

from common.documents import Documents, MissingDocumentError, StoreAwayError, inbox_key
from common.problems import Code, ProblemError
from common.replies import MOST_RUNS, Answerer, Question
from common.telemetry import logger

log = logger(__name__)

# What the task needs besides its id: the file, and what was asked about it.
Work = Callable[[bytes, dict[str, Any]], Any]


class Desk:
    """Answers questions with the parts of one worker process."""

    def __init__(self, *, documents: Documents, answerer: Answerer) -> None:
        """Take the parts; nothing is opened here."""
        self._documents = documents
        self._answerer = answerer

    def serve(self, question_id: UUID, work: Work) -> None:
        """Answer a question, if somebody still waits for the answer.

        Args:
            question_id: the question's.
            work: does what was asked; raises ProblemError for what the document or the question has.
        """
        question = self._answerer.take(question_id)
        if question is None:
            log.info("nobody waits")
            return
        try:
            answer = self._look(question, work)
        except ProblemError as error:
            log.info("refused", code=error.code, facts=error.facts)
            self._answerer.refuse(question_id, error)
        except MissingDocumentError:
            log.info("nobody waits")
        except StoreAwayError as error:
            log.error("store away", error=str(error))
            self._answerer.refuse(question_id, ProblemError(Code.SERVICE_UNAVAILABLE))
        except Exception:
            log.exception("not answered")
            self._answerer.refuse(question_id, ProblemError(Code.INTERNAL_ERROR))
        else:
            self._answerer.answer(question_id, answer)
        self._documents.delete(inbox_key(question_id))

    def _look(self, question: Question, work: Work) -> Any:
        if question.run > MOST_RUNS:
            raise unprocessable("crash")
        document = self._documents.get(inbox_key(question.id))
        try:
            return work(document, question.asked)
        except SoftTimeLimitExceeded as error:
            raise unprocessable("time") from error
        except MemoryError as error:
            raise unprocessable("memory") from error

    def killed(self, question_id: UUID) -> None:
        """Tell the client of a question whose process had to be killed for its time.

        Called in the process that the others are forked from, so the store is left alone: its
        threads would not survive a fork. The front end removes the file when it reads this.
        """
        self._answerer.refuse(question_id, unprocessable("time"))


def limit_memory(most_bytes: int) -> None:
    """Make allocations fail beyond this for the rest of this process; they raise MemoryError.

    RLIMIT_DATA counts what the process writes to (setrlimit(2)), not the libraries that it maps.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = most_bytes if hard == resource.RLIM_INFINITY else min(most_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def unprocessable(reason: str) -> ProblemError:
    """Return the problem of a document that asks for more than a document may."""
    return ProblemError(Code.DOCUMENT_UNPROCESSABLE, facts={"reason": reason})
