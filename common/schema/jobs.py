"""Jobs, and the answers that were given to the requests that made them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from common.schema.base import METADATA, time_column

jobs = Table(
    "jobs",
    METADATA,
    Column("id", Uuid, primary_key=True),
    # The owner: who may see and cancel it, and whose stamps it holds.
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    # Of the account; repeated for webhooks and for display.
    Column("partner_id", ForeignKey("partners.id"), nullable=False),
    Column("mode", Text, nullable=False),
    # The batch that it came in, if it came in one.
    Column("batch_id", ForeignKey("batches.id")),
    Column("state", Text, nullable=False),
    Column("lane", Text, nullable=False),
    # The place in the lane's order of arrival; null when the lane counters could not be reached.
    Column("ticket", BigInteger),
    # The fencing number: counts claims, and only the newest claim may finish.
    Column("attempt", Integer, nullable=False, server_default="0"),
    # Claims that ended without a word, because their worker died or froze.
    Column("lost_leases", Integer, nullable=False, server_default="0"),
    # Claims whose process died with the document in its hands, as its parent saw.
    Column("kills", Integer, nullable=False, server_default="0"),
    # Attempts that ended by a fault of ours, since the job was accepted or requeued.
    Column("faults", Integer, nullable=False, server_default="0"),
    time_column("lease_until"),
    # Of the newest claim: which process made it, and when.
    Column("worker", Text),
    time_column("claimed_at"),
    # Until when nobody may claim a job that is queued after a fault; null: now.
    time_column("not_before"),
    # When a queued job that is still queued is sent to the broker again.
    time_column("publish_at"),
    Column("publications", Integer, nullable=False, server_default="0"),
    # What a queued job must have before it goes to its lane; null: nothing.
    Column("waiting_for", Text),
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
    time_column("upgrade_at"),
    # Until when the revocation data in such a file holds; null: it has none.
    time_column("evidence_until"),
    # Of the file as it was before its timestamp came.
    Column("earlier_sha256", LargeBinary),
    Column("problem_code", Text),
    Column("problem_facts", JSONB),
    Column("receipt", Text, nullable=False),
    time_column("accepted_at", now=True),
    time_column("started_at"),
    time_column("finished_at"),
    # When its documents were given up after the retention time; the record stays.
    time_column("purged_at"),
    CheckConstraint("mode in ('test', 'live')", name="mode"),
    CheckConstraint(
        "state in ('queued', 'stamping', 'parked', 'stamped', 'failed', 'cancelled')", name="state"
    ),
    CheckConstraint("jsonb_typeof(placements) = 'array' and placements <> '[]'", name="placements"),
    CheckConstraint(
        "waiting_for is null or waiting_for = 'serials' and state = 'queued'"
        " and publish_at is null",
        name="waiting_for",
    ),
    CheckConstraint("(state = 'stamping') = (lease_until is not null)", name="lease"),
    CheckConstraint("(state = 'stamped') = (result_key is not null)", name="result"),
    CheckConstraint("signature_level in ('B-B', 'B-T', 'B-LT')", name="signature_level"),
    CheckConstraint("upgrade_at is null or state = 'stamped'", name="upgrade"),
    CheckConstraint("purged_at is null or finished_at is not null", name="purged"),
    CheckConstraint("(state = 'failed') = (problem_code is not null)", name="problem"),
    CheckConstraint(
        "(state in ('stamped', 'failed', 'cancelled')) = (finished_at is not null)", name="finished"
    ),
    Index("ix_jobs_owner", "account_id", text("id desc")),
    Index(
        "ix_jobs_batch_id",
        "batch_id",
        text("id desc"),
        postgresql_where=text("batch_id is not null"),
    ),
    Index(
        "ix_jobs_unfinished_batch_id",
        "batch_id",
        postgresql_where=text("batch_id is not null and finished_at is null"),
    ),
    Index(
        "ix_jobs_external_reference",
        "account_id",
        "external_reference",
        postgresql_where=text("external_reference is not null"),
    ),
    Index("ix_jobs_upgrade_at", "upgrade_at", postgresql_where=text("upgrade_at is not null")),
    Index("ix_jobs_waiting_for", "id", postgresql_where=text("waiting_for = 'serials'")),
    Index("ix_jobs_publish_at", "publish_at", postgresql_where=text("state = 'queued'")),
    Index("ix_jobs_queued_lane", "lane", "ticket", postgresql_where=text("state = 'queued'")),
    Index("ix_jobs_lease_until", "lease_until", postgresql_where=text("state = 'stamping'")),
    Index("ix_jobs_parked", "id", postgresql_where=text("state = 'parked'")),
    Index(
        "ix_jobs_unpurged",
        "finished_at",
        postgresql_where=text("finished_at is not null and purged_at is null"),
    ),
)

# One row for each attempt that did not end in a stamp, written by whoever ended it.
setbacks = Table(
    "setbacks",
    METADATA,
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    # For operators; owners see the kind only.
    Column("reason", Text, nullable=False),
    Column("worker", Text),
    time_column("started_at"),
    time_column("ended_at", now=True),
    CheckConstraint("kind in ('document', 'passing', 'ours', 'lost', 'killed')", name="kind"),
)

idempotency_keys = Table(
    "idempotency_keys",
    METADATA,
    # Who asked: an account, or an operator's key; not a foreign key, because it may be either.
    Column("owner_id", Uuid, primary_key=True),
    Column("key", Text, primary_key=True),
    # SHA-256 over what was asked: the same key with another fingerprint is refused.
    Column("fingerprint", LargeBinary, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("headers", JSONB, nullable=False),
    Column("body", LargeBinary, nullable=False),
    time_column("created_at", now=True),
    Index("ix_idempotency_keys_created_at", "created_at"),
)
