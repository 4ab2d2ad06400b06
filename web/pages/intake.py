"""How the intake stands, in words for everybody: open, slowed or closed, and how long it takes now."""

from dataclasses import dataclass
from datetime import datetime

from flask_babel import gettext

from common import lanes
from common.admission import Kind, Setting, State
from web.parts import parts


@dataclass(frozen=True, slots=True)
class Closed:
    """Why a gate is closed or slowed, and until when; both may be unknown."""

    reason: str | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Notice:
    """What is said of one gate that is not simply open."""

    who: str
    what: str
    why: Closed


@dataclass(frozen=True, slots=True)
class Intake:
    """What the home page says of the intake.

    Attributes:
        notices: of the gates that somebody has slowed or closed.
        stamped_in: seconds until what an applicant submits now is stamped; None when not measured.
        waiting: how many wait in the room.
        room_seconds: how long somebody who comes now waits there; None when nobody knows.
    """

    notices: list[Notice]
    stamped_in: int | None
    waiting: int
    room_seconds: int | None


def closed_of(setting: Setting) -> Closed:
    """Return why a gate is set so, and until when."""
    return Closed(setting.reason, setting.reopens_at)


def intake() -> Intake:
    """Return how the intake stands now."""
    keeper = parts().gatekeeper
    notices = [
        Notice(_who(kind), _what(setting.state), closed_of(setting))
        for kind in Kind
        if (setting := keeper.setting(kind)).state is not State.OPEN
    ]
    seconds = keeper.lane(Kind.APPLICANT, lanes.APPLICANT_LANE).seconds_left
    board = keeper.board()
    waiting = 0 if board is None else board.waiting
    last = None if board is None else board.stand(board.last, keeper.now().timestamp()).seconds
    return Intake(
        notices,
        None if seconds is None else round(seconds),
        waiting,
        None if last is None else round(last),
    )


def _who(kind: Kind) -> str:
    match kind:
        case Kind.APPLICANT:
            said = gettext("Pengirim dengan voucher")
        case Kind.PARTNER:
            said = gettext("Portal mitra")
        case Kind.BULK:
            said = gettext("Kiriman massal portal mitra")
    return str(said)


def _what(state: State) -> str:
    if state is State.CLOSED:
        return str(gettext("penerimaan dokumen sedang ditutup."))
    return str(gettext("penerimaan dokumen sedang diperlambat."))
