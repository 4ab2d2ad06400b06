"""Who submits, and with which keys."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    Table,
    Text,
    Uuid,
)

from common.schema.base import METADATA, time_column

partners = Table(
    "partners",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    time_column("created_at", now=True),
    # What it may submit; null: as the settings say.
    Column("submissions_per_minute", Integer),
    Column("submissions_at_once", Integer),
    Column("prompt_per_minute", Integer),
    CheckConstraint("submissions_per_minute > 0", name="submissions_per_minute_positive"),
    CheckConstraint("submissions_at_once > 0", name="submissions_at_once_positive"),
    CheckConstraint("prompt_per_minute > 0", name="prompt_per_minute_positive"),
)

api_keys = Table(
    "api_keys",
    METADATA,
    Column("id", Uuid, primary_key=True),
    # Whom the key acts for: a partner in one mode, or whoever runs the service.
    Column("scope", Text, nullable=False),
    Column("partner_id", ForeignKey("partners.id"), index=True),
    Column("mode", Text),
    # SHA-256 of the whole key: its 256 random bits need no slow hash.
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("hint", Text, nullable=False),
    Column("label", Text, nullable=False),
    time_column("created_at", now=True),
    time_column("revoked_at"),
    CheckConstraint("mode in ('test', 'live')", name="mode"),
    CheckConstraint("scope in ('partner', 'operator')", name="scope"),
    CheckConstraint("(scope = 'partner') = (partner_id is not null)", name="partner_scope"),
    CheckConstraint("(scope = 'partner') = (mode is not null)", name="mode_scope"),
)
