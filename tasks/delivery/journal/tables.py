"""The journal's tables, as SQLAlchemy Core describes them; `migrations` makes them."""

from datetime import UTC, datetime

import sqlalchemy as sa

METADATA = sa.MetaData()
VERSION_TABLE = "journal_version"
"""Where the revision of these tables is."""


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


def _number() -> sa.Column[int]:
    return sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True)


IDENTITY = sa.Table(
    "identity",
    METADATA,
    sa.Column("identity", sa.String(32), primary_key=True),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("key", sa.Text, nullable=False),
)
"""One row: which journal this is; a fingerprint of the key of its hashes; and the key, unless a setting has it."""

IS_CLAIMED = sa.text("state = 'claimed'")

SENDS = sa.Table(
    "sends",
    METADATA,
    _number(),
    sa.Column("campaign", sa.Text, nullable=False),
    sa.Column("business_date", sa.Date, nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("changed_at", Moment, nullable=False),
    sa.Column("forgotten_at", Moment),
    sa.UniqueConstraint("campaign", "business_date", "channel", name="one_send"),
)
"""One row a campaign, business date and channel; `owner` is the deployment that sent it first, if one did.

`forgotten_at`: retention has removed its messages, so it is unknown who got one.
"""

MESSAGES = sa.Table(
    "messages",
    METADATA,
    _number(),
    sa.Column("send", sa.BigInteger, nullable=False),
    sa.Column("key", sa.String(32), nullable=False),
    sa.Column("variant", sa.Text, nullable=False, server_default=""),
    sa.Column("profile_id", sa.Text, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("sender", sa.String(80), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("changed_at", Moment, nullable=False),
    sa.Column("answer", sa.Text, nullable=False),
    sa.UniqueConstraint("send", "key", name="one_message"),
    sa.Index("claimed_messages", "send", "sender", sqlite_where=IS_CLAIMED, postgresql_where=IS_CLAIMED),
)
"""One row a message; `key` is its key's digits, `answer` the server's, or why there is none.

Rows lie in the order of their claims. Keys are random: by key, each of a window's rows would lie elsewhere. The
index has the keys of one send together, so that a large journal does not slow a send. What is claimed at this
moment is little: its own index finds it without reading what was sent.
"""

SENDERS = sa.Table(
    "senders",
    METADATA,
    sa.Column("sender", sa.String(80), primary_key=True),
    sa.Column("expires_at", Moment, nullable=False),
)
"""Who is sending, and until when the claims of each hold if nothing more is heard of it."""

DEPARTURES = sa.Table(
    "departures",
    METADATA,
    _number(),
    sa.Column("sender", sa.String(80), nullable=False, index=True),
    sa.Column("key", sa.String(32), nullable=False),
    sa.Column("event", sa.String(10), nullable=False),
    sa.Column("answer", sa.Text, nullable=False),
    prefixes=["UNLOGGED"],
)
"""On PostgreSQL: which claimed messages of each living sender have begun to leave, and what was answered.

Not forced to the disk, and emptied by PostgreSQL after a crash: a sender's first row has an empty key, and without
it the sender's other rows say nothing.
"""

HAS_PROFILE = sa.text("profile_id <> ''")

SUPPRESSIONS = sa.Table(
    "suppressions",
    METADATA,
    _number(),
    sa.Column("kind", sa.String(12), nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("profile_id", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("needed", sa.Integer, nullable=False),
    sa.Column("first_at", Moment, nullable=False),
    sa.Column("last_at", Moment, nullable=False),
    sa.Column("expires_at", Moment),
    sa.Column("released_at", Moment),
    sa.Column("released_by", sa.Text, nullable=False, server_default=""),
    sa.Column("released_why", sa.Text, nullable=False, server_default=""),
    sa.UniqueConstraint("address", "profile_id", "kind", "channel", name="one_suppression"),
    sa.Index("suppressions_of_a_profile", "profile_id", sqlite_where=HAS_PROFILE, postgresql_where=HAS_PROFILE),
)
"""Who must not be contacted. No address is kept: `address` is a keyed hash, empty where only the profile is
known.

`channel` is empty for all channels. It holds from the `needed`-th sighting on, until it expires or is released.
Most have no profile, and are not in the index by profile.
"""

OUTCOMES = sa.Table(
    "outcomes",
    METADATA,
    _number(),
    sa.Column("key", sa.String(32), nullable=False),
    sa.Column("kind", sa.String(12), nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.UniqueConstraint("key", "kind", "source", "reference", name="one_outcome"),
)
"""What became of messages after they were taken. `reference` names the event at its source: it is kept once."""

UNMATCHED = sa.Table(
    "unmatched",
    METADATA,
    _number(),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("kind", sa.String(12), nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("matched_at", Moment),
    sa.UniqueConstraint("source", "reference", name="one_unmatched"),
)
"""Feedback that no message could be found for, with the reason; `payload` is what is needed to try again."""

POSITIONS = sa.Table(
    "positions",
    METADATA,
    sa.Column("source", sa.String(200), primary_key=True),
    sa.Column("position", sa.Text, nullable=False),
    sa.Column("changed_at", Moment, nullable=False),
)
"""How far each source of feedback has been read."""

PACES = sa.Table(
    "paces",
    METADATA,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("next_at", sa.Double, nullable=False),
)
"""When the next message may leave over each account (a mail server with its user, a provider's address).

`next_at` is in seconds since 1970, by the database's clock.
"""

SEATS = sa.Table(
    "seats",
    METADATA,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("sender", sa.String(80), primary_key=True),
    sa.Column("held", sa.Integer, nullable=False),
    sa.Column("wanted", sa.Integer, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
)
"""How many connections to each account every sender has and needs, until when if nothing more is heard of it."""

IS_FREE = sa.text("state = 'free'")
HAS_MESSAGE = sa.text("key IS NOT NULL")

POOLS = sa.Table(
    "pools",
    METADATA,
    _number(),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("columns", sa.Text, nullable=False),
    sa.Column("low", sa.Integer, nullable=False),
    sa.Column("batches", sa.Integer, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.UniqueConstraint("name", name="one_pool"),
)
"""Pools of codes. `columns`: names and types beside the code, as JSON; `low`: from which stock on somebody is told;
`batches`: how many batches were asked for and kept."""

CODES = sa.Table(
    "codes",
    METADATA,
    _number(),
    sa.Column("pool", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.String(32), nullable=False),
    sa.Column("sealed", sa.Text, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("send", sa.BigInteger),
    sa.Column("key", sa.String(32)),
    sa.Column("profile_id", sa.Text, nullable=False),
    sa.Column("reserved_by", sa.String(80), nullable=False),
    sa.Column("changed_at", Moment, nullable=False),
    sa.UniqueConstraint("pool", "digest", name="one_code"),
    sa.Index(
        "one_code_of_a_message",
        "send",
        "key",
        "pool",
        unique=True,
        sqlite_where=HAS_MESSAGE,
        postgresql_where=HAS_MESSAGE,
    ),
    sa.Index("free_codes", "pool", "expires_at", "number", sqlite_where=IS_FREE, postgresql_where=IS_FREE),
)
"""One row a code. `digest` is a keyed hash, by which a code that comes twice is noticed; `sealed` is the code with
its columns, encrypted. `send` and `key` name the message that it belongs to; `reserved_by` the run that wanted it.
"""
