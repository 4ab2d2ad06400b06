"""How answers look: JSON bodies, problem documents (RFC 9457), validators and conditional answers."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from flask import Response, request
from pydantic import ValidationError

from common.problems import Code, Language, ProblemError
from common.telemetry import REFUSED
from web.parts import parts

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
# Nobody but the caller may keep it, and not without asking.
PRIVATE = "private, no-cache"


def json_answer(
    value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a JSON response that nobody but the caller may keep."""
    return Response(
        orjson.dumps(value),
        status,
        {"Cache-Control": PRIVATE} | dict(headers or {}),
        content_type=JSON,
    )


def page_answer(data: Sequence[Any], next_cursor: str | None) -> Response:
    """Return a page of a list: its members as JSON values, and the cursor that asks for the next."""
    return json_answer({"object": "list", "data": data, "next_cursor": next_cursor})


def with_validator(response: Response) -> Response:
    """Give a response its ETag, and turn it into a 304 when the client has it already."""
    response.set_etag(hashlib.sha256(response.get_data()).hexdigest()[:32])
    response.make_conditional(request)
    return response


def polled(validator: str, retry_after: int | None, render: Callable[[], Response]) -> Response:
    """Answer somebody who asks again and again; renders nothing for who has it already.

    Args:
        validator: changes with anything that is shown.
        retry_after: seconds until the next time; None: there is none.
        render: makes the answer.
    """
    if request.if_none_match.contains(validator):
        response = Response(status=304, headers={"Cache-Control": PRIVATE})
    else:
        response = render()
    response.set_etag(validator)
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    return response


def language() -> Language:
    """Return the language of a problem's words: English unless the client prefers Indonesian."""
    best = request.accept_languages.best_match(["en", "id"], default="en")
    return "id" if best == "id" else "en"


def problem_document(error: ProblemError) -> dict[str, Any]:
    """Return the members of the problem document (RFC 9457, 3.1) and our `code`."""
    document: dict[str, Any] = dict(error.facts) | {
        "type": f"{parts().settings.public_url}/problems#{error.code}",
        "title": error.problem.title(language()),
        "status": error.problem.status,
        "code": error.code,
    }
    if error.detail:
        document["detail"] = error.detail
    return document


def problem_member(error: ProblemError) -> dict[str, Any]:
    """Return a problem as one of several within a problem document."""
    said = {"code": error.code, "title": error.problem.title(language())}
    return said | ({"detail": error.detail} if error.detail else {}) | error.facts


def problem_answer(error: ProblemError) -> Response:
    """Return a problem as `application/problem+json`."""
    REFUSED.labels(error.code).inc()
    return Response(
        orjson.dumps(problem_document(error)),
        error.problem.status,
        {"Cache-Control": "no-store"} | error.headers,
        content_type=PROBLEM_JSON,
    )


def field_problem(error: ValidationError) -> ProblemError:
    """Turn what pydantic found into one problem that names every field."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    unknown = [".".join(map(str, e["loc"])) for e in found if e["type"] == "extra_forbidden"]
    if unknown:
        return ProblemError(Code.FIELD_UNKNOWN, f"unknown: {', '.join(unknown)}"[:300])
    errors = [
        {"field": ".".join(map(str, e["loc"])) or "request", "message": e["msg"]} for e in found
    ]
    first = errors[0]
    return ProblemError(
        Code.FIELD_INVALID, f"{first['field']}: {first['message']}"[:300], {"errors": errors}
    )


def language_of(code: str) -> Language:
    """Return a language code as one of the languages we have words in."""
    return "en" if code == "en" else "id"
