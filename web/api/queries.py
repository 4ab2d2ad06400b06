"""What an address asks for: an id within its path, and the part of a list in its query."""

from typing import Annotated, TypeVar
from uuid import UUID

from flask import request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.problems import Code, ProblemError
from web.answers import field_problem

# What reading the query of a list may find, for descriptions.
PROBLEMS = (Code.CURSOR_INVALID, Code.FIELD_UNKNOWN, Code.FIELD_INVALID)


class PageQuery(BaseModel):
    """Which part of a list is asked for."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=100, description="Entries in one answer.")] = 20
    cursor: Annotated[
        str | None, Field(max_length=64, description="`next_cursor` of the answer before.")
    ] = None


Query = TypeVar("Query", bound=PageQuery)


def read(model: type[Query]) -> Query:
    """Return this request's query as the model has it.

    Raises:
        ProblemError: `cursor_invalid`, `field_unknown`, `field_invalid`.
    """
    try:
        return model.model_validate(request.args.to_dict())
    except ValidationError as error:
        if any(e["loc"] == ("cursor",) for e in error.errors()):
            raise ProblemError(Code.CURSOR_INVALID) from error
        raise field_problem(error) from error


def id_of(part: str) -> UUID:
    """Return the id that a part of the path is.

    Raises:
        ProblemError: `not_found`: what is no id is the id of nothing.
    """
    try:
        return UUID(part)
    except ValueError as error:
        raise ProblemError(Code.NOT_FOUND) from error
