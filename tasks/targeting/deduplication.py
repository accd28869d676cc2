"""Deduplication: keeps one row, or a few, of those that are equal in some columns."""

from dataclasses import dataclass

import polars as pl
from prefect import get_run_logger, task
from pydantic import BaseModel, ConfigDict, Field

from tasks.results import ARROW, PER_RUN
from tasks.tables import Transitions, require_columns


class DeduplicationOptions(BaseModel):
    """Options of the Deduplication activity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: list[str] = Field(
        min_length=1, title="Columns", description="Rows that are equal in all of these are duplicates."
    )
    keep: int = Field(
        default=1,
        ge=0,
        title="Keep",
        description="How many of each group of duplicates to keep; 0 keeps all.",
    )


@dataclass(frozen=True)
class Deduplicated(Transitions):
    """Outbound transitions of Deduplication."""

    standard: pl.DataFrame
    """Rows that were kept."""
    complement: pl.DataFrame
    """Duplicates that were left out."""


def deduplicate(inbound: pl.DataFrame, options: DeduplicationOptions) -> Deduplicated:
    """Split the rows into those kept (the first of each group) and their duplicates, both in inbound order.

    Nulls are equal to each other. Errors: `ColumnsMissing`.
    """
    require_columns(inbound, options.columns, activity="Deduplication", where="the inbound transition")
    if options.keep == 0:
        return Deduplicated(standard=inbound, complement=inbound.clear())
    kept = inbound.select(pl.int_range(pl.len()).over(options.columns) < options.keep).to_series()
    return Deduplicated(standard=inbound.filter(kept), complement=inbound.filter(~kept))


@task(name="Deduplication", task_run_name="Deduplication", cache_policy=PER_RUN, result_serializer=ARROW)
def deduplication(inbound: pl.DataFrame, options: DeduplicationOptions) -> Deduplicated:
    """Keep one row, or a few, of those that are equal in some columns.

    In: any table with the options' columns. Out: `standard`, the rows kept, and `complement`, their duplicates;
    columns as inbound. Errors: `ColumnsMissing`. Source: Adobe Campaign Standard, Deduplication activity.
    """
    outbound = deduplicate(inbound, options)
    get_run_logger().info(
        "%d rows kept, %d duplicates left out.", outbound.standard.height, outbound.complement.height
    )
    return outbound
