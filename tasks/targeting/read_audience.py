"""Read audience: takes a stored population by its name."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from tasks.errors import AudienceMissing, SourceUnreadable
from tasks.files.audiences import AudienceOptions
from tasks.runs.shapes import source_activity, streamed
from tasks.tables.conditions import EVERYTHING, condition, first_line
from tasks.tables.transitions import nearest


class ReadAudienceOptions(AudienceOptions):
    """Options of the Read audience activity."""

    where: str = Field(
        default=EVERYTHING, title="Filter", description="SQL condition over the audience's columns; TRUE takes all."
    )


def stored_audience(options: ReadAudienceOptions) -> pl.LazyFrame:
    """The audience's rows, lazily, for which the filter holds, in the order in which they were saved.

    Errors: `AudienceMissing`, `SourceUnreadable`, `FilterInvalid`, `ColumnsMissing`.
    """
    path = options.path_of(options.name)
    if not path.is_file():
        names = sorted(known.stem for known in options.place.glob("*.parquet"))
        cure = nearest([options.name], names) or "Save it first with Save audience, or correct the name."
        raise AudienceMissing(name=options.name, folder=options.place, cure=cure)
    try:
        table = pl.scan_parquet(path)
        where = condition(
            options.where, table.collect_schema(), activity="Read audience", where=f"'{options.name}'"
        )
        return table.filter(where)
    except (PolarsError, OSError) as error:
        raise _unreadable(path, error) from None


# Not cached: an audience is read as it is when it is read, also after this run has saved it anew.
@source_activity("Read audience", task_run_name="Read audience {options.name}", cache_policy=NO_CACHE)
def read_audience(options: ReadAudienceOptions) -> Iterator[pl.DataFrame]:
    """Take a stored population by its name.

    Out: the columns and rows as they were saved, or those for which the filter holds.
    Errors: `AudienceMissing`, `SourceUnreadable`, `FilterInvalid`, `ColumnsMissing`.
    Source: Adobe Campaign Standard, Read audience activity.

    Example:
        ```python
        options = ReadAudienceOptions(name="VIP", where="zip_code = '80331'")
        vip = read_audience(options)
        ```
    """
    population = stored_audience(options)
    try:
        yield from streamed(population)
    except (PolarsError, OSError) as error:
        raise _unreadable(options.path_of(options.name), error) from None


def _unreadable(path: Path, error: Exception) -> SourceUnreadable:
    return SourceUnreadable(
        what="audience", path=path, reason=first_line(error), cure="Save it again with the mode replace."
    )
