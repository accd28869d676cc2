"""Pools of codes, and the message that each code belongs to."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

IS_FREE = sa.text("state = 'free'")
HAS_MESSAGE = sa.text("key IS NOT NULL")


def upgrade() -> None:
    """Make the tables."""
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "pools",
        sa.Column("number", number, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("columns", sa.Text, nullable=False),
        sa.Column("low", sa.Integer, nullable=False),
        sa.Column("batches", sa.Integer, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("name", name="one_pool"),
    )
    op.create_table(
        "codes",
        sa.Column("number", number, primary_key=True),
        sa.Column("pool", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.String(32), nullable=False),
        sa.Column("sealed", sa.Text, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("send", sa.BigInteger),
        sa.Column("key", sa.String(32)),
        sa.Column("profile_id", sa.Text, nullable=False),
        sa.Column("reserved_by", sa.String(80), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("pool", "digest", name="one_code"),
    )
    op.create_index(
        "one_code_of_a_message",
        "codes",
        ["send", "key", "pool"],
        unique=True,
        sqlite_where=HAS_MESSAGE,
        postgresql_where=HAS_MESSAGE,
    )
    op.create_index(
        "free_codes",
        "codes",
        ["pool", "expires_at", "number"],
        sqlite_where=IS_FREE,
        postgresql_where=IS_FREE,
    )


def downgrade() -> None:
    """Drop the tables, and every code that was not sent with them."""
    op.drop_table("codes")
    op.drop_table("pools")
