"""A bare Flask app that says hello: what the web server and Flask cost without any work of ours."""

from flask import Flask, request

app = Flask(__name__)


@app.get("/")
def hello() -> str:
    """Say hello."""
    return "hello"


@app.post("/")
def take() -> tuple[str, int]:
    """Read what was sent, and say hello."""
    request.get_data(cache=False)
    return "hello", 202
