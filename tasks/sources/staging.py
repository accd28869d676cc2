"""Rows of a table here, put beside a database's own tables for the length of one transaction.

What becomes of them there is then one statement of the database over all rows, not a statement a row. PostgreSQL
takes texts, and reads each as the type of its column when it is used: every type that it has can be written.
"""

import json
from collections.abc import Mapping
from secrets import token_hex
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy import Boolean, Column, Connection, Date, DateTime, MetaData, Numeric, Table
from sqlalchemy.types import TypeEngine, UserDefinedType

from tasks.errors import DatabaseFailed
from tasks.sources.sql import LOCK_SECONDS

BATCH = 10_000
"""Rows that are on their way at one time."""
ROW = "\x00row"
"""Column of the staged rows' numbers, from 0. A line is never a lone \\., which ends PostgreSQL's COPY."""


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
    # A cast to varchar(3), or to a domain of it, would cut a text; what is too long is refused where it is written.
    statement = sa.text(
        "SELECT attname, CASE WHEN typtype = 'd' AND typbasetype = ANY(:cut) THEN 'text' ELSE format_type(atttypid,"
        " CASE WHEN atttypid = ANY(:cut) OR typelem = ANY(:cut) THEN -1 ELSE atttypmod END) END"
        " FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid"
        " WHERE attrelid = CAST(:named AS regclass) AND attnum > 0 AND NOT attisdropped".replace(
            ":cut", "CAST('{varchar,bpchar,bit,varbit}' AS regtype[])"
        )
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
    numbers = Column("number", sa.Integer(), key=ROW)
    # A name of its own: a temporary table hides another one of its name.
    table = Table(f"campaign_{token_hex(8)}", MetaData(), *columns, numbers, prefixes=["TEMPORARY"])
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
    forms = [*(_sqlite_form(pl.col(name), part.schema[name], kind) for name, kind in types.items()), pl.col(ROW)]
    places = ", ".join("?" for _ in forms)
    connection.connection.cursor().executemany(
        f"INSERT INTO {table.name} VALUES ({places})",  # noqa: S608  # the table is made here
        part.select(forms).rows(),
    )


def _sqlite_form(column: pl.Expr, kind: pl.DataType, wanted: TypeEngine[Any]) -> pl.Expr:
    match wanted:
        case DateTime():
            return column.cast(pl.Datetime("us")).dt.strftime("%Y-%m-%d %H:%M:%S%.6f")
        case Date():
            return column.cast(pl.Date()).dt.strftime("%Y-%m-%d")
        case Boolean():
            return column.cast(pl.Int8())
        case Numeric():
            return column.cast(pl.Float64())
        case _:
            return column if kind == pl.Binary() else _text_form(column, kind, wanted)


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
        column = column.arr.to_list() if isinstance(kind, pl.Array) else column
        written = _array if isinstance(wanted, sa.ARRAY) else _json
        return column.map_elements(lambda value: written(_plain(value)), return_dtype=pl.String())
    match kind:
        case pl.Time():
            form = column.dt.strftime("%H:%M:%S%.6f")
        case pl.Duration():
            form = column.dt.total_microseconds().cast(pl.String()) + " microseconds"
        case pl.Binary():
            form = pl.lit("\\x") + column.bin.encode("hex")
        case pl.Categorical() | pl.Enum():
            form = column.cast(pl.String())
        case pl.Float32() | pl.Float64():
            form = column.fill_nan(None)  # a missing value, as where it is read
        case _:
            form = column
    return form


def _plain(value: Any) -> Any:  # noqa: ANN401
    return value.to_list() if isinstance(value, pl.Series) else value


def _json(value: Any) -> str:  # noqa: ANN401
    return json.dumps(value, default=str, ensure_ascii=False)


def _array(value: Any) -> str:  # noqa: ANN401
    """A list, and the lists in it, as an array of PostgreSQL."""
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return "{" + ",".join(map(_array, value)) + "}"
    if isinstance(value, bytes):
        text = "\\x" + value.hex()
    else:
        text = _json(value) if isinstance(value, dict) else str(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
