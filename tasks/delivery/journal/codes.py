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
to send it. Whoever has claimed a message holds its code before the message leaves: that fails where the code was
given back meanwhile, and the message stays. What became of the message decides on the code in the same
transaction; a message whose fate is unknown keeps its code held. A code that is held a second time is in doubt:
an earlier try may have arrived, whatever becomes of this one. It is given back only when people say that nothing
arrived.
"""

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from functools import cache
from typing import Any

import polars as pl
import sqlalchemy as sa

from tasks.delivery.journal.database import Database, document, given_rows
from tasks.delivery.journal.states import State
from tasks.delivery.journal.tables import CODES, MESSAGES
from tasks.send import CODES_SHOWN, parts_of

SAMPLE = 0
"""In the place of a code's number: what is shown is a sample, which leaves in no message but a proof."""
IN_MESSAGES = pl.List(pl.Struct({"number": pl.Int64(), "code": pl.String()}))
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


SETTLED = {
    State.SENT: CodeState.USED,
    State.REFUSED: CodeState.FREE,
    State.DEFERRED: CodeState.RESERVED,
}
"""What becomes of a held code by what became of its message."""
ON_ITS_WAY = (CodeState.HELD, CodeState.DOUBT)
"""States of codes that somebody may have."""
NOBODYS = {"send": sa.null(), "key": sa.null(), "profile_id": "", "reserved_by": ""}
"""Columns of a code that belongs to no message."""


def code_numbers(messages: pl.DataFrame) -> dict[str, list[int]]:
    """The numbers of the codes that messages show, by message key; without those that show none."""
    if CODES_SHOWN not in messages.columns:
        return {}
    numbers = pl.col(CODES_SHOWN).list.eval(pl.element().struct.field("number"))
    shown = messages.filter(pl.col(CODES_SHOWN).list.len() > 0).select("message_key", numbers)
    return dict(shown.iter_rows())


def wrong_samples(numbers: Mapping[str, Iterable[int]], *, is_proof: bool) -> dict[str, str]:
    """The messages that show a sample and are no proof, with the reason why they stay."""
    return {} if is_proof else {key: NO_PROOF for key, each in numbers.items() if SAMPLE in each}


def hold(database: Database, send: int, codes: Mapping[str, Iterable[int]]) -> set[str]:
    """Hold the codes of messages that the caller has claimed; gives the keys of those that lost one.

    In: message keys, each with the numbers of its codes. Errors: `JournalUnavailable`.
    """
    wanted: list[dict[str, str | int]] = [
        {"key": parts_of(key)[0], "send": send, "number": number}
        for key, numbers in codes.items()
        for number in numbers
    ]
    if not wanted:
        return set()
    given = {**document(wanted), "given_changed_at": database.now()}
    held = _hold_statement(database.is_sqlite)

    def work(connection: sa.Connection) -> set[tuple[str, int]] | None:
        if connection.execute(held, given).rowcount == len(wanted):
            return None
        found = connection.execute(_held_statement(database.is_sqlite), given)
        return {(str(key), int(number)) for key, number in found}

    ours = database.write(work)
    if ours is None:
        return set()
    return {key for key, numbers in codes.items() if any((parts_of(key)[0], one) not in ours for one in numbers)}


def settle(
    connection: sa.Connection,
    given: Mapping[str, Any],
    states: Collection[State],
    *,
    all_said: bool,
    is_sqlite: bool,
) -> None:
    """Let the held codes of messages be what these have just become; in the transaction that said so.

    In: `given` to the statement that did (its rows have key, send, state); the `states` that occur; whether that
    statement was right about all of them.
    """
    if not {State.SENT, State.DEFERRED}.isdisjoint(states):
        connection.execute(_keep_statement(is_sqlite, all_said), given)
    if State.REFUSED in states:
        connection.execute(_free_statement(is_sqlite, all_said), given)


def settle_send(connection: sa.Connection, send: int) -> None:
    """The same for all messages of a send that are settled, after people have decided about unknown ones.

    A message that is to be sent again keeps its code held: the first try may have arrived.
    """
    of_message = sa.and_(MESSAGES.c.send == CODES.c.send, MESSAGES.c.key == CODES.c.key)
    decided = MESSAGES.c.state.in_([State.SENT, State.REFUSED])
    connection.execute(
        sa.update(CODES)
        .values(_after(MESSAGES.c.state))
        .where(CODES.c.send == send, CODES.c.state.in_(ON_ITS_WAY), of_message, decided)
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
    return (
        sa.select(MESSAGES.c.key)
        .where(MESSAGES.c.send == CODES.c.send, MESSAGES.c.key == CODES.c.key, MESSAGES.c.state.in_(open_states))
        .correlate(CODES)
        .exists()
    )


def has_codes(database: Database, send: int) -> bool:
    """Whether a code belongs to any message of a send."""
    statement = sa.select(CODES.c.number).where(CODES.c.send == send, CODES.c.key.is_not(None)).limit(1)
    return database.read(lambda connection: connection.execute(statement).first()) is not None


def _after(state: sa.ColumnElement[str]) -> dict[str, sa.ColumnElement[object]]:
    """Columns of a code after its message's state."""
    is_free = state == State.REFUSED
    after = sa.case(*((state == before, after.value) for before, after in SETTLED.items()))
    return {
        "state": after,
        **{name: sa.case((is_free, value), else_=CODES.c[name]) for name, value in NOBODYS.items()},
        "changed_at": MESSAGES.c.changed_at,
    }


def _rows(is_sqlite: bool) -> sa.FromClause:
    return given_rows(is_sqlite, {"key": sa.String, "send": sa.BigInteger, "number": sa.BigInteger})


def _is_of(rows: sa.FromClause) -> sa.ColumnElement[bool]:
    return sa.and_(CODES.c.number == rows.c.number, CODES.c.send == rows.c.send, CODES.c.key == rows.c.key)


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
def _keep_statement(is_sqlite: bool, all_said: bool) -> sa.Update:
    """Codes that stay with their messages. Most do: no index has their columns, so that this is cheap."""
    rows = _outcomes(is_sqlite)
    is_used = rows.c.state == State.SENT
    state = sa.case((is_used, SETTLED[State.SENT].value), else_=SETTLED[State.DEFERRED].value)
    # A message that was taken has used its code up; of one that left once, all is known.
    may_be = sa.or_(CODES.c.state == CodeState.HELD, sa.and_(CODES.c.state == CodeState.DOUBT, is_used))
    after = rows.c.state.in_([State.SENT, State.DEFERRED])
    return _settled(rows, {"state": state}, all_said).where(may_be, after)


@cache
def _free_statement(is_sqlite: bool, all_said: bool) -> sa.Update:
    """Codes that belong to no message any more. One in doubt may have arrived by an earlier try."""
    rows = _outcomes(is_sqlite)
    after = {"state": SETTLED[State.REFUSED], **NOBODYS}
    return _settled(rows, after, all_said).where(CODES.c.state == CodeState.HELD, rows.c.state == State.REFUSED)


def _outcomes(is_sqlite: bool) -> sa.FromClause:
    return given_rows(is_sqlite, {"key": sa.String, "send": sa.BigInteger, "state": sa.String})


def _settled(rows: sa.FromClause, values: Mapping[str, Any], all_said: bool) -> sa.Update:
    changed_at = sa.bindparam("given_changed_at", type_=CODES.c.changed_at.type)
    of_message = (CODES.c.send == rows.c.send, CODES.c.key == rows.c.key)
    # Only what this sender said just now: of another's message, nothing is known here.
    said = (
        MESSAGES.c.send == rows.c.send,
        MESSAGES.c.key == rows.c.key,
        MESSAGES.c.state == rows.c.state,
        MESSAGES.c.sender == sa.bindparam("given_sender", type_=MESSAGES.c.sender.type),
    )
    settled = sa.update(CODES).values(**values, changed_at=changed_at).where(*of_message)
    return settled if all_said else settled.where(*said)
