"""What happened, who is told, and how that goes."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from common.schema.base import METADATA, time_column

webhook_endpoints = Table(
    "webhook_endpoints",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("partner_id", ForeignKey("partners.id"), nullable=False),
    Column("mode", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("description", Text, nullable=False),
    time_column("created_at", now=True),
    time_column("deleted_at"),
    CheckConstraint("mode in ('test', 'live')", name="mode"),
    Index(
        "ix_webhook_endpoints_owner",
        "partner_id",
        "mode",
        postgresql_where=text("deleted_at is null"),
    ),
)

events = Table(
    "events",
    METADATA,
    Column("id", Uuid, primary_key=True),
    # Null for what is no partner's business, such as the stock of serials.
    Column("partner_id", ForeignKey("partners.id")),
    Column("mode", Text, nullable=False),
    Column("type", Text, nullable=False),
    # Null for what happened to no job, such as a quota that runs low.
    Column("job_id", ForeignKey("jobs.id")),
    Column("batch_id", ForeignKey("batches.id")),
    Column("payload", JSONB, nullable=False),
    time_column("created_at", now=True),
    UniqueConstraint("job_id", "type"),
    Index(
        "uq_events_batch_id_type",
        "batch_id",
        "type",
        unique=True,
        postgresql_where=text("batch_id is not null"),
    ),
    CheckConstraint(
        "starts_with(type, 'batch.') = (batch_id is not null)"
        " and (batch_id is null or partner_id is not null)",
        name="batch",
    ),
    CheckConstraint(
        "not starts_with(type, 'job.') or (job_id is not null and partner_id is not null)",
        name="job",
    ),
)

deliveries = Table(
    "deliveries",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("event_id", ForeignKey("events.id"), nullable=False),
    Column("endpoint_id", ForeignKey("webhook_endpoints.id"), nullable=False),
    Column("state", Text, nullable=False, server_default="pending"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    time_column("next_attempt_at"),
    Column("last_status", Integer),
    Column("last_error", Text),
    time_column("last_attempt_at"),
    UniqueConstraint("event_id", "endpoint_id"),
    CheckConstraint("state in ('pending', 'delivered', 'failed')", name="state"),
    CheckConstraint("(state = 'pending') = (next_attempt_at is not null)", name="next_attempt"),
    Index(
        "ix_deliveries_next_attempt_at",
        "next_attempt_at",
        postgresql_where=text("state = 'pending'"),
    ),
)
