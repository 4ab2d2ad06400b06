"""What anybody may ask without a key: the public keys, a serial, the service's pace."""

from typing import Literal

from flask import Blueprint, Response
from pydantic import AwareDatetime, BaseModel, Field

from common import serials
from common.problems import Code, ProblemError
from web.answers import json_answer, with_validator
from web.api.representations import rfc3339
from web.openapi import Answers, Operation, described
from web.parts import parts

blueprint = Blueprint("public", __name__)


class SerialFacts(BaseModel):
    """What is publicly true of a serial number."""

    serial: str
    mode: Literal["test", "live"] = Field(description="`test`: a specimen without any value.")
    specimen: bool = Field(
        description="The stamp or its signer says SPECIMEN, also in live mode: without any value."
    )
    state: Literal["reserved", "affixed", "void"]
    affixed_at: AwareDatetime | None
    document_sha256: str | None = Field(description="SHA-256 of the stamped file.")
    earlier_document_sha256: str | None = Field(
        description="SHA-256 of the same file before its timestamp came; a copy of it is as good."
    )


class LaneState(BaseModel):
    """One lane's measured state."""

    lane: str
    waiting: int
    per_second: float | None = Field(
        description="Jobs that leave the lane per second as long as some wait; null: not measured."
    )
    seconds_left: int | None = Field(description="For a job that came now; null: not measured.")
    oldest_seconds: float | None = Field(
        description="How long the oldest job that waits has waited; 0: none waits; null: not known."
    )


class PaceState(BaseModel):
    """The service's own state."""

    known: bool = Field(description="False while the counters cannot be reached.")
    lanes: list[LaneState]


class JsonWebKeySet(BaseModel):
    """The public keys that receipts and QR codes are signed with (RFC 7517)."""

    keys: list[dict[str, str]] = Field(
        description="`stampede_use` says what a key signs: `receipt` or `code`."
    )


@blueprint.get("/.well-known/jwks.json")
@described(
    Operation(
        tag="Verification",
        summary="Keys that receipts and QR codes are signed with",
        answers={200: Answers(description="The key set.", model=JsonWebKeySet)},
        needs_key=False,
    )
)
def jwks() -> Response:
    """Return the keys of receipts and codes in one set."""
    keys = parts().receipts.jwks()["keys"] + parts().codes.jwks()["keys"]
    return with_validator(
        json_answer({"keys": keys}, headers={"Cache-Control": "public, max-age=3600"})
    )


@blueprint.get("/v1/serials/<serial>")
@described(
    Operation(
        tag="Verification",
        summary="What is publicly true of a serial",
        answers={200: Answers(description="The serial.", model=SerialFacts)},
        problems=(Code.NOT_FOUND,),
        needs_key=False,
    )
)
def serial_facts(serial: str) -> Response:
    """Return the facts of a serial that was given out."""
    wanted = serial.upper()
    if not serials.may_be_ours(wanted):
        raise ProblemError(Code.NOT_FOUND)
    with parts().database.transaction() as connection:
        found = serials.look_up(connection, wanted)
    if found is None:
        raise ProblemError(Code.NOT_FOUND)
    return json_answer(
        {
            "serial": found.serial,
            "mode": found.mode,
            "specimen": found.specimen,
            "state": found.state,
            "affixed_at": rfc3339(found.affixed_at),
            "document_sha256": None
            if found.document_sha256 is None
            else found.document_sha256.hex(),
            "earlier_document_sha256": None
            if found.earlier_sha256 is None
            else found.earlier_sha256.hex(),
        }
    )


@blueprint.get("/v1/pace")
@described(
    Operation(
        tag="Service",
        summary="How long it takes now",
        answers={200: Answers(description="Each stamp lane.", model=PaceState)},
        needs_key=False,
    )
)
def pace() -> Response:
    """Return what waits in each lane, and for how long a newcomer would."""
    seen = parts().pace.lanes()
    if seen is None:
        return json_answer({"known": False, "lanes": []})
    states = [
        {
            "lane": lane,
            "waiting": numbers.waiting,
            "per_second": _rounded(numbers.per_second),
            "seconds_left": numbers.newcomer.seconds_left,
            "oldest_seconds": _rounded(numbers.oldest_seconds),
        }
        for lane, numbers in seen.items()
    ]
    return json_answer({"known": True, "lanes": states})


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 2)
