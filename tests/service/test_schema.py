"""The migrations and the tables in the code are the same."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from common import database
from common.database import Database
from common.schema import METADATA
from common.settings import WebSettings
from tests.stack import Account


def test_the_migrations_build_the_tables_of_the_code(db: Database) -> None:
    with db.transaction() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_migrating_again_changes_nothing(web_settings: WebSettings) -> None:
    database.migrate(web_settings.database_url)


@pytest.mark.parametrize(
    "change", ["update ledger_entries set amount = 5", "delete from ledger_entries"]
)
def test_ledger_entries_are_never_changed(db: Database, account: Account, change: str) -> None:
    with pytest.raises(DBAPIError, match="never changed"), db.transaction() as connection:
        connection.execute(text(change + " where account_id = :id"), {"id": account.id()})
