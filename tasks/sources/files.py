"""Files as sources: Parquet, CSV, NDJSON, and the folder of a Delta table, read lazily, the filter pushed down."""

from collections.abc import Callable, Iterator, Mapping
from glob import iglob
from pathlib import Path

import polars as pl
from polars.exceptions import ComputeError, PolarsError
from pydantic import Field

from tasks.errors import SourceMissing, SourceUnreadable
from tasks.extras import extra_module
from tasks.sources.source import TYPES, FieldType, Making, Source, as_type
from tasks.tables.conditions import first_line
from tasks.tables.transitions import require_columns

FORMS: Mapping[pl.DataType, str] = {
    pl.Date(): r"^\d{4}-\d{2}-\d{2}$",
    pl.Datetime("us"): r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?$",
    pl.Boolean(): r"^(?i:true|false)$",
    pl.Int64(): r"^[+-]?\d+$",
    pl.Float64(): r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$",
}
"""What a text file's texts of a type look like."""


class ProfileFile(Source):
    """A file of profiles, or of their additional data, and how its columns are named here."""

    path: Path = Field(
        default=Path("samples/profiles.parquet"),
        title="Profile file",
        description=(
            "Parquet (.parquet), comma-separated (.csv, UTF-8, with a header) or NDJSON (.ndjson, .jsonl) file of"
            " profiles, or the folder of a Delta table. A folder of Parquet files (a folder year=2026 in it is a"
            " column) or a pattern with * too."
        ),
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        title="Columns",
        description="Names that differ, {name here: name in the file}; other columns keep theirs.",
    )
    constants: dict[str, str | bool | int | float] = Field(
        default_factory=dict,
        title="Constants",
        description="Columns that the file does not have, each with the one value that every profile gets.",
    )
    types: dict[str, FieldType] = Field(
        default={
            "profile_id": "text",
            "email": "text",
            "birth_date": "date",
            "zip_code": "text",
            "may_contact": "boolean",
        },
        title="Types",
        description="Types by name here. In a CSV file every other column is text; dates are YYYY-MM-DD.",
    )

    @property
    def shown(self) -> str:
        """The file's path."""
        return str(self.path)

    @property
    def cure(self) -> str:
        """Where columns are mapped."""
        return (
            "Map columns of other names in CAMPAIGN_PROFILES__COLUMNS; give a value for every profile in"
            " CAMPAIGN_PROFILES__CONSTANTS."
        )

    def types_of_columns(self) -> pl.Schema:
        """Columns and types as the source names them. Errors: those of `profiles`."""
        return profiles(self).collect_schema()

    def select(self, where: str) -> pl.LazyFrame:
        """The rows that the condition holds for, read lazily. Errors: those of `profiles`."""
        return profiles(self).filter(pl.sql_expr(where))

    def collected(self, table: pl.LazyFrame) -> pl.DataFrame:
        """The rows. Errors: `SourceUnreadable` (a value is not of its column's type)."""
        try:
            return table.collect()
        except (PolarsError, OSError) as error:
            raise _unreadable(self, error) from None

    def batches(self, where: str, size: int, made: Making, *, distinct: bool) -> Iterator[pl.DataFrame]:  # noqa: ARG002
        """The rows, streamed. Errors: as `collected`."""
        table = made(self.select(where))
        try:
            empty = table.head(0).collect()
            batches = table.collect_batches(chunk_size=size)
            yield next(batches, empty)
            yield from batches
        except (PolarsError, OSError) as error:
            raise _unreadable(self, error) from None


def profiles(source: ProfileFile) -> pl.LazyFrame:
    """The file's profiles as a lazy table, its columns named and typed as the source says.

    Errors: `SourceMissing`, `SourceUnreadable`, `ColumnsMissing` (a mapped column is not in the file).
    """
    if not _is_delta(source.path) and not _is_there(source.path):
        raise SourceMissing(
            what="profile file",
            path=source.path,
            setting="CAMPAIGN_PROFILES__PATH",
            hint=", or run `make samples` for made-up profiles",
        )
    in_file = {name: source.columns.get(name, name) for name in {*source.columns, *source.types}}
    wanted = {in_file[name]: TYPES[kind] for name, kind in source.types.items()}
    try:
        table = _scan(source.path, wanted)
        schema = table.collect_schema()
    except (PolarsError, OSError) as error:
        raise _unreadable(source, error) from None
    require_columns(
        pl.DataFrame(schema=schema),
        source.columns.values(),
        activity="The profile mapping (CAMPAIGN_PROFILES__COLUMNS)",
        where=f"'{source.path}'",
    )
    renamed = {there: here for here, there in source.columns.items()}
    selected = [
        as_type(there, schema[there], wanted.get(there, schema[there])).alias(renamed.get(there, there))
        for there in schema.names()
        if there in renamed or there not in {*source.columns, *source.constants}
    ]
    return table.select(selected).with_columns(
        pl.lit(value).alias(name) for name, value in source.constants.items()
    )


def _is_delta(path: Path) -> bool:
    return (path / "_delta_log").is_dir()


def _is_there(path: Path) -> bool:
    """Whether there is a file, a folder of Parquet files, or a file that a pattern fits."""
    if path.is_dir():
        return any(path.rglob("*.parquet"))
    return path.is_file() or any(iglob(str(path), recursive=True))  # noqa: PTH207  # patterns in folders' names too


def _scan(path: Path, types: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    if _is_delta(path):
        return _scan_delta(path)
    return SCANS.get(path.suffix.lower(), _scan_parquet)(path, types)


def _scan_delta(path: Path) -> pl.LazyFrame:
    deltalake = extra_module("deltalake", extra="delta", purpose="reading a Delta table")
    try:
        # Opened here: polars would do it later, where its errors are not looked for.
        return pl.scan_delta(deltalake.DeltaTable(str(path)))
    except deltalake.exceptions.DeltaError as error:
        raise ComputeError(first_line(error)) from None


def _scan_parquet(path: Path, types: Mapping[str, pl.DataType]) -> pl.LazyFrame:  # noqa: ARG001  # it has its own
    return pl.scan_parquet(path)


def _scan_csv(path: Path, types: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    # The reader itself parses the types: a cast after it would keep the filter from being pushed down. It also
    # takes 05/06/1990 for a date, with the day first, so what the texts are is looked at before.
    _check_texts(pl.scan_csv(path, infer_schema=False), types)
    return pl.scan_csv(path, infer_schema=False, schema_overrides=types)


def _scan_ndjson(path: Path, types: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    table = pl.scan_ndjson(path, infer_schema_length=None)
    _check_texts(table, types)
    return table


SCANS: Mapping[str, Callable[[Path, Mapping[str, pl.DataType]], pl.LazyFrame]] = {
    ".csv": _scan_csv,
    ".ndjson": _scan_ndjson,
    ".jsonl": _scan_ndjson,
}
"""Readers of text files, by the file's ending; any other file is Parquet."""


def _check_texts(texts: pl.LazyFrame, types: Mapping[str, pl.DataType]) -> None:
    schema = texts.collect_schema()
    checked = {name: kind for name, kind in types.items() if schema.get(name) == pl.String() and kind in FORMS}
    bad = texts.select(
        _is_not(kind, pl.col(name)).arg_true().first().alias(name) for name, kind in checked.items()
    ).collect()
    for name, kind in checked.items():
        if not bad.is_empty() and bad.item(0, name) is not None:
            # The row, not the value: it may be somebody's.
            raise ComputeError(f"row {bad.item(0, name) + 1} of the column '{name}' is not of the type {kind}")


def _is_not(kind: pl.DataType, text: pl.Expr) -> pl.Expr:
    wrong = ~text.str.contains(FORMS[kind])
    if kind == pl.Date():
        wrong |= text.is_not_null() & text.str.to_date("%Y-%m-%d", strict=False).is_null()
    return wrong


def _unreadable(source: ProfileFile, error: Exception) -> SourceUnreadable:
    return SourceUnreadable(
        what="profile file",
        path=source.path,
        reason=first_line(error),
        cure=(
            "Give a .parquet file, or a .csv (with a header) or .ndjson file, UTF-8 text and dates as YYYY-MM-DD."
        ),
    )
