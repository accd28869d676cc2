"""Tables of a database as sources: the filter is run in the database, the rows come as Arrow."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError
from pydantic import Field
from sqlglot import exp

from tasks.errors import DatabaseFailed, SourceUnreadable
from tasks.extras import extra_module
from tasks.runs.log import run_logger
from tasks.sources.rejects import Rejects
from tasks.sources.source import Making, Source, first_of_keys
from tasks.sources.sql import Database, declared_columns, first_sentence, polars_type, transaction
from tasks.sources.values import BadValue, Reading
from tasks.tables.conditions import Condition, Pushdown, first_line, pushed_down, read_condition
from tasks.tables.transitions import require_columns

EXTRA = "database"
ROWS_OF_INFERENCE = "100000000"
"""SQLite values have types, its columns hardly: the driver looks at this many rows before it decides."""


class DatabaseTable(Source):
    """A table, or view, of PostgreSQL or SQLite, and how its columns are named here."""

    database: Database = Field(title="Database", description="Where the table is.")
    table: str = Field(title="Table", description="Name of the table or view.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        title="Columns",
        description="Names that differ, {name here: name in the database}; other columns keep theirs.",
    )

    @property
    def shown(self) -> str:
        """The database and the table."""
        return f"{self.database.shown}, {self.database.table_shown(self.table)}"

    @property
    def cure(self) -> str:
        """Where columns are mapped."""
        return "Map columns of other names in the source's columns."

    def _declared(self) -> tuple[pl.Schema, Reading]:
        """The columns as named here, with their types in the database, and how they are read."""
        file = self.database.address.database
        if self.database.kind == "sqlite" and file and not Path(file).is_file():
            # SQLite itself would make an empty one.
            raise DatabaseFailed(database=self.database.shown, reason="there is no such file")
        with transaction(self.database, writing=False) as connection:
            columns = declared_columns(connection, self.database, self.table)
        declared = {name: polars_type(kind) for name, kind in columns.items()}
        table = pl.DataFrame(schema=declared)
        require_columns(table, self.columns.values(), activity="The column mapping", where=f"'{self.shown}'")
        here = {there: name for name, there in self.columns.items()}
        named = pl.Schema({here.get(there, there): kind for there, kind in declared.items()})
        return named, Reading(self, named, {name: name for name in named})

    def types_of_columns(self) -> pl.Schema:
        """Columns and types as named here. Errors: `DatabaseFailed`, `ColumnsMissing`, `ExtraMissing`."""
        return self._declared()[1].schema

    def pushdown(self, where: str) -> Pushdown:
        """What the database runs of the condition. Errors: `FilterInvalid`, `ColumnsMissing`, `DatabaseFailed`."""
        _, reading = self._declared()
        return self._pushdown(self._condition(where, reading), reading)

    def _condition(self, where: str, reading: Reading) -> Condition:
        return read_condition(where, reading.schema, activity="The filter", where=f"'{self.shown}'", cure=self.cure)

    def _pushdown(self, condition: Condition, reading: Reading) -> Pushdown:
        # A column that is read through a definition has other values in the database.
        columns = condition.tree.columns - set(reading.definitions)
        if self.database.kind == "sqlite":
            return pushed_down(condition, "sqlite", columns)
        # PostgreSQL, too, takes the second of a repeated hour.
        zones = dict.fromkeys(reading.told, self.zone) if self.zone and self.repeated_hour == "second" else {}
        return pushed_down(condition, "postgresql", columns, zones)

    def _run_there(self, condition: Condition, reading: Reading) -> Pushdown:
        pushdown = self._pushdown(condition, reading)
        run_logger().info("%s: %s", self.shown, pushdown.shown)
        return pushdown

    def select(self, where: str, rejects: Rejects | None = None) -> pl.LazyFrame:
        """The rows that the condition holds for, ordered by the key.

        The database runs what it means the same by; the whole condition is run on what comes back.
        Errors: `FilterInvalid`, `ColumnsMissing`, `DatabaseFailed`, `SourceUnreadable`, `ExtraMissing`.
        """
        declared, reading = self._declared()
        condition = self._condition(where, reading)
        with self._connection() as connection:
            rows = self._rows(connection, select_statement(self, declared, self._run_there(condition, reading)))
        return self._typed(rows, declared, rejects, 0).lazy().filter(condition.expr)

    def _typed(self, rows: pl.DataFrame, declared: pl.Schema, rejects: Rejects | None, before: int) -> pl.DataFrame:
        """The rows of the database as rows here; `before` are those that came before them."""
        reading = Reading(self, rows.schema, {name: name for name in declared}, declared=declared)
        numbers = pl.int_range(before + 1, before + rows.height + 1, dtype=pl.Int64, eager=True)
        try:
            return reading.typed(rows, numbers, rejects)
        except BadValue as error:
            raise SourceUnreadable(
                what="table",
                path=self.shown,
                reason=error,
                cure="Correct it, or let on_bad_value reject such rows.",
            ) from None

    def collected(self, table: pl.LazyFrame) -> pl.DataFrame:
        """The rows. Errors: `DatabaseFailed` (a value is not of its column's type)."""
        try:
            return table.collect()
        except PolarsError as error:
            raise DatabaseFailed(database=self.database.shown, reason=first_line(error)) from None

    def batches(
        self, where: str, size: int, made: Making, *, distinct: bool, rejects: Rejects | None = None
    ) -> Iterator[pl.DataFrame]:
        """The rows: from PostgreSQL in ranges of the key, all of one moment; else all at once, in slices.

        A range ends amid the rows of a key: only where a key is taken once is nothing lost. Errors: as `select`.
        """
        declared, reading = self._declared()
        condition = self._condition(where, reading)
        if self.database.kind == "postgresql" and distinct and self.key in declared and self.key not in self.types:
            for rows in self._ranges(self._run_there(condition, reading), size, declared, rejects):
                yield self.collected(first_of_keys(self.key)(made(rows.lazy().filter(condition.expr))))
            return
        table = made(self.select(where, rejects))
        whole = self.collected(first_of_keys(self.key)(table) if distinct else table)
        yield from whole.iter_slices(size) if whole.height else [whole]

    def _ranges(
        self, pushdown: Pushdown, size: int, schema: pl.Schema, rejects: Rejects | None
    ) -> Iterator[pl.DataFrame]:
        """Rows ordered by the key, a range at a time; last those without a key, who have no place in it."""
        before = 0
        with self._connection() as connection:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            rows = first = self._rows(connection, select_statement(self, schema, pushdown, Range(size)))
            while rows.height:
                yield self._typed(rows, schema, rejects, before)
                before += rows.height
                after = rows[self.key][-1]
                rows = self._rows(connection, select_statement(self, schema, pushdown, Range(size, after)))
            keyless = self._rows(connection, select_statement(self, schema, pushdown, Range(None)))
            if keyless.height or first.is_empty():
                yield self._typed(keyless, schema, rejects, before)

    def _rows(self, connection: Any, statement: str) -> pl.DataFrame:  # noqa: ANN401  # the driver is an extra
        with connection.cursor() as cursor:
            if self.database.kind == "sqlite":
                cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": ROWS_OF_INFERENCE})
            cursor.execute(statement)
            return _stored(pl.DataFrame(cursor.fetch_arrow()))

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        """A connection of the driver. Errors in the block become `DatabaseFailed`."""
        driver = extra_module(f"adbc_driver_{self.database.kind}.dbapi", extra=EXTRA, purpose="reading a database")
        try:
            with driver.connect(_adbc_address(self)) as connection:
                yield connection
        except (driver.Error, PolarsError) as error:
            raise DatabaseFailed(database=self.database.shown, reason=first_sentence(error)) from None


@dataclass(frozen=True)
class Range:
    """At most `size` rows whose key comes after another; without a size, all rows that have no key."""

    size: int | None
    after: object = None


def select_statement(
    source: DatabaseTable, schema: pl.Schema, pushdown: Pushdown, part: Range | None = None
) -> str:
    """The SELECT of a source in its database's own SQL, with what the database runs of the condition."""
    named = [
        exp.alias_(exp.column(source.columns.get(name, name), quoted=True), name, quoted=True) for name in schema
    ]
    table = exp.table_(source.table, db=source.database.schema_name, quoted=True)
    columns = [_readable(name, kind) for name, kind in schema.items()]
    statement = exp.select(*columns).from_(exp.select(*named).from_(table).subquery("source"))
    if pushdown.sql:
        statement = statement.where(exp.var(pushdown.sql))
    if source.key in schema:
        statement = statement.order_by(exp.column(source.key, quoted=True))
    if part is not None:
        key = _readable(source.key, schema[source.key]).unalias()
        statement = statement.where(_in_range(key, part))
        statement = statement.limit(part.size) if part.size else statement
    return str(
        statement.sql({"postgresql": "postgres"}.get(source.database.kind, source.database.kind), identify=True)
    )


def _in_range(key: Any, part: Range) -> Any:  # noqa: ANN401
    if part.size is None:
        return key.is_(exp.null())
    return exp.not_(key.is_(exp.null())) if part.after is None else key > exp.convert(part.after)


def _readable(name: str, kind: pl.DataType) -> Any:  # noqa: ANN401  # sqlglot's nodes
    """The column as the driver can give it: what Arrow has no type for as text."""
    column = exp.column(name, quoted=True)
    if kind == pl.String() or isinstance(kind, pl.Decimal):
        return exp.alias_(exp.cast(column, "text"), name, quoted=True)
    return column


def _stored(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with the texts in which the driver keeps a numeric of any precision; its NaN is a missing value."""
    extended = [name for name, kind in rows.schema.items() if isinstance(kind, pl.BaseExtension)]
    return rows.with_columns(
        rows[name].ext.storage().replace(["NaN", "nan"], None).alias(name) for name in extended
    )


def _adbc_address(source: DatabaseTable) -> str:
    if source.database.kind == "sqlite":
        return source.database.address.database or ":memory:"
    return source.database.address.set(drivername="postgresql").render_as_string(hide_password=False)
