"""Union: makes one population of several, each member once."""

from dataclasses import dataclass

import polars as pl

from tasks.runs.shapes import Lazily, table_activity
from tasks.tables.populations import SETS, MergingOptions, Populations, members
from tasks.tables.transitions import Transitions


class UnionOptions(MergingOptions):
    """Options of the Union activity."""


@dataclass(frozen=True)
class United(Transitions):
    """Outbound transitions of Union."""

    standard: pl.DataFrame
    """Members of any inbound population, each once."""
    complement: pl.DataFrame
    """Members beyond the maximum size."""


@table_activity(
    "Union",
    gives=United,
    stays_distinct=lambda column, options: (options or UnionOptions()).tells_apart_by(column),
)
def union(inbound: Populations, options: UnionOptions | None = None) -> Lazily:
    """Bring several populations together, each member once, the primary set's members first.

    In: populations by name. Out: `standard` and `complement` (beyond the maximum size); the columns of all
    populations, or of every one, each value from the first population, primary set first, that has it.
    Errors: `PopulationUnknown`, `ColumnsMissing`, `ColumnTypesDiffer`.
    Source: Adobe Campaign Standard, Union activity.

    Example:
        ```python
        guests = pl.DataFrame({"profile_id": ["9"], "email": ["guest@people.test"]})
        everyone = union({"profiles": audience, "guests": guests})
        ```
    """
    chosen = options or UnionOptions()
    everyone = members(inbound, chosen, activity="Union").drop(SETS)
    if chosen.maximum_size is None:
        return {"standard": everyone, "complement": everyone.head(0)}
    size = chosen.maximum_size
    return {"standard": everyone.head(size), "complement": everyone.slice(size)}
