"""A SQL database as activities use it: its address, its tables' columns, and writing rows in one transaction.

Reading goes through ADBC, which gives Arrow and no Python rows (`tasks.sources.database`); writing through
SQLAlchemy Core. PostgreSQL and SQLite are known.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from sqlalchemy import Connection, Engine, MetaData, Table, create_engine, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchTableError, SQLAlchemyError
from sqlalchemy.types import TypeEngine

from tasks.errors import ConfigurationError, DatabaseBusy, DatabaseFailed
from tasks.extras import extra_module
from tasks.privacy import unencrypted_postgresql
from tasks.tables.transitions import nearest, quoted

DRIVERS: Mapping[str, str] = {"postgresql": "postgresql+psycopg", "sqlite": "sqlite"}
"""Kinds of database, each with the SQLAlchemy driver that writes to it."""

LOCK_SECONDS = 60
"""How long a transaction waits for another one."""
BUSY = {"55P03", "40P01", "40001"}
"""PostgreSQL's codes of a lock that was not given, of a deadlock, and of transactions that conflict."""

COLUMN_TYPES: Mapping[type, pl.DataType] = {
    str: pl.String(),
    int: pl.Int64(),
    float: pl.Float64(),
    bool: pl.Boolean(),
    date: pl.Date(),
}


class Database(BaseModel):
    """Address of a database, with its credentials."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: SecretStr = Field(
        title="Database URL",
        description="postgresql://user:password@host/database or sqlite:///file.db; never shown.",
    )
    schema_name: str | None = Field(
        default=None, title="Schema", description="Schema of the tables; empty is the database's own default."
    )

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: SecretStr) -> SecretStr:
        # No ValueError: where this model is part of another, its message would quote the URL.
        try:
            kind = make_url(url.get_secret_value()).get_backend_name()
        except ArgumentError:
            reason = "it is not a database URL, as postgresql://user:password@host/database is"
            raise ConfigurationError(setting="url of a database", reason=reason) from None
        if kind not in DRIVERS:
            reason = f"'{kind}' databases are not known, only {quoted(DRIVERS)}"
            raise ConfigurationError(setting="url of a database", reason=reason)
        given = make_url(url.get_secret_value())
        if kind == "postgresql" and (reason := unencrypted_postgresql(given.host, given.password, given.query)):
            raise ConfigurationError(setting="url of a database", reason=reason)
        return url

    @property
    def address(self) -> URL:
        """The URL in its parts."""
        return make_url(self.url.get_secret_value())

    @property
    def kind(self) -> str:
        """`postgresql` or `sqlite`."""
        return self.address.get_backend_name()

    @property
    def shown(self) -> str:
        """The database as logs and errors name it: without user, password and options."""
        where = self.address
        return URL.create(
            where.get_backend_name(), host=where.host, port=where.port, database=where.database
        ).render_as_string()

    def table_shown(self, table: str) -> str:
        """A table as logs and errors name it: with its schema."""
        return f"{self.schema_name}.{table}" if self.schema_name else table

    def engine(self) -> Engine:
        """SQLAlchemy engine. Errors: `ExtraMissing`."""
        if self.kind == "postgresql":
            extra_module("psycopg", extra="database", purpose="PostgreSQL")
        waits = {"timeout": LOCK_SECONDS} if self.kind == "sqlite" else {}
        return create_engine(self.address.set(drivername=DRIVERS[self.kind]), connect_args=waits)


@contextmanager
def transaction(database: Database, *, writing: bool = True) -> Iterator[Connection]:
    """One transaction: all of it is written, or nothing. Moments without a zone are UTC.

    Errors: `ExtraMissing`; `DatabaseBusy`; `DatabaseFailed`, in one line without values of rows.
    """
    engine = database.engine()
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql("SET LOCAL TIME ZONE 'UTC'")
            else:
                # From the beginning: a second writer waits here, not where it has written half.
                connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
            yield connection
    except (SQLAlchemyError, engine.dialect.loaded_dbapi.Error) as error:
        cause = getattr(error, "orig", None) or error
        if getattr(cause, "sqlstate", None) in BUSY or "database is locked" in str(cause):
            raise DatabaseBusy(database=database.shown, seconds=LOCK_SECONDS) from None
        raise DatabaseFailed(database=database.shown, reason=first_sentence(cause)) from None
    finally:
        engine.dispose()


def first_sentence(error: BaseException) -> str:
    """First line of what a database says, without the values that it quotes; what follows may quote a row."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    line = re.sub(r': ".*$', "", line)
    return re.sub(r'(^|\b(?:value|timestamp|number) )"[^"]*"', r"\1...", line).rstrip(". ")


def reflected(connection: Connection, database: Database, table: str) -> Table:
    """The table as the database knows it, with its keys. Errors: `DatabaseFailed`, with the nearest name."""
    with _missing_by_name(connection, database, table):
        return Table(table, MetaData(), schema=database.schema_name, autoload_with=connection)


def declared_columns(connection: Connection, database: Database, table: str) -> dict[str, TypeEngine[Any]]:
    """The table's columns alone, which takes a third of the time. Errors: as `reflected`."""
    with _missing_by_name(connection, database, table):
        columns = inspect(connection).get_columns(table, schema=database.schema_name)
    return {column["name"]: column["type"] for column in columns}


@contextmanager
def _missing_by_name(connection: Connection, database: Database, table: str) -> Iterator[None]:
    """A table that is not there becomes `DatabaseFailed`."""
    try:
        yield
    except NoSuchTableError:
        known = inspect(connection).get_table_names(schema=database.schema_name)
        raise DatabaseFailed(
            database=database.shown,
            reason=f"it has no table '{table}' in {_schema(database)}. {nearest([table], known)}".rstrip(". "),
        ) from None


def _schema(database: Database) -> str:
    return f"the schema '{database.schema_name}'" if database.schema_name else "its default schema"


def polars_type(kind: TypeEngine[Any]) -> pl.DataType:
    """The type that a database column has in a table here; what has no counterpart is text."""
    there = python_type(kind)
    if there is datetime:
        return pl.Datetime("us", "UTC" if getattr(kind, "timezone", False) else None)
    if there is Decimal:
        return (
            pl.Decimal(38, getattr(kind, "scale", None) or 0) if getattr(kind, "precision", None) else pl.Float64()
        )
    return COLUMN_TYPES.get(there, pl.String())


def python_type(kind: TypeEngine[Any]) -> type:
    """The type of Python that values of a database column have; what has none is text."""
    try:
        return kind.python_type
    except NotImplementedError:
        return str
