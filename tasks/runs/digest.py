"""Digests of what activities are given: equal in every process for equal values."""

import io
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from hashlib import sha256
from pathlib import Path, PurePath
from typing import IO, Any, cast
from uuid import UUID

import polars as pl
from prefect.serializers import PickleSerializer
from pydantic import BaseModel, SecretStr

from tasks.tables.transitions import Transitions

TEXT_IS_ENOUGH = (str, int, float, Decimal, date, datetime, time, timedelta, UUID, PurePath, Enum, type, type(None))
"""Kinds whose text tells each value apart."""


def digest_of(value: object) -> str:
    """SHA-256 of a value: of tables their rows, of models their fields, of collections their members.

    A secret counts by a digest of its own, so that nothing of it can be read back.
    """
    return sha256(_bytes(value)).hexdigest()


def arrow_file(table: pl.DataFrame) -> bytes:
    """An Arrow IPC file, as `write_arrow` writes it."""
    buffer = io.BytesIO()
    write_arrow(table, buffer)
    return buffer.getvalue()


def write_arrow(table: pl.DataFrame, file: Path | IO[bytes]) -> None:
    """Write an Arrow IPC file without view types and compression: old Arrow readers open it too."""
    table.write_ipc(file, compression="uncompressed", compat_level=pl.CompatLevel.oldest())


def _bytes(value: Any) -> bytes:  # noqa: ANN401, PLR0911  # a line for each kind
    match value:
        case pl.DataFrame():
            # As it is read from a file: a table that was just made may hold its rows in other pieces, or a map of
            # nulls without any null.
            return arrow_file(pl.read_ipc(io.BytesIO(arrow_file(value.rechunk()))))
        case Transitions() if hasattr(value, "in_memory"):  # an audience knows its own
            return f"audience {cast('Any', value).key}".encode()
        case Transitions():
            return _bytes(value.tables())
        case SecretStr():
            return b"secret" + sha256(value.get_secret_value().encode()).digest()
        case BaseModel():
            return _bytes([type(value).__name__, dict(value)])
        case Mapping():
            return _bytes([[name, member] for name, member in value.items()])
        case list() | tuple():
            return b"[" + ",".join(digest_of(member) for member in value).encode() + b"]"
        case Set():
            return b"{" + ",".join(sorted(digest_of(member) for member in value)).encode() + b"}"
        case _ if isinstance(value, TEXT_IS_ENOUGH):
            return f"{type(value).__qualname__} {value!s}".encode()
        case _ if is_dataclass(value):
            named = [[field.name, getattr(value, field.name)] for field in fields(value)]
            return _bytes([type(value).__qualname__, named])
        case _:
            return b"other " + PickleSerializer().dumps(value)
