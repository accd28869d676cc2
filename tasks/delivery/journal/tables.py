"""The journal's tables, as SQLAlchemy Core describes them; `migrations` makes them."""

from datetime import UTC, datetime

import sqlalchemy as sa

METADATA = sa.MetaData()


class Moment(sa.TypeDecorator[datetime]):
    """A moment in UTC, also where the database has no time zones."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """As it is stored."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """As it is read."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


MESSAGES = sa.Table(
    "messages",
    METADATA,
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("key", sa.String(40), nullable=False, unique=True),
    sa.Column("variant", sa.Text, nullable=False, server_default=""),
    sa.Column("campaign", sa.Text, nullable=False),
    sa.Column("business_date", sa.Date, nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("profile_id", sa.Text, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("sender", sa.String(80), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("changed_at", Moment, nullable=False),
    sa.Column("answer", sa.Text, nullable=False),
    sa.Index("messages_of_a_send", "campaign", "business_date", "channel"),
)
"""One row a message; `key` is its key's digits, `answer` the server's, or why there is none.

Rows lie in the order of their claims. Keys are random: by key, each of a window's rows would lie elsewhere.
"""

SENDERS = sa.Table(
    "senders",
    METADATA,
    sa.Column("sender", sa.String(80), primary_key=True),
    sa.Column("expires_at", Moment, nullable=False),
)
"""Who is sending, and until when the claims of each hold if nothing more is heard of it."""

QUARANTINE = sa.Table(
    "quarantine",
    METADATA,
    sa.Column("address", sa.String(64), primary_key=True),
    sa.Column("channel", sa.Text, primary_key=True),
    sa.Column("since", Moment, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)
"""Addresses that a server refused for good, as SHA-256 of the address in lower case: no address is kept."""
