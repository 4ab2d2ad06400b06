"""Imported serials, jobs that wait for some, and what the database itself lets become of a serial.

Columns without defaults to be written: no row is rewritten. All serials there are were generated.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Apply this step."""
    op.create_table(
        "serial_imports",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("file_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("added", sa.Integer(), nullable=False),
        sa.Column("refused", sa.Integer(), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint("added + refused <= rows", name=op.f("ck_serial_imports_counts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_serial_imports")),
        sa.UniqueConstraint("reference", name=op.f("uq_serial_imports_reference")),
    )
    op.create_table(
        "serial_stock",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("serial", sa.Text(), nullable=False),
        sa.Column("import_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "serial ~ '^[0-9A-Z]{16,24}$' and serial !~ '^T'", name=op.f("ck_serial_stock_serial")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_serial_stock")),
        sa.UniqueConstraint("serial", name=op.f("uq_serial_stock_serial")),
    )
    op.create_table(
        "serial_alarms",
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("mode", name=op.f("pk_serial_alarms")),
    )
    op.execute("insert into serial_alarms (mode) values ('live')")

    op.add_column("serials", sa.Column("import_id", sa.Uuid()))
    op.add_column(
        "serials",
        sa.Column("returns", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.create_check_constraint(
        op.f("ck_serials_imported"), "serials", "import_id is null or mode = 'live'"
    )
    op.create_check_constraint(
        op.f("ck_serials_returns"), "serials", "not returns or import_id is not null"
    )
    op.execute(
        """
        create function guard_serial() returns trigger language plpgsql as $$
        begin
            if tg_op = 'DELETE' then
                if old.state = 'reserved' and old.returns and exists (
                    select from jobs where id = old.job_id and state in ('failed', 'cancelled'))
                then
                    return old;
                end if;
                raise exception 'serial % is not given up: it is %', old.serial, old.state
                    using errcode = 'restrict_violation';
            end if;
            if old.state = 'reserved' and new.state in ('reserved', 'affixed', 'void')
                and (new.serial, new.mode, new.job_id, new.position, new.reserved_at)
                    = (old.serial, old.mode, old.job_id, old.position, old.reserved_at)
                and new.import_id is not distinct from old.import_id
            then
                return new;
            end if;
            raise exception 'serial % stays what it is: %', old.serial, old.state
                using errcode = 'restrict_violation';
        end $$
        """
    )
    op.execute(
        "create trigger serials_are_guarded before update or delete on serials"
        " for each row execute function guard_serial()"
    )

    op.add_column("jobs", sa.Column("waiting_for", sa.Text()))
    op.create_check_constraint(
        op.f("ck_jobs_waiting_for"),
        "jobs",
        "waiting_for is null or waiting_for = 'serials' and state = 'queued'"
        " and publish_at is null",
    )
    op.create_index(
        op.f("ix_jobs_waiting_for"),
        "jobs",
        ["id"],
        postgresql_where=sa.text("waiting_for = 'serials'"),
    )
