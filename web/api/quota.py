"""`/v1/quota`: what the caller may still have stamped, and every entry that says why."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from flask import Blueprint, Response
from pydantic import AwareDatetime, BaseModel, Field

from common import ledger, statements
from common.partners import Mode
from common.statements import Entry, EntryKind, Side
from common.vouchers.spending import Holder, as_it_stands
from web.answers import json_answer, page_answer
from web.api import queries
from web.api.queries import PageQuery
from web.api.representations import rfc3339
from web.callers import caller
from web.openapi import Answers, Operation, described
from web.parts import parts

blueprint = Blueprint("quota", __name__, url_prefix="/v1/quota")


class VoucherState(BaseModel):
    """Whether a voucher can still be spent; what was submitted with it is not affected."""

    state: Literal["valid", "expired", "void"]
    expires_at: AwareDatetime | None = Field(description="RFC 3339; null: it has no end.")


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
    voucher: VoucherState | None = Field(description="Of the voucher that asks; null for a key.")


class LedgerEntry(BaseModel):
    """Stamps that went from one side of the account to another."""

    id: str
    kind: EntryKind
    amount: int = Field(description="Stamps, always above zero.")
    source: Side = Field(alias="from", description="Which side they left.")
    target: Side = Field(alias="to", description="Which side they went to.")
    job_id: UUID | None = Field(description="The job that they were held for.")
    reference: str | None = Field(description="Of a top-up or an adjustment; counts once.")
    reason: str | None = Field(description="Of an adjustment.")
    at: datetime


class LedgerPage(BaseModel):
    """Some entries, newest first."""

    object: Literal["list"]
    data: list[LedgerEntry]
    next_cursor: str | None = Field(description="Send as `cursor` for the entries after these.")


class LedgerQuery(PageQuery):
    """Filters of the ledger."""

    at_from: Annotated[
        AwareDatetime | None,
        Field(alias="from", description="Only entries made at or after this (RFC 3339)."),
    ] = None
    at_before: Annotated[
        AwareDatetime | None,
        Field(alias="before", description="Only entries made before this (RFC 3339)."),
    ] = None
    kind: Annotated[EntryKind | None, Field(description="Only entries of this kind.")] = None
    job_id: Annotated[UUID | None, Field(description="Only entries of this job.")] = None


@blueprint.get("")
@described(
    Operation(
        tag="Quota",
        takes_vouchers=True,
        summary="Look at the quota",
        answers={200: Answers(description="The account.", model=QuotaState)},
    )
)
def show() -> Response:
    """Return the balance of the key's account."""
    asking = caller(vouchers=True)
    with parts().database.transaction() as connection:
        balance = ledger.balance(connection, asking.account_id)
        holder = as_it_stands(connection, asking) if isinstance(asking, Holder) else None
    return json_answer(
        {"mode": asking.mode, "unlimited": asking.mode is Mode.TEST and holder is None}
        | asdict(balance)
        | {"voucher": None if holder is None else _voucher_json(holder)}
    )


def _voucher_json(holder: Holder) -> dict[str, str | None]:
    state = "void" if holder.void else "expired" if holder.expired else "valid"
    return {"state": state, "expires_at": rfc3339(holder.expires_at)}


@blueprint.get("/ledger")
@described(
    Operation(
        tag="Quota",
        takes_vouchers=True,
        summary="List the entries of the quota, newest first",
        description="Entries are never changed or deleted. What they add up to by side is the "
        "account: `topped_up` is what came from `outside` less what went there.",
        query=LedgerQuery,
        answers={200: Answers(description="Some entries.", model=LedgerPage)},
        problems=queries.PROBLEMS,
    )
)
def entries() -> Response:
    """Return a page of the entries of the key's account."""
    asking = caller(vouchers=True)
    query = queries.read(LedgerQuery)
    with parts().database.transaction() as connection:
        page = statements.page(
            connection,
            account_id=asking.account_id,
            limit=query.limit,
            cursor=query.cursor,
            at_from=query.at_from,
            at_before=query.at_before,
            kind=query.kind,
            job_id=query.job_id,
        )
    return page_answer([entry_json(entry) for entry in page.entries], page.next_cursor)


def entry_json(entry: Entry) -> dict[str, Any]:
    """Return an entry as its owner sees it, in the shape of `LedgerEntry`."""
    return {
        "id": str(entry.id),
        "kind": entry.kind,
        "amount": entry.amount,
        "from": entry.source,
        "to": entry.target,
        "job_id": None if entry.job_id is None else str(entry.job_id),
        "reference": entry.reference,
        "reason": entry.reason,
        "at": rfc3339(entry.at),
    }
