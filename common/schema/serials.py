"""Serial numbers: those of jobs, and the imported ones that no job has yet."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
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
    # Null for generated ones. No foreign key here and below: every acceptance would lock that row.
    Column("import_id", Uuid),
    # Goes back into the stock when its job ends without a stamp.
    Column("returns", Boolean, nullable=False, server_default=text("false")),
    time_column("reserved_at", now=True),
    time_column("affixed_at"),
    CheckConstraint("mode in ('test', 'live')", name="mode"),
    CheckConstraint("state in ('reserved', 'affixed', 'void')", name="state"),
    CheckConstraint("(state = 'affixed') = (affixed_at is not null)", name="affixed"),
    CheckConstraint("position >= 1", name="position"),
    CheckConstraint("import_id is null or mode = 'live'", name="imported"),
    CheckConstraint("not returns or import_id is not null", name="returns"),
    UniqueConstraint("job_id", "position", name="uq_serials_job_id_position"),
)

serial_imports = Table(
    "serial_imports",
    METADATA,
    Column("id", Uuid, primary_key=True),
    # The name of a delivery; it stands for one file.
    Column("reference", Text, nullable=False, unique=True),
    Column("file_sha256", LargeBinary, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("added", Integer, nullable=False),
    Column("refused", Integer, nullable=False),
    time_column("at", now=True),
    CheckConstraint("added + refused <= rows", name="counts"),
)

serial_stock = Table(
    "serial_stock",
    METADATA,
    # The order in which they go out, more or less.
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("serial", Text, nullable=False, unique=True),
    Column("import_id", Uuid, nullable=False),
    CheckConstraint("serial ~ '^[0-9A-Z]{16,24}$' and serial !~ '^T'", name="serial"),
)

serial_alarms = Table(
    "serial_alarms",
    METADATA,
    Column("mode", Text, primary_key=True),
    # When it was told that the stock runs low; null: armed.
    time_column("told_at"),
)
