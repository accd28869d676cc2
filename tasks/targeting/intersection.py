"""Intersection: keeps the members that all inbound populations have in common."""

from dataclasses import dataclass

import polars as pl
from prefect import get_run_logger, task

from tasks.runs.results import ARROW, PER_RUN
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


def intersect(inbound: Populations, options: IntersectionOptions) -> Intersected:
    """The members that all populations share, the primary set's order. Errors: those of `populations.members`."""
    everyone = members(inbound, options, activity="Intersection")
    common = pl.col(SETS) == len(inbound)
    if options.maximum_size is not None:
        common &= common.cum_sum() <= options.maximum_size
    return Intersected(standard=everyone.filter(common).drop(SETS), complement=everyone.filter(~common).drop(SETS))


@task(name="Intersection", task_run_name="Intersection", cache_policy=PER_RUN, result_serializer=ARROW)
def intersection(inbound: Populations, options: IntersectionOptions | None = None) -> Intersected:
    """Keep the members that all inbound populations have in common.

    In: populations by name. Out: `standard`, and `complement` (who is not in all of them, or beyond the maximum
    size); the columns of all populations, or of every one, the primary set's values first.
    Errors: `PopulationUnknown`, `ColumnsMissing`, `ColumnTypesDiffer`.
    Source: Adobe Campaign Standard, Intersection activity.
    """
    outbound = intersect(inbound, options or IntersectionOptions())
    get_run_logger().info(
        "%d members are in all %d populations, %d are not.",
        outbound.standard.height,
        len(inbound),
        outbound.complement.height,
    )
    return outbound
