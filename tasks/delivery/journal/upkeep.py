"""Upkeep of a journal: what people decide about its messages, what it forgets, and whether it is sound."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl
import sqlalchemy as sa

from tasks.delivery.journal.codes import NOBODYS, ON_ITS_WAY, CodeState, free_unknown
from tasks.delivery.journal.database import Database, storable
from tasks.delivery.journal.states import State
from tasks.delivery.journal.storage import WHOLE_KEY, Journal
from tasks.delivery.journal.suppressions import of_profile
from tasks.delivery.journal.tables import (
    CODES,
    DEPARTURES,
    MESSAGES,
    OUTCOMES,
    POSITIONS,
    SENDERS,
    SENDS,
    SUPPRESSIONS,
    UNMATCHED,
)
from tasks.send import Send

UNKNOWN_SCHEMA = {
    "campaign": pl.String(),
    "business_date": pl.Date(),
    "channel": pl.String(),
    "message_key": pl.String(),
    "profile_id": pl.String(),
    "changed_at": pl.Datetime("us", "UTC"),
    "answer": pl.String(),
}
DECISIONS = {"send again": State.DEFERRED, "mark as sent": State.SENT, "mark as not sent": State.REFUSED}
"""What people decide about a message that may or may not have been taken."""
COUNTED = {
    "messages": MESSAGES,
    "outcomes": OUTCOMES,
    "suppressions": SUPPRESSIONS,
    "unmatched": UNMATCHED,
    "senders": SENDERS,
    "departures": DEPARTURES,
    "positions": POSITIONS,
    "sends": SENDS,
    "codes": CODES,
}


@dataclass(frozen=True)
class Upkeep:
    """What operations do to a journal."""

    journal: Journal

    @property
    def _database(self) -> Database:
        return self.journal.database

    def unknown(self) -> pl.DataFrame:
        """Messages that may or may not have been taken: the columns of `UNKNOWN_SCHEMA`."""
        statement = (
            sa.select(
                SENDS.c.campaign,
                SENDS.c.business_date,
                SENDS.c.channel,
                WHOLE_KEY,
                *(MESSAGES.c[name] for name in ("profile_id", "changed_at", "answer")),
            )
            .join(MESSAGES, MESSAGES.c.send == SENDS.c.number)
            .where(MESSAGES.c.state == State.UNKNOWN)
            .order_by(MESSAGES.c.number)
        )
        return pl.DataFrame(self._rows(statement), schema=UNKNOWN_SCHEMA, orient="row")

    def settle(
        self, send: Send, channel: str, decision: str, *, by: str, why: str, profiles: Sequence[str] = ()
    ) -> int:
        """Decide about unknown messages of a send, of all profiles or of some; gives how many there were.

        Who decided and why is kept as the message's answer. Errors: `JournalUnavailable`.
        """
        if (number := self.journal.sends.find(send, channel)) is None:
            return 0
        of_these = [MESSAGES.c.profile_id.in_(list(profiles))] if profiles else []
        statement = (
            sa.update(MESSAGES)
            .values(
                state=DECISIONS[decision],
                answer=storable(f"{decision}, decided by {by}: {why}"),
                changed_at=self._database.now(),
            )
            .where(MESSAGES.c.send == number, MESSAGES.c.state == State.UNKNOWN, *of_these)
        )

        def work(database: sa.Connection) -> int:
            if DECISIONS[decision] is State.REFUSED:  # of each other one, the code stays held with its message
                free_unknown(database, number, self._database.now(), *of_these)
            return int(database.execute(statement).rowcount)

        return self._database.write(work, at_leisure=True)

    def counts(self) -> pl.DataFrame:
        """Rows of each table of the journal: table, rows."""
        rows = [
            (name, self._rows(sa.select(sa.func.count()).select_from(table))[0][0])
            for name, table in COUNTED.items()
        ]
        return pl.DataFrame(rows, schema={"table": pl.String(), "rows": pl.Int64()}, orient="row")

    def forget(self, before: date, moment: datetime, campaign: str = "", *, dry_run: bool) -> dict[str, int]:
        """Remove the messages of old sends, with what came back of them, and what has not mattered for as long.

        A send stays known by its name: it is refused when somebody wants to send it again. Opt-outs, complaints and
        whatever else still holds stay. Gives the rows by table. Errors: `JournalUnavailable`.
        """
        old = [SENDS.c.business_date < before, *([SENDS.c.campaign == campaign] if campaign else [])]
        sends = sa.select(SENDS.c.number).where(*old, SENDS.c.forgotten_at.is_(None))
        keys = sa.select(MESSAGES.c.key).where(MESSAGES.c.send.in_(sends))
        known = SUPPRESSIONS.c
        # In this order: the later ones are what the earlier ones are found by.
        doomed: dict[sa.Table, sa.ColumnElement[bool]] = {OUTCOMES: OUTCOMES.c.key.in_(keys)}
        doomed[MESSAGES] = MESSAGES.c.send.in_(sends)
        if not campaign:
            doomed |= {
                UNMATCHED: UNMATCHED.c.at < moment,
                SENDERS: SENDERS.c.expires_at < moment,
                SUPPRESSIONS: sa.or_(known.released_at < moment, known.expires_at < moment),
            }

        def work(database: sa.Connection) -> dict[str, int]:
            found = {}
            for table, condition in doomed.items():
                counted = sa.select(sa.func.count()).select_from(table).where(condition)
                found[table.name] = int(database.execute(counted).scalar_one())
                if not dry_run:
                    database.execute(sa.delete(table).where(condition))
            if not dry_run:
                for statement in _left_alone(CODES.c.send.in_(sends)):
                    database.execute(statement)
                forgotten = sa.update(SENDS).values(forgotten_at=self._database.now())
                database.execute(forgotten.where(*old, SENDS.c.forgotten_at.is_(None)))
            return found

        return self._database.write(work, at_leisure=True)

    def erase(self, profile_id: str, address: str, *, dry_run: bool) -> dict[str, int]:
        """Remove a person. The suppression stays, by the keyed hash of the address.

        A message's row stays without the person: it is counted, and no longer says whose it was. Gives the rows by
        table. Errors: `JournalUnavailable`.
        """
        is_sqlite = self._database.is_sqlite
        nobody = sa.func.lower(sa.func.hex(sa.func.randomblob(16)))
        if not is_sqlite:
            nobody = sa.func.replace(sa.cast(sa.func.gen_random_uuid(), sa.Text), "-", "")
        hashed = self.journal.suppressions.hashed(address) if address else ""
        theirs = sa.and_(MESSAGES.c.profile_id == profile_id, sa.literal(bool(profile_id)))
        told = sa.func.lower(UNMATCHED.c.payload).contains(address.strip().lower(), autoescape=True)
        conditions = {
            OUTCOMES: OUTCOMES.c.key.in_(sa.select(MESSAGES.c.key).where(theirs)),
            UNMATCHED: sa.and_(told, sa.literal(bool(address))),
            MESSAGES: theirs,
            CODES: sa.and_(CODES.c.profile_id == profile_id, sa.literal(bool(profile_id))),
            SUPPRESSIONS: of_profile(profile_id),
        }

        def work(database: sa.Connection) -> dict[str, int]:
            counted = {table: sa.select(sa.func.count()).select_from(table) for table in conditions}
            found = {
                table.name: int(database.execute(counted[table].where(condition)).scalar_one())
                for table, condition in conditions.items()
            }
            if dry_run:
                return found
            rows = [
                row._asdict() for row in database.execute(sa.select(SUPPRESSIONS).where(conditions[SUPPRESSIONS]))
            ]
            for table in (OUTCOMES, UNMATCHED, SUPPRESSIONS):
                database.execute(sa.delete(table).where(conditions[table]))
            database.execute(sa.update(MESSAGES).values(profile_id="", key=nobody, answer="").where(theirs))
            for statement in _left_alone(conditions[CODES]):
                database.execute(statement)
            kept = [_without_profile(row, hashed) for row in rows if row["address"] or hashed]
            if kept:
                database.execute(self._database.insert(SUPPRESSIONS).on_conflict_do_nothing(), kept)
            return found

        return self._database.write(work, at_leisure=True)

    def faults(self) -> pl.DataFrame:
        """What is wrong with the journal: fault, rows; whether `repair` mends it."""
        whole = [("sqlite: " + row[0], 1, False) for row in self._integrity() if row[0] != "ok"]
        rows = [
            (name, count, True)
            for name, (_, condition) in self._repairable().items()
            if (count := self._rows(sa.select(sa.func.count()).where(condition))[0][0])
        ]
        schema = {"fault": pl.String(), "rows": pl.Int64(), "is_repairable": pl.Boolean()}
        return pl.DataFrame([*whole, *rows], schema=schema, orient="row")

    def repair(self) -> None:
        """Repair what can be repaired. Errors: `JournalUnavailable`."""
        for campaign, day, channel in (
            self.journal.sends.entries().select("campaign", "business_date", "channel").iter_rows()
        ):
            self.journal.expire(Send(campaign=campaign, label=campaign, business_date=day), channel)
        for statement, _ in self._repairable().values():
            if statement is not None:
                self._count(statement)
        if self._database.is_sqlite:
            self._database.write(lambda database: database.execute(sa.text("REINDEX")), at_leisure=True)

    def _repairable(self) -> dict[str, tuple[sa.Delete | None, sa.ColumnElement[bool]]]:
        now = self._database.now()
        alive = sa.select(SENDERS.c.sender).where(SENDERS.c.expires_at > now)
        lost_claim = sa.and_(MESSAGES.c.state == State.CLAIMED, MESSAGES.c.sender.not_in(alive))
        dead = sa.and_(
            SENDERS.c.expires_at <= now,
            SENDERS.c.sender.not_in(sa.select(MESSAGES.c.sender).where(MESSAGES.c.state == State.CLAIMED)),
        )
        orphan = OUTCOMES.c.key.not_in(sa.select(MESSAGES.c.key))
        without_send = MESSAGES.c.send.not_in(sa.select(SENDS.c.number))
        return {
            "claims of senders that are gone": (None, lost_claim),
            "messages of no send": (sa.delete(MESSAGES).where(without_send), without_send),
            "outcomes of no message": (sa.delete(OUTCOMES).where(orphan), orphan),
            "senders that are gone": (sa.delete(SENDERS).where(dead), dead),
        }

    def _integrity(self) -> list[Any]:
        return self._rows(sa.text("PRAGMA quick_check")) if self._database.is_sqlite else []

    def _rows(self, statement: Any) -> list[Any]:  # noqa: ANN401  # a Select or a text
        return self._database.read(
            lambda database: [tuple(row) for row in database.execute(statement)], at_leisure=True
        )

    def _count(self, statement: Any) -> int:  # noqa: ANN401  # an Update or a Delete
        return self._database.write(lambda database: int(database.execute(statement).rowcount), at_leisure=True)


def _left_alone(condition: sa.ColumnElement[bool]) -> list[sa.Update]:
    """What becomes of codes whose messages will not be tried again, and whose recipients were erased.

    One that may have gone out stays used, and says no more whose it was.
    """
    is_reserved = CODES.c.state == CodeState.RESERVED
    went_out = CODES.c.state.in_([CodeState.USED, *ON_ITS_WAY])
    return [
        sa.update(CODES).values(state=after, **NOBODYS).where(states, condition)
        for after, states in ((CodeState.FREE, is_reserved), (CodeState.USED, went_out))
    ]


def _without_profile(row: dict[str, Any], hashed: str) -> dict[str, Any]:
    kept = {name: value for name, value in row.items() if name != "number"}
    return {**kept, "profile_id": "", "address": row["address"] or hashed}
