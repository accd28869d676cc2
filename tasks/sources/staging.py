"""Rows of a table here, put beside a database's own tables for the length of one transaction.

What becomes of them there is then one statement of the database over all rows, not a statement a row. PostgreSQL
takes texts, and reads each as the type of its column when it is used: every type that it has can be written.
"""

import json
from collections.abc import Mapping
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy import Boolean, Column, Connection, Date, DateTime, MetaData, Numeric, Table
from sqlalchemy.types import TypeEngine, UserDefinedType

from tasks.errors import DatabaseFailed

BATCH = 10_000
"""Rows that are on their way at one time."""
ROW = "campaign_row"
"""Column of the staged rows' numbers, from 0. A line is never a lone \\., which ends PostgreSQL's COPY."""
LOCK_SECONDS = 60


class _Written(UserDefinedType[Any]):
    """A type by the name that the database has for it."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:  # noqa: ANN401
        return self.name


class Staging:
    """Staged rows: a temporary table, and how its values are read as the types of another table's columns."""

    def __init__(self, table: Table, names: Mapping[str, str]) -> None:
        self.table = table
        self._names = names

    def value(self, name: str) -> sa.ColumnElement[Any]:
        """A staged column as the type that it is written as."""
        column: sa.ColumnElement[Any] = self.table.columns[name]
        return sa.cast(column, _Written(self._names[name])) if name in self._names else column

    @property
    def row(self) -> sa.ColumnElement[int]:
        """Number of a staged row."""
        return self.table.columns[ROW]


def alone(connection: Connection, table: Table) -> None:
    """Let no other transaction write to the table until this one ends: it waits. Errors: those of SQLAlchemy."""
    if connection.dialect.name == "postgresql":
        named = connection.dialect.identifier_preparer.format_table(table)
        connection.execute(sa.text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
        connection.exec_driver_sql(f"LOCK TABLE {named} IN SHARE ROW EXCLUSIVE MODE")


def type_names(connection: Connection, table: Table) -> dict[str, str]:
    """PostgreSQL's names of the types of a table's columns; empty for SQLite."""
    if connection.dialect.name != "postgresql":
        return {}
    # A cast to varchar(3) would cut a text; what is too long is refused where it is written.
    statement = sa.text(
        "SELECT attname, format_type(atttypid, CASE WHEN atttypid IN ('varchar'::regtype, 'bpchar'::regtype)"
        " THEN NULL ELSE atttypmod END) FROM pg_attribute WHERE attrelid = CAST(:named AS regclass) AND attnum > 0"
        " AND NOT attisdropped"
    )
    named = ".".join('"' + part.replace('"', '""') + '"' for part in filter(None, (table.schema, table.name)))
    return {row.attname: row[1] for row in connection.execute(statement, {"named": named})}


def staged(
    connection: Connection,
    rows: pl.DataFrame,
    types: Mapping[str, TypeEngine[Any]],
    names: Mapping[str, str],
    *,
    batch: int = BATCH,
) -> Staging:
    """A temporary table of the connection that holds the rows' columns of `types`; it is gone with the connection.

    `names` are PostgreSQL's names of the types. Errors: `DatabaseFailed` (rows were lost), those of SQLAlchemy.
    """
    is_text = connection.dialect.name == "postgresql"
    columns = [
        Column(f"c{number}", sa.Text() if is_text else kind, key=name)
        for number, (name, kind) in enumerate(types.items())
    ]
    table = Table("campaign_staging", MetaData(), *columns, Column(ROW, sa.Integer()), prefixes=["TEMPORARY"])
    table.drop(connection, checkfirst=True)
    table.create(connection)
    for part in rows.select(list(types)).with_row_index(ROW).iter_slices(batch):
        ordered = part.select(*types, ROW)
        if is_text:
            _copy(connection, table, ordered, types)
        else:
            _insert(connection, table, ordered, types)
    arrived = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
    if arrived != rows.height:
        raise DatabaseFailed(
            database=connection.engine.url.database, reason=f"of {rows.height} rows {arrived} arrived in it"
        )
    return Staging(table, names if is_text else {})


def _insert(connection: Connection, table: Table, part: pl.DataFrame, types: Mapping[str, TypeEngine[Any]]) -> None:
    """SQLite takes the rows as they come, in the forms in which SQLAlchemy keeps its types there."""
    forms = [*(_sqlite_form(pl.col(name), kind) for name, kind in types.items()), pl.col(ROW)]
    places = ", ".join("?" for _ in forms)
    connection.connection.cursor().executemany(
        f"INSERT INTO {table.name} VALUES ({places})",  # noqa: S608  # the table is made here
        part.select(forms).rows(),
    )


def _sqlite_form(column: pl.Expr, kind: TypeEngine[Any]) -> pl.Expr:
    match kind:
        case DateTime():
            return column.cast(pl.Datetime("us")).dt.strftime("%Y-%m-%d %H:%M:%S%.6f")
        case Date():
            return column.cast(pl.Date()).dt.strftime("%Y-%m-%d")
        case Boolean():
            return column.cast(pl.Int8())
        case Numeric():
            return column.cast(pl.Float64())
        case _:
            return column


def _copy(connection: Connection, table: Table, part: pl.DataFrame, types: Mapping[str, TypeEngine[Any]]) -> None:
    """PostgreSQL takes the rows as texts of its own forms."""
    forms = [*(_text_form(pl.col(name), part.schema[name], kind) for name, kind in types.items()), pl.col(ROW)]
    cursor = connection.connection.cursor()
    with cursor.copy(f"COPY {table.name} FROM STDIN (FORMAT csv)") as copy:
        copy.write(part.select(forms).write_csv(include_header=False))


def _text_form(column: pl.Expr, kind: pl.DataType, wanted: TypeEngine[Any]) -> pl.Expr:
    if isinstance(kind, pl.Datetime):
        moment = column.dt.convert_time_zone("UTC") if kind.time_zone else column
        return moment.dt.strftime("%Y-%m-%dT%H:%M:%S%.6f")
    if kind.is_nested():
        is_array = isinstance(wanted, sa.ARRAY)
        return column.map_elements(lambda value: _nested(value, is_array=is_array), return_dtype=pl.String())
    return column


def _nested(value: Any, *, is_array: bool) -> str:  # noqa: ANN401
    """A list as an array of PostgreSQL; any nested value as JSON."""
    plain = value.to_list() if isinstance(value, pl.Series) else value
    if not is_array:
        return json.dumps(plain, default=str, ensure_ascii=False)
    return (
        "{"
        + ",".join("NULL" if each is None else json.dumps(str(each), ensure_ascii=False) for each in plain)
        + "}"
    )
