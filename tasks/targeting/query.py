"""Query: selects the profiles that a condition holds for, and adds additional data to them."""

from calendar import isleap
from collections.abc import Iterator, Mapping
from datetime import date

import polars as pl

from tasks.runs.log import run_logger
from tasks.runs.shapes import source_activity
from tasks.runs.table import part_size
from tasks.sources.rejects import Rejects
from tasks.sources.selection import SelectionOptions, selected_batches

WHITE_SPACE = " \t\n\r\x0b\x0c\x85\xa0\u2002\u2003\u2007\u2009\u200a\u200b\u202f\u3000\ufeff"
"""What a text that is blank consists of: SQL's TRIM knows spaces alone."""


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
    return f"TRIM(BOTH '{WHITE_SPACE}' FROM {column}) <> ''"


def equals(column: str, value: str) -> str:
    """SQL condition: the text in `column` is `value`, whatever characters that has."""
    quoted = value.replace("'", "''")
    return f"{column} = '{quoted}'"


@source_activity("Query", distinct=lambda options: options.source.key if options.remove_duplicates else "")
def query(options: QueryOptions) -> Mapping[str, Iterator[pl.DataFrame]]:
    """Select the profiles of a file or database table for which a condition holds, and add additional data.

    In: the source and the condition; a file is read lazily with the condition pushed down, a database runs it.
    Out: the audience: the source's columns, in its order, each profile key once; the simple fields; a column for
    each additional data, as `tasks.tables.relations.Relation` says. `rejects`: rows that the source rejects, as its
    options say: profile_id, email (null), reason, row, column, value (as it came).
    Errors: `SourceMissing`, `SourceUnreadable`, `DatabaseFailed`, `ColumnsMissing`, `FilterInvalid`,
    `ExpressionInvalid`, `ColumnTaken`, `KeyTypesDiffer`, `CardinalityViolated`, `ResultsUnwritable`.
    Source: Adobe Campaign Standard, Query activity.

    Example:
        ```python
        options = QueryOptions(source=settings.profiles, where="may_contact AND zip_code LIKE '80%'")
        munich = query(options)
        ```
    """
    run_logger().info("Profiles of '%s' are selected.", options.source.shown)
    rejects = Rejects()
    selected = selected_batches(options, part_size(), activity="Query", rejects=rejects)
    return {"standard": selected, "rejects": rejects.shown(options.source.shown)}
