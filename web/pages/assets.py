"""Style, script and picture: their addresses carry their hash, so browsers keep them for good.

A phone that reloads a status page every few seconds then asks for the page and nothing else.
"""

import hashlib
from functools import cache
from pathlib import Path

from flask import Blueprint, Response, request, send_from_directory, url_for

FOLDER = Path(__file__).parent / "static"
blueprint = Blueprint("assets", __name__)


@blueprint.get("/static/<path:filename>")
def file(filename: str) -> Response:
    """Return one of the files, to be kept for a year when it is the version asked for."""
    response = send_from_directory(FOLDER, filename)
    if request.args.get("v") == fingerprint(filename):
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return response


def address(filename: str) -> str:
    """Return the address of a file in its present version."""
    return url_for("assets.file", filename=filename, v=fingerprint(filename))


@cache
def fingerprint(filename: str) -> str:
    """Return the start of a file's SHA-256; read once, as files change only with the program."""
    return hashlib.sha256((FOLDER / filename).read_bytes()).hexdigest()[:12]
