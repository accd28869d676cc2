"""Update data: inserts, updates or deletes rows of a database table, all of them or none."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import time, timedelta
from typing import Any, Literal

import polars as pl
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict, Field, field_validator
from sqlalchemy import (
    ARRAY,
    JSON,
    ColumnElement,
    Connection,
    Table,
    Text,
    and_,
    cast,
    exists,
    or_,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.types import TypeEngine

from tasks.errors import ColumnsMissing, ColumnTypesDiffer
from tasks.runs.sink import sink_activity
from tasks.sources.sql import Database, first_sentence, polars_type, python_type, reflected, transaction
from tasks.sources.staging import BATCH, ROW, Staging, alone, staged, type_names
from tasks.tables.columns import ColumnDefinition
from tasks.tables.natives import AMBIGUOUS, RepeatedHour
from tasks.tables.transitions import Transitions, nearest, quoted, require_columns

COUNTED = ("inserted", "updated", "deleted")
MOST_REFUSED = 1000
"""More rows than this that the database refuses are no bad rows: the whole is refused."""
OF_A_ROW = ("22", "23", "0A", "44", "54", "P0001")
"""PostgreSQL's codes of what it says of a value or a row: bad, against a constraint, view, limit or trigger."""
ALIKE: Mapping[type[pl.DataType], type] = {pl.Time: time, pl.Duration: timedelta, pl.Binary: bytes}
"""Types here that a database keeps in one of its own, and gives as text."""


class UpdateDataOptions(BaseModel):
    """Options of the Update data activity."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    database: Database = Field(title="Database", description="Where the table is.")
    table: str = Field(title="Table", description="Name of the table.")
    key: list[str] = Field(
        min_length=1, title="Reconciliation keys", description="Columns of the table that tell its rows apart."
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        title="Columns",
        description="Columns to write, {column of the table: inbound column}; empty takes all, by their names.",
    )
    operation: Literal["insert_or_update", "insert", "update", "delete"] = Field(
        default="insert_or_update",
        title="Operation",
        description="insert: rows that are there stay as they are; update: rows that are not there are not made.",
    )
    zone: str | None = Field(
        default=None,
        title="Time zone",
        description=(
            "Time zone of the table's moments that have none, as Europe/Berlin: that of the source, where rows are"
            " written back. Empty: UTC, which inbound moments without a zone always are."
        ),
    )
    repeated_hour: RepeatedHour = Field(
        default="bad_value",
        title="Repeated hour",
        description=(
            "Which of the two a moment is that the time zone's clock shows twice in autumn: a row with another, or"
            " under bad_value with any, is rejected."
        ),
    )
    batch_size: int = Field(
        default=BATCH,
        ge=1,
        title="Batch size",
        description="Rows that are on their way at one time; one transaction.",
    )

    @field_validator("zone")
    @classmethod
    def _is_a_zone(cls, name: str | None) -> str | None:
        return None if name is None else ColumnDefinition(key="-", zone=name).zone

    @property
    def shown(self) -> str:
        """The table as logs and errors name it."""
        return self.database.table_shown(self.table)


@dataclass(frozen=True)
class Updated(Transitions):
    """Outbound transitions of Update data."""

    totals = ("counts",)

    standard: pl.DataFrame
    """Inbound rows that were compared with the table, and written where they differ."""
    rejects: pl.DataFrame
    """Inbound rows that the table cannot take, with the reason."""
    counts: pl.DataFrame
    """One row: inserted, updated, deleted, unchanged (the others of the rows that were compared)."""


def update(inbound: pl.DataFrame, options: UpdateDataOptions) -> Updated:
    """Write the rows in one transaction: those that differ from the table's.

    Errors: `DatabaseFailed`, `ExtraMissing`, `ColumnsMissing`, `ColumnTypesDiffer`; nothing was written then.
    """
    with transaction(options.database) as connection:
        target = reflected(connection, options.database, options.table)
        alone(connection, target)
        columns = _written_columns(inbound, target, options)
        reasons = _reasons(inbound, target, columns, options)
        taken = inbound.filter(reasons.is_null())
        counts, refused = _apply(connection, target, _renamed(taken, target, columns, options), options)
    if refused:
        places = reasons.is_null().arg_true().gather(list(refused))
        reasons = reasons.scatter(places, list(refused.values()))
        taken = inbound.filter(reasons.is_null())
    rejects = inbound.with_columns(reasons.alias("reason")).filter(reasons.is_not_null())
    return Updated(
        standard=taken,
        rejects=rejects,
        counts=pl.DataFrame([{**counts, "unchanged": taken.height - sum(counts.values())}]),
    )


def _written_columns(inbound: pl.DataFrame, target: Table, options: UpdateDataOptions) -> dict[str, str]:
    """The table's columns that are written, each with its inbound column, types checked."""
    columns = options.columns or {name: name for name in inbound.columns}
    if options.operation == "delete":
        columns = {key: columns.get(key, key) for key in options.key}
    require_columns(inbound, columns.values(), activity="Update data", where="the inbound transition")
    known = target.columns.keys()
    missing = [name for name in dict.fromkeys([*options.key, *columns]) if name not in known]
    unwritten = [key for key in options.key if key not in columns]
    if missing or unwritten:
        raise ColumnsMissing(
            activity="Update data",
            missing=quoted(missing or unwritten),
            where=f"'{options.shown}'" if missing else "the mapping of columns",
            present=quoted(known if missing else columns),
            cure=nearest(missing, known) or "Correct the keys or the columns.",
        )
    for there, here in columns.items():
        kind, wanted = inbound.schema[here], polars_type(target.columns[there].type)
        if not _fits(kind, wanted, target.columns[there].type):
            types = f"{kind} in the inbound transition, {wanted} in '{options.shown}'"
            raise ColumnTypesDiffer(activity="Update data", column=there, types=types)
    return columns


def _has_zone(kind: pl.DataType) -> bool:
    return isinstance(kind, pl.Datetime) and kind.time_zone is not None


def _fits(kind: pl.DataType, wanted: pl.DataType, there: TypeEngine[Any]) -> bool:
    if kind.is_nested():
        return isinstance(there, JSON) or (isinstance(there, ARRAY) and isinstance(kind, pl.List | pl.Array))
    if type(kind) in ALIKE:
        return python_type(there) is ALIKE[type(kind)]
    moments = isinstance(kind, pl.Date | pl.Datetime) and isinstance(wanted, pl.Datetime)
    widened = kind.is_numeric() and wanted.is_numeric() and (kind.is_integer() or not wanted.is_integer())
    is_text = isinstance(kind, pl.Categorical | pl.Enum) and wanted == pl.String()
    return kind in {wanted, pl.Null()} or moments or widened or is_text


def _reasons(
    inbound: pl.DataFrame, target: Table, columns: dict[str, str], options: UpdateDataOptions
) -> pl.Series:
    """Why the table cannot take a row, or null."""
    keys = [columns[key] for key in options.key]
    reason = (
        pl.when(pl.any_horizontal(pl.col(keys).is_null()))
        .then(pl.lit("it has no key"))
        .when(~pl.struct(keys).is_first_distinct())
        .then(pl.lit("an earlier row has its key"))
    )
    for there, here in columns.items():
        column = target.columns[there]
        kind, wanted = inbound.schema[here], polars_type(column.type)
        if kind == pl.String():
            has_nul = pl.col(here).str.contains("\x00", literal=True)
            reason = reason.when(has_nul).then(pl.lit(f"'{there}' has the character NUL"))
        if isinstance(kind, pl.Decimal) and isinstance(wanted, pl.Decimal) and kind.scale > wanted.scale:
            is_longer = pl.col(here) != pl.col(here).round(wanted.scale)
            reason = reason.when(is_longer).then(pl.lit(f"'{there}' has more than {wanted.scale} decimals"))
        if isinstance(kind, pl.Date | pl.Datetime) and isinstance(wanted, pl.Datetime):
            is_same = _is_same_moment(pl.col(here), kind, wanted, options)
            reason = reason.when(pl.col(here).is_not_null() & ~is_same.fill_null(value=False)).then(
                pl.lit(f"'{there}' is no one moment in {options.zone}")
            )
        length = getattr(column.type, "length", None)
        if length is not None and inbound.schema[here] == pl.String():
            too_long = pl.col(here).str.len_chars() > length
            reason = reason.when(too_long).then(pl.lit(f"'{there}' is longer than {length} characters"))
        if not column.nullable:
            reason = reason.when(pl.col(here).is_null()).then(pl.lit(f"'{there}' must have a value"))
    return inbound.select(reason.otherwise(pl.lit(None, pl.String())).alias("reason")).to_series()


def _moment(column: pl.Expr, kind: pl.DataType, wanted: pl.DataType, options: UpdateDataOptions) -> pl.Expr:
    """A date or moment as the table has it: a date is its midnight there."""
    zone = options.zone or "UTC"
    if not isinstance(kind, pl.Datetime):
        midnight = column.cast(pl.Datetime("us"))
        return _told(midnight, options) if _has_zone(wanted) else midnight
    instant = column if _has_zone(kind) else column.dt.replace_time_zone("UTC")
    return instant if _has_zone(wanted) else instant.dt.convert_time_zone(zone).dt.replace_time_zone(None)


def _told(local: pl.Expr, options: UpdateDataOptions) -> pl.Expr:
    """The moment that the zone's clock shows, in UTC; nothing where it is none, or one of two."""
    ambiguous = AMBIGUOUS[options.repeated_hour]
    told = local.dt.replace_time_zone(options.zone or "UTC", ambiguous=ambiguous, non_existent="null")
    return told.dt.convert_time_zone("UTC")


def _is_same_moment(column: pl.Expr, kind: pl.DataType, wanted: pl.DataType, options: UpdateDataOptions) -> pl.Expr:
    """Whether the table's moment, read again, is the inbound one."""
    moment = _moment(column, kind, wanted, options)
    if _has_zone(wanted) or not isinstance(kind, pl.Datetime):
        return moment.is_not_null()
    utc = column.dt.convert_time_zone("UTC") if _has_zone(kind) else column.dt.replace_time_zone("UTC")
    return _told(moment, options) == utc


def _renamed(
    rows: pl.DataFrame, target: Table, columns: dict[str, str], options: UpdateDataOptions
) -> pl.DataFrame:
    def value(there: str, here: str) -> pl.Expr:
        kind, wanted = rows.schema[here], polars_type(target.columns[there].type)
        is_moment = isinstance(kind, pl.Date | pl.Datetime) and isinstance(wanted, pl.Datetime)
        return _moment(pl.col(here), kind, wanted, options) if is_moment else pl.col(here)

    return rows.select(value(there, here).alias(there) for there, here in columns.items())


Counts = dict[str, int]


def _apply(
    connection: Connection, target: Table, rows: pl.DataFrame, options: UpdateDataOptions
) -> tuple[Counts, dict[int, str]]:
    """What was written, and the staged rows that the database refuses, each with its reason."""
    types = {name: target.columns[name].type for name in rows.columns}
    staging = staged(connection, rows, types, type_names(connection, target), batch=options.batch_size)
    refused: dict[int, str] = {}
    return _written(connection, target, staging, options, rows=range(rows.height), refused=refused), refused


def _written(
    connection: Connection,
    target: Table,
    staging: Staging,
    options: UpdateDataOptions,
    *,
    rows: range,
    refused: dict[int, str],
) -> Counts:
    """Write some staged rows; where the database refuses one, each half by itself, until it is alone."""
    try:
        with connection.begin_nested():
            return _write(connection, target, staging, options, rows)
    except DBAPIError as error:
        if not _is_of_a_row(error):
            raise
        if len(rows) == 1:
            refused[rows[0]] = f"the database refuses it: {first_sentence(error.orig or error)}"
            if len(refused) > MOST_REFUSED:
                raise
            return dict.fromkeys(COUNTED, 0)
    half = len(rows) // 2
    halves = [
        _written(connection, target, staging, options, rows=part, refused=refused)
        for part in (rows[:half], rows[half:])
    ]
    return {name: sum(part[name] for part in halves) for name in COUNTED}


def _is_of_a_row(error: DBAPIError) -> bool:
    code = getattr(error.orig, "sqlstate", None)
    return code.startswith(OF_A_ROW) if code else isinstance(error, IntegrityError)


def _write(
    connection: Connection, target: Table, staging: Staging, options: UpdateDataOptions, rows: range
) -> Counts:
    counts = dict.fromkeys(COUNTED, 0)
    table = staging.table
    chosen = staging.row.between(rows.start, rows.stop - 1)
    same = and_(chosen, *(target.columns[key] == staging.value(key) for key in options.key))
    names = [name for name in table.columns.keys() if name != ROW]  # noqa: SIM118  # names, not columns
    if options.operation == "delete":
        counts["deleted"] = connection.execute(target.delete().where(exists().where(same))).rowcount
    if options.operation in {"update", "insert_or_update"}:
        written = [name for name in names if name not in options.key]
        if written:
            differs = or_(*(_differs(target.columns[name], staging.value(name)) for name in written))
            values = {target.columns[name]: staging.value(name) for name in written}
            counts["updated"] = connection.execute(target.update().values(values).where(same, differs)).rowcount
    if options.operation in {"insert", "insert_or_update"}:
        new = select(*(staging.value(name) for name in names)).where(chosen, ~exists().where(same).correlate(table))
        insert = target.insert().from_select(names, new).execution_options(preserve_rowcount=True)
        counts["inserted"] = connection.execute(insert).rowcount
    if connection.dialect.name == "postgresql":
        # What is checked at the end of the transaction would refuse all rows there.
        connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    return counts


def _differs(column: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[bool]:
    if type(column.type).__name__ in {"JSON", "XML", "NullType"} and not isinstance(column.type, JSONB):
        # Not all of these can be compared.
        return cast(column, Text()).is_distinct_from(cast(value, Text()))
    return column.is_distinct_from(value)


# Not cached: the table may have changed since.
@sink_activity(
    "Update data",
    task_run_name="Update data {options.table}",
    cache_policy=NO_CACHE,
    key=lambda options: [options.columns.get(name, name) for name in options.key],
)
def update_data(inbound: pl.DataFrame, options: UpdateDataOptions) -> Updated:
    """Insert, update or delete the rows of a database table that differ from the inbound ones.

    In: rows with the table's columns, or mapped to them. Out: `standard` (rows that were compared), `rejects`
    (rows without key, with the key of an earlier row, or that the table cannot take; with the reason),
    `counts` (inserted, updated, deleted, unchanged). One transaction a part: all of it is written, or
    nothing.
    Errors: `DatabaseFailed`, `ExtraMissing`, `ColumnsMissing`, `ColumnTypesDiffer`.
    Source: Adobe Campaign Standard, Update data activity.

    Example:
        ```python
        columns = {"id": "profile_id", "mail": "email"}
        options = UpdateDataOptions(database=database, table="customers", key=["id"], columns=columns)
        updated = update_data(audience, options)
        ```
    """
    return update(inbound, options)
