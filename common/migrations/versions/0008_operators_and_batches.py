"""Operators' keys, batches, and idempotency keys without the quotes that the header may have.

Every key that is there is a partner's. No job is rewritten: those that are there belong to no batch.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0005"


def upgrade() -> None:
    """Apply this step."""
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
