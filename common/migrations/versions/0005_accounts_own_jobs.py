"""Accounts by partner and mode, which own jobs; entries that say from which side to which.

An account that was there becomes its partner's live account. Every partner also gets a test account
with its specimens, and test jobs the hold and settlement there that they never had. Columns are filled by
rewriting their table once, which leaves no row twice and fires no trigger.
"""

import sqlalchemy as sa
from alembic import op

from common.identifiers import new_id

revision = "0005"
down_revision = "0004"

SPECIMENS = 1_000_000_000


def upgrade() -> None:
    """Apply this step."""
    _accounts()
    _entries()
    _jobs()
    _specimens()
    _idempotency_keys()
    _events()


def _accounts() -> None:
    op.rename_table("accounts", "old_accounts")
    op.drop_constraint(op.f("pk_accounts"), "old_accounts", type_="primary")
    op.create_table(
        "accounts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("partner_id", sa.Uuid(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("topped_up", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("available", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("held", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("captured", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("low_at", sa.BigInteger()),
        sa.Column("low_noticed_at", sa.DateTime(timezone=True)),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("kind in ('partner', 'voucher')", name=op.f("ck_accounts_kind")),
        sa.CheckConstraint("mode in ('test', 'live')", name=op.f("ck_accounts_mode")),
        sa.CheckConstraint("available >= 0", name=op.f("ck_accounts_available_not_negative")),
        sa.CheckConstraint("held >= 0", name=op.f("ck_accounts_held_not_negative")),
        sa.CheckConstraint("captured >= 0", name=op.f("ck_accounts_captured_not_negative")),
        sa.CheckConstraint(
            "topped_up = available + held + captured", name=op.f("ck_accounts_adds_up")
        ),
        sa.CheckConstraint("low_at >= 0", name=op.f("ck_accounts_low_at_not_negative")),
        sa.ForeignKeyConstraint(
            ["partner_id"], ["partners.id"], name=op.f("fk_accounts_partner_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
    )
    op.create_index(
        "uq_accounts_partner",
        "accounts",
        ["partner_id", "mode"],
        unique=True,
        postgresql_where=sa.text("kind = 'partner'"),
    )
    connection = op.get_bind()
    for partner_id in connection.execute(sa.text("select id from partners")).scalars().all():
        for mode in ("live", "test"):
            connection.execute(
                sa.text(
                    "insert into accounts (id, kind, partner_id, mode, created_at)"
                    " select :id, 'partner', id, :mode, created_at from partners"
                    " where id = :partner_id"
                ),
                {"id": new_id(), "partner_id": partner_id, "mode": mode},
            )
    op.execute(
        "update accounts a set topped_up = o.topped_up, available = o.available, held = o.held,"
        " captured = o.captured from old_accounts o"
        " where o.partner_id = a.partner_id and a.mode = 'live'"
    )
    op.drop_table("old_accounts")
    # The statements that fill a column by rewriting its table take a function, but no subquery.
    op.execute(
        "create function pg_temp.account_of(partner uuid, its_mode text) returns uuid"
        " language sql stable as 'select id from accounts"
        " where partner_id = partner and mode = its_mode'"
    )


def _entries() -> None:
    op.execute(
        "alter table ledger_entries add column account_id uuid, add column source text,"
        " add column target text, add column reason text, add column by text"
    )
    op.execute(
        "alter table ledger_entries"
        " alter account_id type uuid using pg_temp.account_of(partner_id, 'live'),"
        " alter source type text using case kind when 'top_up' then 'outside'"
        " when 'hold' then 'available' else 'held' end,"
        " alter target type text using case kind when 'hold' then 'held'"
        " when 'capture' then 'captured' else 'available' end"
    )
    for column in ("account_id", "source", "target"):
        op.alter_column("ledger_entries", column, nullable=False)
    # Takes the constraint and the indexes with it that name the partner.
    op.drop_column("ledger_entries", "partner_id")
    op.create_foreign_key(
        op.f("fk_ledger_entries_account_id"), "ledger_entries", "accounts", ["account_id"], ["id"]
    )
    for name in ("kind", "job", "reference"):
        op.drop_constraint(op.f(f"ck_ledger_entries_{name}"), "ledger_entries", type_="check")
    for name, rule in (
        (
            "kind",
            "(kind, source, target) in (('top_up', 'outside', 'available'),"
            " ('adjust', 'outside', 'available'), ('adjust', 'available', 'outside'),"
            " ('hold', 'available', 'held'), ('capture', 'held', 'captured'),"
            " ('release', 'held', 'available'))",
        ),
        ("job", "(kind in ('top_up', 'adjust')) = (job_id is null)"),
        ("reference", "(kind in ('top_up', 'adjust')) = (reference is not null)"),
        ("adjust_explained", "kind <> 'adjust' or (reason is not null and by is not null)"),
    ):
        op.create_check_constraint(op.f(f"ck_ledger_entries_{name}"), "ledger_entries", rule)
    op.create_index(
        "ix_ledger_entries_account",
        "ledger_entries",
        ["account_id", sa.literal_column("id desc")],
    )
    op.create_index(
        "uq_ledger_entries_reference",
        "ledger_entries",
        ["account_id", "reference"],
        unique=True,
        postgresql_where=sa.text("reference is not null"),
    )
    op.execute(
        "create trigger ledger_entries_are_kept before truncate on ledger_entries"
        " for each statement execute function refuse_change()"
    )


def _jobs() -> None:
    op.add_column("jobs", sa.Column("account_id", sa.Uuid()))
    op.execute(
        "alter table jobs alter account_id type uuid using pg_temp.account_of(partner_id, mode)"
    )
    op.alter_column("jobs", "account_id", nullable=False)
    op.create_foreign_key(
        op.f("fk_jobs_account_id"), "jobs", "accounts", ["account_id"], ["id"]
    )
    op.drop_index("ix_jobs_owner", "jobs")
    op.create_index("ix_jobs_owner", "jobs", ["account_id", sa.literal_column("id desc")])
    op.drop_index("ix_jobs_external_reference", "jobs")
    op.create_index(
        "ix_jobs_external_reference",
        "jobs",
        ["account_id", "external_reference"],
        postgresql_where=sa.text("external_reference is not null"),
    )


def _specimens() -> None:
    op.execute(
        "insert into ledger_entries"
        " (account_id, kind, source, target, amount, reference, by, at)"
        f" select id, 'top_up', 'outside', 'available', {SPECIMENS}, 'specimen', 'stampede',"
        " created_at from accounts where mode = 'test' order by created_at"
    )
    op.execute(
        "insert into ledger_entries (account_id, kind, source, target, amount, job_id, at)"
        " select account_id, 'hold', 'available', 'held', jsonb_array_length(placements), id,"
        " accepted_at from jobs where mode = 'test' order by id"
    )
    op.execute(
        "insert into ledger_entries (account_id, kind, source, target, amount, job_id, at)"
        " select account_id, case state when 'stamped' then 'capture' else 'release' end, 'held',"
        " case state when 'stamped' then 'captured' else 'available' end,"
        " jsonb_array_length(placements), id, finished_at from jobs"
        " where mode = 'test' and finished_at is not null order by finished_at"
    )
    op.execute(
        f"update accounts set topped_up = {SPECIMENS}, held = s.held, captured = s.captured,"
        f" available = {SPECIMENS} - s.held - s.captured from ("
        "select a.id, coalesce(sum(jsonb_array_length(j.placements))"
        " filter (where j.finished_at is null), 0) as held,"
        " coalesce(sum(jsonb_array_length(j.placements))"
        " filter (where j.state = 'stamped'), 0) as captured"
        " from accounts a left join jobs j on j.account_id = a.id where a.mode = 'test'"
        " group by a.id) s where s.id = accounts.id"
    )


def _idempotency_keys() -> None:
    op.add_column("idempotency_keys", sa.Column("owner_id", sa.Uuid()))
    op.execute(
        "alter table idempotency_keys"
        " alter owner_id type uuid using pg_temp.account_of(partner_id, mode)"
    )
    # Both take their part of the primary key with them.
    op.drop_column("idempotency_keys", "partner_id")
    op.drop_column("idempotency_keys", "mode")
    op.create_primary_key(op.f("pk_idempotency_keys"), "idempotency_keys", ["owner_id", "key"])


def _events() -> None:
    op.alter_column("events", "partner_id", nullable=True)
    op.alter_column("events", "job_id", nullable=True)
    op.create_check_constraint(
        op.f("ck_events_job"),
        "events",
        "not starts_with(type, 'job.') or (job_id is not null and partner_id is not null)",
    )
