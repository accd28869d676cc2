"""The journal in a database: claims, answers, leases and the quarantine, by SQLAlchemy Core.

Whatever is said about many messages is one statement, to which they travel as one JSON document: it is compiled
once, and a batch is atomic on SQLite as on PostgreSQL.
"""

import hashlib
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import polars as pl
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, NoSuchModuleError

from tasks.delivery.journal.departures import IN_DOUBT, Departures, departed
from tasks.delivery.journal.states import Event, State, state_after, states_before
from tasks.delivery.journal.tables import MESSAGES, QUARANTINE, SENDERS
from tasks.errors import ConfigurationError, JournalUnavailable
from tasks.send import Send, parts_of
from tasks.settings import JournalSettings

T = TypeVar("T")

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x63616D706169676E  # "campaign"; any number that nobody else uses
ANSWERS = (Event.TAKEN, Event.REFUSED, Event.POSTPONED, Event.LOST)
LONGEST_ANSWER = 500
ENTRIES_AT_ONCE = 50_000

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The time, as every part of a delivery that is not told another clock reads it."""
    return datetime.now(UTC)


class Outcome(NamedTuple):
    """What became of one message."""

    key: str
    event: Event
    answer: str
    """The server's, or why there is none."""
    address_refused: bool = False
    """Whether the server refused the address itself: it is not to be written to again."""
    again: bool = False
    """Whether the server asked to try again later."""


class Known(NamedTuple):
    """What the journal says of one message."""

    state: State
    answer: str


@contextmanager
def _noting(url: sa.URL) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise JournalUnavailable(url=shown(url), reason=error.strerror or str(error)) from None


def _departures_folder(url: sa.URL) -> Path:
    return Path(f"{url.database}.departures")


@dataclass(frozen=True)
class Journal:
    """The journal as one sender uses it. `sender` is this one's name: no two at any time have the same."""

    engine: sa.Engine
    settings: JournalSettings
    sender: str
    now: Clock = utc_now
    departures: Departures | None = None
    """Where it is kept which claims have begun to leave: beside a journal that is a file of this machine."""

    def depart(self, key: str) -> None:
        """Note that a claimed message is about to leave. Errors: `JournalUnavailable`; it must then stay."""
        if self.departures is not None:
            with _noting(self.engine.url):
                self.departures.begin(key)

    def arrive(self, outcome: Outcome) -> None:
        """Note what became of a message that had begun to leave, until `record` is told of it with others."""
        if self.departures is not None:
            self.departures.end(outcome.key, outcome.event, outcome.answer)

    def claim(
        self, send: Send, channel: str, profiles: Mapping[str, str], *, resend_unknown: bool = False
    ) -> set[str]:
        """Claim messages for this sender, in one atomic statement.

        In: message keys, each with its profile. Out: the keys that this sender holds now; those left out are
        another's, or sent, or refused, or unknown. A claim that was made and whose answer was lost may be made
        again. Errors: `JournalUnavailable`.
        """
        # In one order for all, so that two senders that want the same messages never wait for each other.
        wanted = {
            **_document({**_named(key), "profile_id": profiles[key]} for key in sorted(profiles)),
            "given_campaign": send.campaign,
            "given_business_date": send.business_date,
            "given_channel": channel,
            "given_sender": self.sender,
            "given_changed_at": self.now(),
        }
        statement = _claim_statement(self._is_sqlite, resend_unknown)
        if self._write(lambda database: database.execute(statement, wanted).rowcount) == len(profiles):
            return set(profiles)
        held = _held_statement(self._is_sqlite)
        mine = set(self._read(lambda database: database.execute(held, wanted).scalars().all()))
        return {key for key in profiles if parts_of(key)[0] in mine}

    def record(self, outcomes: Sequence[Outcome]) -> None:
        """Write down what became of messages that this sender claimed. Errors: `JournalUnavailable`."""
        statement = _record_statement(self._is_sqlite)
        document = _document(
            {**_named(outcome.key), "state": state_after(outcome.event), "answer": _storable(outcome.answer)}
            for outcome in sorted(outcomes)
        )
        given = {**document, "given_sender": self.sender, "given_changed_at": self.now()}
        self._write(lambda database: database.execute(statement, given))

    def has_any(self, send: Send, channel: str) -> bool:
        """Whether any message of a send was ever claimed."""
        statement = sa.select(MESSAGES.c.key).where(*_of(send, channel)).limit(1)
        return self._read(lambda database: database.execute(statement).first()) is not None

    def known(self, keys: Iterable[str]) -> dict[str, Known]:
        """What is known of messages, by key; keys that nobody ever claimed, in any variant, are left out."""
        asked = {parts_of(key)[0]: key for key in keys}
        statement = _known_statement(self._is_sqlite)
        document = _document({"key": digits} for digits in asked)
        found = self._read(lambda database: database.execute(statement, document).all())
        return {asked[digits]: Known(State(state), answer) for digits, state, answer in found}

    def enter(self) -> None:
        """Say that this sender begins. Errors: `JournalUnavailable`."""
        if self.departures is not None:
            with _noting(self.engine.url):
                self.departures.open()
        self.renew()

    def renew(self) -> None:
        """Say that this sender is alive: its claims hold for another lease."""
        insert = _insert(self._is_sqlite, SENDERS).values(
            sender=self.sender, expires_at=self.now() + timedelta(seconds=self.settings.lease_seconds)
        )
        statement = insert.on_conflict_do_update(
            index_elements=[SENDERS.c.sender], set_={"expires_at": insert.excluded.expires_at}
        )
        self._write(lambda database: database.execute(statement))

    def leave(self, *, done: bool = True) -> None:
        """Say that this sender ends: nobody needs to wait for it. `done`: all that it claimed is settled."""
        if self.departures is not None:
            self.departures.close(done=done)
        statement = sa.update(SENDERS).values(expires_at=self.now()).where(SENDERS.c.sender == self.sender)
        self._write(lambda database: database.execute(statement))

    def expire(self, send: Send, channel: str) -> int:
        """Settle the claims of senders that are gone; gives how many became unknown.

        Of a sender that is certainly dead, what had not begun to leave is deferred, so that it can be claimed
        again, and what was answered is settled. What else a sender holds that was not heard of for a lease is
        unknown.
        """
        if self.departures is not None:
            self._settle_what_is_certain(send, channel)
        alive = sa.select(SENDERS.c.sender).where(SENDERS.c.expires_at > self.now())
        statement = (
            sa.update(MESSAGES)
            .values(
                state=state_after(Event.EXPIRED),
                answer=IN_DOUBT,
                changed_at=self.now(),
            )
            .where(
                *_of(send, channel),
                MESSAGES.c.state.in_(states_before(Event.EXPIRED)),
                MESSAGES.c.sender.not_in(alive),
            )
        )
        return self._write(lambda database: int(database.execute(statement).rowcount))

    def _settle_what_is_certain(self, send: Send, channel: str) -> None:
        claimed = (*_of(send, channel), MESSAGES.c.state == State.CLAIMED)
        holders = sa.select(MESSAGES.c.sender).where(*claimed, MESSAGES.c.sender != self.sender).distinct()
        for holder in self._keys(holders):
            with departed(_departures_folder(self.engine.url), holder) as left:
                if left is None:
                    continue
                held = sa.select(WHOLE_KEY).where(*claimed, MESSAGES.c.sender == holder)
                keys = self._keys(held)
                stayed = (Event.POSTPONED, "its sender was gone before it left")
                replace(self, sender=holder).record([Outcome(key, *left.get(key, stayed)) for key in keys])

    def _keys(self, statement: sa.Select[tuple[str]]) -> list[str]:
        return self._read(lambda database: list(database.execute(statement).scalars()))

    def entries(self, send: Send, channel: str) -> pl.DataFrame:
        """Every message of a send: message_key, profile_id, state, attempts, changed_at (UTC), answer."""
        columns = ("profile_id", "state", "attempts", "changed_at", "answer")
        statement = (
            sa.select(WHOLE_KEY, *(MESSAGES.c[name] for name in columns))
            .where(*_of(send, channel))
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

        def parts(database: sa.Connection) -> list[pl.DataFrame]:
            found = database.execution_options(yield_per=ENTRIES_AT_ONCE).execute(statement)
            return [
                pl.DataFrame([tuple(row) for row in part], schema=schema, orient="row")
                for part in found.partitions()
            ]

        return pl.concat([pl.DataFrame(schema=schema), *self._read(parts)])

    def quarantine(self, addresses: Mapping[str, str], channel: str) -> None:
        """Keep addresses out of later sends over a channel, each with the reason. They are stored as hashes."""
        rows = _rows(self._is_sqlite, {"address": sa.String, "reason": sa.Text})
        constant = (sa.literal(channel), sa.literal(self.now(), QUARANTINE.c.since.type))
        statement = (
            _insert(self._is_sqlite, QUARANTINE)
            .from_select(
                ["address", "reason", "channel", "since"],
                sa.select(rows.c.address, rows.c.reason, *constant).where(sa.true()),
            )
            .on_conflict_do_nothing()
        )
        document = _document(
            {"address": hashed, "reason": _storable(reason)}
            for hashed, reason in sorted({address_hash(key): text for key, text in addresses.items()}.items())
        )
        self._write(lambda database: database.execute(statement, document))

    def quarantined(self, channel: str) -> dict[str, str]:
        """Hashes of the addresses in quarantine for a channel, each with the reason."""
        statement = sa.select(QUARANTINE.c.address, QUARANTINE.c.reason).where(QUARANTINE.c.channel == channel)
        found = self._read(lambda database: database.execute(statement).all())
        return {row.address: row.reason for row in found}

    def close(self) -> None:
        """Give the database's connections back."""
        self.engine.dispose()

    @property
    def _is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    def _write(self, work: Callable[[sa.Connection], T]) -> T:
        return self._patiently(lambda: _in_transaction(self.engine, work))

    def _read(self, work: Callable[[sa.Connection], T]) -> T:
        return self._patiently(lambda: _connected(self.engine, work))

    def _patiently(self, attempt: Callable[[], T]) -> T:
        """Try until the journal answers: every statement here may be repeated without harm."""
        return patiently(attempt, self.settings, self.engine.url)


def _insert(is_sqlite: bool, table: sa.Table) -> "sqlite.Insert | postgresql.Insert":
    return sqlite.insert(table) if is_sqlite else postgresql.insert(table)


def _rows(is_sqlite: bool, columns: Mapping[str, type[sa.types.TypeEngine[Any]]]) -> sa.FromClause:
    """The rows of the JSON document that a statement is given as the parameter `rows`."""
    document = sa.bindparam("rows", type_=sa.Text)
    if is_sqlite:
        each = sa.func.json_each(document).table_valued("value")
        fields = [sa.func.json_extract(each.c.value, f"$.{name}").label(name) for name in columns]
        return sa.select(*fields).select_from(each).subquery("given")
    typed = [sa.column(name, kind) for name, kind in columns.items()]
    as_json = sa.func.json_to_recordset(sa.cast(document, postgresql.JSON))
    return as_json.table_valued(*typed, name="given").render_derived(with_types=True)


def _given(name: str) -> sa.BindParameter[Any]:
    # Not by the column's name alone: SQLAlchemy keeps those for what it makes itself.
    return sa.bindparam(f"given_{name}", type_=MESSAGES.c[name].type)


WHOLE_KEY = sa.case((MESSAGES.c.variant == "", MESSAGES.c.key), else_=MESSAGES.c.key + "." + MESSAGES.c.variant)
"""A message's key as everybody else has it."""
MINE = sa.and_(MESSAGES.c.state == State.CLAIMED, MESSAGES.c.sender == _given("sender"))


@cache
def _claim_statement(is_sqlite: bool, resend_unknown: bool) -> sa.TextClause:
    rows = _rows(is_sqlite, {"key": sa.String, "variant": sa.Text, "profile_id": sa.Text})
    claimable = states_before(Event.CLAIM, resend_unknown=resend_unknown)
    values: dict[str, sa.ColumnElement[Any]] = {
        **{name: _given(name) for name in ("campaign", "business_date", "channel", "sender", "changed_at")},
        "state": sa.literal(state_after(Event.CLAIM), sa.String),
        "attempts": sa.literal(1),
        "answer": sa.literal(""),
    }
    chosen = sa.select(rows.c.key, rows.c.variant, rows.c.profile_id, *values.values()).where(sa.true())
    insert = _insert(is_sqlite, MESSAGES).from_select(["key", "variant", "profile_id", *values], chosen)
    upsert = insert.on_conflict_do_update(
        index_elements=[MESSAGES.c.key],
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
    rows = _rows(is_sqlite, {"key": sa.String})
    return sa.select(MESSAGES.c.key).join(rows, MESSAGES.c.key == rows.c.key).where(MINE)


@cache
def _record_statement(is_sqlite: bool) -> sa.Update:
    rows = _rows(is_sqlite, {"key": sa.String, "state": sa.String, "answer": sa.Text})
    may_happen = sa.or_(
        *(
            sa.and_(rows.c.state == state_after(event), MESSAGES.c.state.in_(states_before(event)))
            for event in ANSWERS
        )
    )
    return (
        sa.update(MESSAGES)
        .values(state=rows.c.state, answer=rows.c.answer, changed_at=_given("changed_at"))
        .where(MESSAGES.c.key == rows.c.key, MESSAGES.c.sender == _given("sender"), may_happen)
    )


@cache
def _known_statement(is_sqlite: bool) -> sa.Select[Any]:
    rows = _rows(is_sqlite, {"key": sa.String})
    columns = (MESSAGES.c.key, MESSAGES.c.state, MESSAGES.c.answer)
    return sa.select(*columns).join(rows, MESSAGES.c.key == rows.c.key)


def patiently(attempt: Callable[[], T], settings: JournalSettings, url: sa.URL) -> T:
    """Try until the database answers, for as long as the settings are patient. Errors: `JournalUnavailable`."""
    last_moment = time.monotonic() + settings.patience_seconds
    pause = 0.05
    while True:
        try:
            return attempt()
        except DBAPIError as error:
            if time.monotonic() + pause > last_moment or not _may_pass(error):
                raise JournalUnavailable(url=shown(url), reason=_first_line(error)) from None
        time.sleep(pause)
        pause = min(2 * pause, 2.0)


def _may_pass(error: DBAPIError) -> bool:
    return error.connection_invalidated or isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError)


def _first_line(error: DBAPIError) -> str:
    return (str(error.orig).strip().splitlines() or [type(error.orig).__name__])[0]


def shown(url: sa.URL) -> str:
    """The journal's address as errors and logs may show it: without user, password and options."""
    return sa.URL.create(
        url.get_backend_name(), host=url.host, port=url.port, database=url.database
    ).render_as_string()


def _in_transaction(engine: sa.Engine, work: Callable[[sa.Connection], T]) -> T:
    with engine.begin() as database:
        return work(database)


def _connected(engine: sa.Engine, work: Callable[[sa.Connection], T]) -> T:
    with engine.connect() as database:
        return work(database)


def _of(send: Send, channel: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        MESSAGES.c.campaign == send.campaign,
        MESSAGES.c.business_date == send.business_date,
        MESSAGES.c.channel == channel,
    )


def _document(rows: Iterable[dict[str, str]]) -> dict[str, str]:
    return {"rows": json.dumps(list(rows))}


def _named(key: str) -> dict[str, str]:
    return dict(zip(("key", "variant"), parts_of(key), strict=True))


def _storable(answer: str) -> str:
    return answer.replace("\x00", "")[:LONGEST_ANSWER]


def address_hash(address: str) -> str:
    """SHA-256 of an address in lower case: equal for equal addresses, and no address."""
    return hashlib.sha256(address.strip().lower().encode()).hexdigest()


def sender_name() -> str:
    """A name that no other sender has: the machine, the process, and a random part."""
    return f"{socket.gethostname()[:40]}/{os.getpid()}/{secrets.token_hex(8)}"


def open_journal(settings: JournalSettings, now: Clock = utc_now, sender: str | None = None) -> Journal:
    """Open the journal, making or migrating its tables where needed.

    Errors: `ConfigurationError` (the address), `JournalUnavailable`.
    """
    engine = _engine(settings)
    patiently(lambda: migrate(engine), settings, engine.url)
    name = sender or sender_name()
    is_file = engine.dialect.name == "sqlite"
    departures = Departures(_departures_folder(engine.url), name) if is_file else None
    return Journal(engine, settings, name, now, departures)


def _engine(settings: JournalSettings) -> sa.Engine:
    def unusable(reason: str) -> ConfigurationError:
        return ConfigurationError(setting="CAMPAIGN_JOURNAL__URL", reason=reason)

    try:
        url = sa.make_url(settings.url.get_secret_value())
    except sa.exc.ArgumentError:
        raise unusable("it is not a database address") from None
    match url.drivername:
        case "sqlite" if url.database and url.database != ":memory:":
            return _sqlite_engine(url, settings)
        case "sqlite":
            raise unusable("a journal in memory would forget; write sqlite:///file")
        case "postgresql" | "postgresql+psycopg":
            try:
                return sa.create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
            except (NoSuchModuleError, ModuleNotFoundError):
                raise unusable("the extra is missing: pip install 'campaign-flows[postgresql]'") from None
        case other:
            raise unusable(f"'{other}' is no journal; write sqlite:///file or postgresql://host/database")


def _sqlite_engine(url: sa.URL, settings: JournalSettings) -> sa.Engine:
    file = Path(str(url.database)).absolute()
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch(mode=0o600)
    except OSError as error:
        raise JournalUnavailable(url=shown(url), reason=error.strerror or str(error)) from None
    engine = sa.create_engine(
        url.set(database=str(file)), connect_args={"timeout": min(settings.patience_seconds, 5.0)}
    )

    @sa.event.listens_for(engine, "connect")
    def _durable(connection: Any, _: object) -> None:  # noqa: ANN401
        # A claim must be on the disk before its message leaves: power may go, not only the process.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -65536")  # kibibytes: keys are random, their pages are found again
        connection.execute("PRAGMA wal_autocheckpoint = 2000")

    return engine


def migrate(engine: sa.Engine) -> None:
    """Bring the journal's tables up to date; of senders that start together, one does it and the others wait."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    newest = ScriptDirectory.from_config(config).get_current_head()
    if _connected(engine, _revision) == newest:
        return
    if engine.dialect.name == "sqlite":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as database:
            database.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                _upgrade(config, database)
                database.exec_driver_sql("COMMIT")
            except BaseException:
                database.exec_driver_sql("ROLLBACK")
                raise
    else:
        with engine.begin() as database:
            database.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            _upgrade(config, database)


def _revision(database: sa.Connection) -> str | None:
    return MigrationContext.configure(database, opts={"version_table": "journal_version"}).get_current_revision()


def _upgrade(config: Config, database: sa.Connection) -> None:
    config.attributes["connection"] = database
    command.upgrade(config, "head")
