"""Whether a result is a specimen, whatever its mode: by its design or by its signer.

A column without a default: no row is written. What was stamped before has the built-in design, and is
a specimen, which null stands for.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Apply this step."""
    op.add_column("jobs", sa.Column("specimen", sa.Boolean()))
