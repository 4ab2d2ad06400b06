"""The tables; `common/migrations` builds them, and a test holds the two together.

Money is counted in stamps (whole numbers). Times are `timestamptz`, ids are UUIDv7, so that an id
sorts by its time.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _time(name: str, *, now: bool = False) -> Column[object]:
    """Return a time column; with `now` the database fills it in."""
    if now:
        return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())
    return Column(name, DateTime(timezone=True))


partners = Table(
    "partners",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    _time("created_at", now=True),
)

api_keys = Table(
    "api_keys",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("partner_id", ForeignKey("partners.id"), nullable=False, index=True),
    Column("mode", Text, nullable=False),
    # SHA-256 of the whole key: its 256 random bits need no slow hash.
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("hint", Text, nullable=False),
    Column("label", Text, nullable=False),
    _time("created_at", now=True),
    _time("revoked_at"),
    CheckConstraint("mode in ('test', 'live')", name="mode"),
)

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

jobs = Table(
    "jobs",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("partner_id", ForeignKey("partners.id"), nullable=False),
    Column("mode", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("lane", Text, nullable=False),
    # The place in the lane's order of arrival; null when the lane counters could not be reached.
    Column("ticket", BigInteger),
    # The fencing number: counts claims, and only the newest claim may finish.
    Column("attempt", Integer, nullable=False, server_default="0"),
    # Claims that ended without a word, because their worker died or froze.
    Column("lost_leases", Integer, nullable=False, server_default="0"),
    _time("lease_until"),
    # When a queued job that is still queued is sent to the broker again.
    _time("publish_at"),
    Column("publications", Integer, nullable=False, server_default="0"),
    # Where each stamp goes: an array, in the order of the job's serials.
    Column("placements", JSONB, nullable=False),
    Column("external_reference", Text),
    Column("metadata", JSONB, nullable=False),
    Column("document_name", Text, nullable=False),
    Column("document_bytes", BigInteger, nullable=False),
    Column("document_sha256", LargeBinary, nullable=False),
    Column("result_key", Text),
    Column("result_bytes", BigInteger),
    Column("result_sha256", LargeBinary),
    # Whether the stamps or their signer say SPECIMEN; null for what was stamped before this was
    # recorded, when there was no other design than the built-in one.
    Column("specimen", Boolean),
    # Null for what was stamped before levels were recorded: B-B.
    Column("signature_level", Text),
    # When a timestamp is fetched for a file that had to do without; null: not wanted, or there.
    _time("upgrade_at"),
    # Until when the revocation data in such a file holds; null: it has none.
    _time("evidence_until"),
    # Of the file as it was before its timestamp came.
    Column("earlier_sha256", LargeBinary),
    Column("problem_code", Text),
    Column("problem_facts", JSONB),
    Column("receipt", Text, nullable=False),
    _time("accepted_at", now=True),
    _time("started_at"),
    _time("finished_at"),
    CheckConstraint("mode in ('test', 'live')", name="mode"),
    CheckConstraint(
        "state in ('queued', 'stamping', 'stamped', 'failed', 'cancelled')", name="state"
    ),
    CheckConstraint("jsonb_typeof(placements) = 'array' and placements <> '[]'", name="placements"),
    CheckConstraint("(state = 'stamping') = (lease_until is not null)", name="lease"),
    CheckConstraint("(state = 'stamped') = (result_key is not null)", name="result"),
    CheckConstraint("signature_level in ('B-B', 'B-T', 'B-LT')", name="signature_level"),
    CheckConstraint("upgrade_at is null or state = 'stamped'", name="upgrade"),
    CheckConstraint("(state = 'failed') = (problem_code is not null)", name="problem"),
    CheckConstraint(
        "(state in ('stamped', 'failed', 'cancelled')) = (finished_at is not null)", name="finished"
    ),
    Index("ix_jobs_owner", "partner_id", "mode", text("id desc")),
    Index(
        "ix_jobs_external_reference",
        "partner_id",
        "external_reference",
        postgresql_where=text("external_reference is not null"),
    ),
    Index("ix_jobs_upgrade_at", "upgrade_at", postgresql_where=text("upgrade_at is not null")),
    Index("ix_jobs_publish_at", "publish_at", postgresql_where=text("state = 'queued'")),
    Index("ix_jobs_queued_lane", "lane", "ticket", postgresql_where=text("state = 'queued'")),
    Index("ix_jobs_lease_until", "lease_until", postgresql_where=text("state = 'stamping'")),
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
    _time("at", now=True),
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

serials = Table(
    "serials",
    METADATA,
    Column("serial", Text, primary_key=True),
    Column("mode", Text, nullable=False),
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    # Which stamp of its job, from 1.
    Column("position", SmallInteger, nullable=False),
    Column("state", Text, nullable=False),
    _time("reserved_at", now=True),
    _time("affixed_at"),
    CheckConstraint("mode in ('test', 'live')", name="mode"),
    CheckConstraint("state in ('reserved', 'affixed', 'void')", name="state"),
    CheckConstraint("(state = 'affixed') = (affixed_at is not null)", name="affixed"),
    CheckConstraint("position >= 1", name="position"),
    UniqueConstraint("job_id", "position", name="uq_serials_job_id_position"),
)

idempotency_keys = Table(
    "idempotency_keys",
    METADATA,
    Column("partner_id", ForeignKey("partners.id"), primary_key=True),
    Column("mode", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    # SHA-256 over what was asked: the same key with another fingerprint is refused.
    Column("fingerprint", LargeBinary, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("headers", JSONB, nullable=False),
    Column("body", LargeBinary, nullable=False),
    _time("created_at", now=True),
    Index("ix_idempotency_keys_created_at", "created_at"),
)

webhook_endpoints = Table(
    "webhook_endpoints",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("partner_id", ForeignKey("partners.id"), nullable=False),
    Column("mode", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("description", Text, nullable=False),
    _time("created_at", now=True),
    _time("deleted_at"),
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
    Column("partner_id", ForeignKey("partners.id"), nullable=False),
    Column("mode", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    Column("payload", JSONB, nullable=False),
    _time("created_at", now=True),
    UniqueConstraint("job_id", "type"),
)

deliveries = Table(
    "deliveries",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("event_id", ForeignKey("events.id"), nullable=False),
    Column("endpoint_id", ForeignKey("webhook_endpoints.id"), nullable=False),
    Column("state", Text, nullable=False, server_default="pending"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    _time("next_attempt_at"),
    Column("last_status", Integer),
    Column("last_error", Text),
    _time("last_attempt_at"),
    UniqueConstraint("event_id", "endpoint_id"),
    CheckConstraint("state in ('pending', 'delivered', 'failed')", name="state"),
    CheckConstraint("(state = 'pending') = (next_attempt_at is not null)", name="next_attempt"),
    Index(
        "ix_deliveries_next_attempt_at",
        "next_attempt_at",
        postgresql_where=text("state = 'pending'"),
    ),
)
