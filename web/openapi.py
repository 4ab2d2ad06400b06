"""The OpenAPI 3.1 description, from the code: each route declares itself, pydantic gives the schemas.

`@described` stands above a view and says what cannot be read from it. Nothing happens per request.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flask import Flask
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from werkzeug.routing import Rule

from common.problems import PROBLEMS, Code
from web.answers import JSON, PROBLEM_JSON
from web.api.intake import MULTIPART

VERSION = "1.0.0"
_REFERENCE = "#/components/schemas/{model}"
# What travels as its JSON text where fields are texts: in a query, or as parts of a form.
_AS_JSON_TEXT = ("object", "array")
_View = TypeVar("_View", bound=Callable[..., Any])


class ProblemDocument(BaseModel):
    """A problem document (RFC 9457); switch on `code`, show `title` to people."""

    type: str
    title: str
    status: int
    code: Code
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """One answer of an operation: what it means, and its body by content type."""

    description: str
    model: type[BaseModel] | None = None
    content_type: str = JSON
    headers: Sequence[str] = ()
    # Content types of pictures that a client may ask for instead of the model.
    pictures: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What an operation takes and answers."""

    tag: str
    summary: str
    answers: dict[int, Answers]
    problems: Sequence[Code] = ()
    description: str = ""
    query: type[BaseModel] | None = None
    # Request bodies by content type: a model, or None for bytes.
    body: dict[str, type[BaseModel] | None] = field(default_factory=dict)
    # Parts of a multipart body that are files.
    files: Sequence[str] = ()
    headers: dict[str, str] = field(default_factory=dict)
    needs_key: bool = True
    # A voucher's code is as good as a key here.
    takes_vouchers: bool = False


_HEADER_TEXTS = {
    "Location": "Address of what was made.",
    "Retry-After": "Seconds after which to ask again.",
    "ETag": "Validator for If-None-Match.",
    "Idempotent-Replayed": "`true` when this is the kept answer to the same request.",
    "Content-Disposition": "Suggested file name.",
    "Stamps-Left": "For a voucher: the stamps that are left on it.",
    "RateLimit-Policy": "The limit that applies here (draft-ietf-httpapi-ratelimit-headers).",
    "RateLimit": "What is left of it, and the seconds until it is whole again.",
    "Accept-Ranges": "`bytes`: parts can be asked for with Range.",
}
# Of problems, by their status.
_HEADERS_OF_PROBLEMS = {429: ("Retry-After", "RateLimit-Policy", "RateLimit")}


def described(operation: Operation) -> Callable[[_View], _View]:
    """Attach its description to a view."""

    def attach(view: _View) -> _View:
        view.openapi = operation  # type: ignore[attr-defined]
        return view

    return attach


def document(app: Flask, public_url: str) -> dict[str, Any]:
    """Return the description of every described route of the app."""
    operations = [
        (_path(rule.rule), method.lower(), rule, operation)
        for rule in app.url_map.iter_rules()
        if (operation := getattr(app.view_functions[rule.endpoint], "openapi", None)) is not None
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]
    paths: dict[str, dict[str, Any]] = {}
    for path, method, rule, operation in sorted(operations, key=lambda o: (o[3].tag, o[0], o[1])):
        paths.setdefault(path, {})[method] = _operation(operation, method, rule)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Stampede",
            "version": VERSION,
            "description": "Accepts PDF documents, draws an electronic stamp on them and signs "
            "them (PAdES). Built-in stamps are specimens without any value as duty.",
        },
        "servers": [{"url": public_url}],
        "tags": [{"name": name} for name in sorted({o[3].tag for o in operations})],
        "paths": paths,
        "components": {
            "schemas": _schemas([o[3] for o in operations]),
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, `sk_test_…` or `sk_live_…`. Test keys stamp "
                    "specimens, cost nothing and never touch live quota. `sk_ops_…` is an operator's "
                    "key: it tops up quota and submits nothing.",
                },
                "voucher": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The code of a voucher, 16 characters such as "
                    "`7K3M-9QXA-2RTB-C4W6` as they were typed: case, spaces and dashes do not "
                    "matter, nor I or L for 1 and O for 0. It opens what was submitted with it.",
                },
            },
        },
    }


def _path(rule: str) -> str:
    """Turn Flask's `<uuid:job_id>` into OpenAPI's `{job_id}`."""
    return "/".join(
        "{" + piece.strip("<>").rpartition(":")[2] + "}" if piece.startswith("<") else piece
        for piece in rule.split("/")
    )


def _operation(operation: Operation, method: str, rule: Rule) -> dict[str, Any]:
    described: dict[str, Any] = {
        "tags": [operation.tag],
        "operationId": rule.endpoint.replace(".", "_"),
        "summary": operation.summary,
        "parameters": [
            *(
                _parameter(name, "path", {"type": "string"}, required=True)
                for name in sorted(rule.arguments)
            ),
            *_query_parameters(operation.query),
            *(
                _parameter(name, "header", {"type": "string"}, description=text)
                for name, text in operation.headers.items()
            ),
        ],
        "responses": {str(status): _answer(a) for status, a in operation.answers.items()}
        | _problem_answers(operation, changes=method != "get"),
    }
    if operation.description:
        described["description"] = operation.description
    if operation.body:
        described["requestBody"] = {
            "required": True,
            "content": {
                content_type: _body(content_type, model, operation.files)
                for content_type, model in operation.body.items()
            },
        }
    if operation.needs_key:
        described["security"] = [
            {"key": []},
            *([{"voucher": []}] if operation.takes_vouchers else []),
        ]
    return described


def _parameter(
    name: str, where: str, schema: dict[str, Any], *, required: bool = False, description: str = ""
) -> dict[str, Any]:
    parameter = {"name": name, "in": where, "required": required, "schema": schema}
    return parameter | ({"description": description} if description else {})


def _query_parameters(model: type[BaseModel] | None) -> list[dict[str, Any]]:
    if model is None:
        return []
    whole = model.model_json_schema(ref_template=_REFERENCE)
    parameters = []
    for name, schema in whole["properties"].items():
        parameter = _parameter(
            name,
            "query",
            {k: v for k, v in schema.items() if k != "description"},
            required=name in whole.get("required", ()),
            description=schema.get("description", ""),
        )
        if schema.get("type") in _AS_JSON_TEXT:
            parameter["content"] = {JSON: {"schema": parameter.pop("schema")}}
        parameters.append(parameter)
    return parameters


def _body(content_type: str, model: type[BaseModel] | None, files: Sequence[str]) -> dict[str, Any]:
    """Return a body's schema and, for the parts of a form, how those travel that are no plain texts."""
    schema = _body_schema(model, files)
    if content_type != MULTIPART or model is None:
        return {"schema": schema}
    encoding = {
        name: {"contentType": JSON}
        for name, part in model.model_json_schema().get("properties", {}).items()
        if part.get("type") in _AS_JSON_TEXT
    }
    return {"schema": schema} | ({"encoding": encoding} if encoding else {})


def _body_schema(model: type[BaseModel] | None, files: Sequence[str]) -> dict[str, Any]:
    if model is None:
        return {"type": "string", "contentMediaType": "application/pdf"}
    reference = {"$ref": _REFERENCE.format(model=model.__name__)}
    if not files:
        return reference
    schema = model.model_json_schema(ref_template=_REFERENCE)
    schema.pop("$defs", None)
    schema["properties"] |= {
        name: {"type": "string", "contentMediaType": "application/pdf"} for name in files
    }
    return schema | {"required": [*schema.get("required", ()), *files]}


def _headers(names: Sequence[str]) -> dict[str, Any]:
    if not names:
        return {}
    texts = {
        name: {"description": _HEADER_TEXTS[name], "schema": {"type": "string"}} for name in names
    }
    return {"headers": texts}


def _answer(answer: Answers) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.description}
    described |= _headers(answer.headers)
    if answer.model is not None:
        reference = _REFERENCE.format(model=answer.model.__name__)
        described["content"] = {answer.content_type: {"schema": {"$ref": reference}}}
        described["content"] |= {
            picture: {"schema": {"type": "string", "contentMediaType": picture}}
            for picture in answer.pictures
        }
    elif answer.content_type != JSON:
        described["content"] = {answer.content_type: {"schema": {"type": "string"}}}
    return described


def _problem_answers(operation: Operation, *, changes: bool) -> dict[str, Any]:
    """Return the problem answers by status, each naming its codes."""
    codes = [*operation.problems, Code.SERVICE_UNAVAILABLE, Code.INTERNAL_ERROR]
    if changes:
        codes += [Code.OVERLOADED, Code.OUTCOME_UNKNOWN]
    if operation.needs_key:
        codes = [Code.KEY_MISSING, Code.KEY_INVALID, Code.KEY_REVOKED, Code.FORBIDDEN, *codes]
        codes += [Code.VOUCHER_INVALID, Code.TOO_MANY_ATTEMPTS] if operation.takes_vouchers else []
    by_status: dict[int, list[Code]] = {}
    for code in codes:
        by_status.setdefault(PROBLEMS[code].status, []).append(code)
    return {
        str(status): {
            "description": ", ".join(f"`{code}`" for code in found),
            "content": {
                PROBLEM_JSON: {"schema": {"$ref": _REFERENCE.format(model="ProblemDocument")}}
            },
        }
        | _headers(_HEADERS_OF_PROBLEMS.get(status, ()))
        for status, found in sorted(by_status.items())
    }


def _schemas(operations: Sequence[Operation]) -> dict[str, Any]:
    answered = {a.model for o in operations for a in o.answers.values() if a.model is not None}
    sent = {m for o in operations for m in o.body.values() if m is not None} | {
        o.query for o in operations if o.query is not None
    }
    models = [(m, "serialization") for m in (*answered, ProblemDocument)] + [
        (m, "validation") for m in sent
    ]
    _, schema = models_json_schema(
        sorted(models, key=lambda m: m[0].__name__),  # type: ignore[arg-type]
        ref_template=_REFERENCE,
    )
    definitions: dict[str, Any] = schema["$defs"]
    return dict(sorted(definitions.items()))
