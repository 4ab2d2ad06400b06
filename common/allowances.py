"""How much one partner may submit: documents a minute, and submissions at once.

The settings say it for everybody; a partner may have numbers of its own, which a process reads again
after some seconds. They hold back a client that runs wild, they guard nothing: while the database or
Valkey is away, the settings' numbers count, or everything is allowed.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from common.database import Database
from common.rates import Limit
from common.settings import WebSettings

# How long a process goes by what it read; a changed number counts everywhere after this.
KEPT_SECONDS = 10
# Partners that a process keeps in mind.
_MOST = 10_000
MINUTE = 60


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a partner may submit: documents a minute, and submissions at once in a web process."""

    per_minute: int
    at_once: int

    @property
    def limit(self) -> Limit:
        """Return the limit on documents."""
        return Limit("submissions", self.per_minute, MINUTE)


@dataclass(frozen=True, slots=True)
class Own:
    """A partner's own numbers; None: as the settings say."""

    per_minute: int | None = None
    at_once: int | None = None


def own(connection: Connection, partner_id: UUID) -> Own:
    """Return the numbers that a partner has of its own."""
    row = connection.execute(
        text("select submissions_per_minute, submissions_at_once from partners where id = :id"),
        {"id": partner_id},
    ).one_or_none()
    return Own() if row is None else Own(row.submissions_per_minute, row.submissions_at_once)


def set_own(connection: Connection, partner_id: UUID, numbers: Own) -> None:
    """Give a partner numbers of its own, or take them away; both at once."""
    connection.execute(
        text(
            "update partners set submissions_per_minute = :per_minute,"
            " submissions_at_once = :at_once where id = :id"
        ),
        {"id": partner_id, "per_minute": numbers.per_minute, "at_once": numbers.at_once},
    )


def default(settings: WebSettings) -> Allowance:
    """Return what a partner may submit that has no numbers of its own."""
    return Allowance(settings.partner_submissions_per_minute, settings.partner_submissions_at_once)


class Allowances:
    """What each partner may submit, as this process read it last."""

    def __init__(self, database: Database, default: Allowance, clock: Callable[[], float]) -> None:
        """Take the database to read from, and the numbers of who has none."""
        self._database = database
        self._default = default
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[UUID, tuple[float, Allowance]] = {}

    def of(self, partner_id: UUID) -> Allowance:
        """Return what a partner may submit; while the database is away, what was read before."""
        now = self._clock()
        kept = self._kept.get(partner_id)
        if kept is not None and now < kept[0] + KEPT_SECONDS:
            return kept[1]
        try:
            with self._database.reading() as connection:
                numbers = own(connection, partner_id)
        except SQLAlchemyError:
            return self._default if kept is None else kept[1]
        read = Allowance(
            numbers.per_minute or self._default.per_minute,
            numbers.at_once or self._default.at_once,
        )
        with self._lock:
            if len(self._kept) >= _MOST:
                self._kept.clear()
            self._kept[partner_id] = (now, read)
        return read
