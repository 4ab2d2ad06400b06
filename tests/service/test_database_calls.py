"""One statement that is a transaction by itself, over connections that nobody asked whether they live."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from common.database import Database
from common.settings import WebSettings


@pytest.fixture
def single(web_settings: WebSettings) -> Iterator[Database]:
    """Yield a database with one connection."""
    opened = Database(web_settings.database_url, pool_size=1)
    yield opened
    opened.close()


def session(database: Database) -> int:
    (pid,) = database.call("select pg_backend_pid()", ())
    assert isinstance(pid, int)
    return pid


def test_calls_and_transactions_take_turns_on_one_connection(single: Database) -> None:
    first = session(single)
    with single.transaction() as connection:
        connection.execute(text("create temp table things (n int)"))
    assert single.call("insert into things values (%s) returning n", (7,)) == (7,)
    with single.transaction() as connection:
        assert connection.execute(text("select n from things")).scalars().all() == [7]
    assert session(single) == first


def test_a_refused_call_changed_nothing_and_leaves_its_connection_usable(single: Database) -> None:
    first = session(single)
    with pytest.raises(DBAPIError, match="division by zero") as refused:
        single.call("select 1 / %s::int", (0,))
    assert not refused.value.connection_invalidated
    assert session(single) == first


def test_a_connection_that_the_server_ended_while_it_waited_costs_no_call(
    single: Database, db: Database
) -> None:
    """As at a restart; without a question across the wire before each use."""
    ended = session(single)
    assert db.call("select pg_terminate_backend(%s, 5000)", (ended,)) == (True,)
    assert session(single) != ended
    ended = session(single)
    assert db.call("select pg_terminate_backend(%s, 5000)", (ended,)) == (True,)
    assert single.answers()
