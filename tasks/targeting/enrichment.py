"""Enrichment: adds additional data from another table to the rows of the primary set."""

import polars as pl
from prefect import get_run_logger, task

from tasks.runs.results import ARROW, PER_RUN
from tasks.tables.relations import Relation, link, rows_linked


class EnrichmentOptions(Relation):
    """Options of the Enrichment activity: the relation from the primary set to the additional data."""


def enrich(primary: pl.DataFrame, additional: pl.DataFrame, options: EnrichmentOptions) -> pl.DataFrame:
    """The primary rows, in their order, with one column that holds their additional data, as `Relation` says.

    Null keys link to nothing. Errors: those of `tasks.tables.relations.link`.
    """
    return link(primary, additional, options, activity="Enrichment")


@task(
    name="Enrichment",
    task_run_name="Enrichment {options.name}",
    cache_policy=PER_RUN,
    result_serializer=ARROW,
)
def enrichment(primary: pl.DataFrame, additional: pl.DataFrame, options: EnrichmentOptions) -> pl.DataFrame:
    """Add the linked row, collection or aggregates of another table to each row of the primary set.

    In: the primary set, and additional data: at most one row per key, or any number under `many`.
    Out: the primary set's columns and rows, and a column `options.name`: the linked row as a struct, null where
    there is none; under `many` the rows as a list of structs, the first of them, or their aggregates as a struct.
    Errors: `ColumnsMissing`, `ColumnTaken`, `KeyTypesDiffer`, `CardinalityViolated`, `FilterInvalid`,
    `ExpressionInvalid`. Source: Adobe Campaign Standard, Enrichment activity.
    """
    enriched = enrich(primary, additional, options)
    found = rows_linked(primary, additional, options, activity="Enrichment")
    get_run_logger().info("%d of %d rows have '%s'.", found, enriched.height, options.name)
    return enriched
