"""Batches: jobs that were accepted together."""

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, Table, Text, Uuid, text

from common.schema.base import METADATA, time_column

batches = Table(
    "batches",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    # Of the account; repeated for webhooks.
    Column("partner_id", ForeignKey("partners.id"), nullable=False),
    Column("mode", Text, nullable=False),
    Column("external_reference", Text),
    # How many jobs it has.
    Column("total", Integer, nullable=False),
    time_column("accepted_at", now=True),
    # When the last of its jobs ended, once upkeep has seen it and told of it.
    time_column("finished_at"),
    # When upkeep looks at it again.
    time_column("look_at"),
    CheckConstraint("mode in ('test', 'live')", name="mode"),
    CheckConstraint("total >= 1", name="total"),
    CheckConstraint("(finished_at is null) = (look_at is not null)", name="look"),
    Index("ix_batches_owner", "account_id", text("id desc")),
    Index("ix_batches_look_at", "look_at", postgresql_where=text("look_at is not null")),
)
