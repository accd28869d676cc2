"""Union: makes one population of several, each member once."""

from dataclasses import dataclass

import polars as pl
from prefect import get_run_logger, task

from tasks.runs.results import ARROW, PER_RUN
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


def unite(inbound: Populations, options: UnionOptions) -> United:
    """Every member of any population once, the primary set's first. Errors: those of `populations.members`."""
    everyone = members(inbound, options, activity="Union").drop(SETS)
    size = everyone.height if options.maximum_size is None else options.maximum_size
    return United(standard=everyone.head(size), complement=everyone.slice(size))


@task(name="Union", task_run_name="Union", cache_policy=PER_RUN, result_serializer=ARROW)
def union(inbound: Populations, options: UnionOptions | None = None) -> United:
    """Bring several populations together, each member once.

    In: populations by name. Out: `standard` and `complement` (beyond the maximum size); the columns of all
    populations, or of every one, each value from the first population, primary set first, that has it.
    Errors: `PopulationUnknown`, `ColumnsMissing`, `ColumnTypesDiffer`.
    Source: Adobe Campaign Standard, Union activity.
    """
    outbound = unite(inbound, options or UnionOptions())
    get_run_logger().info(
        "%d members of %d populations, %d left out by the maximum size.",
        outbound.standard.height,
        len(inbound),
        outbound.complement.height,
    )
    return outbound
