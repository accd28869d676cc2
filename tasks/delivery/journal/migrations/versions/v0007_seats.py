"""How many connections to each account every sender has."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "seats",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("sender", sa.String(80), primary_key=True),
        sa.Column("held", sa.Integer, nullable=False),
        sa.Column("wanted", sa.Integer, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    """Drop the table: each sender has connections of its own again."""
    op.drop_table("seats")
