"""What stands on the room's wall: how far the turns have come, and how long the others wait.

Written by upkeep from the database, and mirrored in Valkey for the many who ask. A place's number and
the board say all that its holder wants to know, so that a question costs no look at the database. When
the mirror is away or empty, the board is made anew from the database; nothing is lost with it.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar, cast
from uuid import UUID

import orjson
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import Connection, text

from common.admission import Lane, Setting, State
from common.room import places, policy
from common.room.policy import Forecast
from common.settings import Settings

T = TypeVar("T")
# Older than that, somebody else should be asked.
FRESH_SECONDS = 10.0
_KEY = "room:board"
_TIMEOUT_SECONDS = 0.25
_REMEMBERED_SECONDS = 600
# How long it is remembered that a place has ended, beyond which nobody asks for it.
_ENDED_SECONDS = places.KEPT_HOURS * 3600


class PlaceState(StrEnum):
    """Where a place stands, as its holder is told."""

    WAITING = "waiting"
    ADMITTED = "admitted"
    USED = "used"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Stand:
    """Where a place stands now.

    Attributes:
        before: how many come before it; None when nobody knows.
        seconds: how long until its turn; None when nobody knows.
        ends_at: when its slot is over; None also while a closed gate stops the clock.
    """

    state: PlaceState
    before: int | None = 0
    seconds: float | None = None
    ends_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """The board. Times are seconds since 1970, by the database's clock.

    Attributes:
        made_at: when it was made.
        served: all places up to this number have had their turn.
        last: the newest number.
        over: the slots of all places up to this number are over.
        turns: (number, time) of each turn after that: the slots of all up to the number began then.
        slot_seconds: how long a slot is.
        setting: how an operator has set the gate.
        forecast: how long the others wait; None when nobody knows.
    """

    made_at: float
    served: int
    last: int
    over: int
    turns: tuple[tuple[int, float], ...]
    slot_seconds: float
    setting: Setting
    forecast: Forecast | None

    @property
    def closed(self) -> bool:
        """Say whether the clock of slots stands still, until somebody has opened the gate."""
        return self.setting.state is State.CLOSED

    @property
    def waiting(self) -> int:
        """Return how many have not had their turn."""
        return max(0, self.last - self.served)

    def stand(self, number: int, now: float) -> Stand:
        """Return where a place stands at a time."""
        if number > self.served:
            before = number - self.served - 1
            if self.forecast is None:
                return Stand(PlaceState.WAITING, before)
            passed = max(0.0, now - self.made_at)
            return Stand(
                PlaceState.WAITING, before, max(1.0, self.forecast.seconds(before) - passed)
            )
        at = bisect_left(self.turns, (number, 0.0))
        if number <= self.over or at == len(self.turns):
            return Stand(PlaceState.EXPIRED)
        if self.closed:
            return Stand(PlaceState.ADMITTED)
        ends = self.turns[at][1] + self.slot_seconds
        if ends <= now:
            return Stand(PlaceState.EXPIRED)
        return Stand(PlaceState.ADMITTED, ends_at=datetime.fromtimestamp(ends, UTC))

    def as_json(self) -> bytes:
        """Return the board as it is mirrored."""
        return orjson.dumps(self)

    @classmethod
    def from_json(cls, mirrored: bytes) -> "Board":
        """Return a board as it was mirrored.

        Raises:
            ValueError, TypeError, KeyError: it was mirrored by another version.
        """
        said = orjson.loads(mirrored)
        said["turns"] = tuple((up_to, at) for up_to, at in said["turns"])
        said["forecast"] = None if said["forecast"] is None else Forecast(**said["forecast"])
        setting = said["setting"]
        until = setting["reopens_at"]
        said["setting"] = Setting(
            State(setting["state"]),
            setting["rate"],
            setting["reason"],
            None if until is None else datetime.fromisoformat(until),
        )
        return cls(**said)


def make(
    connection: Connection,
    *,
    setting: Setting,
    lane: Lane,
    horizon_seconds: float,
    slot_seconds: float,
) -> Board:
    """Return the board as the database knows it."""
    row = connection.execute(
        text(
            "with gate as (select case when state = 'closed' then least(since, now()) else now() end as clock"
            " from gates where kind = 'applicant'),"
            " recent as (select up_to, at, at + make_interval(secs => :slot) > gate.clock as runs"
            " from waiting_turns, gate"
            " where at > gate.clock - make_interval(secs => :slot + 60))"
            " select extract(epoch from now()) as made_at, now() as now,"
            " coalesce((select max(number) from waiting_places), 0) as last,"
            " coalesce((select max(up_to) from waiting_turns), 0) as served,"
            " (select min(up_to) from recent where runs) as first,"
            " coalesce((select jsonb_agg(jsonb_build_array(up_to, extract(epoch from at))"
            " order by up_to) from recent where runs), '[]') as turns from gate"
        ),
        {"slot": slot_seconds},
    ).one()
    # The turn before the first that runs: the last whose slots are over.
    over = connection.execute(
        text("select coalesce(max(up_to), 0) from waiting_turns where up_to < :first"),
        {"first": row.served + 1 if row.first is None else row.first},
    ).scalar_one()
    room = places.look(connection, slot_seconds=slot_seconds)
    return Board(
        made_at=float(row.made_at),
        served=row.served,
        last=max(row.last, row.served),
        over=over,
        turns=tuple((up_to, float(at)) for up_to, at in row.turns),
        slot_seconds=slot_seconds,
        setting=setting,
        forecast=policy.forecast(
            room, setting=setting, lane=lane, horizon_seconds=horizon_seconds, now=row.now
        ),
    )


class Mirror:
    """The board in Valkey. Every method survives a Valkey that is away."""

    def __init__(self, broker_url: str) -> None:
        """Prepare a client; connects at the first use."""
        self._client = redis.Redis.from_url(
            broker_url,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            # Once and at once, for a connection that a restart cut.
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )

    def write(self, board: Board) -> None:
        """Put the board up."""
        self._ask(lambda: self._client.set(_KEY, board.as_json()))

    def read(self) -> Board | None:
        """Return the board, or None when there is none that can be read."""
        mirrored = self._ask(lambda: cast(bytes | None, self._client.get(_KEY)))
        if mirrored is None:
            return None
        try:
            return Board.from_json(mirrored)
        except (ValueError, TypeError, KeyError):
            return None

    def note_place(self, account_id: UUID, number: int) -> None:
        """Remember a voucher's place for a while, for those who submit again and again before their turn."""
        self._ask(lambda: self._client.set(_of(account_id), number, ex=_REMEMBERED_SECONDS))

    def place_of(self, account_id: UUID) -> int | None:
        """Return the number that was remembered; only a place that still waits is certainly its own."""
        number = self._ask(lambda: cast(bytes | None, self._client.get(_of(account_id))))
        return None if number is None else int(number)

    def note_ended(self, number: int) -> None:
        """Note that a place has ended: what was to be had with it is spent."""
        self._ask(lambda: self._client.set(_ended(number), 1, ex=_ENDED_SECONDS))

    def has_ended(self, number: int) -> bool:
        """Say whether that was noted; not while Valkey is away."""
        return bool(self._ask(lambda: self._client.exists(_ended(number))))

    def _ask(self, question: Callable[[], T]) -> T | None:
        try:
            return question()
        except redis.RedisError:
            return None


def connect(settings: Settings) -> Mirror:
    """Return the mirror that the settings name."""
    return Mirror(settings.broker_url)


def _of(account_id: UUID) -> str:
    return f"room:of:{account_id}"


def _ended(number: int) -> str:
    return f"room:ended:{number}"
