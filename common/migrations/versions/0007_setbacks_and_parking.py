"""Attempts that ended without a stamp, parked jobs, purged documents, and who leads.

Columns without defaults or with constant ones: no row is written. What is queued or being stamped goes
on; a claim from before has no worker and no time, and ends by its lease as it did.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

STATES = "state in ('queued', 'stamping', 'parked', 'stamped', 'failed', 'cancelled')"


def upgrade() -> None:
    """Apply this step."""
    for name in ("kills", "faults"):
        column = sa.Column(name, sa.Integer(), nullable=False, server_default="0")
        op.add_column("jobs", column)
    op.add_column("jobs", sa.Column("worker", sa.Text()))
    for name in ("claimed_at", "not_before", "purged_at"):
        op.add_column("jobs", sa.Column(name, sa.DateTime(timezone=True)))
    op.drop_constraint(op.f("ck_jobs_state"), "jobs", type_="check")
    for name, rule in (
        ("state", STATES),
        ("purged", "purged_at is null or finished_at is not null"),
    ):
        op.create_check_constraint(op.f(f"ck_jobs_{name}"), "jobs", rule)
    op.create_index("ix_jobs_parked", "jobs", ["id"], postgresql_where=sa.text("state = 'parked'"))
    op.create_index(
        "ix_jobs_unpurged",
        "jobs",
        ["finished_at"],
        postgresql_where=sa.text("finished_at is not null and purged_at is null"),
    )
    op.create_table(
        "setbacks",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text()),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column(
            "ended_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.CheckConstraint(
            "kind in ('document', 'passing', 'ours', 'lost', 'killed')",
            name=op.f("ck_setbacks_kind"),
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_setbacks_job_id_jobs")),
        sa.PrimaryKeyConstraint("job_id", "attempt", name=op.f("pk_setbacks")),
    )
    op.create_table(
        "leaders",
        sa.Column("office", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("office", name=op.f("pk_leaders")),
    )
    op.create_table(
        "rounds",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_rounds")),
    )
