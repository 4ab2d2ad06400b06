"""A database of its own for one test or one file of tests, on the server that they share."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import create_engine, make_url, text

from common import database
from common.identifiers import new_id


@contextmanager
def own_database(server_url: str) -> Iterator[str]:
    """Make a database with today's tables; yields its URL and drops it in the end."""
    server = create_engine(database.sqlalchemy_url(server_url), isolation_level="AUTOCOMMIT")
    name = f"own_{new_id().hex}"
    try:
        with server.connect() as connection:
            connection.execute(text(f"create database {name}"))
        url = make_url(server_url).set(database=name).render_as_string(hide_password=False)
        database.migrate(url)
        yield url
    finally:
        with server.connect() as connection:
            connection.execute(text(f"drop database if exists {name} with (force)"))
        server.dispose()
