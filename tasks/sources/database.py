"""Tables of a database as sources: the filter is run in the database, the rows come as Arrow."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError
from pydantic import Field

from tasks.conditions import EVERYTHING, first_line
from tasks.database import Database, first_sentence, polars_type, reflected, transaction
from tasks.errors import DatabaseFailed, FilterInvalid
from tasks.extras import extra_module
from tasks.sources.source import TYPES, FieldType, Source, as_type
from tasks.tables import quoted, require_columns

EXTRA = "database"
ROWS_OF_INFERENCE = "100000000"
"""SQLite values have types, its columns hardly: the driver looks at this many rows before it decides."""
STRFTIME_OF_PART = {"YEAR": "%Y", "MONTH": "%m", "DAY": "%d", "HOUR": "%H", "MINUTE": "%M"}


class DatabaseTable(Source):
    """A table, or view, of PostgreSQL or SQLite, and how its columns are named here."""

    database: Database = Field(title="Database", description="Where the table is.")
    table: str = Field(title="Table", description="Name of the table or view.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        title="Columns",
        description="Names that differ, {name here: name in the database}; other columns keep theirs.",
    )
    types: dict[str, FieldType] = Field(
        default_factory=dict,
        title="Types",
        description="Types by name here, for columns whose declared type does not say (as SQLite's may not).",
    )

    @property
    def shown(self) -> str:
        """The database and the table."""
        return f"{self.database.shown}, {self.table}"

    @property
    def cure(self) -> str:
        """Where columns are mapped."""
        return "Map columns of other names in the source's columns."

    def types_of_columns(self) -> pl.Schema:
        """Columns and types as named here. Errors: `DatabaseFailed`, `ColumnsMissing`, `ExtraMissing`."""
        file = self.database.address.database
        if self.database.kind == "sqlite" and file and not Path(file).is_file():
            # SQLite itself would make an empty one.
            raise DatabaseFailed(database=self.database.shown, reason="there is no such file")
        with transaction(self.database) as connection:
            declared = {
                column.name: polars_type(column.type)
                for column in reflected(connection, self.database, self.table).columns
            }
        table = pl.DataFrame(schema=declared)
        require_columns(table, self.columns.values(), activity="The column mapping", where=f"'{self.shown}'")
        here = {there: name for name, there in self.columns.items()}
        named = {here.get(there, there): kind for there, kind in declared.items()}
        return pl.Schema(
            {name: TYPES[self.types[name]] if name in self.types else kind for name, kind in named.items()}
        )

    def select(self, where: str) -> pl.LazyFrame:
        """The rows that the condition holds for, ordered by the key; the condition is run by the database.

        Errors: `FilterInvalid` (the database cannot run it), `DatabaseFailed`, `ExtraMissing`.
        """
        schema = self.types_of_columns()
        rows = self._rows(select_statement(self, schema, where), where)
        return rows.lazy().select(as_type(name, rows.schema[name], kind) for name, kind in schema.items())

    def collected(self, table: pl.LazyFrame) -> pl.DataFrame:
        """The rows. Errors: `DatabaseFailed` (a value is not of its column's type)."""
        try:
            return table.collect()
        except PolarsError as error:
            raise DatabaseFailed(database=self.database.shown, reason=first_line(error)) from None

    def batches(self, table: pl.LazyFrame, size: int) -> Iterator[pl.DataFrame]:
        """The rows, already here, in slices. Errors: as `collected`."""
        rows = self.collected(table)
        yield from rows.iter_slices(size) if rows.height else [rows]

    def _rows(self, statement: str, where: str) -> pl.DataFrame:
        driver = extra_module(f"adbc_driver_{self.database.kind}.dbapi", extra=EXTRA, purpose="reading a database")
        try:
            with driver.connect(_adbc_address(self)) as connection, connection.cursor() as cursor:
                if self.database.kind == "sqlite":
                    cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": ROWS_OF_INFERENCE})
                cursor.execute(statement)
                return pl.DataFrame(cursor.fetch_arrow())
        except (driver.Error, PolarsError) as error:
            if where == EVERYTHING:
                raise DatabaseFailed(database=self.database.shown, reason=first_sentence(error)) from None
            raise FilterInvalid(
                filter=where, reason=f"the database refuses it: {first_sentence(error)}", present="of the database"
            ) from None


def select_statement(source: DatabaseTable, schema: pl.Schema, where: str) -> str:
    """The SELECT of a source in its database's own SQL, made from the parsed condition and never from its text.

    Errors: `FilterInvalid` (not one condition, or one with a query in it), `ExtraMissing`.
    """
    sqlglot = extra_module("sqlglot", extra=EXTRA, purpose="reading a database")
    exp = sqlglot.exp
    try:
        condition = sqlglot.parse_one(where, into=exp.Condition, read="postgres")
    except sqlglot.errors.SqlglotError as error:
        raise FilterInvalid(filter=where, reason=first_sentence(error), present=quoted(schema)) from None
    if condition.find(exp.Query):
        raise FilterInvalid(filter=where, reason="it has a query in it", present=quoted(schema))
    if source.database.kind == "sqlite":
        condition = condition.transform(lambda node: _sqlite_form(node, exp))
    named = [
        exp.alias_(exp.column(source.columns.get(name, name), quoted=True), name, quoted=True) for name in schema
    ]
    table = exp.table_(source.table, db=source.database.schema_name, quoted=True)
    columns = [_readable(name, kind, exp) for name, kind in schema.items()]
    statement = exp.select(*columns).from_(exp.select(*named).from_(table).subquery("source")).where(condition)
    if source.key in schema:
        statement = statement.order_by(exp.column(source.key, quoted=True))
    return str(
        statement.sql({"postgresql": "postgres"}.get(source.database.kind, source.database.kind), identify=True)
    )


def _readable(name: str, kind: pl.DataType, exp: Any) -> Any:  # noqa: ANN401  # sqlglot is an extra
    """The column as the driver can give it: what Arrow has no type for as text."""
    column = exp.column(name, quoted=True)
    if kind == pl.String() or isinstance(kind, pl.Decimal):
        return exp.alias_(exp.cast(column, "text"), name, quoted=True)
    return column


def _sqlite_form(node: Any, exp: Any) -> Any:  # noqa: ANN401
    """The parts of SQL that polars and PostgreSQL have and SQLite writes in another way."""
    if isinstance(node, exp.Extract):
        part = STRFTIME_OF_PART.get(node.name.upper())
        return (
            exp.cast(exp.func("STRFTIME", exp.Literal.string(part), node.expression), "integer") if part else node
        )
    if isinstance(node, exp.Left):
        return exp.func("SUBSTR", node.this, exp.Literal.number(1), node.expression)
    if isinstance(node, exp.StartsWith):
        taken = exp.func("LENGTH", node.expression)
        return exp.EQ(this=exp.func("SUBSTR", node.this, exp.Literal.number(1), taken), expression=node.expression)
    return node


def _adbc_address(source: DatabaseTable) -> str:
    if source.database.kind == "sqlite":
        return source.database.address.database or ":memory:"
    return source.database.address.set(drivername="postgresql").render_as_string(hide_password=False)
