"""Accounts and their entries; counted in stamps, whole numbers."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Table,
    Text,
    text,
)

from common.schema.base import METADATA, time_column

accounts = Table(
    "accounts",
    METADATA,
    Column("partner_id", ForeignKey("partners.id"), primary_key=True),
    Column("topped_up", BigInteger, nullable=False, server_default="0"),
    Column("available", BigInteger, nullable=False, server_default="0"),
    Column("held", BigInteger, nullable=False, server_default="0"),
    Column("captured", BigInteger, nullable=False, server_default="0"),
    CheckConstraint("available >= 0", name="available_not_negative"),
    CheckConstraint("held >= 0", name="held_not_negative"),
    CheckConstraint("captured >= 0", name="captured_not_negative"),
    CheckConstraint("topped_up = available + held + captured", name="adds_up"),
)

ledger_entries = Table(
    "ledger_entries",
    METADATA,
    Column("id", BigInteger, primary_key=True),
    Column("partner_id", ForeignKey("partners.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("job_id", ForeignKey("jobs.id")),
    Column("reference", Text),
    time_column("at", now=True),
    CheckConstraint("kind in ('top_up', 'hold', 'capture', 'release')", name="kind"),
    CheckConstraint("amount > 0", name="amount_positive"),
    CheckConstraint("(kind = 'top_up') = (job_id is null)", name="job"),
    CheckConstraint("(kind = 'top_up') = (reference is not null)", name="reference"),
    Index("ix_ledger_entries_partner", "partner_id", text("id desc")),
    # One hold and one settlement per job, whatever is tried twice.
    Index("uq_ledger_entries_hold", "job_id", unique=True, postgresql_where=text("kind = 'hold'")),
    Index(
        "uq_ledger_entries_settlement",
        "job_id",
        unique=True,
        postgresql_where=text("kind in ('capture', 'release')"),
    ),
    Index(
        "uq_ledger_entries_top_up",
        "partner_id",
        "reference",
        unique=True,
        postgresql_where=text("kind = 'top_up'"),
    ),
)
