"""`/v1/top-ups` and `/v1/adjustments`: what operators add to partners' quota, and what they correct."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

import orjson
from flask import Blueprint, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from common import accounts, ledger, partners, statements
from common.idempotency import Answer
from common.ledger import Balance
from common.partners import Mode, Operator
from common.problems import Code, ProblemError
from web import once
from web.answers import JSON
from web.api import bodies
from web.api.fields import Line
from web.api.quota import LedgerEntry, entry_json
from web.callers import operator
from web.openapi import Answers, Operation, described

blueprint = Blueprint("top_ups", __name__, url_prefix="/v1")

TAG = "Operation"
MOST = 1_000_000_000


class Posting(BaseModel):
    """Which account is changed, and under which name; a reference counts once in an account."""

    model_config = ConfigDict(extra="forbid")

    partner: Line = Field(
        min_length=1, max_length=200, description="Id or name of the partner, as it was made."
    )
    mode: Mode = Field(Mode.LIVE, description="Which of the partner's two accounts.")
    reference: Line = Field(
        min_length=1, max_length=200, description="Your name for the payment or the correction."
    )


class TopUp(Posting):
    """Stamps that were paid for."""

    amount: Annotated[int, Field(ge=1, le=MOST, strict=True, description="Stamps.")]


class Adjustment(Posting):
    """A correction of what is available."""

    amount: Annotated[
        int,
        Field(
            ge=-MOST,
            le=MOST,
            strict=True,
            description="Stamps to add, or below zero to take away; not zero.",
            json_schema_extra={"not": {"const": 0}},
        ),
    ]
    reason: Line = Field(min_length=1, max_length=500, description="Why; the partner reads it.")


class PostedEntry(LedgerEntry):
    """An entry with the partner it is of, and who made it."""

    partner_id: UUID
    mode: Mode
    by: str | None = Field(description="Label of the operator's key, or who did it by command.")


class AccountBalance(BaseModel):
    """An account, counted in stamps: topped_up = available + held + captured."""

    topped_up: int
    available: int
    held: int
    captured: int


class Posted(BaseModel):
    """The entry, and where the account stands now."""

    entry: PostedEntry
    balance: AccountBalance


_ANSWERS = {
    201: Answers(description="Done, now or before.", model=Posted, headers=(once.REPLAYED,))
}
_PROBLEMS = (
    *once.PROBLEMS,
    *bodies.PROBLEMS,
    Code.PARTNER_UNKNOWN,
    Code.REFERENCE_REUSED,
)


@blueprint.post("/top-ups")
@described(
    Operation(
        tag=TAG,
        summary="Add stamps to a partner's quota",
        description="With an operator's key. It counts once by its `reference`: sent again with the "
        "same amount, also much later and without Idempotency-Key, it changes nothing and is "
        "answered by the same entry; with another amount it is refused.",
        body={JSON: TopUp},
        headers=once.DESCRIBED,
        answers=_ANSWERS,
        problems=_PROBLEMS,
    )
)
def top_up() -> Response:
    """Add stamps, once for each reference."""
    asking = operator()
    wanted = bodies.read(TopUp)

    def change(connection: Connection, account_id: UUID) -> Balance:
        return ledger.top_up(
            connection,
            account_id=account_id,
            amount=wanted.amount,
            reference=wanted.reference,
            by=asking.label,
        )

    return _post(asking, wanted, change)


@blueprint.post("/adjustments")
@described(
    Operation(
        tag=TAG,
        summary="Correct a partner's quota",
        description="With an operator's key. It counts once by its `reference`, as a top-up does. "
        "What is held for jobs stays: no more can be taken away than is available.",
        body={JSON: Adjustment},
        headers=once.DESCRIBED,
        answers=_ANSWERS,
        problems=(*_PROBLEMS, Code.QUOTA_TOO_SMALL),
    )
)
def adjust() -> Response:
    """Add stamps or take some away, with a reason."""
    asking = operator()
    wanted = bodies.read(Adjustment)
    if wanted.amount == 0:
        raise ProblemError(Code.FIELD_INVALID, "amount: zero would change nothing")

    def change(connection: Connection, account_id: UUID) -> Balance:
        return ledger.adjust(
            connection,
            account_id=account_id,
            amount=wanted.amount,
            reference=wanted.reference,
            reason=wanted.reason,
            by=asking.label,
        )

    return _post(asking, wanted, change)


def _post(
    asking: Operator, wanted: Posting, change: Callable[[Connection, UUID], Balance]
) -> Response:
    """Make the change and answer with its entry, once."""

    def work(connection: Connection) -> Answer:
        try:
            partner = partners.find(connection, wanted.partner)
        except partners.UnknownPartnerError as error:
            raise ProblemError(Code.PARTNER_UNKNOWN) from error
        account_id = accounts.of_partner(connection, partner_id=partner.id, mode=wanted.mode)
        try:
            balance = change(connection, account_id)
        except ledger.ReferenceReusedError as error:
            raise ProblemError(Code.REFERENCE_REUSED, str(error)) from error
        except ledger.OverdrawnError as error:
            raise ProblemError(
                Code.QUOTA_TOO_SMALL, facts={"available": error.available, "needed": error.wanted}
            ) from error
        entry = statements.of_reference(
            connection, account_id=account_id, reference=wanted.reference
        )
        posted: dict[str, Any] = {
            "entry": entry_json(entry)
            | {"partner_id": str(partner.id), "mode": wanted.mode, "by": entry.by},
            "balance": asdict(balance),
        }
        return Answer(201, {}, orjson.dumps(posted))

    keyed = once.keyed(asking.key_id, once.fingerprint(bodies.asked_for(wanted)))
    answer, replay = once.do(keyed, work)
    return once.response(answer, replay=replay)
