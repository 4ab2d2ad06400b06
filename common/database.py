"""The engine and its transactions: SQLAlchemy 2 on psycopg 3, PostgreSQL only."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, create_engine, make_url, text

from common.settings import Settings

MIGRATIONS = Path(__file__).parent / "migrations"


def sqlalchemy_url(database_url: str) -> URL:
    """Turn a libpq URL into SQLAlchemy's, with psycopg 3 as the driver."""
    return make_url(database_url).set(drivername="postgresql+psycopg")


class Database:
    """A pool of connections; every use of it is one transaction.

    Commits are synchronous (`synchronous_commit` is left on): what `transaction` returned from
    survives a crash of the server.
    """

    def __init__(self, database_url: str, *, pool_size: int = 8) -> None:
        """Prepare the pool; connects at the first use.

        Args:
            database_url: a libpq URL, `postgresql://user:password@host:port/name`.
            pool_size: connections this process may hold at the most.
        """
        self.engine = create_engine(
            sqlalchemy_url(database_url),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=5,
            pool_pre_ping=True,
            # jsonb keeps 1e300 as an integer of 301 digits; read as one it could not be written again.
            json_deserializer=orjson.loads,
            connect_args={
                "connect_timeout": 5,
                # A lost client or a stuck statement may not hold its locks for long.
                "options": "-c statement_timeout=30s -c idle_in_transaction_session_timeout=60s"
                " -c timezone=UTC",
            },
        )

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Yield a connection; commit when the block ends, roll back when it raises."""
        with self.engine.begin() as connection:
            yield connection

    def answers(self) -> bool:
        """Say whether the server takes a query now."""
        with self.engine.connect() as connection:
            return bool(connection.execute(text("select 1")).scalar_one())

    def close(self) -> None:
        """Give the connections back to the server."""
        self.engine.dispose()


def connect(settings: Settings) -> Database:
    """Return the database that the settings name."""
    return Database(settings.database_url, pool_size=settings.database_pool_size)


def migrate(database_url: str) -> None:
    """Bring the schema to the newest version; safe to run by several processes at once."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = sqlalchemy_url(database_url)
    command.upgrade(config, "head")
