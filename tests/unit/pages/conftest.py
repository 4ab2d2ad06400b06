"""An app with nothing but the pages: for words, which need a language but no servers."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from flask import Flask

from web import pages

Speaking = Callable[[str], AbstractContextManager[None]]


@pytest.fixture(scope="session")
def words() -> Flask:
    app = Flask(__name__, static_folder=None)
    pages.register(app)
    return app


@pytest.fixture
def speaking(words: Flask) -> Speaking:
    """Say everything inside the block as a page in this language would."""

    @contextmanager
    def speak(lang: str) -> Iterator[None]:
        with words.test_request_context(f"/?lang={lang}"):
            yield

    return speak
