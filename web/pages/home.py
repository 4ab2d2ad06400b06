"""`/`, `/docs` and `/problems`: what this is, how to speak to it, and what it may answer."""

from typing import Any

from flask import Blueprint, Response, current_app, make_response, render_template
from markupsafe import Markup, escape

from common.problems import PROBLEMS
from web import openapi
from web.pages.intake import intake
from web.parts import parts

blueprint = Blueprint("home", __name__, template_folder="templates")


@blueprint.get("/")
def index() -> str:
    """Say what this is, and how the intake stands."""
    return render_template("home.html", intake=intake())


@blueprint.get("/problems")
def problems() -> str:
    """List every problem that a client can meet."""
    return render_template("problems.html", problems=PROBLEMS)


@blueprint.get("/docs")
def docs() -> Response:
    """Show the OpenAPI description in a form for reading."""
    description = openapi.document(current_app, parts().settings.public_url)
    return make_response(
        render_template(
            "docs.html",
            api=description,
            url=parts().settings.public_url,
            by_tag=_by_tag(description),
            shape=_shape,
        )
    )


@blueprint.app_template_filter("ticks")
def ticks(text: str) -> Markup:
    """Return a text with what stands between backticks as code, everything escaped."""
    pieces = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if place % 2 else escape(piece)
        for place, piece in enumerate(pieces)
    )


def _by_tag(description: dict[str, Any]) -> dict[str, list[tuple[str, str, dict[str, Any]]]]:
    """Return (method, path, operation) by tag, in the description's order."""
    grouped: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            grouped.setdefault(operation["tags"][0], []).append((method, path, operation))
    return grouped


def _shape(schema: dict[str, Any]) -> str:
    """Return a schema in a few words: its type, its values, or the name of what it refers to."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " | ".join(_shape(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        return f"[{_shape(schema.get('items', {}))}]"
    if "contentMediaType" in schema:
        return str(schema["contentMediaType"])
    form = schema.get("format")
    kind = str(schema.get("type", "any"))
    return f"{kind} ({form})" if form else kind
