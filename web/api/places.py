"""A place in the waiting room as its holder is told of it, by the API and in a problem document."""

import math
import random
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, Field

from common.room import policy
from common.room.board import PlaceState, Stand
from web.api.representations import rfc3339
from web.parts import parts

ADDRESS = "/v1/waiting-room"
# How often somebody looks whose turn has come: only the end of the slot can change anything.
_ADMITTED_SECONDS = 30.0
FINAL = (PlaceState.USED, PlaceState.EXPIRED)


class PlaceLinks(BaseModel):
    """Addresses of a place; both are secret, and work without a code."""

    self: str = Field(description="Path to ask again.")
    page: str = Field(description="A page for people.")


class RoomPlace(BaseModel):
    """A place in the waiting room, which is kept whatever becomes of the connection."""

    object: Literal["place"]
    state: Literal["open", "waiting", "admitted", "used", "expired"] = Field(
        description="`open`: no place is needed, submit now. `waiting`: its turn has not come. "
        "`admitted`: submit before `submit_before`. `used`: the voucher's stamps are spent. `expired`: "
        "its time is over; asking again gives a new place at the end."
    )
    number: int | None = Field(description="In order of arrival; null: none is needed.")
    before: int | None = Field(description="How many come before it; null: not known.")
    seconds: int | None = Field(
        description="Until its turn, by the measured pace; null: not known."
    )
    submit_before: AwareDatetime | None = Field(
        description="End of its slot; null: there is none, or a closed gate stops the clock."
    )
    slot_seconds: int = Field(description="How long a slot is.")
    links: PlaceLinks | None


def stand_of(number: int) -> Stand | None:
    """Return where a place stands; None while nobody can be asked. Asks no database."""
    board = parts().gatekeeper.board()
    if board is None:
        return None
    stand = board.stand(number, parts().gatekeeper.now().timestamp())
    if stand.state is not PlaceState.WAITING and parts().room.has_ended(number):
        return Stand(PlaceState.USED)
    return stand


def ask_again_seconds(stand: Stand | None) -> int:
    """Return after how many seconds to ask again, not the same for all."""
    board = parts().gatekeeper.board()
    settings = parts().settings
    if stand is not None and stand.state is PlaceState.ADMITTED:
        seconds = _ADMITTED_SECONDS
    else:
        seconds = policy.ask_again_seconds(
            None if stand is None else stand.seconds,
            waiting=0 if board is None else board.waiting,
            forecast=None if board is None else board.forecast,
            polls_per_second=settings.room_polls_per_second,
            slot_seconds=settings.intake_slot_seconds,
        )
    return max(1, round(seconds * random.uniform(0.9, 1.1)))


def place_json(number: int, stand: Stand | None) -> dict[str, Any]:
    """Return a place in the shape of `RoomPlace`."""
    stand = stand or Stand(PlaceState.WAITING, None)
    waiting = stand.state is PlaceState.WAITING
    token = parts().place_links.token(number)
    return {
        "object": "place",
        "state": stand.state,
        "number": number,
        "before": stand.before if waiting else 0,
        "seconds": _rounded(stand.seconds) if waiting else None,
        "submit_before": rfc3339(stand.ends_at),
        "slot_seconds": parts().settings.intake_slot_seconds,
        "links": {"self": f"{ADDRESS}/{token}", "page": parts().place_links.url(number)},
    }


def no_place_json() -> dict[str, Any]:
    """Return the same for an applicant who needs none."""
    return {
        "object": "place",
        "state": "open",
        "number": None,
        "before": 0,
        "seconds": 0,
        "submit_before": None,
        "slot_seconds": parts().settings.intake_slot_seconds,
        "links": None,
    }


def _rounded(seconds: float | None) -> int | None:
    """Return a wait rounded up to what matters of it, so that it changes no more often than that."""
    if seconds is None:
        return None
    step = 1 if seconds < 60 else 10 if seconds < 3600 else 60
    return math.ceil(seconds / step) * step
