"""Where the client wants a stamp: checked at the front, carried by the job, resolved by the worker."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Stamps in one job: bounds what one signature covers, and the reason that names every serial.
MAX_STAMPS = 20

Position = Literal[
    "top-left",
    "top",
    "top-right",
    "left",
    "center",
    "right",
    "bottom-left",
    "bottom",
    "bottom-right",
    "auto",
]
Corner = Literal["top-left", "top-right", "bottom-left", "bottom-right"]
# The largest page that a document can have, 14,400 units of 75,000 points, is hardly wider.
_FARTHEST = 1e9
Points = Annotated[float, Field(allow_inf_nan=False, ge=-_FARTHEST, le=_FARTHEST)]
Side = Annotated[float, Field(allow_inf_nan=False, ge=36, le=600)]
Margin = Annotated[float, Field(allow_inf_nan=False, ge=0, le=300)]
# At least one character that is seen, and no control characters.
Anchor = Annotated[
    str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$")
]
FieldName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]

# The ways to say where, by the field that tells them apart, as a person would name them.
_WAYS = {
    "x": "x and y",
    "position": "position",
    "corner": "corner",
    "anchor": "anchor",
    "field": "field",
}
# What goes with some ways only.
_GOES_WITH = {
    "page": ("x", "position", "corner", "anchor"),
    "origin": ("x",),
    "margin": ("position", "corner"),
    "match": ("anchor",),
    "offset_x": ("anchor",),
    "offset_y": ("anchor",),
    "width": ("x", "position", "corner", "anchor"),
    "height": ("x", "position", "corner", "anchor"),
}


class Placement(BaseModel):
    """One way to say where: `x` and `y`, a `position`, an `anchor` or a `field`.

    Without any of them the stamp goes to the lower right of the last page. All lengths are PDF
    points (1/72 inch) of the page as the reader sees it. What the document has room for is known
    only where it is read.
    """

    # Strict, so that JSON `true` is no page 1; texts become numbers where the fields travel as texts.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    page: int | Literal["last"] | None = Field(
        None,
        description="Page number from 1, or `last`. Without it the last page; an `anchor` is then "
        "searched from the last page to the first.",
    )
    x: Points | None = Field(
        None, description="Points from the visible page's left edge to the stamp's left edge."
    )
    y: Points | None = Field(
        None,
        description="Points from the visible page's lower edge to the stamp's lower edge; with "
        "`origin` as `top-left`, from the upper edge to the stamp's upper edge.",
    )
    corner: Corner | None = Field(
        None,
        description="An older name of `position`, for the four corners.",
        json_schema_extra={"deprecated": True},
    )
    width: Side | None = Field(
        None,
        description="Width of the stamp in points; 80 unless given, or less at a position of a small "
        "page.",
    )
    height: Side | None = Field(
        None, description="Height of the stamp in points; 80 unless given, as the width."
    )
    origin: Literal["bottom-left", "top-left"] | None = Field(
        None,
        description="The corner of the page that `x` and `y` count from; `bottom-left` unless given.",
    )
    position: Position | None = Field(
        None,
        description="A named place on the page, or `auto`: an empty area near the end of the text. "
        "`bottom-right` unless something else says where.",
    )
    margin: Margin | None = Field(
        None, description="Points between a `position` and the edges of the page; 24 unless given."
    )
    anchor: Anchor | None = Field(
        None,
        description="A word or phrase of the document: the stamp's lower left corner stands at the "
        "text's. Whole words; capitals make no difference.",
    )
    match: Annotated[int, Field(ge=1, le=100)] | None = Field(
        None,
        description="Which occurrence of the `anchor` is meant, counted as it is searched; 1 unless "
        "given.",
    )
    offset_x: Points | None = Field(
        None,
        description="Points that the stamp is moved to the right of its `anchor`; may be negative.",
    )
    offset_y: Points | None = Field(
        None, description="Points that the stamp is moved up from its `anchor`; may be negative."
    )
    field: FieldName | None = Field(
        None,
        description="The full name of an empty signature field of the document, which the stamp "
        "fills.",
    )

    @model_validator(mode="after")
    def _one_way_to_say_where(self) -> Self:
        if (self.x is None) != (self.y is None):
            raise ValueError("x and y go together")
        given = self.given()
        ways = [way for way in _WAYS if way in given]
        if len(ways) > 1:
            raise ValueError(
                "give one of x and y, position, anchor and field,"
                f" not both {_WAYS[ways[0]]} and {_WAYS[ways[1]]}"
            )
        way = ways[0] if ways else "position"
        for name in given:
            allowed = _GOES_WITH.get(name)
            if allowed is not None and way not in allowed:
                raise ValueError(
                    f"{name} goes only with {' or '.join(_WAYS[other] for other in allowed)}"
                )
        return self

    def given(self) -> list[str]:
        """Return the names of the placement's fields that say something."""
        return [name for name in Placement.model_fields if getattr(self, name) is not None]

    def as_json(self) -> dict[str, Any]:
        """Return what is kept and shown: what was said, and the page that is meant."""
        said = {name: getattr(self, name) for name in self.given()}
        if self.anchor is None and self.field is None:
            return {"page": "last"} | said
        return said
