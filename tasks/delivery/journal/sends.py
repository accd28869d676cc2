"""Which sends the journal knows: one for each campaign, business date and channel."""

from dataclasses import dataclass, field
from datetime import date
from typing import Any

import polars as pl
import sqlalchemy as sa

from tasks.delivery.journal.codes import has_codes
from tasks.delivery.journal.database import Database
from tasks.delivery.journal.states import State
from tasks.delivery.journal.tables import MESSAGES, SENDS
from tasks.errors import SendForgotten
from tasks.send import Send

SCHEMA = {
    "campaign": pl.String(),
    "business_date": pl.Date(),
    "channel": pl.String(),
    "label": pl.String(),
    "owner": pl.String(),
    "created_at": pl.Datetime("us", "UTC"),
    "changed_at": pl.Datetime("us", "UTC"),
    **{str(state): pl.Int64() for state in State if state is not State.SUPPRESSED},
}


@dataclass(frozen=True)
class Sends:
    """The sends of a journal."""

    database: Database
    _numbers: dict[tuple[str, date, str], int] = field(default_factory=dict)
    _forgotten: set[int] = field(default_factory=set)
    _with_codes: dict[int, bool] = field(default_factory=dict)

    def find(self, send: Send, channel: str) -> int | None:
        """The number of a send; None where nothing of it was ever claimed."""
        named = (send.campaign, send.business_date, channel)
        if named not in self._numbers:
            statement = sa.select(SENDS.c.number, SENDS.c.forgotten_at).where(*_is(send, channel))
            found = self.database.read(lambda database: database.execute(statement).first())
            if found is None:
                return None
            self._numbers[named] = int(found.number)
            if found.forgotten_at is not None:
                self._forgotten.add(int(found.number))
        return self._numbers[named]

    def begin(self, send: Send, channel: str, owner: str = "") -> int:
        """The number of a send, which is entered if it is new. Errors: `JournalUnavailable`, `SendForgotten`."""
        if (number := self.find(send, channel)) is not None:
            if number in self._forgotten:
                raise SendForgotten(campaign=send.campaign, day=send.business_date, channel=channel)
            return number
        now = self.database.now()
        statement = (
            self.database.insert(SENDS)
            .values(
                campaign=send.campaign,
                business_date=send.business_date,
                channel=channel,
                label=send.label,
                owner=owner,
                created_at=now,
                changed_at=now,
            )
            .on_conflict_do_nothing()
        )
        self.database.write(lambda database: database.execute(statement))
        number = self.find(send, channel)
        assert number is not None, "it was written just now"  # noqa: S101
        return number

    def has_codes(self, number: int) -> bool:
        """Whether messages of a send had codes when this was first asked: they have them before they are sent."""
        if number not in self._with_codes:
            self._with_codes[number] = has_codes(self.database, number)
        return self._with_codes[number]

    def note_codes(self, number: int) -> None:
        """Messages of a send have codes."""
        self._with_codes[number] = True

    def owner(self, send: Send) -> str | None:
        """The deployment that sent a campaign's business date first, empty if none did; None for a new send."""
        statement = (
            sa.select(SENDS.c.owner)
            .where(SENDS.c.campaign == send.campaign, SENDS.c.business_date == send.business_date)
            .order_by(SENDS.c.number)
            .limit(1)
        )
        return self.database.read(lambda database: database.execute(statement).scalar())

    def counts(self, send: Send, channel: str) -> dict[State, int]:
        """How many messages of a send are in each state."""
        if (number := self.find(send, channel)) is None:
            return {}
        statement = (
            sa.select(MESSAGES.c.state, sa.func.count()).where(MESSAGES.c.send == number).group_by(MESSAGES.c.state)
        )
        found = self.database.read(lambda database: database.execute(statement).all(), at_leisure=True)
        return {State(state): count for state, count in found}

    def entries(self) -> pl.DataFrame:
        """Every send: campaign, business_date, channel, label, owner, created_at, changed_at, messages by state."""
        counted = [
            sa.func.sum(sa.case((MESSAGES.c.state == state, 1), else_=0)) for state in State if str(state) in SCHEMA
        ]
        columns = [SENDS.c[name] for name in list(SCHEMA)[:7]]
        statement = (
            sa.select(*columns, *counted)
            .join(MESSAGES, MESSAGES.c.send == SENDS.c.number, isouter=True)
            .group_by(SENDS.c.number, *columns)
            .order_by(SENDS.c.number)
        )
        rows: list[Any] = self.database.read(
            lambda database: [tuple(row) for row in database.execute(statement)], at_leisure=True
        )
        return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _is(send: Send, channel: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        SENDS.c.campaign == send.campaign,
        SENDS.c.business_date == send.business_date,
        SENDS.c.channel == channel,
    )
