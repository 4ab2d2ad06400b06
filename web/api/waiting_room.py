"""`/v1/waiting-room`: take a place before the gate, and see whether its turn has come."""

from flask import Blueprint, Response

from common.problems import Code, ProblemError
from common.vouchers.spending import Holder
from web import gate, limits
from web.answers import json_answer, with_validator
from web.api import places
from web.api.places import RoomPlace
from web.callers import caller
from web.openapi import Answers, Operation, described
from web.parts import parts

blueprint = Blueprint("waiting_room", __name__, url_prefix=places.ADDRESS)

TAG = "Waiting room"


@blueprint.post("")
@described(
    Operation(
        tag=TAG,
        takes_vouchers=True,
        summary="Take a place in the waiting room",
        description="For vouchers only: a partner's key is answered by `forbidden`. Where no place is "
        "needed, `state` is `open`: submit. Otherwise the answer is the voucher's place, numbered "
        "in order of arrival. A voucher has one: asking again, also from elsewhere, returns the same. "
        "When its turn comes, `POST /v1/jobs` takes documents of this voucher for `slot_seconds`, or "
        "until its stamps are spent. A slot that nobody uses is over then, and asking again gives "
        "a new place at the end. Places are also given while the gate is closed.",
        answers={
            200: Answers(
                description="The place, or that none is needed.",
                model=RoomPlace,
                headers=("Retry-After",),
            )
        },
        problems=(Code.QUOTA_TOO_SMALL, Code.VOUCHER_EXPIRED, Code.VOUCHER_VOID),
    )
)
def take() -> Response:
    """Give the caller a place, or the one that is theirs."""
    asking = caller(vouchers=True)
    if not isinstance(asking, Holder):
        raise ProblemError(Code.FORBIDDEN, "only a voucher waits in the room")
    place = gate.wanted_place(asking)
    if place is None:
        return json_answer(places.no_place_json())
    stand = places.stand_of(place.number)
    response = json_answer(places.place_json(place.number, stand))
    response.headers["Retry-After"] = str(places.ask_again_seconds(stand))
    return response


@blueprint.get("/<ticket>")
@described(
    Operation(
        tag=TAG,
        summary="Look at a place in the waiting room",
        description="`ticket` is the last part of the place's own address, which is as good as a "
        "key. While something can still change the answer carries Retry-After; send If-None-Match "
        "and an unchanged place is answered by 304.",
        headers={"If-None-Match": "The ETag of the answer before."},
        answers={
            200: Answers(
                description="The place.", model=RoomPlace, headers=("ETag", "Retry-After")
            ),
            304: Answers(description="Unchanged.", headers=("ETag", "Retry-After")),
        },
        problems=(Code.NOT_FOUND, Code.TOO_MANY_ATTEMPTS),
        needs_key=False,
    )
)
def look(ticket: str) -> Response:
    """Say where a place stands."""
    number = parts().place_links.open(ticket)
    if number is None:
        limits.count_wrong_link()
        raise ProblemError(Code.NOT_FOUND)
    stand = places.stand_of(number)
    if stand is None:
        raise ProblemError(Code.SERVICE_UNAVAILABLE)
    response = with_validator(json_answer(places.place_json(number, stand)))
    if stand.state not in places.FINAL:
        response.headers["Retry-After"] = str(places.ask_again_seconds(stand))
    return response
