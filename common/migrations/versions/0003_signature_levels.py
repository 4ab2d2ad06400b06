"""The signature level of a result, and what it takes to upgrade one.

Columns without defaults: no row is written. What was stamped before is B-B, which null stands for.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Apply this step."""
    op.add_column("jobs", sa.Column("signature_level", sa.Text()))
    op.add_column("jobs", sa.Column("upgrade_at", sa.DateTime(timezone=True)))
    op.add_column("jobs", sa.Column("evidence_until", sa.DateTime(timezone=True)))
    op.add_column("jobs", sa.Column("earlier_sha256", sa.LargeBinary()))
    op.create_check_constraint(
        op.f("ck_jobs_signature_level"), "jobs", "signature_level in ('B-B', 'B-T', 'B-LT')"
    )
    op.create_check_constraint(
        op.f("ck_jobs_upgrade"), "jobs", "upgrade_at is null or state = 'stamped'"
    )
    op.create_index(
        op.f("ix_jobs_upgrade_at"),
        "jobs",
        ["upgrade_at"],
        postgresql_where=sa.text("upgrade_at is not null"),
    )
