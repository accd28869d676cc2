"""The reference page of values, made by reading examples; `make reference` writes it."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import polars as pl
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from tasks.sources.source import ValueOptions
from tasks.sources.sql import polars_type
from tasks.tables.columns import ColumnType, typed_table
from tasks.tables.conditions.reference import code, escaped, table

PAGE = Path(__file__).with_name("README.md")
TYPES: tuple[ColumnType, ...] = get_args(ColumnType)

TEXTS: Mapping[ColumnType, tuple[str, ...]] = {
    "text": (" a ", "NULL", "007"),
    "integer": ("7", " +007 ", "1.0", "1.5", "1e3", "1,234", "9223372036854775808"),
    "number": ("1.5", ".5", "1e3", "1,5", "NaN", "Infinity", "1e999"),
    "decimal": ("1.10", "1.120000", ".5", "1.125", "1e2"),
    "boolean": ("true", "T", "1", "FALSE", "f", "0", "yes", "Y", "on"),
    "date": ("2026-11-24", "2026-02-29", "24.11.2026", "20261124", "2026-11-24T00:00:00"),
    "time": ("07:30", "07:30:00.5", "7:30", "24:00"),
    "datetime": (
        "2026-11-24T07:30:00Z",
        "2026-11-24 07:30",
        "2026-11-24 07:30:00+01",
        "2026-11-24T07:30:00.1234567",
        "2026-11-24",
        "1764000000",
    ),
}
"""Texts that are read as each type, without any option."""
NATIVES: Mapping[str, pl.Series] = {
    "integer 1": pl.Series([1]),
    "integer 20261124": pl.Series([20261124]),
    "floating 10115.0": pl.Series([10115.0]),
    "floating 2.5": pl.Series([2.5]),
    "floating NaN": pl.Series([float("nan")]),
    "decimal 2.50": pl.Series([Decimal("2.50")]),
    "boolean": pl.Series([True]),
    "date": pl.Series([date(2026, 11, 24)]),
    "time": pl.Series([time(7, 30)]),
    "moment, midnight": pl.Series([datetime(2026, 11, 24)]),  # noqa: DTZ001
    "moment, 07:30": pl.Series([datetime(2026, 11, 24, 7, 30)]),  # noqa: DTZ001
    "moment in UTC, 23:00": pl.Series([datetime(2026, 11, 23, 23, tzinfo=UTC)]),
    "duration": pl.Series([timedelta(days=1)]),
    "bytes": pl.Series([b"a"]),
    "list": pl.Series([["a"]]),
    "object": pl.Series([{"a": 1}]),
    "category 1": pl.Series(["1"], dtype=pl.Categorical()),
}
"""Values that have a type already."""
POSTGRESQL: Mapping[str, TypeEngine[Any]] = {
    "smallint, integer, bigint": postgresql.BIGINT(),
    "real, double precision": postgresql.DOUBLE_PRECISION(),
    "numeric(10, 2)": postgresql.NUMERIC(10, 2),
    "numeric": postgresql.NUMERIC(),
    "boolean": postgresql.BOOLEAN(),
    "date": postgresql.DATE(),
    "timestamp": postgresql.TIMESTAMP(),
    "timestamptz": postgresql.TIMESTAMP(timezone=True),
    "time": postgresql.TIME(),
    "text, varchar, char": postgresql.TEXT(),
    "uuid": postgresql.UUID(),
    "json, jsonb": postgresql.JSONB(),
    "arrays": postgresql.ARRAY(postgresql.TEXT()),
    "enum": postgresql.ENUM("a", name="e"),
    "bytea": postgresql.BYTEA(),
    "interval": postgresql.INTERVAL(),
}
INTRODUCTION = """\
One converter reads the values of every source. A value has the one meaning below, or its row is rejected or refused
(`on_bad_value`), with row, column, reason and the value as it came. This page is made by reading the examples
(`make reference`); a test compares it."""
SOURCES = (
    ("delimited text (.csv, .tsv, .txt; gzip)", "texts; an empty value that has no quotes is missing"),
    (
        "NDJSON (.ndjson, .jsonl; gzip)",
        "JSON's strings, numbers, booleans, objects and lists; a whole number is an integer",
    ),
    (
        "Parquet, also a folder or pattern",
        "the file's types; a folder zip=01234 is a text, year=2026 an integer, a date a date",
    ),
    ("Delta", "the table's types"),
    ("PostgreSQL", "below; what has no counterpart is the text that PostgreSQL writes"),
    ("SQLite", "what each row holds, read as the column is declared: 't' of a BOOLEAN is true"),
)
NOTES = (
    "NaN of a floating number is a missing value, as pandas writes it. The text NaN is no number.",
    "Times and moments that are finer than a microsecond are bad values.",
    "An NDJSON line that has a key twice is no row. So is one with an object or a list where other lines have a"
    " text, number or boolean, and one with a whole number beyond 2^53 where other lines have fractions.",
    "Moments of type datetime are UTC without a zone. One that has no zone is in `zone`, or UTC; the hour that a"
    " zone leaves out in spring is a bad value, the one that comes twice in autumn what `repeated_hour` says.",
    "A moment is a date where it is midnight in `zone`, or in its own zone.",
    "Dates and moments are of the years 1 to 9999: PostgreSQL's infinity is a bad value. A Parquet file's"
    " own dates are taken as they come where none of its columns is read as another type.",
)


def page() -> str:
    """The page, as Markdown."""
    return "\n".join(
        [
            "# Values",
            "",
            INTRODUCTION,
            "",
            "## Sources",
            "",
            *table(("source", "its values"), SOURCES),
            "",
            *table(
                ("PostgreSQL", "here"), ((name, code(str(polars_type(kind)))) for name, kind in POSTGRESQL.items())
            ),
            "",
            "## Texts as each type, without options",
            "",
            *table(("type", "text", "value"), _texts()),
            "",
            "## Values that have a type, as another",
            "",
            "An empty cell is a bad value.",
            "",
            *table(("value", *TYPES), ((name, *_as_each(raw)) for name, raw in NATIVES.items())),
            "",
            *(f"- {note}" for note in NOTES),
            "",
            "## Options",
            "",
            *table(("option", "default", "meaning"), _options()),
            "",
        ]
    )


def _texts() -> Iterable[tuple[str, str, str]]:
    for kind, texts in TEXTS.items():
        for text in texts:
            value, reason = _read(pl.Series([text]), kind)
            yield kind, code(text), code(value) if reason is None else f"bad: {escaped(reason)}"


def _as_each(raw: pl.Series) -> Iterable[str]:
    for kind in TYPES:
        value, reason = _read(raw, kind)
        yield code(value) if reason is None else ""


def _read(raw: pl.Series, kind: ColumnType) -> tuple[str, str | None]:
    definition = ValueOptions().definition("c", "c", kind)
    read = typed_table(raw.to_frame("c"), {"c": definition}, activity="The reference", where="the example")
    if read.rejects.height:
        return "", read.rejects["reason"].item()
    value = read.standard["c"].item()
    return "missing" if value is None else str(value).lower() if isinstance(value, bool) else str(value), None


def _options() -> Iterable[tuple[str, str, str]]:
    for name, field in ValueOptions.model_fields.items():
        default = field.get_default(call_default_factory=True)
        yield code(name), "" if default in (None, "", {}) else code(str(default)), escaped(field.description or "")
