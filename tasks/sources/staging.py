"""Rows of a table here, put beside a database's own tables for the length of one transaction.

What becomes of them there is then one statement of the database over all rows, not a statement a row.
"""

from collections.abc import Mapping
from typing import Any

import polars as pl
from sqlalchemy import Boolean, Column, Connection, Date, DateTime, MetaData, Numeric, Table
from sqlalchemy.types import TypeEngine

BATCH = 10_000
"""Rows that are on their way at one time."""


def staged(
    connection: Connection, rows: pl.DataFrame, types: Mapping[str, TypeEngine[Any]], *, batch: int = BATCH
) -> Table:
    """A temporary table of the connection that holds the rows' columns of `types`; it is gone with the connection.

    Errors: those of SQLAlchemy.
    """
    columns = [Column(name, kind) for name, kind in types.items()]
    staging = Table("campaign_staging", MetaData(), *columns, prefixes=["TEMPORARY"])
    staging.drop(connection, checkfirst=True)
    staging.create(connection)
    for part in rows.select(list(types)).iter_slices(batch):
        if connection.dialect.name == "postgresql":
            _copy(connection, staging, part)
        else:
            _insert(connection, staging, part)
    return staging


def _insert(connection: Connection, staging: Table, part: pl.DataFrame) -> None:
    """SQLite takes the rows as they come, in the forms in which SQLAlchemy keeps its types there."""
    forms = [_sqlite_form(pl.col(name), staging.columns[name].type) for name in part.columns]
    statement = str(staging.insert().compile(connection))
    connection.connection.cursor().executemany(statement, part.select(forms).rows())


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


def _copy(connection: Connection, staging: Table, part: pl.DataFrame) -> None:
    """PostgreSQL takes the rows as text of its own form: no row becomes Python objects."""
    named = ", ".join(connection.dialect.identifier_preparer.quote(name) for name in part.columns)
    cursor = connection.connection.cursor()
    with cursor.copy(f"COPY {staging.name} ({named}) FROM STDIN (FORMAT csv)") as copy:
        copy.write(part.write_csv(include_header=False))
