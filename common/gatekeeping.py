"""The gate as one front end keeps it: what the policy asks for, read once a second and kept.

The gates are read from PostgreSQL and the lanes' pace from Valkey. Where the database is away, the gates
stand as they were last seen; where nothing was ever seen, they are open. Where Valkey is away no lane is
full, because nobody knows. So nothing that is away keeps anybody out.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction

from sqlalchemy.exc import SQLAlchemyError

from common import admission, gates
from common.admission import OPEN, Admit, Decision, Kind, Lane, Setting, Standing, State
from common.database import Database
from common.kept import Kept
from common.lanes import APPLICANT_LANE
from common.pace import Pace
from common.rates import Bucket, Limit, Rates
from common.room import board, places
from common.room.board import FRESH_SECONDS, Board, Mirror
from common.settings import Settings
from common.telemetry import logger

log = logger(__name__)

# How long what was read is kept: half of the two seconds within which a change is felt everywhere.
KEPT_SECONDS = 1.0
# A rate is counted as so many in up to so many seconds, of whole numbers.
_LONGEST_WINDOW_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Gates:
    """The gates as they were last seen, how many wait in the room, and whether any slot may run."""

    settings: dict[Kind, Setting]
    room_waiting: int = 0
    slots_run: bool = False


@dataclass(frozen=True, slots=True)
class SeenLane:
    """A lane as it was last seen, and whether it was full then."""

    lane: Lane
    full: bool


class Gatekeeper:
    """Decides for the requests of one process; may be used by all its threads."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        pace: Pace,
        rates: Rates,
        mirror: Mirror,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Take the parts; nothing is asked here."""
        self._settings = settings
        self._database = database
        self._pace = pace
        self._rates = rates
        self._mirror = mirror
        self._clock = clock
        self._clock_of_day = now
        self._gates = Kept(self._read_gates, seconds=KEPT_SECONDS, clock=clock)
        self._board = Kept(self._read_board, seconds=KEPT_SECONDS, clock=clock)
        self._lanes: dict[str, Kept[SeenLane]] = {}

    def now(self) -> datetime:
        """Return the time that the gates go by."""
        return self._clock_of_day()

    def setting(self, kind: Kind) -> Setting:
        """Return how a gate is set now."""
        return self._gates.get().settings.get(kind, OPEN).at(self.now())

    def horizon_seconds(self, kind: Kind) -> float:
        """Return how long a newcomer may have to wait."""
        return horizon_seconds(self._settings, kind)

    def decide(
        self, kind: Kind, lanes: Sequence[str], *, place: Standing = Standing.NONE
    ) -> Decision:
        """Say whether somebody may come in; takes a turn of a slow gate where only that is missing.

        Args:
            kind: whose gate it is.
            lanes: where the job could go; it will go to the shortest.
            place: of an applicant, in the waiting room.
        """
        seen = self._gates.get()
        # Of two lanes the job goes to the shorter: the gate is full when both are.
        shortest = min(
            (self._seen(kind, lane) for lane in lanes),
            key=lambda each: (each.full, each.lane.seconds_left or 0.0),
        )
        setting = seen.settings.get(kind, OPEN)

        def decide(slow_wait_seconds: float) -> Decision:
            return admission.decide(
                kind=kind,
                setting=setting,
                lane=shortest.lane,
                horizon_seconds=self.horizon_seconds(kind),
                was_full=shortest.full,
                now=self.now(),
                slow_wait_seconds=slow_wait_seconds,
                place=place,
                room_waiting=seen.room_waiting,
            )

        decision = decide(0.0)
        slow = setting.at(self.now()).state is State.SLOW and place is not Standing.TURN
        if not slow or not isinstance(decision, Admit) or setting.rate is None:
            return decision
        [standing] = self._rates.take(Bucket(_limit(kind, setting.rate), ""))
        return decision if standing.allowed else decide(max(1.0, standing.wait_seconds))

    def lane(self, kind: Kind, lane: str) -> Lane:
        """Return a lane as it was last seen."""
        return self._seen(kind, lane).lane

    def board(self) -> Board | None:
        """Return the waiting room's board; None while nobody can be asked, and never could."""
        return self._board.get().board

    def joined(self) -> None:
        """Note that somebody took a place: nobody without one may pass in the second to come."""
        if not self._gates.get().room_waiting:
            self._gates.forget()

    def slots_run(self) -> bool:
        """Say whether anybody's turn came lately, so that a submission may be one of a slot."""
        return self._gates.get().slots_run

    def _seen(self, kind: Kind, name: str) -> SeenLane:
        kept = self._lanes.get(name)
        if kept is None:
            kept = Kept(
                lambda last: self._read_lane(kind, name, last),
                seconds=KEPT_SECONDS,
                clock=self._clock,
            )
            kept = self._lanes.setdefault(name, kept)
        return kept.get()

    def _read_gates(self, last: Gates | None) -> Gates:
        try:
            with self._database.reading() as connection:
                found = gates.show(connection)
                waiting = places.waiting(connection)
                slots_run = places.any_slot_runs(
                    connection, slot_seconds=self._settings.intake_slot_seconds
                )
        except SQLAlchemyError as error:
            log.warning("gates unknown", error=str(error).partition("\n")[0])
            return last or Gates({})
        return Gates({kind: gate.setting for kind, gate in found.items()}, waiting, slots_run)

    def _read_lane(self, kind: Kind, name: str, last: SeenLane | None) -> SeenLane:
        lane = Lane.of(self._pace.lane(name))
        full = admission.is_full(
            lane,
            horizon_seconds=self.horizon_seconds(kind),
            was_full=last is not None and last.full,
        )
        return SeenLane(lane, full)

    def _read_board(self, last: "_Read | None") -> "_Read":
        mirrored = self._mirror.read()
        if mirrored is not None and self.now().timestamp() - mirrored.made_at < FRESH_SECONDS:
            return _Read(mirrored)
        try:
            with self._database.reading() as connection:
                return _Read(
                    board.make(
                        connection,
                        setting=self._gates.get().settings.get(Kind.APPLICANT, OPEN),
                        lane=self.lane(Kind.APPLICANT, APPLICANT_LANE),
                        horizon_seconds=self.horizon_seconds(Kind.APPLICANT),
                        slot_seconds=self._settings.intake_slot_seconds,
                    )
                )
        except SQLAlchemyError:
            return _Read(mirrored or (last.board if last is not None else None))


@dataclass(frozen=True, slots=True)
class _Read:
    """What came of reading the board."""

    board: Board | None


def horizon_seconds(settings: Settings, kind: Kind) -> float:
    """Return how long a newcomer of this kind may have to wait."""
    return {
        Kind.APPLICANT: settings.intake_horizon_seconds,
        Kind.PARTNER: settings.intake_horizon_partner_seconds,
        Kind.BULK: settings.intake_horizon_bulk_seconds,
    }[kind]


def _limit(kind: Kind, rate: float) -> Limit:
    """Return a rate a second as so many in so many seconds, of whole numbers."""
    part = Fraction(rate).limit_denominator(_LONGEST_WINDOW_SECONDS)
    return Limit(f"gate-{kind}", part.numerator, part.denominator)
