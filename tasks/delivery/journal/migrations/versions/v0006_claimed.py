"""What is claimed is found without reading the whole send."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the index."""
    claimed = sa.text("state = 'claimed'")
    op.create_index(
        "claimed_messages", "messages", ["send", "sender"], sqlite_where=claimed, postgresql_where=claimed
    )


def downgrade() -> None:
    """Drop the index."""
    op.drop_index("claimed_messages", "messages")
