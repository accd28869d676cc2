"""The journal's database: how it is opened, brought up to date, waited for, and asked."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import orjson
import polars as pl
import sqlalchemy as sa
from prefect.settings import PREFECT_HOME
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, NoSuchModuleError

from tasks.delivery.journal.deadlines import SILENCE_SECONDS, cut_off
from tasks.delivery.journal.keys import SHORTEST_KEY, fingerprint_of
from tasks.delivery.journal.tables import IDENTITY, VERSION_TABLE
from tasks.errors import ConfigurationError, JournalUnavailable
from tasks.files.storage import make_private
from tasks.privacy import unencrypted_postgresql
from tasks.runs.log import run_logger
from tasks.settings import JournalSettings

if TYPE_CHECKING:
    from alembic.config import Config

T = TypeVar("T")

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x63616D706169676E  # "campaign"; any number that nothing else uses
LONGEST_TEXT = 500
LEISURE_SECONDS = 3600
IDLE = "idle_in_transaction_session_timeout"

USUAL = JournalSettings()
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The time, as every part of a delivery that is not told another clock reads it."""
    return datetime.now(UTC)


class Identity(NamedTuple):
    """Which journal it is."""

    name: str
    """Random, made with the journal: a new journal that replaces a lost one has another."""
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
    clock: Clock | None = None
    """Another clock than this machine's, and the database's."""

    def now(self) -> datetime:
        """The time, in UTC."""
        return (self.clock or utc_now)()

    def moment(self, after: float = 0.0) -> Any:  # noqa: ANN401  # a moment, or an expression for one
        """So many seconds from now by the database's clock, which is the same for senders on all machines."""
        if self.is_sqlite or self.clock is not None:  # a file's clock is its machine's
            return self.now() + timedelta(seconds=after)
        return sa.func.clock_timestamp() + sa.func.make_interval(0, 0, 0, 0, 0, 0, after)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of this machine."""
        return self.engine.dialect.name == "sqlite"

    def write(self, work: Callable[[sa.Connection], T], *, at_leisure: bool = False) -> T:
        """Do something in one transaction, perhaps more than once. Errors: `JournalUnavailable`.

        `at_leisure`: it goes through much of the journal, and may take an hour.
        """
        wait = LEISURE_SECONDS if at_leisure else longest_wait(self.settings)
        return self.patiently(lambda: in_transaction(self.engine, work, wait))

    def read(self, work: Callable[[sa.Connection], T], *, at_leisure: bool = False) -> T:
        """Ask something; as `write`. Errors: `JournalUnavailable`."""
        wait = LEISURE_SECONDS if at_leisure else longest_wait(self.settings)
        return self.patiently(lambda: connected(self.engine, work, wait))

    def patiently(self, attempt: Callable[[], T]) -> T:
        """Try until the database answers. Errors: `JournalUnavailable`."""
        return patiently(attempt, self.settings, self.engine.url)

    def limited(self, connection: sa.Connection) -> AbstractContextManager[object]:
        """What is asked over the connection in this block is cut off where no answer comes."""
        return limited(connection, longest_wait(self.settings))

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


def document(rows: pl.DataFrame | Iterable[Mapping[str, str | int]]) -> dict[str, str]:
    """Rows as the parameter `rows` of a statement over `given_rows`."""
    if isinstance(rows, pl.DataFrame):
        return {"rows": rows.write_json()}
    return {"rows": orjson.dumps(list(rows)).decode()}


def storable(text: str) -> str:
    """A text from outside as the journal keeps it: bounded, and without what PostgreSQL cannot hold."""
    return text.replace("\x00", "")[:LONGEST_TEXT]


def patiently(attempt: Callable[[], T], settings: JournalSettings, url: sa.URL) -> T:
    """Try until the database answers, for as long as the settings are patient. Errors: `JournalUnavailable`."""
    begun = time.monotonic()
    last_moment = begun + settings.patience_seconds
    pause, is_said = 0.05, False
    while True:
        try:
            return attempt()
        except DBAPIError as error:
            if time.monotonic() + pause > last_moment or not _may_pass(error):
                raise JournalUnavailable(url=shown(url), reason=_first_line(error)) from None
            if not is_said and time.monotonic() - begun > SILENCE_SECONDS:
                is_said = True
                run_logger().warning(
                    "The journal %s is waited for, %d seconds at most: %s.",
                    shown(url),
                    settings.patience_seconds,
                    _first_line(error),
                )
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


def limited(connection: sa.Connection, wait: float) -> AbstractContextManager[object]:
    """Cut the connection off where the server says nothing: it may hang, or a table may be locked.

    A journal that is a file has the limit that SQLite is told.
    """
    if connection.dialect.name == "sqlite":
        return nullcontext()
    driven: Any = connection.connection.dbapi_connection
    what = f"The journal {shown(connection.engine.url)} says nothing"
    return cut_off(driven.fileno(), after=wait, what=what)


def longest_wait(settings: JournalSettings) -> float:
    """Seconds that one statement is waited for: half the patience, so that there is a second try."""
    return max(settings.patience_seconds / 2, 1.0)


def in_transaction(engine: sa.Engine, work: Callable[[sa.Connection], T], wait: float) -> T:
    """Do something in one transaction, for so many seconds at most."""
    with engine.connect() as database, limited(database, wait), database.begin():
        if engine.dialect.name == "sqlite":  # from the beginning: what it reads stays so until it has written
            database.exec_driver_sql("BEGIN IMMEDIATE")
        _allow(database, wait)
        return work(database)


def connected(engine: sa.Engine, work: Callable[[sa.Connection], T], wait: float) -> T:
    """Ask something over a connection, for so many seconds at most."""
    with engine.connect() as database, limited(database, wait):
        _allow(database, wait)
        return work(database)


def _allow(database: sa.Connection, wait: float) -> None:
    if wait == LEISURE_SECONDS and database.dialect.name != "sqlite":
        for limit in ("statement_timeout", IDLE):
            database.execute(sa.text(f"SET LOCAL {limit} = '{LEISURE_SECONDS}s'"))


def open_database(settings: JournalSettings, clock: Clock | None = None) -> Database:
    """Open the journal's database, making or migrating its tables where needed.

    Errors: `ConfigurationError` (the address, the key), `JournalUnavailable`.
    """
    key = settings.key.get_secret_value()
    if key and len(key) < SHORTEST_KEY:
        raise ConfigurationError(
            setting="CAMPAIGN_JOURNAL__KEY", reason=f"it has fewer than {SHORTEST_KEY} characters"
        )
    engine = _engine(settings)
    is_new = patiently(lambda: migrate(engine, key, settings), settings, engine.url)
    row = patiently(
        lambda: connected(
            engine, lambda database: database.execute(sa.select(IDENTITY)).one(), longest_wait(settings)
        ),
        settings,
        engine.url,
    )
    known = (row.key or key).encode()
    if fingerprint_of(key.encode() if key else known) != row.fingerprint:
        raise ConfigurationError(
            setting="CAMPAIGN_JOURNAL__KEY",
            reason=f"the journal {shown(engine.url)} was made with another key, by which it knows who opted out",
        )
    return Database(engine, settings, Identity(row.identity, known, is_new), clock)


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
            if reason := unencrypted_postgresql(url.host, url.password, url.query):
                raise unusable(reason)
            try:
                return _postgresql_engine(url, settings)
            except (NoSuchModuleError, ModuleNotFoundError):
                raise unusable("the extra is missing: pip install 'campaign-flows[postgresql]'") from None
        case other:
            raise unusable(f"'{other}' is no journal; write sqlite:///file or postgresql://host/database")


def _postgresql_engine(url: sa.URL, settings: JournalSettings) -> sa.Engine:
    seconds = math.ceil(longest_wait(settings))
    # No ping before each use, which could hang: a connection that is gone fails, and what was asked is asked again.
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg"), connect_args={"connect_timeout": max(seconds, 2)}
    )

    @sa.event.listens_for(engine, "connect")
    def _bounded(connection: Any, _: object) -> None:  # noqa: ANN401
        # The server ends by itself what no client waits for any more, what waits for a lock too long, and the
        # transaction of a client that is frozen: what it has locked, all others wait for.
        for limit in ("statement_timeout", "lock_timeout", IDLE):
            connection.execute(f"SET {limit} = '{seconds}s'")
        connection.commit()

    return engine


def _sqlite_engine(url: sa.URL, settings: JournalSettings) -> sa.Engine:
    file = Path(str(url.database))
    if not file.is_absolute():
        raise ConfigurationError(
            setting="CAMPAIGN_JOURNAL__URL",
            reason="its file depends on the working folder, and each folder would have a journal of its own;"
            " write the whole path, as in sqlite:////var/lib/campaigns/journal.db",
        )
    try:
        make_private(file.parent)
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


def migrate(engine: sa.Engine, key: str = "", settings: JournalSettings = USUAL) -> bool:
    """Bring the journal's tables up to date; of senders that start together, one does it and the others wait.

    Gives whether the journal was made by this call.
    """
    if connected(engine, _revision, longest_wait(settings)) == newest_revision():
        return False

    from alembic.config import Config  # noqa: PLC0415  # a run whose journal is up to date need not wait for it

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["key"] = key
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
            for limit in ("statement_timeout", IDLE):
                database.execute(sa.text(f"SET LOCAL {limit} = 0"))  # a large journal takes its time
            database.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            is_new = _upgrade(config, database)
    return is_new


def newest_revision() -> str:
    """The revision of the tables here: the number in the name of the last migration."""
    return max(path.name[1:5] for path in (MIGRATIONS / "versions").glob("v*.py"))


def _revision(database: sa.Connection) -> str | None:
    """The revision of a journal's tables; none where there are no tables yet."""
    if not sa.inspect(database).has_table(VERSION_TABLE):
        return None
    return database.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608


def _upgrade(config: "Config", database: sa.Connection) -> bool:
    from alembic import command  # noqa: PLC0415

    before = _revision(database)
    config.attributes["connection"] = database
    command.upgrade(config, "head")
    return before is None
