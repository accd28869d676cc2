"""The journal's identity, sends, suppressions and what comes back; messages lie by send."""

import hmac
import secrets
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import context, op

from tasks.delivery.journal.keys import fingerprint_of

revision = "0003"
down_revision = "0002"


def _number() -> sa.Column[int]:
    return sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _text(name: str, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default=default)


def upgrade() -> None:
    """Make the tables, and bring what the older ones hold into them."""
    now = datetime.now(UTC)
    _make_tables()
    given = str(context.config.attributes.get("key") or "")
    key = given or secrets.token_hex(32)
    database = op.get_bind()
    database.execute(
        sa.text("INSERT INTO identity (identity, created_at, fingerprint, key) VALUES (:a, :b, :c, :d)").bindparams(
            sa.bindparam("b", type_=sa.DateTime(timezone=True))
        ),
        {"a": secrets.token_hex(16), "b": now, "c": fingerprint_of(key.encode()), "d": "" if given else key},
    )
    _bring_messages(database)
    _bring_quarantine(database, key.encode())


def _make_tables() -> None:
    op.create_table(
        "identity",
        sa.Column("identity", sa.String(32), primary_key=True),
        _moment("created_at"),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        _text("key"),
    )
    op.create_table(
        "sends",
        _number(),
        _text("campaign"),
        sa.Column("business_date", sa.Date, nullable=False),
        _text("channel"),
        _text("label"),
        _text("owner"),
        _moment("created_at"),
        _moment("changed_at"),
        sa.UniqueConstraint("campaign", "business_date", "channel", name="one_send"),
    )
    op.create_table(
        "departures",
        _number(),
        sa.Column("sender", sa.String(80), nullable=False),
        sa.Column("key", sa.String(32), nullable=False),
        sa.Column("event", sa.String(10), nullable=False),
        _text("answer"),
        prefixes=["UNLOGGED"] if op.get_bind().dialect.name == "postgresql" else [],
    )
    op.create_index("ix_departures_sender", "departures", ["sender"])
    op.create_table(
        "suppressions",
        _number(),
        sa.Column("kind", sa.String(12), nullable=False),
        _text("channel"),
        sa.Column("address", sa.String(64), nullable=False),
        _text("profile_id"),
        _text("reason"),
        _text("source"),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("needed", sa.Integer, nullable=False),
        _moment("first_at"),
        _moment("last_at"),
        _moment("expires_at", nullable=True),
        _moment("released_at", nullable=True),
        _text("released_by", ""),
        _text("released_why", ""),
        sa.UniqueConstraint("address", "profile_id", "kind", "channel", name="one_suppression"),
    )
    op.create_index("suppressions_of_a_profile", "suppressions", ["profile_id"])
    op.create_table(
        "outcomes",
        _number(),
        sa.Column("key", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(12), nullable=False),
        _moment("at"),
        _text("source"),
        _text("reference"),
        _text("detail"),
        sa.UniqueConstraint("key", "kind", "source", "reference", name="one_outcome"),
    )
    op.create_table(
        "unmatched",
        _number(),
        _text("source"),
        _text("reference"),
        sa.Column("kind", sa.String(12), nullable=False),
        _moment("at"),
        _text("reason"),
        _text("payload"),
        _moment("matched_at", nullable=True),
        sa.UniqueConstraint("source", "reference", name="one_unmatched"),
    )
    op.create_table(
        "positions",
        sa.Column("source", sa.String(200), primary_key=True),
        _text("position"),
        _moment("changed_at"),
    )


def _bring_messages(database: sa.Connection) -> None:
    """Put each message under its send."""
    op.rename_table("messages", "old_messages")
    op.create_table(
        "messages",
        _number(),
        sa.Column("send", sa.BigInteger, nullable=False),
        sa.Column("key", sa.String(32), nullable=False),
        _text("variant", ""),
        _text("profile_id"),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("sender", sa.String(80), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        _moment("changed_at"),
        _text("answer"),
        sa.UniqueConstraint("send", "key", name="one_message"),
    )
    database.execute(
        sa.text(
            "INSERT INTO sends (campaign, business_date, channel, label, owner, created_at, changed_at)"
            " SELECT campaign, business_date, channel, campaign, '', min(changed_at), max(changed_at)"
            " FROM old_messages GROUP BY campaign, business_date, channel"
        )
    )
    database.execute(
        sa.text(
            "INSERT INTO messages (send, key, variant, profile_id, state, sender, attempts, changed_at, answer)"
            " SELECT sends.number, substr(key, 1, 32), variant, profile_id, state, sender, attempts,"
            " old_messages.changed_at, answer FROM old_messages JOIN sends"
            " ON sends.campaign = old_messages.campaign AND sends.business_date = old_messages.business_date"
            " AND sends.channel = old_messages.channel ORDER BY old_messages.number"
        )
    )
    op.drop_table("old_messages")


def _bring_quarantine(database: sa.Connection, key: bytes) -> None:
    """A keyed hash of what was a plain one; see `keys.address_hash`."""
    rows: list[Any] = list(database.execute(sa.text("SELECT address, channel, since, reason FROM quarantine")))
    statement = sa.text(
        "INSERT INTO suppressions (kind, channel, address, profile_id, reason, source, count, needed, first_at,"
        " last_at) VALUES ('quarantine', :channel, :address, '', :reason, 'an older journal', 1, 1, :at, :at)"
    )
    for address, channel, since, reason in rows:
        hashed = hmac.digest(key, address.encode(), "sha256").hex()
        database.execute(statement, {"channel": channel, "address": hashed, "reason": reason, "at": since})
    op.drop_table("quarantine")


def downgrade() -> None:
    """There is no way back: a keyed hash cannot be made a plain one."""
    raise NotImplementedError("a journal of this version cannot be made one of the version before")
