"""How much a partner may submit: documents a minute, how many at once, how many in its own lanes.

A partner's lanes are first-in, first-out, and some other partner may have the same two. So what a partner
submits beyond a pace of its own goes to the lane for bulk, behind which nobody's single document waits.
One second of that pace is the most that it puts before others; while it goes on faster, all goes to bulk.

The settings say it for everybody; a partner may have numbers of its own, which a process reads again
after some seconds. They hold back a client that runs wild, they guard nothing: while the database or
Valkey is away, the settings' numbers count, or everything is allowed.
"""

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
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
# What a partner's lanes take of it at once, in seconds of its pace.
PROMPT_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a partner may submit: documents a minute, and submissions at once in a web process.

    `prompt_per_minute` of them go to its own lanes, the others to the lane for bulk.
    """

    per_minute: int
    at_once: int
    prompt_per_minute: int

    @property
    def limit(self) -> Limit:
        """Return the limit on documents."""
        return Limit("submissions", self.per_minute, MINUTE)

    @property
    def prompt(self) -> Limit:
        """Return the limit on what goes to its own lanes."""
        count = max(1, self.prompt_per_minute * PROMPT_SECONDS // MINUTE)
        seconds = max(PROMPT_SECONDS, count * MINUTE // self.prompt_per_minute)
        return Limit("prompt", count, seconds, owes=True)


@dataclass(frozen=True, slots=True)
class Own:
    """A partner's own numbers; None: as the settings say."""

    per_minute: int | None = None
    at_once: int | None = None
    prompt_per_minute: int | None = None


def own(connection: Connection, partner_id: UUID) -> Own:
    """Return the numbers that a partner has of its own."""
    row = connection.execute(
        text(
            "select submissions_per_minute, submissions_at_once, prompt_per_minute"
            " from partners where id = :id"
        ),
        {"id": partner_id},
    ).one_or_none()
    return Own() if row is None else Own(*row)


def set_own(connection: Connection, partner_id: UUID, numbers: Own) -> None:
    """Give a partner numbers of its own, or take them away; all at once."""
    connection.execute(
        text(
            "update partners set submissions_per_minute = :per_minute,"
            " submissions_at_once = :at_once, prompt_per_minute = :prompt_per_minute"
            " where id = :id"
        ),
        {"id": partner_id} | asdict(numbers),
    )


def default(settings: WebSettings) -> Allowance:
    """Return what a partner may submit that has no numbers of its own."""
    return Allowance(
        settings.partner_submissions_per_minute,
        settings.partner_submissions_at_once,
        settings.partner_prompt_per_minute,
    )


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
            numbers.prompt_per_minute or self._default.prompt_per_minute,
        )
        with self._lock:
            if len(self._kept) >= _MOST:
                self._kept.clear()
            self._kept[partner_id] = (now, read)
        return read
