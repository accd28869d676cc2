"""Enrichment: adds additional data from another table to the rows of the primary set."""

from typing import Literal

import polars as pl
from prefect import get_run_logger, task
from pydantic import BaseModel, ConfigDict, Field

from tasks.errors import CardinalityViolated, ColumnTaken, KeyTypesDiffer
from tasks.results import ARROW, PER_RUN
from tasks.tables import quoted, require_columns

Cardinality = Literal["exactly_one", "zero_or_one"]


class EnrichmentOptions(BaseModel):
    """Options of the Enrichment activity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        title="Name", description="Name of the additional data: the column that will hold it for each row."
    )
    on: dict[str, str] = Field(
        min_length=1,
        title="On",
        description="Columns that link the two sets, {column of the primary set: column of the other}.",
    )
    cardinality: Cardinality = Field(
        default="zero_or_one",
        title="Cardinality",
        description="How many rows of the other set a row of the primary set has: exactly_one or zero_or_one.",
    )


def enrich(primary: pl.DataFrame, additional: pl.DataFrame, options: EnrichmentOptions) -> pl.DataFrame:
    """The primary rows, in their order, with one struct column that holds their row of `additional`, or null.

    Null keys link to nothing. Errors: `ColumnsMissing`, `ColumnTaken`, `KeyTypesDiffer`; `CardinalityViolated`,
    naming the key: two rows for one key, or under `exactly_one` a primary row without any.
    """
    name, here, there = options.name, list(options.on), list(options.on.values())
    require_columns(primary, here, activity="Enrichment", where="the primary set")
    require_columns(additional, there, activity="Enrichment", where=f"'{name}'")
    if name in primary.columns:
        raise ColumnTaken(activity="Enrichment", name=name)
    for key, other in options.on.items():
        if primary.schema[key] != additional.schema[other]:
            raise KeyTypesDiffer(
                name=name,
                here=key,
                here_type=primary.schema[key],
                there=other,
                there_type=additional.schema[other],
            )
    linkable = additional.drop_nulls(there)
    _check_unique(linkable, there, options)
    side = linkable.select(
        *(pl.col(column).alias(f"\x00{column}") for column in there), pl.struct(pl.all()).alias(name)
    )
    enriched = primary.join(
        side, left_on=here, right_on=[f"\x00{column}" for column in there], how="left", maintain_order="left"
    )
    if options.cardinality == "exactly_one":
        _check_complete(enriched, here, options)
    return enriched


def _check_unique(additional: pl.DataFrame, keys: list[str], options: EnrichmentOptions) -> None:
    repeated = additional.group_by(keys, maintain_order=True).len("\x00rows").filter(pl.col("\x00rows") > 1)
    if not repeated.is_empty():
        row = repeated.row(0, named=True)
        raise CardinalityViolated(
            name=options.name,
            rows=row["\x00rows"],
            key=" and ".join(f"{key} {row[key]!r}" for key in keys),
            cardinality=options.cardinality.replace("_", " "),
            columns=quoted(keys),
        )


def _check_complete(enriched: pl.DataFrame, keys: list[str], options: EnrichmentOptions) -> None:
    lacking = enriched[options.name].null_count()
    if lacking:
        raise CardinalityViolated(
            name=options.name,
            rows="no",
            # The rows are people's: how many, not which.
            key=f"the {' and '.join(keys)} of {lacking} rows",
            cardinality="exactly one",
            columns=quoted(options.on.values()),
        )


@task(
    name="Enrichment",
    task_run_name="Enrichment {options.name}",
    cache_policy=PER_RUN,
    result_serializer=ARROW,
)
def enrichment(primary: pl.DataFrame, additional: pl.DataFrame, options: EnrichmentOptions) -> pl.DataFrame:
    """Add the linked row of another table to each row of the primary set.

    In: the primary set, and additional data with at most one row per key.
    Out: the primary set's columns and rows, and a struct column `options.name` with all columns of the
    additional data, null where there is no row for the key.
    Errors: `ColumnsMissing`, `ColumnTaken`, `KeyTypesDiffer`, `CardinalityViolated`.
    Source: Adobe Campaign Standard, Enrichment activity.
    """
    enriched = enrich(primary, additional, options)
    found = enriched[options.name].is_not_null().sum()
    get_run_logger().info("%d of %d rows have '%s'.", found, enriched.height, options.name)
    return enriched
