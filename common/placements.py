"""Where the client wants the stamp: checked at the front, carried by the job, resolved by the worker."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Corner = Literal["top-left", "top-right", "bottom-left", "bottom-right"]
Points = Annotated[float, Field(allow_inf_nan=False)]
Side = Annotated[float, Field(allow_inf_nan=False, ge=36, le=600)]


class Placement(BaseModel):
    """A page, and on it either `x` and `y` or a named corner.

    All lengths are PDF points (1/72 inch). `x` and `y` are the lower left corner of the stamp, from
    the lower left corner of the page as the reader sees it. Whether the box lies on the page is
    known only where the document is read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    page: int | Literal["last"] = Field("last", description="Page number from 1, or `last`.")
    x: Points | None = Field(None, description="Points from the visible page's left edge.")
    y: Points | None = Field(None, description="Points from the visible page's lower edge.")
    corner: Corner | None = Field(
        None, description="A corner of the page instead of x and y; `bottom-right` by default."
    )
    width: Side | None = Field(
        None, description="Width of the stamp in points; 80, or less in a corner of a small page."
    )
    height: Side | None = Field(None, description="Height of the stamp in points; as the width.")

    @model_validator(mode="after")
    def _one_way_to_say_where(self) -> Self:
        if (self.x is None) != (self.y is None):
            raise ValueError("x and y go together")
        if self.x is not None and self.corner is not None:
            raise ValueError("give either x and y or a corner, not both")
        return self
