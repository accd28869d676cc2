"""Query: selects the profiles that a condition holds for, and adds additional data to them."""

from calendar import isleap
from datetime import date

import polars as pl
from prefect import get_run_logger, task
from pydantic import BaseModel, ConfigDict, Field

from tasks.conditions import EVERYTHING, condition, expressions
from tasks.errors import ColumnTaken
from tasks.relations import Relation, check_key_types, link
from tasks.results import ARROW, PER_RUN
from tasks.sources.database import DatabaseTable
from tasks.sources.files import ProfileFile
from tasks.tables import require_columns


class AdditionalData(Relation):
    """Additional data of the selected profiles, from a source of its own."""

    source: ProfileFile | DatabaseTable = Field(title="Source", description="Where the additional data is.")


class QueryOptions(BaseModel):
    """Options of the Query activity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: ProfileFile | DatabaseTable = Field(title="Source", description="Where the profiles are.")
    where: str = Field(
        default=EVERYTHING,
        title="Filter",
        description="SQL condition over the source's columns, for example birth_date IS NOT NULL.",
    )
    remove_duplicates: bool = Field(
        default=True, title="Remove duplicates", description="Take each profile key once."
    )
    fields: dict[str, str] = Field(
        default_factory=dict,
        title="Simple fields",
        description="Columns to add, {name: SQL expression}, for example {initial: LEFT(first_name, 1)}.",
    )
    additional_data: list[AdditionalData] = Field(
        default_factory=list,
        title="Additional data",
        description="Linked rows, collections (the last transaction) and aggregates of other sources to add.",
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


def select_profiles(options: QueryOptions) -> pl.DataFrame:
    """The source's profiles for which the filter holds, each key once, in the source's order, with their additions.

    Errors: those of the source and of `tasks.relations.link`; `FilterInvalid`, `ExpressionInvalid`, `ColumnTaken`,
    `ColumnsMissing` (the filter, a field or the key names a column that the source does not have).
    """
    source = options.source
    schema = source.types_of_columns()
    condition(options.where, schema, activity="Query", where=f"'{source.shown}'", cure=source.cure)
    selected = source.select(options.where)
    if options.remove_duplicates:
        require_columns(pl.DataFrame(schema=schema), [source.key], activity="Query", where=f"'{source.shown}'")
        key = pl.col(source.key)
        selected = selected.filter(key.is_null() | key.is_first_distinct())
    taken = next((name for name in options.fields if name in schema), None)
    if taken is not None:
        raise ColumnTaken(activity="Query", name=taken)
    fields = expressions(options.fields, schema, activity="Query", where=f"'{source.shown}'")
    profiles = source.collected(selected.with_columns(fields))
    for additional in options.additional_data:
        profiles = _with_additional_data(profiles, additional)
    return profiles


def _with_additional_data(profiles: pl.DataFrame, additional: AdditionalData) -> pl.DataFrame:
    """The profiles with their additional data; only rows of selected profiles are read into memory."""
    source, activity = additional.source, f"Query, '{additional.name}'"
    schema = source.types_of_columns()
    there = list(additional.on.values())
    condition(additional.where, schema, activity=activity, where=f"'{source.shown}'", cure=source.cure)
    require_columns(profiles, additional.on, activity=activity, where="the selected profiles")
    require_columns(pl.DataFrame(schema=schema), there, activity=activity, where=f"'{source.shown}'")
    check_key_types(profiles.schema, schema, additional.on, name=additional.name)
    wanted = source.select(additional.where).join(
        profiles.lazy().select(list(additional.on)), left_on=there, right_on=list(additional.on), how="semi"
    )
    return link(profiles, source.collected(wanted), additional, activity=activity)


@task(name="Query", task_run_name="Query", cache_policy=PER_RUN, result_serializer=ARROW)
def query(options: QueryOptions) -> pl.DataFrame:
    """Select the profiles of a file or database table for which a condition holds, and add additional data.

    In: the source and the condition; a file is read lazily with the condition pushed down, a database runs it.
    Out: the source's columns, in its order, each profile key once; the simple fields; a column for each
    additional data, as `tasks.relations.Relation` says.
    Errors: `SourceMissing`, `SourceUnreadable`, `DatabaseFailed`, `ColumnsMissing`, `FilterInvalid`,
    `ExpressionInvalid`, `ColumnTaken`, `KeyTypesDiffer`, `CardinalityViolated`.
    Source: Adobe Campaign Standard, Query activity.
    """
    selected = select_profiles(options)
    get_run_logger().info("%d profiles of '%s' selected.", selected.height, options.source.shown)
    return selected
