"""`/v1/quota`: what the caller may still have stamped."""

from dataclasses import asdict
from typing import Literal

from flask import Blueprint, Response
from pydantic import BaseModel, Field

from common import ledger
from common.partners import Mode
from web.answers import json_answer
from web.callers import caller
from web.openapi import Answers, Operation, described
from web.parts import parts

blueprint = Blueprint("quota", __name__, url_prefix="/v1/quota")


class QuotaState(BaseModel):
    """An account, counted in stamps: topped_up = available + held + captured."""

    mode: Literal["test", "live"]
    unlimited: bool = Field(
        description="True for test keys: theirs are specimens, which cost nothing and are "
        "more than will ever be used."
    )
    topped_up: int
    available: int
    held: int
    captured: int


@blueprint.get("")
@described(
    Operation(
        tag="Quota",
        summary="Look at the quota",
        answers={200: Answers(description="The account.", model=QuotaState)},
    )
)
def show() -> Response:
    """Return the balance of the key's account."""
    asking = caller()
    with parts().database.transaction() as connection:
        balance = ledger.balance(connection, asking.account_id)
    return json_answer(
        {"mode": asking.mode, "unlimited": asking.mode is Mode.TEST} | asdict(balance)
    )
