"""Intersection: keeps the members that all inbound populations have in common."""

from dataclasses import dataclass

import polars as pl

from tasks.runs.shapes import Lazily, table_activity
from tasks.tables.populations import SETS, MergingOptions, Populations, members
from tasks.tables.transitions import Transitions


class IntersectionOptions(MergingOptions):
    """Options of the Intersection activity."""


@dataclass(frozen=True)
class Intersected(Transitions):
    """Outbound transitions of Intersection."""

    standard: pl.DataFrame
    """Members of every inbound population, each once."""
    complement: pl.DataFrame
    """Members of some populations only, and those beyond the maximum size."""


@table_activity(
    "Intersection",
    gives=Intersected,
    stays_distinct=lambda column, options: (options or IntersectionOptions()).tells_apart_by(column),
)
def intersection(inbound: Populations, options: IntersectionOptions | None = None) -> Lazily:
    """Keep the members that all inbound populations have in common.

    In: populations by name. Out: `standard`, in the primary set's order, and `complement` (who is not in all of
    them, or beyond the maximum size); the columns of all populations, or of every one, the primary set's values
    first. Errors: `PopulationUnknown`, `ColumnsMissing`, `ColumnTypesDiffer`.
    Source: Adobe Campaign Standard, Intersection activity.

    Example:
        ```python
        buyers = pl.DataFrame({"profile_id": ["1", "3"]})
        both = intersection({"profiles": audience, "buyers": buyers})
        ```
    """
    chosen = options or IntersectionOptions()
    everyone = members(inbound, chosen, activity="Intersection")
    common = pl.col(SETS) == len(inbound)
    if chosen.maximum_size is not None:
        common &= common.cum_sum() <= chosen.maximum_size
    return {"standard": everyone.filter(common).drop(SETS), "complement": everyone.filter(~common).drop(SETS)}
