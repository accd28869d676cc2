"""Parquet files and Delta tables as they are, before their values are read."""

import os
import re
import sys
from collections.abc import Iterable
from datetime import date
from glob import escape, has_magic
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from tasks.extras import extra_module
from tasks.files.shape import ShapeRefused, other_kind
from tasks.tables.conditions import first_line

os.environ.setdefault("POLARS_ROW_GROUP_PREFETCH_SIZE", "1")
"""polars reads so many row groups ahead: by default so many that they are hundreds of megabytes of wide rows."""

INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def parquet_scan(path: Path, files: list[Path], *, align: bool) -> pl.LazyFrame:
    """The rows of one file, of a folder's, or of those that a pattern fits; folders as year=2026 are columns.

    Errors: `ShapeRefused` (files with different columns), those of polars.
    """
    _check_kinds(path, files)
    root = path if path.is_dir() else _fixed(path)
    folders = folder_types(root, files)
    schemas = [_schema(file) for file in files]
    shared = [name for name in folders if any(name in schema for schema in schemas)]
    if shared:
        raise ShapeRefused(
            f"its folders and its files both have the column '{shared[0]}'", "Leave one of them out."
        )
    if not align:
        _check_alike(files, schemas)
    _check_types(files, schemas)
    return pl.scan_parquet(
        Path(escape(str(path)), "**", "*.parquet") if path.is_dir() else path,
        hive_partitioning=bool(folders),
        hive_schema=folders or None,
        missing_columns="insert" if align else "raise",
        extra_columns="ignore" if align else "raise",
    )


def _fixed(pattern: Path) -> Path:
    """The part of a pattern before its first folder with a wildcard."""
    wild = next((place for place, part in enumerate(pattern.parts) if has_magic(part)), len(pattern.parts) - 1)
    return Path(*pattern.parts[:wild])


def _check_kinds(path: Path, files: list[Path]) -> None:
    """Markers that other systems leave, as _SUCCESS, are passed over; any other file is told."""
    there = sorted(path.rglob("*")) if path.is_dir() else files
    for file in there:
        if file.is_file() and not file.name.startswith(("_", ".")) and file.suffix != ".parquet" and path.is_dir():
            raise ShapeRefused(
                f"'{file.name}' in it is not a Parquet file", f"Move it, or set path to {path}/**/*.parquet."
            )


def _schema(file: Path) -> pl.Schema:
    with file.open("rb") as content:
        start = content.read(64)
    if not start.startswith(b"PAR1"):
        kind = other_kind(start)
        raise ShapeRefused(
            f"'{file.name}' is not a Parquet file" + (f": it is {kind}" if kind else ""),
            "Give Parquet, delimited text (.csv, .tsv, .txt) or NDJSON (.ndjson, .jsonl), with that ending.",
        )
    try:
        return pl.Schema(pl.read_parquet_schema(file))
    except PolarsError as error:
        raise ShapeRefused(f"'{file.name}' is cut or damaged ({first_line(error)})", "Write it again.") from None


def _check_alike(files: list[Path], schemas: list[pl.Schema]) -> None:
    first = schemas[0]
    for file, schema in zip(files, schemas, strict=True):
        new = [name for name in schema if name not in first]
        missing = [name for name in first if name not in schema]
        if new or missing:
            told = f"has the column '{new[0]}', which" if new else f"lacks the column '{missing[0]}', which"
            has = "has not" if new else "has"
            raise ShapeRefused(
                f"'{file.name}' {told} '{files[0].name}' {has}",
                "Write the files alike, or set other_columns to 'align'.",
            )


def _check_types(files: list[Path], schemas: list[pl.Schema]) -> None:
    first = schemas[0]
    for file, schema in zip(files, schemas, strict=True):
        for name, kind in schema.items():
            if name in first and kind != first[name]:
                raise ShapeRefused(
                    f"'{file.name}' has {kind} in the column '{name}', '{files[0].name}' has {first[name]}",
                    "Write the files alike, or read them as sources of their own and unite them.",
                )


def folder_types(root: Path, files: Iterable[Path]) -> dict[str, pl.DataType]:
    """Types of the columns that folders such as zip=01234 are: text where a value has leading zeros.

    Errors: `ShapeRefused` (files of different folders, a value that has no one reading).
    """
    values: dict[str, set[str]] = {}
    first: list[str] | None = None
    for file in files:
        folders = [part.partition("=") for part in file.relative_to(root).parts[:-1] if "=" in part]
        names = [name for name, _, _ in folders]
        first = names if first is None else first
        if names != first or len(set(names)) < len(names):
            raise ShapeRefused(
                f"the folders of '{file.name}' are not those of the other files", "Write them alike."
            )
        for name, _, value in folders:
            if "=" in value:
                raise ShapeRefused(f"the folder '{name}={value}' has = in its value", "Write it as %3D.")
            values.setdefault(name, set()).update({value} - {NO_VALUE})
    return {name: _folder_type(found) for name, found in values.items()}


def _folder_type(values: set[str]) -> pl.DataType:
    if values and all(INTEGER.fullmatch(value) for value in values):
        return pl.Int64()
    return pl.Date() if values and all(map(_is_day, values)) else pl.String()


def _is_day(value: str) -> bool:
    try:
        return bool(DAY.fullmatch(value) and date.fromisoformat(value))
    except ValueError:
        return False


def delta_errors() -> tuple[type[Exception], ...]:
    """What reading a Delta table raises, also after its log was read; nothing where none was read."""
    deltalake = sys.modules.get("deltalake")
    return (deltalake.exceptions.DeltaError,) if deltalake else ()


def delta_scan(path: Path) -> pl.LazyFrame:
    """The rows of a Delta table. Errors: `ShapeRefused`, `ExtraMissing`."""
    deltalake = extra_module("deltalake", extra="delta", purpose="reading a Delta table")
    try:
        # Opened here: polars would do it later, where its errors are not looked for.
        table = pl.scan_delta(deltalake.DeltaTable(str(path)))
        table.collect_schema()
    except (deltalake.exceptions.DeltaError, PolarsError, NotImplementedError) as error:
        raise ShapeRefused(
            f"its Delta log is not readable: {first_line(error)}",
            "Repair its _delta_log. A table of a newer protocol needs a newer deltalake, or none of its features.",
        ) from None
    return table
