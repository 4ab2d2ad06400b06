"""The migrations and the tables in the code are the same."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from common import database
from common.database import Database
from common.schema import METADATA
from common.settings import WebSettings


def test_the_migrations_build_the_tables_of_the_code(db: Database) -> None:
    with db.transaction() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_migrating_again_changes_nothing(web_settings: WebSettings) -> None:
    database.migrate(web_settings.database_url)
