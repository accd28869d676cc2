"""Enrichment: adds additional data from another table to the rows of the primary set."""

import polars as pl

from tasks.runs.shapes import row_activity
from tasks.tables.relations import Relation, link


class EnrichmentOptions(Relation):
    """Options of the Enrichment activity: the relation from the primary set to the additional data."""


@row_activity("Enrichment", task_run_name="Enrichment {options.name}")
def enrichment(primary: pl.DataFrame, additional: pl.DataFrame, options: EnrichmentOptions) -> pl.DataFrame:
    """Add the linked row, collection or aggregates of another table to each row of the primary set.

    In: the primary set, and additional data: at most one row per key, or any number under `many`. An audience given
    as additional data is held in memory.
    Out: the primary set's columns and rows, and a column `options.name`: the linked row as a struct, null where
    there is none; under `many` the rows as a list of structs, the first of them, or their aggregates as a struct.
    Null keys link to nothing.
    Errors: `ColumnsMissing`, `ColumnTaken`, `KeyTypesDiffer`, `CardinalityViolated`, `FilterInvalid`,
    `ExpressionInvalid`. Source: Adobe Campaign Standard, Enrichment activity.

    Example:
        ```python
        purchases = pl.DataFrame({"customer": ["1", "1"], "amount": [20.0, 5.5]})
        by, total = {"profile_id": "customer"}, {"total": "SUM(amount)"}
        options = EnrichmentOptions(name="bought", on=by, cardinality="many", aggregates=total)
        enriched = enrichment(audience, purchases, options)
        ```
    """
    return link(primary, additional, options, activity="Enrichment")
