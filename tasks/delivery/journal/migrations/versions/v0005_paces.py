"""When the next message may leave over each account."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "paces",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("next_at", sa.Double, nullable=False),
    )


def downgrade() -> None:
    """Drop the table: each sender has a rate of its own again."""
    op.drop_table("paces")
