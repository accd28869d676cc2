"""Reservation: which code each message gets, the same in every try of it.

One statement reserves for a window of messages. Who reserves for one send takes turns; who reserves for another
passes over rows that are being taken. Nothing that is reserved is lost by a run that ends: what nobody has begun to
send can be given back at any time, as a sender holds a code before its message leaves.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from hashlib import sha256
from itertools import islice
from typing import Any, NamedTuple

import sqlalchemy as sa

from tasks.delivery.journal.codes import NOBODYS, CodeState
from tasks.delivery.journal.database import Database, document, given_rows
from tasks.delivery.journal.sends import Sends
from tasks.delivery.journal.states import State
from tasks.delivery.journal.tables import CODES, MESSAGES
from tasks.pools.stock import Pool, Pools
from tasks.send import Send, parts_of

WINDOW = 2_000
"""Messages that are reserved for by one statement."""
TRIES = 20
"""Times that codes which another run is just taking or giving back are looked at again."""
PAUSE = 0.05


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
        number, found = self._number, dict[str, Given | None]()
        for some in _windows(profiles):
            found |= self._window(some, number, until)
        return found

    def _rows(self, profiles: Mapping[str, str]) -> dict[str, str]:
        number, pool = self._number, self.pool.number
        return document(
            {"key": digits, "send": number, "pool": pool, "profile_id": profile}
            for digits, profile in profiles.items()
        )

    def _window(self, profiles: Mapping[str, str], number: int, until: datetime) -> dict[str, Given | None]:
        digits = {parts_of(key)[0]: key for key in profiles}
        given = {
            **self._rows({one: profiles[digits[one]] for one in sorted(digits)}),
            "given_pool": self.pool.number,
            "given_until": until,
            "given_run": self.run,
            "given_now": self._database.now(),
        }
        for attempt in range(TRIES):
            time.sleep(PAUSE if attempt else 0)
            found, sent, are_more = self._database.write(
                lambda connection: self._reserved(connection, number, given, len(digits))
            )
            if len(found) + len(sent) == len(digits) or not are_more:
                break
        seal = self.pools.seal(self.pool)
        reserved = {digits[key]: Given(number, seal.opened(*sealed)) for key, number, *sealed in found}
        return {**dict.fromkeys(digits[key] for key in sent), **reserved}

    def _reserved(
        self, connection: sa.Connection, number: int, given: Mapping[str, Any], wanted: int
    ) -> tuple[list[Any], list[str], bool]:
        """Codes of a window's messages, those that were sent without one, and whether there are more codes."""
        is_sqlite = self._database.is_sqlite
        if not is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_turn(number))))
        found = list(connection.execute(_reserve_statement(is_sqlite), given).all())
        if len(found) < wanted:
            # Some have one already, or there are too few.
            if connection.execute(_outdated_statement(is_sqlite), given).rowcount:
                connection.execute(_reserve_statement(is_sqlite), given).close()
            connection.execute(_taken_over_statement(is_sqlite), given)
            found = list(connection.execute(_found_statement(is_sqlite), given).all())
        if len(found) == wanted:
            return found, [], False
        have = {row.key for row in found}
        sent = [key for key in connection.execute(_sent_statement(is_sqlite), given).scalars() if key not in have]
        more = connection.execute(_more_statement(), given).first() is not None
        return found, sent, more and len(found) + len(sent) < wanted

    def release(self, keys: list[str]) -> int:
        """Give back what this run reserved for messages that will not show it; gives how many codes that were."""
        if not keys:
            return 0
        given = {
            **self._rows(dict.fromkeys((parts_of(key)[0] for key in keys), "")),
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


POOL = _given("pool", sa.BigInteger())
UNTIL = _given("until", CODES.c.expires_at.type)
RUN = _given("run", CODES.c.reserved_by.type)
NOW = _given("now", CODES.c.changed_at.type)
FOUND = (CODES.c.key, CODES.c.number, CODES.c.digest, CODES.c.sealed)
"""What is read of a message's code."""


def _rows(is_sqlite: bool) -> sa.FromClause:
    columns = {"key": sa.String, "send": sa.BigInteger, "pool": sa.BigInteger, "profile_id": sa.Text}
    return given_rows(is_sqlite, columns)


def _is_of(rows: sa.FromClause) -> sa.ColumnElement[bool]:
    # The pool comes with each row: with one value for all, SQLite would read the whole pool for each message.
    return sa.and_(CODES.c.send == rows.c.send, CODES.c.key == rows.c.key, CODES.c.pool == rows.c.pool)


@cache
def _reserve_statement(is_sqlite: bool) -> Any:  # noqa: ANN401  # an Update that gives rows
    rows = _rows(is_sqlite)
    has_one = sa.select(CODES.c.number).where(_is_of(rows)).correlate(rows).exists()
    was_sent = (
        sa.select(MESSAGES.c.key)
        .where(MESSAGES.c.send == rows.c.send, MESSAGES.c.key == rows.c.key, MESSAGES.c.state == State.SENT)
        .correlate(rows)
        .exists()
    )
    place = sa.func.row_number().over(order_by=rows.c.key)
    wanted = (
        sa.select(rows.c.key, rows.c.send, rows.c.profile_id, place.label("place"))
        .where(~has_one, ~was_sent)
        .cte("wanted")
    )
    # The first to expire go first. As many as are wanted: of more, another run would think that they are gone.
    chosen = (
        sa.select(CODES.c.number)
        .where(CODES.c.pool == POOL, CODES.c.state == sa.text("'free'"), CODES.c.expires_at > UNTIL)
        .order_by(CODES.c.expires_at, CODES.c.number)
        .limit(sa.select(sa.func.count()).select_from(wanted).scalar_subquery())
        .with_for_update(skip_locked=True)
        .cte("chosen")
    )
    # The limit is for PostgreSQL's planner: it would expect a tenth of the pool, and read all of it.
    place_of_code = sa.func.row_number().over(order_by=chosen.c.number)
    at_most: sa.ColumnElement[int] = sa.literal_column(str(WINDOW))
    taken = sa.select(chosen.c.number, place_of_code.label("place")).limit(at_most).cte("taken")
    # Brought together by grouping: joined, SQLite would look through all codes for each message.
    nobodys = [sa.cast(sa.null(), CODES.c[name].type).label(name) for name in ("send", "key", "profile_id")]
    no_code = sa.cast(sa.null(), CODES.c.number.type)
    places = sa.union_all(
        sa.select(taken.c.place, taken.c.number, *nobodys),
        sa.select(wanted.c.place, no_code, wanted.c.send, wanted.c.key, wanted.c.profile_id),
    ).subquery("places")
    both = {name: sa.func.max(places.c[name]) for name in ("number", "send", "key", "profile_id")}
    pairs = (
        sa.select(*(column.label(name) for name, column in both.items()))
        .group_by(places.c.place)
        .having(both["number"].is_not(None), both["key"].is_not(None))
        .limit(at_most)
        .cte("pairs")
    )
    return (
        sa.update(CODES)
        .values(
            state=CodeState.RESERVED,
            send=pairs.c.send,
            key=pairs.c.key,
            profile_id=pairs.c.profile_id,
            reserved_by=RUN,
            changed_at=NOW,
        )
        .where(CODES.c.number == pairs.c.number)
        .returning(*FOUND)
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
    return sa.select(*FOUND).join_from(rows, CODES, _is_of(rows))


@cache
def _sent_statement(is_sqlite: bool) -> sa.Select[Any]:
    rows = _rows(is_sqlite)
    of_message = sa.and_(MESSAGES.c.send == rows.c.send, MESSAGES.c.key == rows.c.key)
    return sa.select(MESSAGES.c.key).join_from(rows, MESSAGES, of_message).where(MESSAGES.c.state == State.SENT)


@cache
def _more_statement() -> sa.Select[Any]:
    is_free = sa.and_(CODES.c.pool == POOL, CODES.c.state == sa.text("'free'"), CODES.c.expires_at > UNTIL)
    return sa.select(CODES.c.number).where(is_free).limit(1)
