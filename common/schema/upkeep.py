"""Who leads, and where rounds that do not see everything at once go on."""

from sqlalchemy import Column, DateTime, Table, Text

from common.schema.base import METADATA

leaders = Table(
    "leaders",
    METADATA,
    Column("office", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("lease_until", DateTime(timezone=True), nullable=False),
)

rounds = Table(
    "rounds",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("place", Text, nullable=False),
)
