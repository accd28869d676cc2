"""Sends whose messages retention has removed."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column; nothing was forgotten before."""
    op.add_column("sends", sa.Column("forgotten_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Drop the column, and with it the knowledge of what must not be sent again."""
    op.drop_column("sends", "forgotten_at")
