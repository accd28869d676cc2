"""Codes of pools as senders meet them: a code leaves only with the message that it is bound to.

              reserve           hold             taken
       FREE ──────────▶ RESERVED ──────▶ HELD ──────────▶ USED
        ▲ │                │ ▲             │ │
        │ │ its day came   │ └─────────────┘ │
        │ ▼                │    postponed    │
        │ EXPIRED          │                 │
        └──────────────────┴─────────────────┘
              given back       refused

A code is reserved for a message before the message is rendered, and may be given back as long as nobody has begun
to send it. Whoever claims a message holds its code in the same transaction, before the message leaves: that fails
where the code was given back meanwhile, and the message stays. What became of the message decides on the code: one
that is refused or put off loses its hold in the transaction that says so; one that was taken has used its code up,
which is written when codes are counted, as nobody else may take it in either state. A message whose fate is
unknown keeps its code held. A code that is held a second time is in doubt: an earlier try may have arrived,
whatever becomes of this one. It is given back only when people say that nothing arrived.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any

import polars as pl
import sqlalchemy as sa

from tasks.delivery.journal.database import Database, document, given_rows
from tasks.delivery.journal.states import State
from tasks.delivery.journal.tables import CODES, MESSAGES
from tasks.send import CODES_SHOWN, DIGITS, parts_of

SAMPLE = 0
"""In the place of a code's number: what is shown is a sample, which leaves in no message but a proof."""
IN_MESSAGES = pl.List(pl.Struct({"number": pl.Int64(), "code": pl.String()}))
SHOWN = {"message_key": pl.String(), "number": pl.Int64()}
"""The codes of messages: a row for each."""
GIVEN_BACK = "its code was given back before it left, or is another message's; the next run reserves one"
NO_PROOF = "it shows the sample of a code, which leaves in a proof only"


class CodeState(StrEnum):
    """What is known of a code."""

    FREE = "free"
    """It is free."""
    RESERVED = "reserved"
    """It belongs to a message that is not being sent."""
    HELD = "held"
    """Its message is on its way, or may have arrived."""
    DOUBT = "in doubt"
    """Its message is on its way again, after a try that may have arrived."""
    USED = "used"
    """Its message was taken."""
    EXPIRED = "expired"
    """Its day came before anybody got it."""


ON_ITS_WAY = (CodeState.HELD, CodeState.DOUBT)
"""States of codes that somebody may have."""
NOBODYS = {"send": sa.null(), "key": sa.null(), "profile_id": "", "reserved_by": ""}
"""Columns of a code that belongs to no message."""
OF_MESSAGE = sa.and_(MESSAGES.c.send == CODES.c.send, MESSAGES.c.key == CODES.c.key)
"""A code and the message that it belongs to."""
LOSING: dict[State, dict[str, Any]] = {
    State.REFUSED: {"state": CodeState.FREE, **NOBODYS},
    State.DEFERRED: {"state": CodeState.RESERVED},
}
"""States of a message in which it holds no code any more, with the columns of the code that it held."""


def shown_codes(messages: pl.DataFrame) -> pl.DataFrame:
    """The codes that messages show, samples among them: message_key, number."""
    if CODES_SHOWN not in messages.columns:
        return pl.DataFrame(schema=SHOWN)
    shown = messages.filter(pl.col(CODES_SHOWN).list.len() > 0).select("message_key", number=CODES_SHOWN)
    return shown.explode("number").with_columns(pl.col("number").struct.field("number"))


def wrong_samples(shown: pl.DataFrame, *, is_proof: bool) -> dict[str, str]:
    """The messages that show a sample and are no proof, with the reason why they stay. In: message_key, number."""
    samples = shown["message_key"].filter(shown["number"] == SAMPLE)
    return {} if is_proof else dict.fromkeys(samples, NO_PROOF)


def real_codes(shown: pl.DataFrame, wrong: Iterable[str]) -> pl.DataFrame:
    """The codes to hold: no samples, and none of the messages that are `wrong`. In, out: message_key, number."""
    return shown.filter(pl.col("number") != SAMPLE, ~pl.col("message_key").is_in(list(wrong)))


def hold(connection: sa.Connection, send: int, shown: pl.DataFrame, now: datetime) -> set[str]:
    """Hold the codes of messages that the caller has claimed, or has a lock of.

    In: message_key, number. Gives the keys of those that lost one.
    """
    if shown.is_empty():
        return set()
    is_sqlite = connection.dialect.name == "sqlite"
    named = shown.select("message_key", "number", key=pl.col("message_key").str.head(DIGITS))
    given = {**document(named.select("key", "number")), "given_send": send, "given_changed_at": now}
    held = connection.execute(_hold_statement(is_sqlite), given)
    if held.rowcount == shown.height:
        return set()
    found = map(tuple, connection.execute(_held_statement(is_sqlite), given))
    ours = pl.DataFrame(found, schema={"key": pl.String(), "number": pl.Int64()}, orient="row")
    return set(named.join(ours, on=["key", "number"], how="anti")["message_key"])


def settle(
    connection: sa.Connection,
    given: Mapping[str, Any],
    states: Collection[State],
    *,
    all_said: bool,
) -> None:
    """Messages that were refused or put off hold no code any more; in the transaction that said so.

    In: `given` to the statement that did (its rows have key, send, state); the `states` that occur; whether that
    statement was right about all of them.
    """
    is_sqlite = connection.dialect.name == "sqlite"
    for state in states:
        if state in LOSING:
            connection.execute(_lost_statement(is_sqlite, state, all_said), given)


def note_used(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> None:
    """Call the held codes used whose messages were taken, since when they were."""
    connection.execute(
        sa.update(CODES)
        .values(state=CodeState.USED, changed_at=MESSAGES.c.changed_at)
        .where(condition, CODES.c.state.in_(ON_ITS_WAY), OF_MESSAGE, MESSAGES.c.state == State.SENT)
    )


def free_unknown(connection: sa.Connection, send: int, now: datetime, *of_these: sa.ColumnElement[bool]) -> None:
    """Codes of messages whose fate is unknown, and of which people say that they did not arrive, are free.

    In the transaction that writes the decision down, before it. `of_these`: conditions on the messages.
    """
    unknown = (CODES.c.state.in_(ON_ITS_WAY), MESSAGES.c.state == State.UNKNOWN)
    connection.execute(
        sa.update(CODES)
        .values(state=CodeState.FREE, changed_at=now, **NOBODYS)
        .where(CODES.c.send == send, OF_MESSAGE, *unknown, *of_these)
    )


def use(database: Database, send: int, keys: Iterable[str]) -> None:
    """Messages that were delivered without a claim, under a lock of the caller's: their held codes are used.

    Errors: `JournalUnavailable`.
    """
    given = document({"key": parts_of(key)[0], "send": send} for key in keys)
    rows = given_rows(database.is_sqlite, {"key": sa.String, "send": sa.BigInteger})
    statement = (
        sa.update(CODES)
        .values(state=CodeState.USED, changed_at=database.now())
        .where(CODES.c.send == rows.c.send, CODES.c.key == rows.c.key, CODES.c.state.in_(ON_ITS_WAY))
    )
    database.write(lambda connection: connection.execute(statement, given))


def give_back(database: Database, send: int, run: str) -> int:
    """At the end of a run that went well: give back what it reserved for messages that nobody will send.

    A message that was put off keeps its code. Gives how many codes that were. Errors: `JournalUnavailable`.
    """
    statement = (
        sa.update(CODES)
        .values(state=CodeState.FREE, changed_at=database.now(), **NOBODYS)
        .where(
            CODES.c.send == send,
            CODES.c.key.is_not(None),
            CODES.c.state == CodeState.RESERVED,
            CODES.c.reserved_by == run,
            ~waits_for_a_message(),
        )
    )
    return database.write(lambda connection: int(connection.execute(statement).rowcount), at_leisure=True)


def waits_for_a_message() -> sa.ColumnElement[bool]:
    """Whether a code's message may still be sent by somebody who has it, or tries it again."""
    open_states = [State.CLAIMED, State.DEFERRED, State.UNKNOWN]
    return sa.select(MESSAGES.c.key).where(OF_MESSAGE, MESSAGES.c.state.in_(open_states)).correlate(CODES).exists()


def has_codes(database: Database, send: int) -> bool:
    """Whether a code belongs to any message of a send."""
    statement = sa.select(CODES.c.number).where(CODES.c.send == send, CODES.c.key.is_not(None)).limit(1)
    return database.read(lambda connection: connection.execute(statement).first()) is not None


def _rows(is_sqlite: bool) -> sa.FromClause:
    return given_rows(is_sqlite, {"key": sa.String, "number": sa.BigInteger})


def _is_of(rows: sa.FromClause) -> sa.ColumnElement[bool]:
    # Found by their numbers. By the send, which the sum keeps it from, SQLite would read all codes of it each time.
    send = sa.bindparam("given_send", type_=CODES.c.send.type)
    return sa.and_(CODES.c.number == rows.c.number, CODES.c.send + 0 == send, CODES.c.key == rows.c.key)


@cache
def _hold_statement(is_sqlite: bool) -> sa.Update:
    rows = _rows(is_sqlite)
    changed_at = sa.bindparam("given_changed_at", type_=CODES.c.changed_at.type)
    may_be = CODES.c.state.in_([CodeState.RESERVED, *ON_ITS_WAY])
    is_first = CODES.c.state == CodeState.RESERVED
    state = sa.case((is_first, CodeState.HELD.value), else_=CodeState.DOUBT.value)
    return sa.update(CODES).values(state=state, changed_at=changed_at).where(_is_of(rows), may_be)


@cache
def _held_statement(is_sqlite: bool) -> sa.Select[tuple[str, int]]:
    rows = _rows(is_sqlite)
    found = sa.select(CODES.c.key, CODES.c.number).join_from(rows, CODES, _is_of(rows))
    return found.where(CODES.c.state.in_(ON_ITS_WAY))


@cache
def _lost_statement(is_sqlite: bool, state: State, all_said: bool) -> sa.Update:
    """Held codes whose messages became so. One in doubt stays: it may have arrived by an earlier try."""
    rows = given_rows(is_sqlite, {"key": sa.String, "send": sa.BigInteger, "state": sa.String})
    changed_at = sa.bindparam("given_changed_at", type_=CODES.c.changed_at.type)
    of_message = (CODES.c.send == rows.c.send, CODES.c.key == rows.c.key, rows.c.state == state)
    # Only what this sender said just now: of another's message, nothing is known here.
    said = (
        MESSAGES.c.send == rows.c.send,
        MESSAGES.c.key == rows.c.key,
        MESSAGES.c.state == rows.c.state,
        MESSAGES.c.sender == sa.bindparam("given_sender", type_=MESSAGES.c.sender.type),
    )
    lost = sa.update(CODES).values(**LOSING[state], changed_at=changed_at)
    return lost.where(*of_message, CODES.c.state == CodeState.HELD, *(() if all_said else said))
