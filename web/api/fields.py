"""The fields beside a document: where its stamps go, and what else is said of a job.

They travel as texts, form parts or query parameters; what is a list or an object is its JSON text.
"""

from typing import Annotated, Any, Self

import orjson
from pydantic import ConfigDict, Field, field_validator, model_validator

from common.placements import MAX_STAMPS, Placement
from common.problems import Code, ProblemError

MAX_PAGE = 1_000_000
# Beyond it a number in JSON is not safe to read everywhere (RFC 8259, 6).
_LARGEST_SAFE = 2**53

# No control characters; PostgreSQL text cannot hold a NUL.
Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$")]


class StampFields(Placement):
    """Where the stamps go: one placement in fields of its own, or several as `stamps`."""

    model_config = ConfigDict(title="StampFields", strict=False)

    stamps: Annotated[list[Placement], Field(min_length=1, max_length=MAX_STAMPS)] = Field(
        default_factory=list,
        description="Several stamps under one signature: a JSON array of placements, instead of "
        f"placement fields beside it. 1 to {MAX_STAMPS}, each with a serial number of its own, in "
        "this order.",
    )

    @field_validator("stamps", mode="before")
    @classmethod
    def _json_array(cls, value: Any) -> Any:
        return _json_of(value, "must be a JSON array of placements")

    @model_validator(mode="after")
    def _several_or_one(self) -> Self:
        beside = self.given()
        if self.stamps and beside:
            raise ValueError(
                f"stamps holds every placement: leave out {', '.join(beside)} beside it"
            )
        return self

    @model_validator(mode="after")
    def _surely_on_a_page(self) -> Self:
        """Refuse what no page could hold; the rest needs the document."""
        for number, placement in enumerate(self.stamps, start=1):
            _refuse_off_any_page(placement, {"stamp": number})
        _refuse_off_any_page(self, {})
        return self

    def placements(self) -> tuple[Placement, ...]:
        """Return where each stamp goes, in the order of their serials."""
        if self.stamps:
            return tuple(self.stamps)
        return (
            Placement.model_construct(
                **{name: getattr(self, name) for name in Placement.model_fields}
            ),
        )


class JobFields(StampFields):
    """What may stand beside the document, as form parts or as query parameters."""

    model_config = ConfigDict(title="JobFields")

    external_reference: Line | None = Field(
        None, min_length=1, max_length=200, description="Your own name for the job; searchable."
    )
    metadata: dict[
        Annotated[Line, Field(min_length=1, max_length=40)], Annotated[Line, Field(max_length=500)]
    ] = Field(
        default_factory=dict,
        max_length=20,
        description="Up to 20 texts of yours, as a JSON object; given back unread.",
    )
    document_name: Line | None = Field(
        None, min_length=1, max_length=200, description="File name for the stamped document."
    )

    @field_validator("metadata", mode="before")
    @classmethod
    def _json_object(cls, value: Any) -> Any:
        return _json_of(value, "must be a JSON object of texts")

    def asked_for(self) -> bytes:
        """Return all that is asked for as one text, for the fingerprint of an idempotency key.

        A request that uses none of the newer fields gives the same text as under the first version:
        sent again across an upgrade, it is still the same request and not charged anew.
        """
        values = self.model_dump(mode="json", exclude={"stamps"})
        values["stamps"] = [placement.as_json() for placement in self.stamps]
        oldest = {name: values.pop(name) for name in _SINCE_THE_FIRST_VERSION}
        newer = {name: value for name, value in values.items() if value not in (None, [])}
        if not newer:
            oldest["page"] = oldest["page"] or "last"
        return orjson.dumps(oldest | newer)


_SINCE_THE_FIRST_VERSION = (
    "page",
    "x",
    "y",
    "corner",
    "width",
    "height",
    "external_reference",
    "metadata",
    "document_name",
)


def _json_of(value: Any, otherwise: str) -> Any:
    """Return what a JSON text stands for; what is no text is left as it is."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise ValueError(otherwise) from error


def _refuse_off_any_page(placement: Placement, which: dict[str, object]) -> None:
    page, x, y = placement.page, placement.x, placement.y
    if isinstance(page, int) and not 1 <= page <= MAX_PAGE:
        said = {"page": page} if abs(page) < _LARGEST_SAFE else {}
        raise ProblemError(Code.PAGE_OUT_OF_RANGE, facts=which | said)
    if x is not None and y is not None and min(x, y) < 0:
        raise ProblemError(Code.BOX_OFF_PAGE, facts=which | {"x": x, "y": y})
