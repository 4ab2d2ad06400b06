"""Vouchers and their batches: new tables, nothing that is there changes."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Apply this step."""
    op.create_table(
        "voucher_batches",
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("partner_id", sa.Uuid(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("stamps", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        _time("created_at", now=True),
        sa.CheckConstraint("mode in ('test', 'live')", name=op.f("ck_voucher_batches_mode")),
        sa.CheckConstraint("stamps > 0", name=op.f("ck_voucher_batches_stamps_positive")),
        sa.CheckConstraint("count > 0", name=op.f("ck_voucher_batches_count_positive")),
        sa.ForeignKeyConstraint(
            ["partner_id"], ["partners.id"], name=op.f("fk_voucher_batches_partner_id")
        ),
        sa.PrimaryKeyConstraint("reference", name=op.f("pk_voucher_batches")),
    )
    op.create_table(
        "vouchers",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        _time("created_at", now=True),
        _time("expires_at"),
        _time("voided_at"),
        sa.CheckConstraint("length(digest) = 32", name=op.f("ck_vouchers_digest")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_vouchers_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["reference"], ["voucher_batches.reference"], name=op.f("fk_vouchers_reference")
        ),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_vouchers")),
        sa.UniqueConstraint("digest", name=op.f("uq_vouchers_digest")),
    )
    op.create_index(op.f("ix_vouchers_reference"), "vouchers", ["reference"])


def _time(name: str, *, now: bool = False) -> sa.Column[object]:
    if now:
        return sa.Column(
            name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        )
    return sa.Column(name, sa.DateTime(timezone=True))
