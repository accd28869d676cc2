"""The journal's database: how it is opened, brought up to date, waited for, and asked."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from prefect.settings import PREFECT_HOME
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, NoSuchModuleError

from tasks.delivery.journal.keys import SHORTEST_KEY, fingerprint_of
from tasks.delivery.journal.tables import IDENTITY
from tasks.errors import ConfigurationError, JournalUnavailable
from tasks.settings import JournalSettings

T = TypeVar("T")

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x63616D706169676E  # "campaign"; any number that nobody else uses
LONGEST_TEXT = 500

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The time, as every part of a delivery that is not told another clock reads it."""
    return datetime.now(UTC)


class Identity(NamedTuple):
    """Which journal it is."""

    name: str
    """Random, made with the journal: a new journal in the place of a lost one has another."""
    key: bytes
    """Of its hashes."""
    is_new: bool
    """Whether it was made just now."""


@dataclass(frozen=True)
class Database:
    """The journal's database, as everything that keeps something in it uses it."""

    engine: sa.Engine
    settings: JournalSettings
    identity: Identity
    now: Clock = utc_now

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of this machine."""
        return self.engine.dialect.name == "sqlite"

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Do something in one transaction, perhaps more than once. Errors: `JournalUnavailable`."""
        return self._patiently(lambda: in_transaction(self.engine, work))

    def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Ask something. Errors: `JournalUnavailable`."""
        return self._patiently(lambda: connected(self.engine, work))

    def _patiently(self, attempt: Callable[[], T]) -> T:
        return patiently(attempt, self.settings, self.engine.url)

    def insert(self, table: sa.Table) -> "sqlite.Insert | postgresql.Insert":
        """An INSERT that can say ON CONFLICT."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)


def given_rows(is_sqlite: bool, columns: Mapping[str, type[sa.types.TypeEngine[Any]]]) -> sa.FromClause:
    """The rows of the JSON document that a statement is given as the parameter `rows`."""
    document = sa.bindparam("rows", type_=sa.Text)
    if is_sqlite:
        each = sa.func.json_each(document).table_valued("value")
        fields = [sa.func.json_extract(each.c.value, f"$.{name}").label(name) for name in columns]
        return sa.select(*fields).select_from(each).subquery("given")
    typed = [sa.column(name, kind) for name, kind in columns.items()]
    as_json = sa.func.json_to_recordset(sa.cast(document, postgresql.JSON))
    return as_json.table_valued(*typed, name="given").render_derived(with_types=True)


def document(rows: Iterable[Mapping[str, str | int]]) -> dict[str, str]:
    """Rows as the parameter `rows` of a statement over `given_rows`."""
    return {"rows": json.dumps(list(rows))}


def storable(text: str) -> str:
    """A text from outside as the journal keeps it: bounded, and without what PostgreSQL cannot hold."""
    return text.replace("\x00", "")[:LONGEST_TEXT]


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


def in_transaction(engine: sa.Engine, work: Callable[[sa.Connection], T]) -> T:
    """Do something in one transaction."""
    with engine.begin() as database:
        return work(database)


def connected(engine: sa.Engine, work: Callable[[sa.Connection], T]) -> T:
    """Ask something over a connection."""
    with engine.connect() as database:
        return work(database)


def open_database(settings: JournalSettings, now: Clock = utc_now) -> Database:
    """Open the journal's database, making or migrating its tables where needed.

    Errors: `ConfigurationError` (the address, the key), `JournalUnavailable`.
    """
    key = settings.key.get_secret_value()
    if key and len(key) < SHORTEST_KEY:
        raise ConfigurationError(
            setting="CAMPAIGN_JOURNAL__KEY", reason=f"it has fewer than {SHORTEST_KEY} characters"
        )
    engine = _engine(settings)
    is_new = patiently(lambda: migrate(engine, key), settings, engine.url)
    row = patiently(
        lambda: connected(engine, lambda database: database.execute(sa.select(IDENTITY)).one()),
        settings,
        engine.url,
    )
    known = (row.key or key).encode()
    if fingerprint_of(key.encode() if key else known) != row.fingerprint:
        raise ConfigurationError(
            setting="CAMPAIGN_JOURNAL__KEY",
            reason=f"the journal {shown(engine.url)} was made with another key, by which it knows who opted out",
        )
    return Database(engine, settings, Identity(row.identity, known, is_new), now)


def _address(settings: JournalSettings) -> sa.URL:
    if given := settings.url.get_secret_value():
        return sa.make_url(given)
    return sa.URL.create("sqlite", database=str(Path(PREFECT_HOME.value()).absolute() / "campaigns" / "journal.db"))


def _engine(settings: JournalSettings) -> sa.Engine:
    def unusable(reason: str) -> ConfigurationError:
        return ConfigurationError(setting="CAMPAIGN_JOURNAL__URL", reason=reason)

    try:
        url = _address(settings)
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
    file = Path(str(url.database))
    if not file.is_absolute():
        raise ConfigurationError(
            setting="CAMPAIGN_JOURNAL__URL",
            reason="its file depends on the working folder, and each folder would have a journal of its own;"
            " write the whole path, as in sqlite:////var/lib/campaigns/journal.db",
        )
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch(mode=0o600)
    except OSError as error:
        raise JournalUnavailable(url=shown(url), reason=error.strerror or str(error)) from None
    engine = sa.create_engine(url, connect_args={"timeout": min(settings.patience_seconds, 5.0)})

    @sa.event.listens_for(engine, "connect")
    def _durable(connection: Any, _: object) -> None:  # noqa: ANN401
        # A claim must be on the disk before its message leaves: power may go, not only the process.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -65536")  # kibibytes: keys are random, their pages are found again
        connection.execute("PRAGMA wal_autocheckpoint = 2000")

    return engine


def migrate(engine: sa.Engine, key: str = "") -> bool:
    """Bring the journal's tables up to date; of senders that start together, one does it and the others wait.

    Gives whether the journal was made by this call.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["key"] = key
    newest = ScriptDirectory.from_config(config).get_current_head()
    if connected(engine, _revision) == newest:
        return False
    if engine.dialect.name == "sqlite":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as database:
            database.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                is_new = _upgrade(config, database)
                database.exec_driver_sql("COMMIT")
            except BaseException:
                database.exec_driver_sql("ROLLBACK")
                raise
    else:
        with engine.begin() as database:
            database.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            is_new = _upgrade(config, database)
    return is_new


def _revision(database: sa.Connection) -> str | None:
    return MigrationContext.configure(database, opts={"version_table": "journal_version"}).get_current_revision()


def _upgrade(config: Config, database: sa.Connection) -> bool:
    before = _revision(database)
    config.attributes["connection"] = database
    command.upgrade(config, "head")
    return before is None
