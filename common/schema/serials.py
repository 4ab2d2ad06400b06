"""Serial numbers."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

from common.schema.base import METADATA, time_column

serials = Table(
    "serials",
    METADATA,
    Column("serial", Text, primary_key=True),
    Column("mode", Text, nullable=False),
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    # Which stamp of its job, from 1.
    Column("position", SmallInteger, nullable=False),
    Column("state", Text, nullable=False),
    time_column("reserved_at", now=True),
    time_column("affixed_at"),
    CheckConstraint("mode in ('test', 'live')", name="mode"),
    CheckConstraint("state in ('reserved', 'affixed', 'void')", name="state"),
    CheckConstraint("(state = 'affixed') = (affixed_at is not null)", name="affixed"),
    CheckConstraint("position >= 1", name="position"),
    UniqueConstraint("job_id", "position", name="uq_serials_job_id_position"),
)
