"""The gate before the intake: who is let in, and what the others are told. Reads nothing of the body.

A request whose Idempotency-Key has an answer on record passes whatever the gate says: it was accepted,
and gets the answer that was kept. Asking for that costs a look only where the gate would refuse.
"""

import math
import random
from collections.abc import Sequence
from contextlib import suppress

from common import lanes, ledger
from common.admission import Admit, Kind, Later, Standing, Why
from common.partners import Caller
from common.problems import Code, ProblemError
from common.room import places
from common.room.board import PlaceState, Stand
from common.room.places import Place
from common.telemetry import logger
from common.vouchers.spending import Holder
from web import once
from web.api import places as answers
from web.api.representations import rfc3339
from web.parts import parts

log = logger(__name__)

PROBLEMS = (Code.INTAKE_FULL, Code.INTAKE_CLOSED)
# The body is not read, so the connection cannot be used again.
_UNREAD = {"Connection": "close"}
# All who are told the same time come back within so much of it afterwards, 5 minutes at the most.
_SPREAD = 0.25
_WIDEST_SPREAD_SECONDS = 300.0
# When nobody knows when a closed gate opens.
_LOOK_AGAIN_SECONDS = 60.0


def enter(asking: Caller, *, batch: bool = False) -> Place | None:
    """Let a submission in.

    Returns:
        The place in the waiting room by which an applicant came in, where it took one.

    Raises:
        ProblemError: `intake_closed`, `intake_full`; for an applicant also `waiting_room`, with the
            place that was found or made, and `quota_too_small`, `voucher_expired`, `voucher_void`,
            for which no place is kept.
    """
    try:
        return _enter(asking, batch=batch)
    except ProblemError as error:
        error.headers.update(_UNREAD)
        raise


def _enter(asking: Caller, *, batch: bool) -> Place | None:
    kind, to = _kind(asking, batch=batch), _lanes(asking, batch=batch)
    decision = parts().gatekeeper.decide(kind, to)
    if isinstance(decision, Admit):
        return _running_slot(asking)
    if once.is_on_record(asking.account_id):
        return None
    if isinstance(decision, Later):
        raise _refusal(decision, kind)
    return _by_place(asking)


def wanted_place(holder: Holder) -> Place | None:
    """Return the place of an applicant who asks for one; None where none is needed to come in.

    Also before a closed gate: places are numbered in order of arrival all the same.

    Raises:
        ProblemError: `quota_too_small`, `voucher_expired`, `voucher_void`.
    """
    place = _place_of(holder)
    if place is not None:
        return place
    keeper = parts().gatekeeper
    if isinstance(keeper.decide(Kind.APPLICANT, (lanes.APPLICANT_LANE,)), Admit):
        return None
    return _join(holder)


def note_job(place: Place) -> None:
    """Note what came of a place. The job is accepted: nothing may look like a failure of that."""
    with suppress(Exception):
        with parts().database.transaction() as connection:
            ended = places.note_job(connection, place)
        if ended:
            parts().room.note_ended(place.number)


def closed_facts(kind: Kind) -> dict[str, object]:
    """Return what is said of a closed gate: why, and when it opens."""
    setting = parts().gatekeeper.setting(kind)
    until = setting.reopens_at
    return {
        "reason": setting.reason,
        "reopens_at": rfc3339(until),
    }


def later(seconds: float | None) -> str:
    """Return a Retry-After: never sooner than that, and not the same for all."""
    wait = _LOOK_AGAIN_SECONDS if seconds is None else max(1.0, seconds)
    spread = 1.0 + min(_WIDEST_SPREAD_SECONDS, (_SPREAD if seconds is not None else 1.0) * wait)
    return str(math.ceil(wait + random.uniform(0.0, spread)))


def _running_slot(asking: Caller) -> Place | None:
    """Return the place of an applicant who comes in anyway, so that it is known what came of it."""
    if not isinstance(asking, Holder) or not parts().gatekeeper.slots_run():
        return None
    place = _place_of(asking)
    return place if place is not None and place.standing is Standing.TURN else None


def _place_of(holder: Holder) -> Place | None:
    slot = parts().settings.intake_slot_seconds
    with parts().database.reading() as connection:
        return places.find(connection, holder.account_id, slot_seconds=slot)


def _by_place(asking: Caller) -> Place:
    """Let in whoever holds a place whose turn has come; give the others theirs."""
    assert isinstance(asking, Holder), "only applicants wait in the room"
    remembered = parts().room.place_of(asking.account_id)
    if remembered is not None:
        stand = answers.stand_of(remembered)
        if stand is not None and stand.state is PlaceState.WAITING:
            raise _wait(remembered, stand)
    place = _place_of(asking) or _join(asking)
    if place.standing is Standing.TURN:
        return place
    parts().room.note_place(asking.account_id, place.number)
    raise _wait(place.number, answers.stand_of(place.number))


def _wait(number: int, stand: Stand | None) -> ProblemError:
    return ProblemError(
        Code.WAITING_ROOM,
        facts={"place": answers.place_json(number, stand)},
        headers={"Retry-After": str(answers.ask_again_seconds(stand))},
    )


def _join(holder: Holder) -> Place:
    """Give a place to an applicant who has something to spend at it."""
    holder.require_spendable()
    slot = parts().settings.intake_slot_seconds
    with parts().database.transaction() as connection:
        available = ledger.balance(connection, holder.account_id).available
        if not available:
            raise ProblemError(Code.QUOTA_TOO_SMALL, facts={"available": 0, "needed": 1})
        place = places.join(connection, holder.account_id, slot_seconds=slot)
    parts().gatekeeper.joined()
    log.info("waits before the gate", place=place.number)
    return place


def _refusal(decision: Later, kind: Kind) -> ProblemError:
    headers = {"Retry-After": later(decision.seconds)}
    if decision.why is Why.CLOSED:
        facts = closed_facts(kind)
        if kind is Kind.APPLICANT:
            facts["waiting_room"] = answers.ADDRESS
        return ProblemError(Code.INTAKE_CLOSED, facts=facts, headers=headers)
    return ProblemError(
        Code.INTAKE_FULL, facts={"gate": kind, "why": decision.why}, headers=headers
    )


def _kind(asking: Caller, *, batch: bool) -> Kind:
    if isinstance(asking, Holder):
        return Kind.APPLICANT
    return Kind.BULK if batch else Kind.PARTNER


def _lanes(asking: Caller, *, batch: bool) -> Sequence[str]:
    if isinstance(asking, Holder):
        return (lanes.APPLICANT_LANE,)
    return (lanes.BULK_LANE,) if batch else lanes.partner_lanes(asking.partner_id)
