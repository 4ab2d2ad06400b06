"""Operators' keys, batches, and idempotency keys without the quotes that the header may have.

Every key that is there is a partner's. No job is rewritten: those that are there belong to no batch.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Apply this step."""
    _operators()
    _batches()
    _idempotency_keys()


def _operators() -> None:
    op.add_column(
        "api_keys", sa.Column("scope", sa.Text(), server_default="partner", nullable=False)
    )
    op.alter_column("api_keys", "scope", server_default=None)
    op.alter_column("api_keys", "partner_id", nullable=True)
    op.alter_column("api_keys", "mode", nullable=True)
    for name, condition in (
        ("scope", "scope in ('partner', 'operator')"),
        ("partner_scope", "(scope = 'partner') = (partner_id is not null)"),
        ("mode_scope", "(scope = 'partner') = (mode is not null)"),
    ):
        op.create_check_constraint(op.f(f"ck_api_keys_{name}"), "api_keys", condition)


def _batches() -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("partner_id", sa.Uuid(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("external_reference", sa.Text()),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column(
            "accepted_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("look_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("mode in ('test', 'live')", name=op.f("ck_batches_mode")),
        sa.CheckConstraint("total >= 1", name=op.f("ck_batches_total")),
        sa.CheckConstraint(
            "(finished_at is null) = (look_at is not null)", name=op.f("ck_batches_look")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_batches_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["partner_id"], ["partners.id"], name=op.f("fk_batches_partner_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
    )
    op.create_index(op.f("ix_batches_owner"), "batches", ["account_id", sa.text("id desc")])
    op.create_index(
        op.f("ix_batches_look_at"),
        "batches",
        ["look_at"],
        postgresql_where=sa.text("look_at is not null"),
    )
    op.add_column("jobs", sa.Column("batch_id", sa.Uuid()))
    op.create_foreign_key(op.f("fk_jobs_batch_id"), "jobs", "batches", ["batch_id"], ["id"])
    op.create_index(
        op.f("ix_jobs_batch_id"),
        "jobs",
        ["batch_id", sa.text("id desc")],
        postgresql_where=sa.text("batch_id is not null"),
    )
    op.create_index(
        op.f("ix_jobs_unfinished_batch_id"),
        "jobs",
        ["batch_id"],
        postgresql_where=sa.text("batch_id is not null and finished_at is null"),
    )
    op.add_column("events", sa.Column("batch_id", sa.Uuid()))
    op.create_foreign_key(op.f("fk_events_batch_id"), "events", "batches", ["batch_id"], ["id"])
    op.create_index(
        op.f("uq_events_batch_id_type"),
        "events",
        ["batch_id", "type"],
        unique=True,
        postgresql_where=sa.text("batch_id is not null"),
    )
    op.create_check_constraint(
        op.f("ck_events_batch"),
        "events",
        "starts_with(type, 'batch.') = (batch_id is not null)"
        " and (batch_id is null or partner_id is not null)",
    )


def _idempotency_keys() -> None:
    """Take the quotes off: who sent such a key before the upgrade may send it again after it."""
    op.execute(
        r"""
        update idempotency_keys k set key = substr(key, 2, length(key) - 2)
        where key ~ '^"[^"\\]+"$' and not exists (
            select from idempotency_keys o
            where o.owner_id = k.owner_id and o.key = substr(k.key, 2, length(k.key) - 2))
        """
    )
