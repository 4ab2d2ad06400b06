"""Several stamps in a job: a list of placements, and serials numbered within their job.

What is there becomes a job of one stamp: its placement the only one of a list, its serial the first.
Its ledger entries are of one stamp already.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Apply this step."""
    # One rewrite of the table instead of an update, which would leave every row twice.
    op.execute(
        "alter table jobs alter column placement type jsonb using jsonb_build_array(placement)"
    )
    op.alter_column("jobs", "placement", new_column_name="placements")
    op.create_check_constraint(
        op.f("ck_jobs_placements"),
        "jobs",
        "jsonb_typeof(placements) = 'array' and placements <> '[]'",
    )
    # With a default no row is written for the column; new rows must say it.
    op.add_column(
        "serials", sa.Column("position", sa.SmallInteger(), server_default="1", nullable=False)
    )
    op.alter_column("serials", "position", server_default=None)
    op.create_check_constraint(op.f("ck_serials_position"), "serials", "position >= 1")
    op.drop_constraint(op.f("uq_serials_job_id"), "serials", type_="unique")
    op.create_unique_constraint(
        op.f("uq_serials_job_id_position"), "serials", ["job_id", "position"]
    )
