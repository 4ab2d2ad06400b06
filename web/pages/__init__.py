"""Pages for people: rendered on the server, Indonesian first, working without JavaScript."""

from flask import Flask, Response

from common.problems import ProblemError
from web.answers import problem_answer


def register(app: Flask) -> None:
    """Add the pages to the app."""


def render_problem(error: ProblemError) -> Response:
    """Return a problem as a page."""
    return problem_answer(error)
