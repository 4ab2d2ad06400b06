"""Accounts and their entries; counted in stamps, whole numbers."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Table,
    Text,
    Uuid,
    text,
)

from common.schema.base import METADATA, time_column

accounts = Table(
    "accounts",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("partner_id", ForeignKey("partners.id"), nullable=False),
    Column("mode", Text, nullable=False),
    Column("topped_up", BigInteger, nullable=False, server_default="0"),
    Column("available", BigInteger, nullable=False, server_default="0"),
    Column("held", BigInteger, nullable=False, server_default="0"),
    Column("captured", BigInteger, nullable=False, server_default="0"),
    # Below this many available stamps the owner is told; null: as the settings say; 0: never.
    Column("low_at", BigInteger),
    # When the owner was told; null once there is enough again.
    time_column("low_noticed_at"),
    time_column("created_at", now=True),
    CheckConstraint("kind in ('partner', 'voucher')", name="kind"),
    CheckConstraint("mode in ('test', 'live')", name="mode"),
    CheckConstraint("available >= 0", name="available_not_negative"),
    CheckConstraint("held >= 0", name="held_not_negative"),
    CheckConstraint("captured >= 0", name="captured_not_negative"),
    CheckConstraint("topped_up = available + held + captured", name="adds_up"),
    CheckConstraint("low_at >= 0", name="low_at_not_negative"),
    Index(
        "uq_accounts_partner",
        "partner_id",
        "mode",
        unique=True,
        postgresql_where=text("kind = 'partner'"),
    ),
)

ledger_entries = Table(
    "ledger_entries",
    METADATA,
    Column("id", BigInteger, primary_key=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    Column("kind", Text, nullable=False),
    # Stamps move from one side of the account to another; 'outside' is where they come from.
    Column("source", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("job_id", ForeignKey("jobs.id")),
    Column("reference", Text),
    Column("reason", Text),
    # Who did it, where somebody did.
    Column("by", Text),
    time_column("at", now=True),
    CheckConstraint(
        "(kind, source, target) in (('top_up', 'outside', 'available'),"
        " ('adjust', 'outside', 'available'), ('adjust', 'available', 'outside'),"
        " ('hold', 'available', 'held'), ('capture', 'held', 'captured'),"
        " ('release', 'held', 'available'))",
        name="kind",
    ),
    CheckConstraint("amount > 0", name="amount_positive"),
    CheckConstraint("(kind in ('top_up', 'adjust')) = (job_id is null)", name="job"),
    CheckConstraint("(kind in ('top_up', 'adjust')) = (reference is not null)", name="reference"),
    CheckConstraint(
        "kind <> 'adjust' or (reason is not null and by is not null)", name="adjust_explained"
    ),
    Index("ix_ledger_entries_account", "account_id", text("id desc")),
    # One hold and one settlement per job, whatever is tried twice.
    Index("uq_ledger_entries_hold", "job_id", unique=True, postgresql_where=text("kind = 'hold'")),
    Index(
        "uq_ledger_entries_settlement",
        "job_id",
        unique=True,
        postgresql_where=text("kind in ('capture', 'release')"),
    ),
    Index(
        "uq_ledger_entries_reference",
        "account_id",
        "reference",
        unique=True,
        postgresql_where=text("reference is not null"),
    ),
)
