"""`/v1/verifications`: check a file; the checking itself is a worker's, under its limits."""

from dataclasses import dataclass
from typing import Any, Literal

from flask import Blueprint, Response
from pydantic import BaseModel, ConfigDict, Field

from common import lanes, serials
from common.problems import Code
from common.verdicts import (
    ADVICE,
    CHANGES,
    HEADLINES,
    Changes,
    CheckedSignature,
    KnownSerial,
    Verdict,
    is_good,
    judge,
    know,
)
from web import limits
from web.answers import json_answer, language
from web.api.intake import DOCUMENT_PART, MULTIPART, PDF, read_upload, refuse_not_pdf
from web.api.representations import rfc3339
from web.callers import caller
from web.openapi import Answers, Operation, described
from web.parts import parts

blueprint = Blueprint("verifications", __name__, url_prefix="/v1/verifications")


class NoFields(BaseModel):
    """Nothing may stand beside the document."""

    model_config = ConfigDict(extra="forbid")


class SerialOnFile(BaseModel):
    """What we know of a serial number that a file carries."""

    serial: str
    state: Literal["reserved", "affixed", "void", "unknown"] = Field(
        description="`unknown`: never issued here."
    )
    mode: Literal["test", "live"] | None
    affixed_at: str | None
    specimen: bool = Field(description="Its stamp says SPECIMEN: without any value as duty.")
    is_this_file: bool = Field(description="The file that we handed out for it, to the last byte.")


class SignatureFacts(BaseModel):
    """What is true of one signature."""

    field: str
    intact: bool = Field(description="The bytes it covers are those that were signed.")
    trusted: bool = Field(description="Its certificate leads to an issuer that we trust.")
    whole_file: bool = Field(description="Nothing stands behind what it covers.")
    level: str = Field(
        description="PAdES level, or `CMS`, `timestamp`, `unsupported`, `none` (unreadable)."
    )
    serial: str | None = Field(description="The first of `serials`.")
    serials: list[SerialOnFile]
    signer: str
    signed_at: str | None = Field(description="RFC 3339; what the signer says.")
    changed_after: Changes
    changes_allowed: bool
    changes: str = Field(description="`changed_after` in a sentence for people.")
    fault: str | None = Field(description="Why it cannot be read.")


class CheckedFile(BaseModel):
    """The file that was checked; it is not kept."""

    bytes: int
    sha256: str


class Verification(BaseModel):
    """What a file's signatures say; oldest first."""

    good: bool = Field(
        description="There are signatures, all hold and are trusted, and nothing came after the last."
    )
    verdict: Verdict
    colour: Literal["green", "amber", "red"]
    summary: str = Field(description="`verdict` in a sentence for people.")
    advice: str
    known: bool = Field(description="It is a file that we handed out, to the last byte.")
    signatures: list[SignatureFacts]
    document: CheckedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A checked file, with what the database knows of its serials."""

    signatures: list[CheckedSignature]
    known: dict[str, KnownSerial]
    verdict: Verdict
    length: int
    sha256: str

    @property
    def is_known(self) -> bool:
        """Say whether it is a file that we handed out."""
        return any(k.is_this_file for k in self.known.values())


def verify(document: bytes, *, expected: str | None = None) -> Verified:
    """Have a file checked and judge it.

    Args:
        document: the file; nothing of it is kept.
        expected: the serial that it is said to carry.

    Raises:
        ProblemError: `document_empty`, `document_not_pdf`, `document_encrypted`,
            `document_unreadable`, `document_unprocessable`, `service_unavailable`.
    """
    refuse_not_pdf(document)
    found = parts().asker.ask(lanes.CHECK_TASK, document, {})
    signatures = [
        CheckedSignature(**s | {"changed_after": Changes(s["changed_after"])})
        for s in found["signatures"]
    ]
    sha256 = found["document"]["sha256"]
    carried = {serial for s in signatures for serial in s.serials}
    with parts().database.transaction() as connection:
        ours = serials.look_up_all(connection, carried)
    known = {s: know(s, ours.get(s), sha256=bytes.fromhex(sha256)) for s in carried}
    return Verified(
        signatures=signatures,
        known=known,
        verdict=judge(signatures, known, expected=expected),
        length=found["document"]["bytes"],
        sha256=sha256,
    )


@blueprint.post("")
@described(
    Operation(
        tag="Verification",
        summary="Check a file",
        description="Looks at every signature of a PDF, as part `document` of a form or as the body. "
        "The answer comes at once, from a worker that gives up after a few seconds; when all are "
        "busy it is 503 with `Retry-After`. The file is not kept.",
        body={MULTIPART: NoFields, PDF: None},
        files=(DOCUMENT_PART,),
        answers={
            200: Answers(
                description="What was found.",
                model=Verification,
                headers=("RateLimit-Policy", "RateLimit"),
            )
        },
        problems=(
            Code.DOCUMENT_MISSING,
            Code.DOCUMENT_EMPTY,
            Code.DOCUMENT_TOO_LARGE,
            Code.DOCUMENT_NOT_PDF,
            Code.DOCUMENT_ENCRYPTED,
            Code.DOCUMENT_UNREADABLE,
            Code.DOCUMENT_UNPROCESSABLE,
            Code.FIELD_UNKNOWN,
            Code.FIELD_INVALID,
            Code.CONTENT_TYPE_UNSUPPORTED,
            Code.BAD_REQUEST,
            Code.TOO_MANY_ATTEMPTS,
        ),
    )
)
def create() -> Response:
    """Check the file that the request holds."""
    limits.count_check_of(caller().account_id)
    upload = read_upload(NoFields, max_bytes=parts().settings.max_checked_bytes)
    return json_answer(_as_json(verify(upload.document)), headers={"Cache-Control": "no-store"})


def _as_json(verified: Verified) -> dict[str, Any]:
    return {
        "good": is_good(verified.signatures),
        "verdict": verified.verdict,
        "colour": verified.verdict.colour,
        "summary": HEADLINES[verified.verdict].said(language()),
        "advice": ADVICE[verified.verdict].said(language()),
        "known": verified.is_known,
        "signatures": [_signature_json(s, verified.known) for s in verified.signatures],
        "document": {"bytes": verified.length, "sha256": verified.sha256},
    }


def _signature_json(signature: CheckedSignature, known: dict[str, KnownSerial]) -> dict[str, Any]:
    return {
        "field": signature.field,
        "intact": signature.intact,
        "trusted": signature.trusted,
        "whole_file": signature.whole_file,
        "level": signature.level,
        "serial": signature.serial,
        "serials": [
            k.as_json() | {"affixed_at": rfc3339(k.affixed_at)}
            for k in (known[serial] for serial in signature.serials)
        ],
        "signer": signature.signer,
        "signed_at": signature.signed_at,
        "changed_after": signature.changed_after,
        "changes_allowed": signature.changes_allowed,
        "changes": CHANGES[signature.changed_after].said(language()),
        "fault": signature.fault,
    }
