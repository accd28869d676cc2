"""The journal as senders use it: sends, claims, answers and leases, by SQLAlchemy Core.

Whatever is said about many messages is one statement, to which they travel as one JSON document: it is compiled
once, and a batch is atomic on SQLite as on PostgreSQL.
"""

import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from tasks.delivery.blame import Blame
from tasks.delivery.journal import codes
from tasks.delivery.journal.database import (
    Clock,
    Database,
    document,
    given_rows,
    open_database,
    shown,
    storable,
)
from tasks.delivery.journal.departures import (
    IN_DOUBT,
    Departures,
    DeparturesFile,
    DeparturesTable,
    Remains,
    is_gone_in_file,
    is_gone_in_table,
    remains_in_file,
    remains_in_table,
)
from tasks.delivery.journal.keys import MessageNames
from tasks.delivery.journal.outcomes import Outcomes
from tasks.delivery.journal.paces import Paces
from tasks.delivery.journal.seats import SharedSeats
from tasks.delivery.journal.sends import Sends
from tasks.delivery.journal.states import NOTHING_AGAIN, Event, Resend, State, state_after, states_before
from tasks.delivery.journal.suppressions import Suppressions
from tasks.delivery.journal.tables import DEPARTURES, IS_CLAIMED, MESSAGES, SENDERS
from tasks.errors import JournalUnavailable
from tasks.send import DIGITS, Send, parts_of
from tasks.settings import JournalSettings

ANSWERS = (Event.TAKEN, Event.REFUSED, Event.POSTPONED, Event.LOST, Event.RECONSIDERED)
ENTRIES_AT_ONCE = 50_000


class Settlement(NamedTuple):
    """What became of one message."""

    key: str
    event: Event
    answer: str
    """The server's, or why there is none."""
    blame: Blame = Blame.UNCLEAR
    """Whom a refusal speaks against."""
    again: bool = False
    """Whether the server asked to try again later."""


class Known(NamedTuple):
    """What the journal knows about one message."""

    state: State
    answer: str


def _departures_folder(url: sa.URL) -> Path:
    return Path(f"{url.database}.departures")


@dataclass(frozen=True)
class Journal:
    """The journal as one sender uses it. `sender` is this one's name: no two at any time have the same."""

    database: Database
    sender: str
    departures: Departures
    """Where it is kept which claims have begun to leave, and that this sender lives."""

    @property
    def engine(self) -> sa.Engine:
        """The database's engine."""
        return self.database.engine

    @property
    def settings(self) -> JournalSettings:
        """How patient it is, and how long a lease holds."""
        return self.database.settings

    @cached_property
    def names(self) -> MessageNames:
        """Names by which others know messages."""
        return MessageNames(self.database.identity.key)

    @cached_property
    def sends(self) -> Sends:
        """Which sends there are."""
        return Sends(self.database)

    @cached_property
    def paces(self) -> Paces:
        """When the next message may leave over an account."""
        return Paces(self.database)

    @cached_property
    def seats(self) -> SharedSeats:
        """How many connections to an account this sender may have."""
        return SharedSeats(self.database, self.sender, self._is_gone)

    @cached_property
    def suppressions(self) -> Suppressions:
        """Who must not be contacted."""
        return Suppressions(self.database)

    @cached_property
    def outcomes(self) -> Outcomes:
        """What became of messages after they were taken."""
        return Outcomes(self.database)

    def departing(self, send: Send, channel: str) -> Callable[[str], Awaitable[None]]:
        """What notes that a claimed message of a send is about to leave, by its key.

        Errors: `JournalUnavailable`, `ClaimLost`; it must then stay.
        """
        begin = self.departures.begin
        number: int | None = None

        async def depart(key: str) -> None:
            nonlocal number
            if number is None:
                number = self.sends.begin(send, channel)
            try:
                await begin(number, key[:DIGITS])
            except OSError as error:
                raise self._unnoted(error) from None

        return depart

    def _unnoted(self, error: OSError) -> JournalUnavailable:
        return JournalUnavailable(url=shown(self.engine.url), reason=error.strerror or str(error))

    def arrive(self, outcome: Settlement) -> None:
        """Note what became of a message that had begun to leave, until `record` is told of it with others."""
        self.departures.end(outcome.key[:DIGITS], outcome.event, outcome.answer)

    def claim(
        self, send: Send, channel: str, profiles: Mapping[str, str], resend: Resend = NOTHING_AGAIN
    ) -> set[str]:
        """Claim messages for this sender, in one atomic statement.

        In: message keys, each with its profile. Out: the keys that this sender holds now; those left out are
        another's, or sent, or refused, or unknown. A claim that was made and whose answer was lost may be made
        again. Errors: `JournalUnavailable`.
        """
        return self.claim_and_hold(send, channel, profiles, pl.DataFrame(schema=codes.SHOWN), resend)[0]

    def claim_and_hold(
        self,
        send: Send,
        channel: str,
        profiles: Mapping[str, str],
        shown: pl.DataFrame,
        resend: Resend = NOTHING_AGAIN,
    ) -> tuple[set[str], set[str]]:
        """Claim messages, and hold the codes that these show, in one transaction.

        In: as `claim`; `shown`: message_key, number. Out: the keys that this sender holds now; those among them
        that lost a code, and must stay. Errors: `JournalUnavailable`.
        """
        # In one order for all, so that two senders that want the same messages never wait for each other.
        number, now = self.sends.begin(send, channel), self.database.now()
        wanted = {
            **document({**_named(key), "send": number, "profile_id": profiles[key]} for key in sorted(profiles)),
            "given_sender": self.sender,
            "given_changed_at": now,
        }
        is_sqlite = self.database.is_sqlite
        claim, held = _claim_statement(is_sqlite, resend), _held_statement(is_sqlite)
        if shown.height:
            self.sends.note_codes(number)

        def work(database: sa.Connection) -> tuple[set[str], set[str]]:
            mine, theirs = set(profiles), shown
            if database.execute(claim, wanted).rowcount < len(profiles):
                digits = set(database.execute(held, wanted).scalars())
                mine = {key for key in profiles if parts_of(key)[0] in digits}
                theirs = shown.filter(pl.col("message_key").is_in(list(mine)))
            return mine, codes.hold(database, number, theirs, now)

        return self.database.write(work)

    def hold(self, send: Send, channel: str, shown: pl.DataFrame) -> set[str]:
        """Hold the codes of messages that are delivered without a claim, under a lock of the caller's.

        In: message_key, number. Gives the keys of those that lost one. Errors: `JournalUnavailable`.
        """
        number, now = self.sends.begin(send, channel), self.database.now()
        return self.database.write(lambda database: codes.hold(database, number, shown, now))

    def give_back_codes(self, send: Send, channel: str, run: str) -> int:
        """At the end of a run that went well: give back the codes of messages that nobody will send.

        Gives how many. Errors: `JournalUnavailable`.
        """
        number = self.sends.find(send, channel)
        return 0 if number is None else codes.give_back(self.database, number, run)

    def record(self, send: Send, channel: str, outcomes: Sequence[Settlement]) -> None:
        """Write down what became of messages that this sender claimed, and of their codes.

        Errors: `JournalUnavailable`.
        """
        statement = _record_statement(self.database.is_sqlite)
        number = self.sends.begin(send, channel)
        with_codes = self.sends.has_codes(number)
        states = {outcome.event: state_after(outcome.event) for outcome in outcomes}
        rows = document(
            {
                **_named(outcome.key),
                "send": number,
                "state": states[outcome.event],
                "answer": storable(outcome.answer),
            }
            for outcome in sorted(outcomes, key=itemgetter(0))
        )
        given = {
            **rows,
            "given_sender": self.sender,
            "given_changed_at": self.database.now(),
        }

        def work(database: sa.Connection) -> None:
            all_said = database.execute(statement, given).rowcount == len(outcomes)
            if with_codes:
                after = {*states.values()}
                codes.settle(database, given, after, all_said=all_said)
            if not self.database.is_sqlite:
                told = DEPARTURES.c.key.in_([parts_of(one.key)[0] for one in outcomes])
                database.execute(sa.delete(DEPARTURES).where(DEPARTURES.c.sender == self.sender, told))

        self.database.write(work)

    def newest_message(self) -> int:
        """A number that grows with each message that any sender claims, and never shrinks."""
        statement = sa.select(sa.func.max(MESSAGES.c.number))
        return self.database.read(lambda database: database.execute(statement).scalar()) or 0

    def has_any(self, send: Send, channel: str) -> bool:
        """Whether any message of a send was ever claimed."""
        if (number := self.sends.find(send, channel)) is None:
            return False
        statement = sa.select(MESSAGES.c.key).where(MESSAGES.c.send == number).limit(1)
        return self.database.read(lambda database: database.execute(statement).first()) is not None

    def known(self, send: Send, channel: str, keys: Iterable[str]) -> dict[str, Known]:
        """What is known of messages, by key; keys that nobody ever claimed, in any variant, are left out."""
        if (number := self.sends.find(send, channel)) is None:
            return {}
        asked = {parts_of(key)[0]: key for key in keys}
        statement = _known_statement(self.database.is_sqlite)
        given = document({"key": digits, "send": number} for digits in asked)
        found = self.database.read(lambda database: database.execute(statement, given).all())
        return {asked[digits]: Known(State(state), answer) for digits, state, answer in found}

    def enter(self) -> None:
        """Say that this sender begins. Errors: `JournalUnavailable`."""
        try:
            self.departures.open()
        except OSError as error:
            raise self._unnoted(error) from None
        self.renew()

    def renew(self) -> None:
        """Say that this sender is alive: its claims hold for another lease."""
        insert = self.database.insert(SENDERS).values(
            sender=self.sender, expires_at=self.database.moment(self.settings.lease_seconds)
        )
        statement = insert.on_conflict_do_update(
            index_elements=[SENDERS.c.sender], set_={"expires_at": insert.excluded.expires_at}
        )
        self.database.write(lambda database: database.execute(statement))

    def leave(self, *, done: bool = True) -> None:
        """Say that this sender ends, so that no other waits for it. `done`: all that it claimed is settled."""
        statement = (
            sa.update(SENDERS).values(expires_at=self.database.moment()).where(SENDERS.c.sender == self.sender)
        )
        try:
            self.database.write(lambda database: database.execute(statement))
        finally:
            self.departures.close(done=done)

    def expire(self, send: Send, channel: str) -> int:
        """Settle the claims of senders that are gone; gives how many became unknown.

        A sender that holds its lock is alive. Of one that is certainly dead, what had not begun to leave is
        deferred, so that it can be claimed again, and what was answered is settled. Where neither can be said,
        what a sender holds that was not heard of for a lease, by the database's clock, is unknown.
        """
        if (number := self.sends.find(send, channel)) is None:
            return 0
        living = self._settle_what_is_certain(send, channel)
        alive = sa.select(SENDERS.c.sender).where(SENDERS.c.expires_at > self.database.moment())
        statement = (
            sa.update(MESSAGES)
            .values(
                state=state_after(Event.EXPIRED),
                answer=IN_DOUBT,
                changed_at=self.database.now(),
            )
            .where(
                MESSAGES.c.send == number,
                IS_CLAIMED,
                MESSAGES.c.sender.not_in(alive),
                MESSAGES.c.sender.not_in([*living, self.sender]),
            )
        )
        return self.database.write(lambda database: int(database.execute(statement).rowcount))

    def _settle_what_is_certain(self, send: Send, channel: str) -> list[str]:
        """Settle the claims of senders that are certainly dead; gives those that are certainly alive."""
        claimed = (MESSAGES.c.send == self.sends.find(send, channel), IS_CLAIMED)
        holders = sa.select(MESSAGES.c.sender).where(*claimed, MESSAGES.c.sender != self.sender).distinct()
        living = []
        for holder in self._keys(holders):
            with self._remains(holder) as remains:
                if remains.is_alive:
                    living.append(holder)
                if remains.left is None:
                    continue
                held = sa.select(WHOLE_KEY).where(*claimed, MESSAGES.c.sender == holder)
                stayed = (Event.POSTPONED, "its sender was gone before it left")
                outcomes = [
                    Settlement(key, *remains.left.get(parts_of(key)[0], stayed)) for key in self._keys(held)
                ]
                replace(self, sender=holder).record(send, channel, outcomes)
                self.seats.take_away(holder)
        return living

    def _remains(self, holder: str) -> AbstractContextManager[Remains]:
        if self.database.is_sqlite:
            return remains_in_file(_departures_folder(self.engine.url), holder)
        return remains_in_table(self.database, holder)

    def _is_gone(self, session: sa.Connection, sender: str) -> bool:
        if self.database.is_sqlite:
            return is_gone_in_file(_departures_folder(self.engine.url), sender)
        return is_gone_in_table(session, sender)

    def _keys(self, statement: sa.Select[tuple[str]]) -> list[str]:
        return self.database.read(lambda database: list(database.execute(statement).scalars()))

    @contextmanager
    def entries(self, send: Send, channel: str) -> Iterator[pl.LazyFrame]:
        """Every message of a send: message_key, profile_id, state, attempts, changed_at (UTC), answer.

        They are copied to files that are there in the block, so that peak memory is constant.
        """
        columns = ("profile_id", "state", "attempts", "changed_at", "answer")
        statement = (
            sa.select(WHOLE_KEY, *(MESSAGES.c[name] for name in columns))
            .where(MESSAGES.c.send == self.sends.find(send, channel))
            .order_by(MESSAGES.c.number)
        )
        schema = {
            "message_key": pl.String(),
            "profile_id": pl.String(),
            "state": pl.String(),
            "attempts": pl.Int64(),
            "changed_at": pl.Datetime("us", "UTC"),
            "answer": pl.String(),
        }

        def copied(database: sa.Connection, folder: str) -> list[Path]:
            found = database.execution_options(yield_per=ENTRIES_AT_ONCE).execute(statement)
            files = []
            for number, part in enumerate(found.partitions()):
                files.append(Path(folder, f"{number}.arrow"))
                rows = pl.DataFrame([tuple(row) for row in part], schema=schema, orient="row")
                rows.write_ipc(files[-1], compression="lz4")
            return files

        with TemporaryDirectory(prefix="campaign-") as folder:
            files = self.database.read(lambda database: copied(database, folder), at_leisure=True)
            yield pl.scan_ipc(files) if files else pl.LazyFrame(schema=schema)

    def close(self) -> None:
        """Give the database's connections back."""
        self.departures.close(done=False)
        self.engine.dispose()


def _given(name: str) -> sa.BindParameter[Any]:
    # Not by the column's name alone: SQLAlchemy keeps those for what it makes itself.
    return sa.bindparam(f"given_{name}", type_=MESSAGES.c[name].type)


WHOLE_KEY = sa.case((MESSAGES.c.variant == "", MESSAGES.c.key), else_=MESSAGES.c.key + "." + MESSAGES.c.variant)
"""A message's key as everybody else has it."""
MINE = sa.and_(MESSAGES.c.state == State.CLAIMED, MESSAGES.c.sender == _given("sender"))


def _is_of(rows: sa.FromClause) -> sa.ColumnElement[bool]:
    # The send comes with each row: with one value for all, SQLite would read all messages of the send each time.
    return sa.and_(MESSAGES.c.send == rows.c.send, MESSAGES.c.key == rows.c.key)


def _given_messages(is_sqlite: bool, **columns: type[sa.types.TypeEngine[Any]]) -> sa.FromClause:
    return given_rows(is_sqlite, {"key": sa.String, "send": sa.BigInteger, **columns})


@cache
def _claim_statement(is_sqlite: bool, resend: Resend) -> sa.TextClause:
    rows = _given_messages(is_sqlite, variant=sa.Text, profile_id=sa.Text)
    claimable = states_before(Event.CLAIM, resend)
    values: dict[str, sa.ColumnElement[Any]] = {
        **{name: _given(name) for name in ("sender", "changed_at")},
        "state": sa.literal(state_after(Event.CLAIM), sa.String),
        "attempts": sa.literal(1),
        "answer": sa.literal(""),
    }
    of_rows = ("key", "send", "variant", "profile_id")
    chosen = sa.select(*(rows.c[name] for name in of_rows), *values.values()).where(sa.true())
    insert = (sqlite if is_sqlite else postgresql).insert(MESSAGES).from_select([*of_rows, *values], chosen)
    upsert = insert.on_conflict_do_update(
        index_elements=[MESSAGES.c.send, MESSAGES.c.key],
        set_={
            **{name: insert.excluded[name] for name in ("variant", "state", "sender", "changed_at")},
            "attempts": MESSAGES.c.attempts + 1,
        },
        where=sa.or_(*(MESSAGES.c.state == state for state in claimable), MINE),
    )
    return _compiled_once(upsert, (sqlite if is_sqlite else postgresql).dialect(paramstyle="named"))


def _compiled_once(statement: sa.Insert, dialect: sa.Dialect) -> sa.TextClause:
    """The statement as text. SQLAlchemy keeps no compiled form of one with ON CONFLICT: that took 1 ms a claim."""
    compiled = statement.compile(dialect=dialect)
    binds = [
        sa.bindparam(name, type_=bind.type) if bind.required else sa.bindparam(name, bind.value, bind.type)
        for bind, name in compiled.bind_names.items()
    ]
    return sa.text(str(compiled)).bindparams(*binds)


@cache
def _held_statement(is_sqlite: bool) -> sa.Select[Any]:
    rows = _given_messages(is_sqlite)
    return sa.select(MESSAGES.c.key).join_from(rows, MESSAGES, _is_of(rows)).where(MINE)


@cache
def _record_statement(is_sqlite: bool) -> sa.Update:
    rows = _given_messages(is_sqlite, state=sa.String, answer=sa.Text)
    may_happen = sa.or_(
        *(
            sa.and_(rows.c.state == state_after(event), MESSAGES.c.state.in_(states_before(event)))
            for event in ANSWERS
        )
    )
    return (
        sa.update(MESSAGES)
        .values(state=rows.c.state, answer=rows.c.answer, changed_at=_given("changed_at"))
        .where(_is_of(rows), MESSAGES.c.sender == _given("sender"), may_happen)
    )


@cache
def _known_statement(is_sqlite: bool) -> sa.Select[Any]:
    rows = _given_messages(is_sqlite)
    columns = (MESSAGES.c.key, MESSAGES.c.state, MESSAGES.c.answer)
    return sa.select(*columns).join_from(rows, MESSAGES, _is_of(rows))


def _named(key: str) -> dict[str, str]:
    return {"key": key[:DIGITS], "variant": key[DIGITS + 1 :]}


def sender_name() -> str:
    """A name that no other sender has: the machine, the process, and a random part."""
    return f"{socket.gethostname()[:40]}/{os.getpid()}/{secrets.token_hex(8)}"


def open_journal(settings: JournalSettings, now: Clock | None = None, sender: str | None = None) -> Journal:
    """Open the journal, making or migrating its tables where needed.

    Errors: `ConfigurationError` (the address, the key), `JournalUnavailable`.
    """
    database = open_database(settings, now)
    name = sender or sender_name()
    if database.is_sqlite:
        return Journal(database, name, DeparturesFile(_departures_folder(database.engine.url), name))
    return Journal(database, name, DeparturesTable(database, name))
