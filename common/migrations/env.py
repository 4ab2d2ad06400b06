"""What Alembic runs to migrate: one connection, one lock, one transaction."""

from alembic import context
from sqlalchemy import create_engine, text

from common.schema import METADATA

# Any number that nothing else in the database locks: two `migrate` runs wait for each other.
MIGRATION_LOCK = 5_705_022_024

engine = create_engine(context.config.attributes["url"])
with engine.begin() as connection:
    connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
    context.configure(connection=connection, target_metadata=METADATA, transactional_ddl=True)
    context.run_migrations()
engine.dispose()
