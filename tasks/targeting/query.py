"""Query: selects the profiles that a condition holds for, and adds additional data to them."""

from calendar import isleap
from datetime import date

import polars as pl
from prefect import get_run_logger, task
from prefect.runtime import task_run

from tasks.runs.partitions import Partitions, stored_partitions
from tasks.runs.results import ARROW, PER_RUN
from tasks.settings import PartitionOptions
from tasks.sources.selection import SelectionOptions, selected_batches, selected_rows


class QueryOptions(SelectionOptions):
    """Options of the Query activity."""


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


def equals(column: str, value: str) -> str:
    """SQL condition: the text in `column` is `value`, whatever characters that has."""
    quoted = value.replace("'", "''")
    return f"{column} = '{quoted}'"


def select_profiles(options: QueryOptions) -> pl.DataFrame:
    """The source's profiles for which the filter holds, with their additions. Errors: those of `selected_rows`."""
    return selected_rows(options, activity="Query")


@task(name="Query", task_run_name="Query", cache_policy=PER_RUN, result_serializer=ARROW)
def query(options: QueryOptions) -> pl.DataFrame:
    """Select the profiles of a file or database table for which a condition holds, and add additional data.

    In: the source and the condition; a file is read lazily with the condition pushed down, a database runs it.
    Out: the source's columns, in its order, each profile key once; the simple fields; a column for each
    additional data, as `tasks.tables.relations.Relation` says.
    Errors: `SourceMissing`, `SourceUnreadable`, `DatabaseFailed`, `ColumnsMissing`, `FilterInvalid`,
    `ExpressionInvalid`, `ColumnTaken`, `KeyTypesDiffer`, `CardinalityViolated`.
    Source: Adobe Campaign Standard, Query activity.
    """
    selected = select_profiles(options)
    get_run_logger().info("%d profiles of '%s' selected.", selected.height, options.source.shown)
    return selected


@task(name="Query", task_run_name="Query", cache_policy=PER_RUN, result_serializer=ARROW)
def query_partitions(options: QueryOptions, partitions: PartitionOptions) -> Partitions:
    """Query, for an audience of any size: the selected profiles are kept as partitions in the result storage.

    In: as Query. Out: references to the partitions, each with Query's columns and rows, together all of them in
    the source's order; one partition at least, if empty. Errors: those of Query, `ResultsUnwritable`.
    """
    batches = selected_batches(options, partitions.size, activity="Query")
    selected = stored_partitions(batches, task_run.id, distinct=options.remove_duplicates)
    get_run_logger().info(
        "%d profiles of '%s' selected. Partitions: %d.",
        selected.height,
        options.source.shown,
        selected.parts.height,
    )
    return selected
