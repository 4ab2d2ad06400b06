"""What errors of the database say: why, and nothing of what the statement was given."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from common.database import Database


def test_an_error_does_not_repeat_what_the_statement_was_given(db: Database) -> None:
    with pytest.raises(DBAPIError, match="division by zero") as raised, db.transaction() as it:
        it.execute(text("select 1/0 where :secret <> ''"), {"secret": "whsec_of_a_partner"})
    assert "whsec_of_a_partner" not in str(raised.value)
