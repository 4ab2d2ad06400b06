"""Every rule of the audit speaks when it is broken, names who breaks it, and keeps quiet otherwise."""

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from common import audit
from common.database import Database
from common.identifiers import new_id
from common.settings import WebSettings
from deploy import document_audit
from tests import bulk, damages
from tests.damages import DAMAGES, Damage
from tests.databases import own_database
from tests.stack import ROOT, eventually

JOBS = 2000


@pytest.fixture(scope="module")
def bulky(web_settings: WebSettings) -> Iterator[Database]:
    """A database as years of service leave it."""
    with own_database(web_settings.database_url) as url:
        opened = Database(url, pool_size=3)
        with opened.transaction() as connection:
            bulk.fill(connection, jobs=JOBS)
        yield opened
        opened.close()


def states(connection: Connection) -> set[tuple[str, str]]:
    return {(r.state, r.mode) for r in connection.execute(text("select state, mode from jobs"))}


def test_a_database_of_every_state_and_both_modes_is_clean(bulky: Database) -> None:
    with bulky.transaction() as connection:
        found = audit.audit(connection)
        assert (found.jobs, found.violations) == (JOBS, [])
        assert {state for state, _ in states(connection)} == {
            *("queued", "stamping", "stamped", "failed", "cancelled")
        }
        assert {mode for _, mode in states(connection)} == {"test", "live"}


def test_every_rule_has_a_damage_that_breaks_it() -> None:
    """A rule that nothing can break is no rule."""
    assert set(DAMAGES) == set(audit.RULES)
    assert all(DAMAGES.values())


@pytest.mark.parametrize(
    ("rule", "damage"),
    [(rule, damage) for rule, several in DAMAGES.items() for damage in several],
    ids=str,
)
def test_a_rule_speaks_when_it_is_broken(bulky: Database, rule: str, damage: Damage) -> None:
    with bulky.engine.connect() as connection:
        offender = damages.do(connection, damage)
        found = audit.look(connection)
        alone = connection.execute(text(audit.RULES[rule])).scalars().all()
        connection.rollback()
    assert [v.ids for v in found.violations if v.rule == rule] == [[offender]]
    assert [str(each) for each in alone] == [offender]


def test_offenders_are_counted_and_the_first_are_named(bulky: Database) -> None:
    with bulky.engine.connect() as connection:
        connection.execute(text("set local session_replication_role = replica"))
        gone = connection.execute(
            text("delete from events where type = 'job.accepted' returning job_id")
        ).scalars()
        ids = sorted(str(job_id) for job_id in gone)
        found = audit.look(connection, ids_shown=3)
        connection.rollback()
    (violation,) = found.violations
    assert (violation.count, violation.ids) == (JOBS, ids[:3])


def test_it_sees_one_moment_while_others_write(bulky: Database) -> None:
    """What is committed between two looks is seen by neither, and no writer waits."""
    told: list[str] = []

    def write(what: str, _seconds: float) -> None:
        if not told:
            with bulky.transaction() as other:
                other.execute(text("set local lock_timeout = '1s'"))
                other.execute(text("update accounts set held = held"))
                other.execute(
                    text("insert into partners (id, name) values (:id, :name)"),
                    {"id": new_id(), "name": str(new_id())},
                )
                other.execute(text("set local session_replication_role = replica"))
                other.execute(
                    text("update accounts set topped_up = topped_up + 1, available = available + 1")
                )
        told.append(what)

    with bulky.transaction() as connection:
        assert audit.audit(connection, tell=write).violations == []
    assert len(told) == 2 + len(audit.OTHER_RULES)
    with bulky.transaction() as connection:
        (violation,) = audit.audit(connection).violations
        assert violation.rule == damages.SIDES
    with bulky.transaction() as connection:
        connection.execute(
            text("update accounts set topped_up = topped_up - 1, available = available - 1")
        )


def test_it_takes_only_locks_that_no_writer_waits_for_and_cannot_write(bulky: Database) -> None:
    with bulky.engine.connect() as connection:
        audit.audit(connection)
        modes = set(
            connection.execute(
                text(
                    "select mode from pg_locks where pid = pg_backend_pid()"
                    " and locktype = 'relation'"
                )
            ).scalars()
        )
        assert modes == {"AccessShareLock"}
        with pytest.raises(Exception, match="read-only transaction"):
            connection.execute(text("update accounts set held = held"))


def test_it_waits_for_no_migration(bulky: Database) -> None:
    with bulky.engine.connect() as migrating, bulky.engine.connect() as connection:
        migrating.execute(text("lock table jobs in access exclusive mode"))
        with pytest.raises(OperationalError, match="lock timeout"):
            audit.audit(connection)
        migrating.rollback()


def test_it_ends_at_the_server_when_whoever_asked_is_killed(bulky: Database) -> None:
    program = f"""
from sqlalchemy import text
from common import audit
from common.database import Database
with Database({bulky.engine.url.render_as_string(hide_password=False)!r}).transaction() as c:
    audit.audit(c)
    c.execute(text("select pg_sleep(600)"))
"""
    asking = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    with bulky.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as operator:

        def sleeping() -> bool:
            return bool(
                operator.execute(
                    text(
                        "select from pg_stat_activity where query like '%pg_sleep(600)%'"
                        " and state = 'active' and pid <> pg_backend_pid()"
                    )
                ).rowcount
            )

        eventually(sleeping)
        asking.kill()
        asking.wait()
        eventually(lambda: not sleeping())


def test_the_documentation_says_of_every_rule_what_to_do() -> None:
    documented = (ROOT / "docs" / "audit.md").read_text()
    for rule in (*audit.RULES, *document_audit.RULES):
        assert f"\n| {rule} | " in documented


def test_it_may_be_cancelled(bulky: Database) -> None:
    """By an operator at the server; whoever runs it hears so in one sentence."""
    failures: list[Exception] = []

    def run() -> None:
        try:
            with bulky.transaction() as connection:
                for _ in range(10_000):
                    audit.look(connection)
        except OperationalError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    with bulky.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as operator:

        def cancelled() -> bool:
            # One that comes between two statements cancels nothing.
            operator.execute(
                text(
                    "select pg_cancel_backend(pid) from pg_stat_activity where"
                    " datname = current_database() and query like '%judged%'"
                    " and state = 'active' and pid <> pg_backend_pid()"
                )
            )
            return bool(failures)

        eventually(cancelled)
    thread.join()
    assert "canceling statement due to user request" in str(failures[0])
