"""Lists of serials as an issuer sends them, and a database of its own to import them into."""

import io
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import create_engine, make_url, text

from common import database
from common.database import Database
from common.forgetting import Forgetting
from common.identifiers import new_id
from common.serials import importing
from common.serials.importing import Imported
from common.settings import Settings

# As issuers write them: not of our alphabet, and without a check character.
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@contextmanager
def own_database(database_url: str) -> Iterator[Database]:
    """Make a database on the server of the tests, at the newest version, for as long as it is needed."""
    server = create_engine(database.sqlalchemy_url(database_url), isolation_level="AUTOCOMMIT")
    name = f"own_{new_id().hex}"
    with server.connect() as connection:
        connection.execute(text(f"create database {name}"))
    url = make_url(database_url).set(database=name).render_as_string(hide_password=False)
    try:
        database.migrate(url)
        # What is changed in it is forgotten in the Valkey of the tests, as everywhere.
        opened = Database(url, forgetting=Forgetting(Settings.load()))
        yield opened
        opened.close()
    finally:
        with server.connect() as connection:
            connection.execute(text(f"drop database {name} with (force)"))
        server.dispose()


def empty(db: Database) -> None:
    """Leave nothing but the tables."""
    with db.transaction() as connection:
        # The ledger's entries are kept by a trigger.
        connection.execute(text("set local session_replication_role = replica"))
        connection.execute(text("truncate serial_stock, serial_imports, partners cascade"))
        connection.execute(text("update serial_alarms set told_at = null"))


def numbers(count: int) -> list[str]:
    """Return new serials of 22 characters, in order."""
    return sorted("E" + "".join(secrets.choice(_LETTERS) for _ in range(21)) for _ in range(count))


def import_text(
    db: Database, content: str, *, reference: str | None = None, skip_bad: bool = False
) -> Imported:
    """Import a file of this content."""
    with db.transaction() as connection:
        return importing.import_list(
            connection,
            io.BytesIO(content.encode()),
            reference=reference or str(new_id()),
            skip_bad=skip_bad,
        )


def imported(db: Database, count: int, *, reference: str | None = None) -> list[str]:
    """Import new serials, and return them in the order in which they go out."""
    listed = numbers(count)
    import_text(db, "\n".join(["serial", *listed]) + "\n", reference=reference)
    return listed
