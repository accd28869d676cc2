"""Suppressions of a profile are found by an index without the many that have none."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

NAME, TABLE = "suppressions_of_a_profile", "suppressions"


def upgrade() -> None:
    """Make the index anew."""
    has_profile = sa.text("profile_id <> ''")
    op.drop_index(NAME, TABLE)
    op.create_index(NAME, TABLE, ["profile_id"], sqlite_where=has_profile, postgresql_where=has_profile)


def downgrade() -> None:
    """Make it of all."""
    op.drop_index(NAME, TABLE)
    op.create_index(NAME, TABLE, ["profile_id"])
