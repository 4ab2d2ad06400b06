"""Gates with their history, and the waiting room: new tables, nothing that is there changes."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Apply this step."""
    op.create_table(
        "gates",
        sa.Column("kind", sa.Text(), nullable=False),
        *_setting(),
        _time("since", now=True),
        _time("changed_at", now=True),
        sa.Column("changed_by", sa.Text(), nullable=False),
        *_checks("gates"),
        sa.PrimaryKeyConstraint("kind", name=op.f("pk_gates")),
    )
    op.create_table(
        "gate_changes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        *_setting(),
        _time("at", now=True),
        sa.Column("by", sa.Text(), nullable=False),
        *_checks("gate_changes"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gate_changes")),
    )
    op.create_index("ix_gate_changes_kind", "gate_changes", ["kind", sa.text("id desc")])
    op.execute(
        "with made as (insert into gates (kind, state, changed_by) values"
        " ('applicant', 'open', 'stampede'), ('partner', 'open', 'stampede'),"
        " ('bulk', 'open', 'stampede') returning kind, state, changed_at, changed_by)"
        " insert into gate_changes (kind, state, at, by) select * from made"
    )
    op.create_table(
        "waiting_places",
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        _time("asked_at", now=True),
        _time("ended_at"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_waiting_places_account_id")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_waiting_places")),
    )
    op.create_index(
        "uq_waiting_places_open",
        "waiting_places",
        ["account_id"],
        unique=True,
        postgresql_where=sa.text("ended_at is null"),
    )
    op.create_table(
        "waiting_turns",
        sa.Column("up_to", sa.BigInteger(), autoincrement=False, nullable=False),
        _time("at", now=True),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False, server_default="0"),
        sa.CheckConstraint("slots >= 0", name=op.f("ck_waiting_turns_slots_not_negative")),
        sa.PrimaryKeyConstraint("up_to", name=op.f("pk_waiting_turns")),
    )
    op.create_index(op.f("ix_waiting_turns_at"), "waiting_turns", ["at"])


def _setting() -> list[sa.Column[object]]:
    return [
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("rate", sa.Double()),
        sa.Column("reason", sa.Text()),
        _time("reopens_at"),
    ]


def _checks(table: str) -> list[sa.CheckConstraint]:
    return [
        sa.CheckConstraint(condition, name=op.f(f"ck_{table}_{name}"))
        for name, condition in (
            ("kind", "kind in ('applicant', 'partner', 'bulk')"),
            ("state", "state in ('open', 'slow', 'closed')"),
            ("rate", "(state = 'slow') = (rate is not null)"),
            ("rate_bounds", "rate between 0.02 and 100000"),
            ("reopens", "state <> 'open' or reopens_at is null"),
        )
    ]


def _time(name: str, *, now: bool = False) -> sa.Column[object]:
    if now:
        return sa.Column(
            name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        )
    return sa.Column(name, sa.DateTime(timezone=True))
