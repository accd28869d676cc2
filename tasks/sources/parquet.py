"""Parquet files and Delta tables as they are, before their values are read."""

import re
from collections.abc import Iterable
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from tasks.extras import extra_module
from tasks.files.shape import ShapeRefused
from tasks.tables.conditions import first_line

INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def parquet_scan(path: Path, files: list[Path], *, align: bool) -> pl.LazyFrame:
    """The rows of one file, of a folder's, or of those that a pattern fits; folders as year=2026 are columns.

    Errors: `ShapeRefused` (files with different columns), those of polars.
    """
    folders = folder_types(path, files) if path.is_dir() else {}
    table = pl.scan_parquet(
        path,
        hive_partitioning=bool(folders) or None,
        hive_schema=folders or None,
        missing_columns="insert" if align else "raise",
        extra_columns="ignore" if align else "raise",
    )
    if not align and len(files) > 1:
        _check_alike(files)
    return table


def _check_alike(files: list[Path]) -> None:
    first = pl.read_parquet_schema(files[0])
    for file in files[1:]:
        schema = pl.read_parquet_schema(file)
        new = [name for name in schema if name not in first]
        missing = [name for name in first if name not in schema]
        if new or missing:
            told = [f"has the column '{name}' more" for name in new] + [
                f"lacks the column '{name}'" for name in missing
            ]
            raise ShapeRefused(
                f"'{file.name}' {told[0]} than '{files[0].name}'" if new else f"'{file.name}' {told[0]}",
                "Write the files alike, or set other_columns to 'align'.",
            )


def folder_types(root: Path, files: Iterable[Path]) -> dict[str, pl.DataType]:
    """Types of the columns that folders such as zip=01234 are: text where a value has leading zeros."""
    values: dict[str, set[str]] = {}
    for file in files:
        for part in file.relative_to(root).parts[:-1]:
            name, told, value = part.partition("=")
            if told and value != NO_VALUE:
                values.setdefault(name, set()).add(value)
    return {name: _folder_type(found) for name, found in values.items()}


def _folder_type(values: set[str]) -> pl.DataType:
    if all(INTEGER.fullmatch(value) for value in values):
        return pl.Int64()
    return pl.Date() if all(DAY.fullmatch(value) for value in values) else pl.String()


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
