"""JSON bodies: read into a model, and what they ask for as one text."""

from typing import TypeVar

from flask import request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import RequestEntityTooLarge

from common.problems import Code, ProblemError
from web.answers import JSON, field_problem

MAX_BYTES = 64 * 1024
# What reading a body may find, for descriptions.
PROBLEMS = (
    Code.BAD_REQUEST,
    Code.CONTENT_TYPE_UNSUPPORTED,
    Code.FIELD_UNKNOWN,
    Code.FIELD_INVALID,
)

Body = TypeVar("Body", bound=BaseModel)


def read(model: type[Body]) -> Body:
    """Return this request's body as the model has it.

    Raises:
        ProblemError: `content_type_unsupported`, `bad_request`, `field_unknown`, `field_invalid`.
    """
    if request.mimetype != JSON:
        raise ProblemError(Code.CONTENT_TYPE_UNSUPPORTED, facts={"accepted": [JSON]})
    request.max_content_length = MAX_BYTES
    try:
        return model.model_validate_json(request.get_data(cache=False))
    except RequestEntityTooLarge as error:
        # The rest of the body is not read, so the connection cannot be used again.
        raise ProblemError(
            Code.BAD_REQUEST, f"the limit is {MAX_BYTES} bytes", headers={"Connection": "close"}
        ) from error
    except ValidationError as error:
        raise field_problem(error) from error


def asked_for(body: BaseModel) -> bytes:
    """Return all that a body asks for as one text, for the fingerprint of an idempotency key.

    What is left at its default is not in it, so that a newer field changes no earlier request.
    """
    return body.model_dump_json(exclude_defaults=True).encode()
