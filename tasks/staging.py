"""Rows of a table here, put beside a database's own tables for the length of one transaction.

What becomes of them there is then one statement of the database over all rows, not a statement a row.
"""

from collections.abc import Mapping
from typing import Any

import polars as pl
from sqlalchemy import Column, Connection, MetaData, Table
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
            connection.execute(staging.insert(), part.to_dicts())
    return staging


def _copy(connection: Connection, staging: Table, part: pl.DataFrame) -> None:
    """PostgreSQL takes the rows as text of its own form: no row becomes Python objects."""
    named = ", ".join(connection.dialect.identifier_preparer.quote(name) for name in part.columns)
    cursor = connection.connection.cursor()
    with cursor.copy(f"COPY {staging.name} ({named}) FROM STDIN (FORMAT csv)") as copy:
        copy.write(part.write_csv(include_header=False))
