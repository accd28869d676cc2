"""Update data: inserts, updates or deletes rows of a database table, all of them or none."""

from dataclasses import dataclass
from typing import Any, Literal

import polars as pl
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ARRAY, JSON, ColumnElement, Connection, Table, Text, and_, cast, exists, or_, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DataError, IntegrityError, NotSupportedError
from sqlalchemy.types import TypeEngine

from tasks.errors import ColumnsMissing, ColumnTypesDiffer
from tasks.runs.sink import sink_activity
from tasks.sources.sql import Database, first_sentence, polars_type, reflected, transaction
from tasks.sources.staging import BATCH, ROW, Staging, alone, staged, type_names
from tasks.tables.transitions import Transitions, nearest, quoted, require_columns

COUNTED = ("inserted", "updated", "deleted")
MOST_REFUSED = 1000
"""More rows than this that the database refuses are no bad rows: the whole is refused."""


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
    batch_size: int = Field(
        default=BATCH,
        ge=1,
        title="Batch size",
        description="Rows that are on their way at one time; one transaction.",
    )


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
        counts, refused = _apply(connection, target, _renamed(taken, columns), options)
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
            where=f"'{_shown(options)}'" if missing else "the mapping of columns",
            present=quoted(known if missing else columns),
            cure=nearest(missing, known) or "Correct the keys or the columns.",
        )
    for there, here in columns.items():
        kind, wanted = inbound.schema[here], polars_type(target.columns[there].type)
        if not _fits(kind, wanted, target.columns[there].type):
            types = f"{kind} in the inbound transition, {wanted} in '{_shown(options)}'"
            raise ColumnTypesDiffer(activity="Update data", column=there, types=types)
    return columns


def _shown(options: UpdateDataOptions) -> str:
    schema = options.database.schema_name
    return f"{schema}.{options.table}" if schema else options.table


def _fits(kind: pl.DataType, wanted: pl.DataType, there: TypeEngine[Any]) -> bool:
    if kind.is_nested():
        return isinstance(there, JSON) or (isinstance(there, ARRAY) and isinstance(kind, pl.List))
    moments = isinstance(kind, pl.Date | pl.Datetime) and isinstance(wanted, pl.Datetime)
    widened = kind.is_numeric() and wanted.is_numeric() and (kind.is_integer() or not wanted.is_integer())
    return kind in {wanted, pl.Null()} or moments or widened


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
        length = getattr(column.type, "length", None)
        if length is not None and inbound.schema[here] == pl.String():
            too_long = pl.col(here).str.len_chars() > length
            reason = reason.when(too_long).then(pl.lit(f"'{there}' is longer than {length} characters"))
        if not column.nullable:
            reason = reason.when(pl.col(here).is_null()).then(pl.lit(f"'{there}' must have a value"))
    return inbound.select(reason.otherwise(pl.lit(None, pl.String())).alias("reason")).to_series()


def _renamed(rows: pl.DataFrame, columns: dict[str, str]) -> pl.DataFrame:
    return rows.select(pl.col(here).alias(there) for there, here in columns.items())


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
    except (IntegrityError, DataError, NotSupportedError) as error:
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
    (rows without key, with the key of an earlier row, or that break a length or a required value; with the reason),
    `counts` (inserted, updated, deleted, unchanged). One transaction a part: all of it is written, or
    nothing.
    Errors: `DatabaseFailed`, `ExtraMissing`, `ColumnsMissing`, `ColumnTypesDiffer`.
    Source: Adobe Campaign Standard, Update data activity.
    """
    return update(inbound, options)
