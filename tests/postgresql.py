"""Databases of a real PostgreSQL server, each for one test or benchmark."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

SERVER = "postgresql://postgres@127.0.0.1:5432"


def engine_of(url: str) -> sa.Engine:
    """For a database at this address; every statement is committed, and no connection is kept."""
    driven = sa.make_url(url).set(drivername="postgresql+psycopg")
    return sa.create_engine(driven, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)


@contextmanager
def new_database(purpose: str) -> Iterator[str]:
    """The address of an empty database, until the block ends. Errors: `OperationalError`, where no server is."""
    server = engine_of(f"{SERVER}/postgres")
    name = f"{purpose}_{secrets.token_hex(6)}"
    with server.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    try:
        yield f"{SERVER}/{name}"
    finally:
        with server.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
