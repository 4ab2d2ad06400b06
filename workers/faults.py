"""What went wrong with an attempt, and what follows: one pure function from an exception to its class.

    document   the document, or the place that was asked for: the job fails at once
    passing    something that all jobs need is away or slow: tried again, without end
    ours       everything else: tried again a few times, then the job is parked

A fault is passing only if it is known to be: what nobody thought of ends where people look at it.
Nothing here knows of jobs or tasks.
"""

import errno
import socket
from collections.abc import Iterator
from random import Random

import kombu.exceptions
import redis
import sqlalchemy.exc
from billiard.exceptions import SoftTimeLimitExceeded

from common import database
from common.documents import StoreAwayError
from common.jobs import SetbackKind
from workers.fetching import FetchError
from workers.keyring import NoValidKeyError
from workers.sealer import LevelMissedError, SigningKeyRevokedError
from workers.sealing import SealingError
from workers.sealing.signing.hsm import TokenError
from workers.timestamping import AuthoritiesDownError

FIRST_RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 600.0
# What operators read of an exception; a library's may hold a page.
LONGEST_REASON = 300


class TookTooLongError(Exception):
    """The time of an attempt was up, and it was not the document that took it."""


_PASSING = (
    TookTooLongError,
    # Where the document takes the time, `stamping.py` says so itself.
    SoftTimeLimitExceeded,
    # No connection to the database was free.
    sqlalchemy.exc.TimeoutError,
    # The object store: away, slow, full, or its credentials have run out.
    StoreAwayError,
    # The broker.
    kombu.exceptions.OperationalError,
    redis.ConnectionError,
    redis.TimeoutError,
    # Timestamp authorities and revocation services.
    AuthoritiesDownError,
    LevelMissedError,
    FetchError,
    # Keys: the token is away, or no key may sign; nothing that a job could do about it.
    TokenError,
    NoValidKeyError,
    SigningKeyRevokedError,
    ConnectionError,
    TimeoutError,
    socket.gaierror,
)
# Of the machine: no room, no descriptors, a disk or a network folder that fails.
_PASSING_NUMBERS = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE),
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN),
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH),
    }
)


def kind_of(error: BaseException) -> SetbackKind:
    """Return the class of a fault: document, passing or ours."""
    if isinstance(error, SealingError):
        return SetbackKind.DOCUMENT
    if isinstance(error, _PASSING):
        return SetbackKind.PASSING
    if isinstance(error, sqlalchemy.exc.DBAPIError):
        return SetbackKind.PASSING if database.is_passing(error) else SetbackKind.OURS
    if isinstance(error, OSError) and error.errno in _PASSING_NUMBERS:
        return SetbackKind.PASSING
    return SetbackKind.OURS


def reason_of(error: BaseException) -> str:
    """Return what operators read of a fault: its kind and the first line that it says, cut short."""
    first = next(_lines(str(error)), "")
    said = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return said[:LONGEST_REASON]


def retry_seconds(attempt: int, random: Random) -> float:
    """Return how long to wait after an attempt that failed; attempts count from 1.

    Full jitter: anything from nothing to a bound, so that jobs that failed together do not come back
    together. The bound is 5 s and doubles with each further attempt, up to 10 minutes.
    """
    bound = FIRST_RETRY_SECONDS * 2.0 ** min(attempt - 1, 16)
    return random.uniform(0, min(LONGEST_RETRY_SECONDS, bound))


def _lines(said: str) -> Iterator[str]:
    # PostgreSQL takes no NUL in a text.
    return (line.strip() for line in said.replace("\0", " ").splitlines() if line.strip())
