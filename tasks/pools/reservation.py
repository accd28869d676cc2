"""Reservation: which code each message gets, the same in every try of it.

One transaction reserves for a window of messages. Who reserves for one send takes turns; who reserves for another
passes over codes that are being taken. Nothing that is reserved is lost by a run that ends: what nobody has begun
to send can be given back at any time, as a sender holds a code before its message leaves.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from hashlib import sha256
from itertools import islice
from typing import Any, NamedTuple

import sqlalchemy as sa

from tasks.delivery.garbage import rarer_searches
from tasks.delivery.journal.codes import NOBODYS, CodeState
from tasks.delivery.journal.database import Database, document, given_rows
from tasks.delivery.journal.sends import Sends
from tasks.delivery.journal.states import State
from tasks.delivery.journal.tables import CODES, MESSAGES
from tasks.pools.stock import Pool, Pools
from tasks.send import DIGITS, Send, parts_of

WINDOW = 5_000
"""Messages that are reserved for by one transaction."""
TRIES = 20
"""Times that codes which another run is just taking or giving back are looked at again."""
PAUSE = 0.05


class _IsKnown(Exception):  # it ends a transaction, and is no error
    """A message of the window may have a code already."""


class Given(NamedTuple):
    """The code of a message."""

    number: int
    values: Mapping[str, Any]
    """code, and the pool's further columns."""


@dataclass(frozen=True)
class Reservations:
    """The reservations of one run for one send over one channel, of one pool."""

    pools: Pools
    pool: Pool
    send: Send
    channel: str
    run: str
    """What this run's reservations are known by."""

    @property
    def _database(self) -> Database:
        return self.pools.database

    @property
    def _number(self) -> int:
        return Sends(self._database).begin(self.send, self.channel)

    def reserve(self, profiles: Mapping[str, str], until: datetime) -> dict[str, Given | None]:
        """The code of each message: the one that it has, else one that is free and holds beyond a moment.

        In: message keys, each with its profile. Out: the same keys; left out are those for which there was no code;
        None is for a message that was sent already without one. Errors: `JournalUnavailable`.
        """
        number, found, is_first_try = self._number, dict[str, Given | None](), True
        with rarer_searches():
            for some in _windows(profiles):
                if is_first_try:  # most runs are; what a window of another run has is no surprise in its next ones
                    try:
                        found |= self._window(some, number, until, looks=False)
                        continue
                    except _IsKnown:
                        is_first_try = False
                found |= self._window(some, number, until, looks=True)
        return found

    def _window(
        self, profiles: Mapping[str, str], number: int, until: datetime, *, looks: bool
    ) -> dict[str, Given | None]:
        # In their own order: codes that are held together then lie together.
        keys = {key[:DIGITS]: key for key in profiles}
        people = {digits: profiles[key] for digits, key in keys.items()}
        given = {
            "given_send": number,
            "given_pool": self.pool.number,
            "given_until": until,
            "given_run": self.run,
            "given_now": self._database.now(),
        }
        for attempt in range(TRIES):
            time.sleep(PAUSE if attempt else 0)
            found, sent, are_more = self._database.write(
                lambda connection: self._reserved(connection, number, people, given, looks=looks)
            )
            if not are_more:
                break
        seal = self.pools.seal(self.pool)
        reserved = {
            keys[key]: Given(number, seal.opened(digest, sealed)) for key, (number, digest, sealed) in found.items()
        }
        return {**dict.fromkeys(keys[key] for key in sent), **reserved}

    def _reserved(
        self,
        connection: sa.Connection,
        number: int,
        people: Mapping[str, str],
        given: Mapping[str, Any],
        *,
        looks: bool,
    ) -> tuple[dict[str, tuple[int, str, str]], set[str], bool]:
        """Codes of a window's messages, by digits; those that were sent without one; whether there are more.

        In: `people`, the profile of each message, by digits; what the statements are given; `looks`: whether to
        look for the codes that the messages have. Without it, `_IsKnown` is raised where some may have one.
        """
        is_sqlite = self._database.is_sqlite
        if not is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_turn(number))))
        begun = connection.execute(_begun_statement(), given).first() is not None
        messages = self._messages(people, number) if looks or begun else {}
        found = self._had(connection, {**given, **messages}) if looks else {}
        sent = set(connection.execute(_sent_statement(is_sqlite), messages).scalars()) if begun else set()
        sent -= found.keys()
        wanted = [key for key in people if key not in found and key not in sent]
        free = connection.execute(_free_statement(), {**given, "given_count": len(wanted)}).all() if wanted else []
        taken = dict(zip(wanted, map(tuple, free), strict=False))
        if not looks and (sent or len(taken) < len(wanted)):
            raise _IsKnown
        if taken:
            rows = ({"number": code[0], "key": key, "profile_id": people[key]} for key, code in taken.items())
            try:
                connection.execute(_take_statement(is_sqlite), {**given, **document(rows)})
            except sa.exc.IntegrityError:
                if looks:
                    raise
                raise _IsKnown from None  # no message has two codes of a pool
        is_short = len(taken) < len(wanted)
        are_more = is_short and connection.execute(_free_statement(waits=True), {**given, "given_count": 1}).first()
        return found | taken, sent, bool(are_more)

    def _had(self, connection: sa.Connection, given: Mapping[str, Any]) -> dict[str, tuple[int, str, str]]:
        """Codes that messages have already, this run's from now on, but for those that do not hold long enough."""
        is_sqlite = self._database.is_sqlite
        found = connection.execute(_found_statement(is_sqlite), given).all()
        if found:
            if connection.execute(_outdated_statement(is_sqlite), given).rowcount:
                found = connection.execute(_found_statement(is_sqlite), given).all()
            connection.execute(_taken_over_statement(is_sqlite), given)
        return {key: (number, digest, sealed) for key, number, digest, sealed in found}

    def _messages(self, digits: Iterable[str], number: int) -> dict[str, str]:
        return document({"key": each, "send": number, "pool": self.pool.number} for each in digits)

    def release(self, keys: list[str]) -> int:
        """Give back what this run reserved for messages that will not show it; gives how many codes that were."""
        if not keys:
            return 0
        given = {
            **self._messages((parts_of(key)[0] for key in keys), self._number),
            "given_run": self.run,
            "given_now": self._database.now(),
        }
        statement = _release_statement(self._database.is_sqlite)
        return self._database.write(lambda connection: int(connection.execute(statement, given).rowcount))


def _windows(profiles: Mapping[str, str]) -> Iterator[dict[str, str]]:
    following = iter(profiles.items())
    while some := dict(islice(following, WINDOW)):
        yield some


def _turn(send: int) -> int:
    return int.from_bytes(sha256(f"codes of {send}".encode()).digest()[:8], "big", signed=True)


def _given(name: str, kind: sa.types.TypeEngine[Any]) -> sa.BindParameter[Any]:
    return sa.bindparam(f"given_{name}", type_=kind)


SEND = _given("send", CODES.c.send.type)
POOL = _given("pool", sa.BigInteger())
UNTIL = _given("until", CODES.c.expires_at.type)
RUN = _given("run", CODES.c.reserved_by.type)
NOW = _given("now", CODES.c.changed_at.type)
COUNT = _given("count", sa.Integer())


def _rows(is_sqlite: bool) -> sa.FromClause:
    return given_rows(is_sqlite, {"key": sa.String, "send": sa.BigInteger, "pool": sa.BigInteger})


def _is_of(rows: sa.FromClause) -> sa.ColumnElement[bool]:
    # The pool comes with each row: with one value for all, SQLite would read the whole pool for each message.
    return sa.and_(CODES.c.send == rows.c.send, CODES.c.key == rows.c.key, CODES.c.pool == rows.c.pool)


@cache
def _free_statement(*, waits: bool = False) -> sa.Select[Any]:
    """Free codes, the first to expire first; with `waits`, those too that another run is just taking.

    As many as are wanted: of more, another run would think that they are gone.
    """
    statement = (
        sa.select(CODES.c.number, CODES.c.digest, CODES.c.sealed)
        .where(CODES.c.pool == POOL, CODES.c.state == sa.text("'free'"), CODES.c.expires_at > UNTIL)
        .order_by(CODES.c.expires_at, CODES.c.number)
        .limit(COUNT)
    )
    return statement if waits else statement.with_for_update(skip_locked=True)


@cache
def _take_statement(is_sqlite: bool) -> sa.Update:
    """Codes, by number, are these messages' from now on."""
    columns = {"number": sa.BigInteger, "key": sa.String, "profile_id": sa.Text}
    rows = given_rows(is_sqlite, columns)
    return (
        sa.update(CODES)
        .values(
            state=CodeState.RESERVED,
            send=SEND,
            key=rows.c.key,
            profile_id=rows.c.profile_id,
            reserved_by=RUN,
            changed_at=NOW,
        )
        .where(CODES.c.number == rows.c.number)
    )


@cache
def _outdated_statement(is_sqlite: bool) -> sa.Update:
    """Give back codes that will not hold until their message, which nobody has, can be read."""
    return _freed(_rows(is_sqlite), CODES.c.expires_at <= UNTIL)


@cache
def _release_statement(is_sqlite: bool) -> sa.Update:
    return _freed(_rows(is_sqlite), CODES.c.reserved_by == RUN)


def _freed(rows: sa.FromClause, condition: sa.ColumnElement[bool]) -> sa.Update:
    return (
        sa.update(CODES)
        .values(state=CodeState.FREE, changed_at=NOW, **NOBODYS)
        .where(_is_of(rows), CODES.c.state == CodeState.RESERVED, condition)
    )


@cache
def _taken_over_statement(is_sqlite: bool) -> sa.Update:
    """What an earlier run reserved is this run's now."""
    rows = _rows(is_sqlite)
    return (
        sa.update(CODES)
        .values(reserved_by=RUN, changed_at=NOW)
        .where(_is_of(rows), CODES.c.state == CodeState.RESERVED, CODES.c.reserved_by != RUN)
    )


@cache
def _found_statement(is_sqlite: bool) -> sa.Select[Any]:
    rows = _rows(is_sqlite)
    return sa.select(CODES.c.key, CODES.c.number, CODES.c.digest, CODES.c.sealed).join_from(
        rows, CODES, _is_of(rows)
    )


@cache
def _begun_statement() -> sa.Select[Any]:
    """Whether any message of a send was claimed."""
    return sa.select(MESSAGES.c.key).where(MESSAGES.c.send == SEND).limit(1)


@cache
def _sent_statement(is_sqlite: bool) -> sa.Select[Any]:
    rows = _rows(is_sqlite)
    of_message = sa.and_(MESSAGES.c.send == rows.c.send, MESSAGES.c.key == rows.c.key)
    return sa.select(MESSAGES.c.key).join_from(rows, MESSAGES, of_message).where(MESSAGES.c.state == State.SENT)
