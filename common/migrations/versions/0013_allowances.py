"""What a partner may submit: three columns, empty, so that no row is written and the settings count."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0011"

COLUMNS = ("submissions_per_minute", "submissions_at_once", "prompt_per_minute")


def upgrade() -> None:
    """Apply this step."""
    for name in COLUMNS:
        op.add_column("partners", sa.Column(name, sa.Integer()))
        op.create_check_constraint(op.f(f"ck_partners_{name}_positive"), "partners", f"{name} > 0")
