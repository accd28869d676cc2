"""Query: selects the profiles that a condition holds for, from a Parquet or CSV file."""

from calendar import isleap
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Literal

import polars as pl
from polars.exceptions import ComputeError, PolarsError
from prefect import get_run_logger, task
from pydantic import BaseModel, ConfigDict, Field

from tasks.errors import ColumnsMissing, FilterInvalid, SourceMissing, SourceUnreadable
from tasks.results import ARROW, PER_RUN
from tasks.tables import nearest, quoted

FieldType = Literal["text", "date", "boolean", "integer", "number"]

TYPES: Mapping[FieldType, pl.DataType] = {
    "text": pl.String(),
    "date": pl.Date(),
    "boolean": pl.Boolean(),
    "integer": pl.Int64(),
    "number": pl.Float64(),
}

FORMS: Mapping[pl.DataType, str] = {
    pl.Date(): r"^\d{4}-\d{2}-\d{2}$",
    pl.Boolean(): r"^(?i:true|false)$",
    pl.Int64(): r"^[+-]?\d+$",
    pl.Float64(): r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$",
}
"""What a CSV file's texts of a type look like."""


class ProfileFile(BaseModel):
    """A file of profiles and how its columns are named here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = Field(
        default=Path("samples/profiles.parquet"),
        title="Profile file",
        description="Parquet (.parquet) or comma-separated (.csv, UTF-8, with a header) file of profiles.",
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
    key: str = Field(
        default="profile_id",
        title="Key",
        description="Column that tells profiles apart; of profiles with the same key the first is taken.",
    )


class QueryOptions(BaseModel):
    """Options of the Query activity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: ProfileFile = Field(title="Source", description="Where the profiles are.")
    where: str = Field(
        default="TRUE",
        title="Filter",
        description="SQL condition over the source's columns, for example birth_date IS NOT NULL.",
    )
    remove_duplicates: bool = Field(
        default=True, title="Remove duplicates", description="Take each profile key once."
    )


def birthday_on(column: str, day: date) -> str:
    """SQL condition: the date in `column` has its anniversary on `day`.

    Who was born on February 29 has it on February 28 in years without that day.
    """
    days = [day.day]
    if (day.month, day.day) == (2, 28) and not isleap(day.year):
        days.append(29)
    return (
        f"EXTRACT(MONTH FROM {column}) = {day.month}"
        f" AND EXTRACT(DAY FROM {column}) IN ({', '.join(map(str, days))})"
    )


def has_text(column: str) -> str:
    """SQL condition: the text in `column` is neither null nor blank."""
    return f"TRIM({column}) <> ''"


def profiles(source: ProfileFile) -> pl.LazyFrame:
    """The file's profiles as a lazy table, its columns named and typed as the source says.

    Errors: `SourceMissing`, `SourceUnreadable`, `ColumnsMissing` (a mapped column is not in the file).
    """
    if not source.path.is_file():
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
        present = table.collect_schema().names()
    except (PolarsError, OSError) as error:
        raise _unreadable(source, error) from None
    missing = [name for name in source.columns.values() if name not in present]
    if missing:
        raise ColumnsMissing(
            activity="The profile mapping (CAMPAIGN_PROFILES__COLUMNS)",
            missing=quoted(missing),
            where=f"'{source.path}'",
            present=quoted(present),
            cure=nearest(missing, present) or "Correct the mapping.",
        )
    renamed = {there: here for here, there in source.columns.items()}
    selected = [
        _typed(there, wanted, source.path).alias(renamed.get(there, there))
        for there in present
        if there in renamed or there not in {*source.columns, *source.constants}
    ]
    return table.select(selected).with_columns(
        pl.lit(value).alias(name) for name, value in source.constants.items()
    )


def _scan(path: Path, types: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    if path.suffix.lower() != ".csv":
        return pl.scan_parquet(path)
    # The reader itself parses the types: a cast after it would keep the filter from being pushed down. It also
    # takes 05/06/1990 for a date, with the day first, so what the texts are is looked at before.
    _check_texts(path, types)
    return pl.scan_csv(path, infer_schema=False, schema_overrides=types)


def _check_texts(path: Path, types: Mapping[str, pl.DataType]) -> None:
    texts = pl.scan_csv(path, infer_schema=False)
    checked = {name: kind for name, kind in types.items() if name in texts.collect_schema() and kind in FORMS}
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


def _typed(column: str, types: Mapping[str, pl.DataType], path: Path) -> pl.Expr:
    if column in types and path.suffix.lower() != ".csv":
        return pl.col(column).cast(types[column])
    return pl.col(column)


def _unreadable(source: ProfileFile, error: Exception) -> SourceUnreadable:
    return SourceUnreadable(
        what="profile file",
        path=source.path,
        reason=_first_line(error),
        cure="Give a .parquet file, or a .csv file with a header, UTF-8 text and dates as YYYY-MM-DD.",
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(". ")


def select_profiles(options: QueryOptions) -> pl.DataFrame:
    """The source's profiles for which the filter holds, each key once, in the file's order.

    Errors: those of `profiles`, `FilterInvalid`, `ColumnsMissing` (the filter or the key names a column that
    the source does not have), `SourceUnreadable` (a value is not of its column's type).
    """
    table = profiles(options.source)
    selected = table.filter(_condition(options, table.collect_schema()))
    if options.remove_duplicates:
        key = pl.col(options.source.key)
        selected = selected.filter(key.is_null() | key.is_first_distinct())
    try:
        return selected.collect()
    except (PolarsError, OSError) as error:
        raise _unreadable(options.source, error) from None


def _condition(options: QueryOptions, schema: pl.Schema) -> pl.Expr:
    """The filter as an expression that was tried on no rows, so that a wrong one fails before the file is read."""
    present = schema.names()
    try:
        condition = pl.sql_expr(options.where)
        missing = [name for name in _columns_of(options, condition) if name not in present]
        if not missing:
            pl.DataFrame(schema=schema).filter(condition)
            return condition
    except PolarsError as error:
        raise FilterInvalid(filter=options.where, reason=_first_line(error), present=quoted(present)) from None
    raise ColumnsMissing(
        activity="Query",
        missing=quoted(missing),
        where=f"'{options.source.path}'",
        present=quoted(present),
        cure=(
            f"{nearest(missing, present)} Map columns of other names in CAMPAIGN_PROFILES__COLUMNS; give a value"
            " for every profile in CAMPAIGN_PROFILES__CONSTANTS."
        ).strip(),
    )


def _columns_of(options: QueryOptions, condition: pl.Expr) -> list[str]:
    return list(dict.fromkeys([options.source.key, *condition.meta.root_names()]))


@task(name="Query", task_run_name="Query", cache_policy=PER_RUN, result_serializer=ARROW)
def query(options: QueryOptions) -> pl.DataFrame:
    """Select the profiles of a Parquet or CSV file for which a condition holds.

    In: the source and the condition; the file is read lazily, with the condition pushed down.
    Out: the source's columns, in the file's order, each profile key once.
    Errors: `SourceMissing`, `SourceUnreadable`, `ColumnsMissing`, `FilterInvalid`.
    Source: Adobe Campaign Standard, Query activity.
    """
    selected = select_profiles(options)
    get_run_logger().info("%d profiles of '%s' selected.", selected.height, options.source.path.name)
    return selected
