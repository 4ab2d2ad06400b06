"""A database of an earlier version, with jobs in every state, brought to the newest one in place."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import orjson
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, make_url, text

from common import accounts, audit, database, idempotency, jobs, ledger, partners, serials
from common.database import Database
from common.idempotency import Keyed
from common.identifiers import new_id
from common.jobs import Result, State, records
from common.ledger import Balance
from common.partners import Mode
from common.placements import Placement
from common.schema import METADATA
from common.settings import WebSettings

PARTNER = new_id()
PLACEMENTS: list[dict[str, Any]] = [
    {"page": "last"},
    {"page": 2, "x": 400.0, "y": 60.0},
    {"page": 1, "corner": "top-left", "width": 54.0},
]


@pytest.fixture
def old_url(web_settings: WebSettings) -> Iterator[str]:
    """An empty database of its own on the server of the tests."""
    server = create_engine(
        database.sqlalchemy_url(web_settings.database_url), isolation_level="AUTOCOMMIT"
    )
    name = f"old_{new_id().hex}"
    with server.connect() as connection:
        connection.execute(text(f"create database {name}"))
    try:
        url = make_url(web_settings.database_url).set(database=name)
        yield url.render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.execute(text(f"drop database {name} with (force)"))
        server.dispose()


def upgrade(url: str, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(database.MIGRATIONS))
    config.attributes["url"] = database.sqlalchemy_url(url)
    command.upgrade(config, revision)


def insert_job(connection: Connection, mode: Mode, state: State, placement: dict[str, Any]) -> UUID:
    """Write a job as the first version did, with all that belongs to it."""
    job_id = new_id()
    final = state in jobs.FINAL
    connection.execute(
        text(
            "insert into jobs (id, partner_id, mode, state, lane, attempt, lease_until, publish_at,"
            " placement, metadata, document_name, document_bytes, document_sha256, result_key,"
            " result_bytes, result_sha256, problem_code, receipt, finished_at) values (:id,"
            " :partner, :mode, :state, 'tests', :attempt,"
            " case when :state = 'stamping' then now() + interval '1 hour' end,"
            " case when :state = 'queued' then now() end, cast(:placement as jsonb), '{}', 'a.pdf',"
            " 9, 'd', case when :state = 'stamped' then 'key' end,"
            " case when :state = 'stamped' then 9 end,"
            " case when :state = 'stamped' then cast('r' as bytea) end,"
            " case when :state = 'failed' then 'box_off_page' end, 'receipt',"
            " case when :final then now() end)"
        ),
        {
            "id": job_id,
            "partner": PARTNER,
            "mode": mode,
            "state": state,
            "attempt": int(state is State.STAMPING),
            "placement": orjson.dumps(placement).decode(),
            "final": final,
        },
    )
    told = ["job.accepted", *([f"job.{state}"] if final else [])]
    for kind in told:
        connection.execute(
            text(
                "insert into events (id, partner_id, mode, type, job_id, payload)"
                " values (:event, :partner, :mode, :type, :id, '{}')"
            ),
            {"event": new_id(), "partner": PARTNER, "mode": mode, "type": kind, "id": job_id},
        )
    worn = {State.STAMPED: "affixed", State.FAILED: "void", State.CANCELLED: "void"}
    connection.execute(
        text(
            "insert into serials (serial, mode, job_id, state, affixed_at) values (:serial, :mode,"
            " :id, :state, case when :state = 'affixed' then now() end)"
        ),
        {
            "serial": serials.generate(mode),
            "mode": mode,
            "id": job_id,
            "state": worn.get(state, "reserved"),
        },
    )
    if mode is Mode.LIVE:
        settled = {State.STAMPED: "capture", State.FAILED: "release", State.CANCELLED: "release"}
        for kind in ["hold", *([settled[state]] if final else [])]:
            connection.execute(
                text(
                    "insert into ledger_entries (partner_id, kind, amount, job_id)"
                    " values (:partner, :kind, 1, :id)"
                ),
                {"partner": PARTNER, "kind": kind, "id": job_id},
            )
    return job_id


def fill(connection: Connection) -> dict[tuple[Mode, State], UUID]:
    """Write a partner with 10 stamps and a job in every state and mode."""
    connection.execute(text("insert into partners (id, name) values (:id, 'A')"), {"id": PARTNER})
    connection.execute(
        # Three jobs hold or spent one each: queued, stamping, stamped.
        text("insert into accounts values (:id, 10, 7, 2, 1)"),
        {"id": PARTNER},
    )
    connection.execute(
        text(
            "insert into ledger_entries (partner_id, kind, amount, reference)"
            " values (:id, 'top_up', 10, 'first')"
        ),
        {"id": PARTNER},
    )
    for mode in Mode:
        connection.execute(
            text(
                "insert into idempotency_keys (partner_id, mode, key, fingerprint, status, headers,"
                " body) values (:id, :mode, 'k', :seen, 202, '{}', '')"
            ),
            {"id": PARTNER, "mode": mode, "seen": mode.encode()},
        )
    cases = [(mode, state) for mode in Mode for state in State if state is not State.PARKED]
    return {
        (mode, state): insert_job(connection, mode, state, PLACEMENTS[number % len(PLACEMENTS)])
        for number, (mode, state) in enumerate(cases)
    }


def test_jobs_of_the_first_version_become_jobs_of_one_stamp(old_url: str) -> None:
    upgrade(old_url, "0001")
    opened = Database(old_url, pool_size=1)
    try:
        with opened.transaction() as connection:
            made = fill(connection)
            before: dict[UUID, str] = {
                row.job_id: row.serial
                for row in connection.execute(text("select job_id, serial from serials"))
            }
        opened.engine.dispose()
        database.migrate(old_url)

        with opened.transaction() as connection:
            assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
        with opened.transaction() as connection:
            found = audit.audit(connection)
        assert (found.jobs, found.violations) == (10, [])
        with opened.transaction() as connection:
            for number, ((mode, state), job_id) in enumerate(made.items()):
                job = records.show(connection, job_id)
                assert job is not None
                assert (job.mode, job.state) == (mode, state)
                assert job.stamps == [
                    {"serial": before[job_id], "placement": PLACEMENTS[number % len(PLACEMENTS)]}
                ]
                assert Placement.model_validate(job.placements[0]).as_json() == job.placements[0]

        with opened.transaction() as connection:
            ids = {
                mode: accounts.of_partner(connection, partner_id=PARTNER, mode=mode)
                for mode in Mode
            }
            assert ledger.balance(connection, ids[Mode.LIVE]) == Balance(10, 7, 2, 1)
            assert ledger.balance(connection, ids[Mode.TEST]) == Balance(
                partners.SPECIMENS, partners.SPECIMENS - 3, 2, 1
            )
            again = ledger.top_up(
                connection, account_id=ids[Mode.LIVE], amount=10, reference="first", by="tests"
            )
            assert again.topped_up == 10
            for mode, account_id in ids.items():
                kept = idempotency.earlier_answer(connection, Keyed(account_id, "k", mode.encode()))
                assert kept is not None

        # What was waiting is stamped, cancelled and charged as if it had come today.
        with opened.transaction() as connection:
            claim = jobs.claim(connection, made[Mode.LIVE, State.QUEUED], lease_seconds=60)
            assert claim is not None
            assert claim.serials == [before[claim.job_id]]
            assert jobs.finish(connection, claim, Result(key="k", length=1, sha256=b"r"))
        with opened.transaction() as connection:
            assert jobs.cancel(
                connection, account_id=ids[Mode.TEST], job_id=made[Mode.TEST, State.QUEUED]
            )
            connection.execute(
                text(
                    "update jobs set lease_until = now() - interval '1 hour'"
                    " where state = 'stamping'"
                )
            )
            late = jobs.expired(connection, lease_seconds=60, limit=10)
        assert len(late) == 2
        for job_id in late:
            with opened.transaction() as connection:
                assert jobs.take_back(connection, job_id, lease_seconds=60)
        with opened.transaction() as connection:
            balance = ledger.balance(connection, ids[Mode.LIVE])
        assert (balance.available, balance.held, balance.captured) == (7, 1, 2)
        with opened.transaction() as connection:
            assert audit.audit(connection).violations == []
    finally:
        opened.close()


def test_keys_from_before_operators_are_partners_and_quoted_requests_are_still_known(
    old_url: str,
) -> None:
    owner = new_id()
    upgrade(old_url, "0005")
    opened = Database(old_url, pool_size=1)
    try:
        with opened.transaction() as connection:
            connection.execute(
                text("insert into partners (id, name) values (:id, 'A')"), {"id": PARTNER}
            )
            connection.execute(
                text(
                    "insert into api_keys (id, partner_id, mode, digest, hint, label)"
                    " values (:id, :partner, 'live', 'd', 'h', 'l')"
                ),
                {"id": new_id(), "partner": PARTNER},
            )
            for key in ("bare", '"quoted"', "both", '"both"', r'"a\"b"', '"', '""'):
                connection.execute(
                    text(
                        "insert into idempotency_keys (owner_id, key, fingerprint, status, headers,"
                        " body) values (:owner, :key, 'f', 202, '{}', '')"
                    ),
                    {"owner": owner, "key": key},
                )
        opened.engine.dispose()
        database.migrate(old_url)
        with opened.transaction() as connection:
            scope = connection.execute(text("select scope from api_keys")).scalar_one()
            keys = set(connection.execute(text("select key from idempotency_keys")).scalars())
        assert scope == "partner"
        assert keys == {"bare", "quoted", "both", '"both"', r'"a\"b"', '"', '""'}
    finally:
        opened.close()


def test_a_database_is_migrated_when_its_tables_are_this_version_s_or_a_later_one_s(
    old_url: str,
) -> None:
    opened = Database(old_url)

    def migrated() -> bool:
        with opened.reading() as connection:
            return database.is_migrated(connection)

    try:
        assert not migrated()
        upgrade(old_url, "0001")
        assert not migrated()
        database.migrate(old_url)
        assert migrated()
        with opened.transaction() as connection:
            connection.execute(text("update alembic_version set version_num = '9999'"))
        assert migrated()
    finally:
        opened.close()
