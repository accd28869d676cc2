"""What became of messages after they were taken, and feedback that belongs to no message that is known."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any, NamedTuple

import polars as pl
import sqlalchemy as sa

from tasks.delivery.journal.database import Database, storable
from tasks.delivery.journal.keys import MessageNames
from tasks.delivery.journal.tables import MESSAGES, OUTCOMES, POSITIONS, SENDS, UNMATCHED
from tasks.send import Send

OUTCOME_SCHEMA = {
    "message_key": pl.String(),
    "profile_id": pl.String(),
    "kind": pl.String(),
    "at": pl.Datetime("us", "UTC"),
    "source": pl.String(),
    "detail": pl.String(),
}
UNMATCHED_SCHEMA = {
    "number": pl.Int64(),
    "source": pl.String(),
    "reference": pl.String(),
    "kind": pl.String(),
    "at": pl.Datetime("us", "UTC"),
    "reason": pl.String(),
    "payload": pl.String(),
}


class OutcomeKind(StrEnum):
    """What became of a message after it was taken."""

    DELIVERED = "delivered"
    BOUNCED = "bounced"
    DELAYED = "delayed"
    COMPLAINED = "complained"
    UNSUBSCRIBED = "unsubscribed"


class Feedback(NamedTuple):
    """One event of a message, as it came back."""

    key: str
    """The message key's digits."""
    kind: OutcomeKind
    at: datetime
    source: str
    reference: str
    """Names the event at its source: told twice, it is kept once."""
    detail: str = ""


class Unmatched(NamedTuple):
    """Feedback that no message could be found for."""

    source: str
    reference: str
    kind: str
    """Of `OutcomeKind`, or 'unreadable'."""
    at: datetime
    reason: str
    payload: str
    """What is needed to try again."""


class MessageOfJournal(NamedTuple):
    """A message that feedback belongs to."""

    key: str
    campaign: str
    business_date: Any
    channel: str
    profile_id: str
    state: str


@dataclass(frozen=True)
class Outcomes:
    """What came back, in a journal."""

    database: Database

    def message(self, name: str) -> MessageOfJournal | None:
        """The message that the world knows by a name: of its Message-ID, before the @, or of its bounce address."""
        digits = MessageNames(self.database.identity.key).digits_of(name)
        return None if digits is None else self.message_of(digits)

    def message_of(self, digits: str) -> MessageOfJournal | None:
        """The message that has a key with these digits."""
        statement = (
            sa.select(
                MESSAGES.c.key,
                SENDS.c.campaign,
                SENDS.c.business_date,
                SENDS.c.channel,
                MESSAGES.c.profile_id,
                MESSAGES.c.state,
            )
            .join_from(MESSAGES, SENDS, SENDS.c.number == MESSAGES.c.send)
            # The index begins with the send, of which there are few: without their list, SQLite reads all messages.
            .where(MESSAGES.c.key == digits, MESSAGES.c.send.in_(sa.select(SENDS.c.number)))
        )
        row = self.database.read(lambda database: database.execute(statement).first())
        return None if row is None else MessageOfJournal(*row)

    def messages_to(self, campaign: str, day: date, profile_id: str) -> list[MessageOfJournal]:
        """The messages of a campaign's business date to a profile, over all channels."""
        statement = sa.select(SENDS.c.channel).where(SENDS.c.campaign == campaign, SENDS.c.business_date == day)
        channels = self.database.read(lambda database: database.execute(statement).scalars().all())
        send = Send(campaign=campaign, label=campaign, business_date=day)
        found = [self.message_of(send.message_key(channel, profile_id)) for channel in channels]
        return [message for message in found if message is not None]

    def has(self, digits: str, kind: OutcomeKind) -> bool:
        """Whether an event of this kind is known of the message that has a key with these digits."""
        statement = (
            sa.select(OUTCOMES.c.number).where(OUTCOMES.c.key == digits, OUTCOMES.c.kind == str(kind)).limit(1)
        )
        return self.database.read(lambda database: database.execute(statement).first()) is not None

    def add(self, events: Iterable[Feedback]) -> None:
        """Write events down, each once however often it is told. Errors: `JournalUnavailable`."""
        rows = [{**one._asdict(), "kind": str(one.kind), "detail": storable(one.detail)} for one in events]
        if rows:
            statement = self.database.insert(OUTCOMES).on_conflict_do_nothing()
            self.database.write(lambda database: database.execute(statement, rows))

    def entries(self, send: Send | None = None, channel: str | None = None) -> pl.DataFrame:
        """Events of a send, of a channel, or all: the columns of `OUTCOME_SCHEMA`; the key is its digits."""
        statement = (
            sa.select(
                OUTCOMES.c.key,
                MESSAGES.c.profile_id,
                *(OUTCOMES.c[name] for name in ("kind", "at", "source", "detail")),
            )
            .select_from(OUTCOMES)
            .join(SENDS, sa.true())
            .join(MESSAGES, sa.and_(MESSAGES.c.send == SENDS.c.number, MESSAGES.c.key == OUTCOMES.c.key))
            .order_by(OUTCOMES.c.number)
        )
        if send is not None:
            statement = statement.where(
                SENDS.c.campaign == send.campaign, SENDS.c.business_date == send.business_date
            )
        if channel is not None:
            statement = statement.where(SENDS.c.channel == channel)
        rows: list[Any] = self.database.read(
            lambda database: [tuple(row) for row in database.execute(statement)], at_leisure=True
        )
        return pl.DataFrame(rows, schema=OUTCOME_SCHEMA, orient="row")

    def keep_unmatched(self, events: Iterable[Unmatched]) -> None:
        """Keep feedback that belongs to no known message. Errors: `JournalUnavailable`."""
        rows = [{**one._asdict(), "kind": str(one.kind), "reason": storable(one.reason)} for one in events]
        if rows:
            statement = self.database.insert(UNMATCHED).on_conflict_do_nothing()
            self.database.write(lambda database: database.execute(statement, rows))

    def unmatched(self) -> pl.DataFrame:
        """Feedback that still belongs to no message: the columns of `UNMATCHED_SCHEMA`."""
        columns = (UNMATCHED.c[name] for name in UNMATCHED_SCHEMA)
        statement = sa.select(*columns).where(UNMATCHED.c.matched_at.is_(None)).order_by(UNMATCHED.c.number)
        rows: list[Any] = self.database.read(
            lambda database: [tuple(row) for row in database.execute(statement)], at_leisure=True
        )
        return pl.DataFrame(rows, schema=UNMATCHED_SCHEMA, orient="row")

    def matched(self, numbers: Iterable[int]) -> None:
        """Say that feedback has found its messages after all, by the column `number` of `unmatched`."""
        statement = (
            sa.update(UNMATCHED).values(matched_at=self.database.now()).where(UNMATCHED.c.number.in_(list(numbers)))
        )
        self.database.write(lambda database: database.execute(statement))

    def position(self, source: str) -> str | None:
        """How far a source of feedback has been read; None: never."""
        statement = sa.select(POSITIONS.c.position).where(POSITIONS.c.source == source)
        return self.database.read(lambda database: database.execute(statement).scalar())

    def move_to(self, source: str, position: str) -> None:
        """Say how far a source has been read; after what was read is written down."""
        insert = self.database.insert(POSITIONS).values(
            source=source, position=position, changed_at=self.database.now()
        )
        statement = insert.on_conflict_do_update(
            index_elements=[POSITIONS.c.source],
            set_={"position": insert.excluded.position, "changed_at": insert.excluded.changed_at},
        )
        self.database.write(lambda database: database.execute(statement))
