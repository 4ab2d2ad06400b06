"""The intake's gates with their history, and the waiting room before the applicants' gate."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    text,
)

from common.schema.base import METADATA, time_column


def _setting() -> list[CheckConstraint]:
    """Return what holds of a gate's setting wherever it stands."""
    return [
        CheckConstraint("kind in ('applicant', 'partner', 'bulk')", name="kind"),
        CheckConstraint("state in ('open', 'slow', 'closed')", name="state"),
        CheckConstraint("(state = 'slow') = (rate is not null)", name="rate"),
        CheckConstraint("rate between 0.02 and 100000", name="rate_bounds"),
        CheckConstraint("state <> 'open' or reopens_at is null", name="reopens"),
    ]


gates = Table(
    "gates",
    METADATA,
    Column("kind", Text, primary_key=True),
    Column("state", Text, nullable=False),
    # Submissions a second that a slow gate lets through.
    Column("rate", Double),
    # In plain words, for people.
    Column("reason", Text),
    # When it is open again by itself.
    time_column("reopens_at"),
    # Since when it is in this state, whatever else of it changed.
    time_column("since", now=True),
    time_column("changed_at", now=True),
    Column("changed_by", Text, nullable=False),
    *_setting(),
)

gate_changes = Table(
    "gate_changes",
    METADATA,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("rate", Double),
    Column("reason", Text),
    time_column("reopens_at"),
    time_column("at", now=True),
    Column("by", Text, nullable=False),
    *_setting(),
    Index("ix_gate_changes_kind", "kind", text("id desc")),
)

waiting_places = Table(
    "waiting_places",
    METADATA,
    # In order of arrival.
    Column("number", BigInteger, Identity(always=True), primary_key=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    time_column("asked_at", now=True),
    # When its stamps were spent, or its holder asked again after its slot was over.
    time_column("ended_at"),
    # One open place for each voucher.
    Index(
        "uq_waiting_places_open",
        "account_id",
        unique=True,
        postgresql_where=text("ended_at is null"),
    ),
)

waiting_turns = Table(
    "waiting_turns",
    METADATA,
    # All places up to this number have had their turn.
    Column("up_to", BigInteger, primary_key=True, autoincrement=False),
    # When the slots of those that came with it began.
    time_column("at", now=True),
    # How many places these were, and what was submitted in their slots.
    Column("slots", Integer, nullable=False),
    Column("jobs", Integer, nullable=False, server_default="0"),
    CheckConstraint("slots >= 0", name="slots_not_negative"),
    Index("ix_waiting_turns_at", "at"),
)
