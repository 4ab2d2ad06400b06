"""What an exception means for a job, and how long a job waits after a fault."""

import errno
import socket
from random import Random

import kombu.exceptions
import pytest
import redis
import sqlalchemy.exc
from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError
from psycopg import errors as postgres

from common.documents import MissingDocumentError, StoreAwayError
from common.jobs import SetbackKind
from common.ledger import NothingHeldError
from workers.faults import LONGEST_REASON, TookTooLongError, kind_of, reason_of, retry_seconds
from workers.fetching import FetchError
from workers.keyring import NoValidKeyError
from workers.lost import setback_of
from workers.sealer import LevelMissedError, SigningKeyRevokedError
from workers.sealing import SealingError
from workers.sealing.errors import CrossReferenceError
from workers.sealing.signing.algorithms import KeyUnusableError
from workers.sealing.signing.hsm import TokenError
from workers.stamping import DocumentChangedError
from workers.timestamping import AuthoritiesDownError

DISK_FULL = OSError(errno.ENOSPC, "No space left on device")


def said_by(kind: type[sqlalchemy.exc.DBAPIError], error: Exception) -> sqlalchemy.exc.DBAPIError:
    return kind("select 1", {}, error)


@pytest.mark.parametrize(
    "error",
    [
        said_by(sqlalchemy.exc.OperationalError, postgres.AdminShutdown()),
        said_by(sqlalchemy.exc.OperationalError, postgres.QueryCanceled()),
        said_by(sqlalchemy.exc.OperationalError, postgres.DiskFull()),
        said_by(sqlalchemy.exc.InternalError, postgres.ReadOnlySqlTransaction()),
        said_by(sqlalchemy.exc.InternalError, postgres.IdleInTransactionSessionTimeout()),
        sqlalchemy.exc.DatabaseError("select 1", {}, Exception(), connection_invalidated=True),
        sqlalchemy.exc.TimeoutError(),
        StoreAwayError("error sending request"),
        kombu.exceptions.OperationalError(),
        redis.ConnectionError(),
        redis.TimeoutError(),
        AuthoritiesDownError("all"),
        LevelMissedError("no revocation data"),
        FetchError("no answer"),
        TokenError("there is no token"),
        NoValidKeyError("all have ended"),
        SigningKeyRevokedError("replace it"),
        TookTooLongError(),
        SoftTimeLimitExceeded(),
        DISK_FULL,
        OSError(errno.EMFILE, "Too many open files"),
        ConnectionResetError(),
        TimeoutError(),
        socket.gaierror(),
    ],
    ids=repr,
)
def test_what_all_jobs_need_comes_back_and_no_job_ends_by_it(error: Exception) -> None:
    assert kind_of(error) is SetbackKind.PASSING


@pytest.mark.parametrize("error", [SealingError("no_room"), CrossReferenceError()], ids=repr)
def test_the_document_is_at_fault_where_the_engine_says_so(error: Exception) -> None:
    assert kind_of(error) is SetbackKind.DOCUMENT


@pytest.mark.parametrize(
    "error",
    [
        KeyError("a bug"),
        MemoryError(),
        RecursionError(),
        DocumentChangedError("the stored document is damaged"),
        MissingDocumentError("original.pdf"),
        NothingHeldError("nothing is held"),
        KeyUnusableError("is not the key of that certificate"),
        said_by(sqlalchemy.exc.ProgrammingError, postgres.UndefinedColumn()),
        said_by(sqlalchemy.exc.IntegrityError, postgres.CheckViolation()),
        FileNotFoundError(errno.ENOENT, "No such file"),
    ],
    ids=repr,
)
def test_what_nobody_thought_of_is_ours(error: Exception) -> None:
    assert kind_of(error) is SetbackKind.OURS


def test_operators_read_the_first_line_and_not_a_page() -> None:
    assert reason_of(ValueError("\n one\ntwo")) == "ValueError: one"
    assert reason_of(KeyError()) == "KeyError"
    assert "\0" not in reason_of(ValueError("a\0b"))
    assert len(reason_of(ValueError("x" * 10_000))) == LONGEST_REASON


class Highest(Random):
    """Always draws the upper bound."""

    def uniform(self, a: float, b: float) -> float:
        assert a == 0
        return b


def test_the_bound_of_the_wait_doubles_up_to_ten_minutes() -> None:
    highest = Highest()
    assert [retry_seconds(attempt, highest) for attempt in (1, 2, 3)] == [5, 10, 20]
    assert retry_seconds(8, highest) == 600
    assert retry_seconds(10_000, highest) == 600


def test_jobs_that_failed_together_do_not_come_back_together() -> None:
    random = Random(7)
    waits = [retry_seconds(6, random) for _ in range(1000)]
    assert min(waits) < 10
    assert max(waits) > 150
    assert len(set(waits)) == 1000


@pytest.mark.parametrize(
    ("error", "held", "ending", "kind", "counts"),
    [
        (WorkerLostError("signal 9"), True, False, SetbackKind.KILLED, True),
        (WorkerLostError("signal 9"), False, False, SetbackKind.LOST, True),
        (TimeLimitExceeded(48), True, False, SetbackKind.KILLED, True),
        (TimeLimitExceeded(48), False, False, SetbackKind.PASSING, False),
        (WorkerLostError("signal 15"), True, True, SetbackKind.LOST, False),
    ],
)
def test_a_death_is_held_against_the_document_only_with_the_document_in_the_hands(
    error: Exception, held: bool, ending: bool, kind: SetbackKind, counts: bool
) -> None:
    setback, held_against_it = setback_of(error, held=held, ending=ending)
    assert (setback.kind, held_against_it) == (kind, counts)
