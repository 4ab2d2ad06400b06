"""`/antre/<token>`: one place in the waiting room for the person who has it, behind a secret link."""

from datetime import datetime

from flask import Blueprint, Response, make_response, render_template
from flask_babel import gettext

from common.admission import State
from common.problems import Code, ProblemError
from common.room.board import PlaceState
from web import limits
from web.answers import with_validator
from web.api import places
from web.pages.intake import Closed, closed_of
from web.parts import parts

blueprint = Blueprint("room", __name__, url_prefix="/antre", template_folder="templates")

# Which look of the style sheet a place has.
_LOOKS = {
    PlaceState.WAITING: "queued",
    PlaceState.ADMITTED: "stamped",
    PlaceState.USED: "cancelled",
    PlaceState.EXPIRED: "warned",
}


@blueprint.get("/<token>")
def page(token: str) -> Response:
    """Show the whole page."""
    return _render("room.html", token)


@blueprint.get("/<token>/live")
def live(token: str) -> Response:
    """Return the part of the page that changes; the page's script asks for it."""
    return with_validator(_render("room_live.html", token))


@blueprint.after_request
def keep_private(response: Response) -> Response:
    """Leave nothing of a place in a cache or a search engine."""
    response.headers["Cache-Control"] = "private, no-store"
    response.headers["X-Robots-Tag"] = "noindex"
    return response


def headline(state: PlaceState) -> str:
    """Return where a place stands in a few words."""
    match state:
        case PlaceState.WAITING:
            said = gettext("Menunggu giliran masuk")
        case PlaceState.ADMITTED:
            said = gettext("Giliran Anda: kirim dokumen sekarang")
        case PlaceState.USED:
            said = gettext("Selesai: semua meterai voucher ini sudah dipakai")
        case PlaceState.EXPIRED:
            said = gettext("Giliran ini sudah lewat")
    return str(said)


def _render(template: str, token: str) -> Response:
    number = parts().place_links.open(token)
    if number is None:
        limits.count_wrong_link()
        raise ProblemError(Code.NOT_FOUND)
    stand = places.stand_of(number)
    if stand is None:
        raise ProblemError(Code.SERVICE_UNAVAILABLE)
    final = stand.state in places.FINAL
    place = places.place_json(number, stand)
    again = None if final else places.ask_again_seconds(stand)
    response = make_response(
        render_template(
            template,
            token=token,
            place=place,
            headline=headline(stand.state),
            look=_LOOKS[stand.state],
            closed=None if final else _closed(),
            submit_before=stand.ends_at,
            final=final,
            refresh=again,
        )
    )
    if again is not None:
        response.headers["Retry-After"] = str(again)
    return response


def _closed() -> Closed | None:
    """Return what is said of the gate while it is closed, as it stands on the board."""
    board = parts().gatekeeper.board()
    now: datetime = parts().gatekeeper.now()
    if board is None or board.setting.at(now).state is not State.CLOSED:
        return None
    return closed_of(board.setting)
