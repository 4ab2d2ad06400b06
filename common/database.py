"""The engine and its transactions: SQLAlchemy 2 on psycopg 3, PostgreSQL only.

A server that is gone says so at once; one that is frozen, or behind a broken wire, says nothing. So
every answer has its time, and who waits for clients asks a silent server again only now and then.
"""

import select
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString, TypeVar

import orjson
import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import errors as postgres
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy import (
    URL,
    Connection,
    RootTransaction,
    create_engine,
    event,
    make_url,
    text,
)
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    InvalidatePoolError,
    OperationalError,
    SQLAlchemyError,
)

from common import aftermath
from common.aftermath import Changes
from common.breaker import Breaker, Pauses
from common.forgetting import Forgetting
from common.settings import Settings
from common.wire import Wire

MIGRATIONS = Path(__file__).parent / "migrations"
T = TypeVar("T")


class DatabaseAwayError(OperationalError):
    """The server did not answer a moment ago; it was not asked again."""

    def __init__(self) -> None:
        super().__init__(
            None, None, psycopg.OperationalError("the database did not answer a moment ago")
        )


class OutcomeUnknownError(OperationalError):
    """The connection broke while the server was told to commit: it may have, or not.

    Whatever belongs to the transaction must be left as if it had; who wants to know asks again.
    """

    def __init__(self) -> None:
        super().__init__(
            None, None, psycopg.OperationalError("the commit was sent, and no answer came")
        )


# How long a connection may have waited in the pool to be used again without a question.
_TRUSTED_SECONDS = 5
_USED_AT = "used_at"
# What psycopg calls internal errors, and a server says that ends a session or is being replaced.
_OF_THE_SERVER = (
    postgres.ReadOnlySqlTransaction,
    postgres.IdleInTransactionSessionTimeout,
    postgres.TransactionTimeout,
)


def is_passing(error: DBAPIError) -> bool:
    """Say whether the server is at fault: away, restarting, full, or out of patience with a session."""
    return (
        isinstance(error, OperationalError | InterfaceError)
        or error.connection_invalidated
        or isinstance(error.orig, _OF_THE_SERVER)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for the server, in seconds."""

    # For a connection.
    connect: int
    # For a free connection, when this process uses all that it may have.
    turn: float
    # The server gives a statement up by itself; its locks are free then.
    statement: float
    # We give the server up: it is frozen, or out of reach. Longer than a statement may take.
    answer: float
    # How long a server that gave no answer is left alone by all but one who tries.
    pause: float


# Somebody waits for us, and there are others behind.
EDGE = Patience(connect=3, turn=2, statement=4, answer=4.5, pause=1)
# A job can wait, and work on many rows takes its time.
WORK = Patience(connect=5, turn=5, statement=30, answer=33, pause=0)


def sqlalchemy_url(database_url: str) -> URL:
    """Turn a libpq URL into SQLAlchemy's, with psycopg 3 as the driver."""
    return make_url(database_url).set(drivername="postgresql+psycopg")


class Database:
    """A pool of connections; every use of it is one transaction.

    Commits are synchronous, whatever the server's own settings say: what `transaction` returned
    from survives a crash of the server.
    """

    def __init__(
        self,
        database_url: str,
        *,
        pool_size: int = 8,
        patience: Patience = WORK,
        forgetting: Forgetting | None = None,
    ) -> None:
        """Prepare the pool; connects at the first use.

        Args:
            database_url: a libpq URL, `postgresql://user:password@host:port/name`.
            pool_size: connections this process may hold at the most.
            patience: how long to wait for the server.
            forgetting: hears of what was changed that Valkey remembers.
        """
        self._forgetting = forgetting
        self._breaker = Breaker(
            time.monotonic,
            Pauses(
                failures_allowed=1,
                first=patience.pause,
                longest=patience.pause,
                bearable=0.2,
                longest_try=patience.connect + patience.answer if patience.pause else 0,
            ),
        )
        self.engine = create_engine(
            sqlalchemy_url(database_url),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=patience.turn,
            # What a statement was given stays out of tracebacks, and so out of logs and Flower: names,
            # metadata, secrets of webhooks.
            hide_parameters=True,
            # jsonb keeps 1e300 as an integer of 301 digits; read as one it could not be written again.
            json_deserializer=orjson.loads,
            connect_args={
                "connect_timeout": patience.connect,
                # A lost client or a stuck statement may not hold its locks for long. What is given
                # here wins over settings of the server, the database and the role.
                "options": f"-c statement_timeout={round(patience.statement * 1000)}"
                " -c idle_in_transaction_session_timeout=60s -c synchronous_commit=on"
                " -c timezone=UTC",
            },
        )
        impatient = _impatient(patience.answer, self._breaker)

        @event.listens_for(self.engine, "checkin")
        def _checkin(_connection: Any, record: Any) -> None:
            record.info[_USED_AT] = time.monotonic()

        @event.listens_for(self.engine, "checkout")
        def _checkout(connection: Any, record: Any, _proxy: Any) -> None:
            used_at = record.info.get(_USED_AT)
            if used_at is not None:
                self._try(connection, idle_seconds=time.monotonic() - used_at)

        @event.listens_for(self.engine, "do_connect")
        def _connect(
            _dialect: Any, _record: Any, arguments: tuple[Any, ...], parameters: dict[str, Any]
        ) -> psycopg.Connection:
            # A connection that is dead is replaced by another one. After a silence that one would only
            # be waited for as long again.
            if self._breaker.is_resting:
                raise DatabaseAwayError
            return impatient.connect(*arguments, **parameters)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Yield a connection; commit when the block ends, roll back when it raises.

        Raises:
            DatabaseAwayError: nothing was asked, because a moment ago there was no answer.
            OutcomeUnknownError: the connection broke during the commit.
            sqlalchemy.exc.SQLAlchemyError: anything else; the transaction is certainly rolled back.
        """
        changes = Changes()
        try:
            with self._connection() as connection:
                begun = connection.begin()
                try:
                    yield connection
                except BaseException:
                    # On a broken connection it cannot be said, and need not: the server never got a commit.
                    with suppress(DBAPIError):
                        begun.rollback()
                    raise
                finally:
                    changes = aftermath.take(connection)
                _commit(begun)
        finally:
            self._forget(changes)

    def call(
        self,
        statement: LiteralString,
        parameters: Sequence[object],
        *,
        changes: Changes | None = None,
    ) -> tuple[Any, ...]:
        """Run one statement that is a transaction by itself, in one round trip; returns its only row.

        Args:
            statement: as psycopg takes it, with `%s` for each parameter.
            parameters: what stands for these.
            changes: what it may change that Valkey remembers.

        Raises:
            DatabaseAwayError: nothing was asked, because a moment ago there was no answer.
            OutcomeUnknownError: the connection broke before the answer came.
            sqlalchemy.exc.DBAPIError: the server refused; nothing was changed.
        """
        try:
            return self._call(statement, parameters)
        finally:
            self._forget(changes)

    def _call(self, statement: LiteralString, parameters: Sequence[object]) -> tuple[Any, ...]:
        with self._connection() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)
            try:
                driver.autocommit = True
                row = driver.execute(statement, parameters, prepare=True).fetchone()
                driver.autocommit = False
            except BaseException as error:
                if driver.closed:
                    connection.invalidate()
                    raise OutcomeUnknownError from error
                driver.autocommit = False
                if not isinstance(error, psycopg.Error):
                    raise
                raise DBAPIError.instance(
                    statement, None, error, psycopg.Error, hide_parameters=True
                ) from error
        if row is None:
            raise LookupError("the statement returned no row")
        return tuple(row)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection for a transaction that changes nothing, so that its outcome is known.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the server cannot be asked now.
        """
        try:
            with self.transaction() as connection:
                yield connection
        except OutcomeUnknownError as error:
            raise DatabaseAwayError from error

    def answers(self) -> bool:
        """Say whether the server takes a query now."""
        with self.reading() as connection:
            return bool(connection.execute(text("select 1")).scalar_one())

    def close(self) -> None:
        """Give the connections back to the server."""
        self.engine.dispose()
        if self._forgetting is not None:
            self._forgetting.close()

    def _forget(self, changes: Changes | None) -> None:
        """Tell what is no longer what Valkey remembers; also when nobody knows how it ended."""
        if changes and self._forgetting is not None:
            self._forgetting.forget(changes)

    def _try(self, connection: Any, *, idle_seconds: float) -> None:
        """See that a connection which waited in the pool is alive; the pool replaces one that is not.

        A server that ended it, or restarted, has said so, which the kernel knows without being asked
        across the wire. That leaves one that was cut without a word, more likely the longer it waited.

        Raises:
            sqlalchemy.exc.InvalidatePoolError: it is dead, and so are those that are as old.
        """
        if idle_seconds < _TRUSTED_SECONDS and not _has_something_to_say(connection):
            return
        try:
            self.engine.dialect.do_ping(connection)
        except psycopg.Error as error:
            raise InvalidatePoolError from error

    def _connection(self) -> Connection:
        if not self._breaker.take_turn():
            raise DatabaseAwayError
        with self._breaker.watch(DBAPIError):
            return self.engine.connect()


def _has_something_to_say(connection: Any) -> bool:
    """Say whether something came from the server that nobody asked for, such as the end."""
    if connection.closed:
        return True
    look = select.poll()
    look.register(connection.fileno(), select.POLLIN)
    return bool(look.poll(0))


class _ImpatientConnection(psycopg.Connection[Any]):
    """A connection that gives up a server which does not answer in time.

    Neither libpq nor the kernel does: to them a frozen server is a slow one.
    """

    _patience = 0.0
    _breaker: Breaker

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Wait for one answer, which every operation of the connection does here.

        Raises:
            psycopg.OperationalError: there was none in time; the connection is closed.
        """
        started = time.monotonic()
        try:
            return super().wait(gen, interval, self._patience if timeout is None else timeout)
        except psycopg.OperationalError as error:
            if error.sqlstate is not None or time.monotonic() - started < self._patience:
                raise
            self._breaker.failed()
            self.pgconn.finish()
            raise psycopg.OperationalError(
                f"the database did not answer within {self._patience:g} s"
            ) from error
        except BaseException:
            # Interrupted: an answer that comes later must not be taken for the next one.
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()
            raise


def _impatient(seconds: float, breaker: Breaker) -> type[_ImpatientConnection]:
    """Return a class of connections with its patience, which tells a breaker when it ended."""

    class Impatient(_ImpatientConnection):
        _patience = seconds
        _breaker = breaker

    return Impatient


def _commit(begun: RootTransaction) -> None:
    """Commit, and tell a refusal from an answer that never came."""
    try:
        begun.commit()
    except DBAPIError as error:
        if not error.connection_invalidated:
            # The server said no: it has rolled back.
            raise
        raise OutcomeUnknownError from error
    except SQLAlchemyError:
        # It was broken before: no commit was sent.
        raise
    except Exception as error:
        # A time limit of a worker's, for example.
        raise OutcomeUnknownError from error


def connect(
    settings: Settings,
    *,
    patience: Patience = WORK,
    pool_size: int | None = None,
    wire: Wire | None = None,
) -> Database:
    """Return the database that the settings name.

    Args:
        settings: name it, and Valkey.
        patience: how long to wait for the server.
        pool_size: another one than the settings say.
        wire: the process's way to Valkey, where it has one.
    """
    return Database(
        settings.database_url,
        pool_size=pool_size or settings.database_pool_size,
        patience=patience,
        forgetting=Forgetting(settings, wire),
    )


def migrate(database_url: str) -> None:
    """Bring the schema to the newest version; safe to run by several processes at once."""
    config = _migrations()
    config.attributes["url"] = sqlalchemy_url(database_url)
    command.upgrade(config, "head")


def is_migrated(connection: Connection) -> bool:
    """Say whether the schema is this version's, or one that this version does not know: a later one's."""
    found = MigrationContext.configure(connection).get_current_revision()
    scripts = ScriptDirectory.from_config(_migrations())
    earlier = {script.revision for script in scripts.walk_revisions()} - set(scripts.get_heads())
    return found is not None and found not in earlier


def _migrations() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config
