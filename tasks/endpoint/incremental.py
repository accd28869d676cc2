"""What an incremental endpoint keeps: where its answers ended, and new rows put to those of before."""

from datetime import date, datetime

import polars as pl

from tasks.endpoint.endpoint import Incremental
from tasks.endpoint.inbound import as_text
from tasks.errors import ResponseShapeInvalid


def ended_at(kept: pl.DataFrame, options: Incremental) -> str:
    """What `${since}` stands for after the kept rows: the greatest value of the column, or the start."""
    greatest = kept[options.column].max() if options.column in kept.columns else None
    if greatest is None:
        return options.start
    if options.format and isinstance(greatest, date):
        return greatest.strftime(options.format)
    if isinstance(greatest, datetime):
        return f"{greatest.isoformat()}Z"  # moments of a column are in UTC
    return as_text(greatest)


def put_together(kept: pl.DataFrame, new: pl.DataFrame, options: Incremental) -> pl.DataFrame:
    """The kept rows and the new ones, which take the place of those with the same keys.

    Errors: `ResponseShapeInvalid` for more rows than are kept.
    """
    rows = pl.concat([kept.select(new.columns), new])
    if options.merge_on:
        rows = rows.unique(list(options.merge_on), keep="last", maintain_order=True)
    if rows.height > options.max_rows:
        raise ResponseShapeInvalid(
            reason=f"{rows.height} rows would be kept, more than {options.max_rows}",
            cure="Raise incremental.max_rows, or merge_on columns by which rows take the place of others.",
        )
    return rows
