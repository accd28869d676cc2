"""Exclusion: takes the members of other populations out of the primary set."""

from dataclasses import dataclass

import polars as pl
from prefect import get_run_logger, task
from pydantic import Field

from tasks.errors import PopulationUnknown
from tasks.runs.results import ARROW, PER_RUN
from tasks.tables.populations import Populations, ReconcilingOptions, primary_first, reconciled_columns
from tasks.tables.relations import check_key_types
from tasks.tables.transitions import Transitions, quoted, require_columns


class ExclusionOptions(ReconcilingOptions):
    """Options of the Exclusion activity."""

    rules: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        title="Exclusion rules",
        description=(
            "For populations of another kind: {population: {column of the primary set: column of the population}},"
            " instead of what is reconciled on."
        ),
    )


@dataclass(frozen=True)
class Excluded(Transitions):
    """Outbound transitions of Exclusion."""

    standard: pl.DataFrame
    """Rows of the primary set that no other population has."""
    complement: pl.DataFrame
    """Rows of the primary set that were excluded."""


def exclude(inbound: Populations, options: ExclusionOptions) -> Excluded:
    """The primary set's rows, columns and order, less those that another population has.

    Errors: `PopulationUnknown`, `ColumnsMissing`, `ColumnTypesDiffer`, `KeyTypesDiffer` (a rule's columns).
    """
    ordered = primary_first(inbound, options, activity="Exclusion")
    name, *others = ordered
    for ruled in options.rules:
        if ruled not in others:
            raise PopulationUnknown(activity="Exclusion", name=f"'{ruled}'", present=quoted(others))
    alike = {other: table for other, table in ordered.items() if other not in options.rules}
    columns = reconciled_columns(alike, options, activity="Exclusion") if len(alike) > 1 else []
    place = "\x00place"
    kept = numbered = ordered[name].with_row_index(place)
    for other in others:
        on = options.rules.get(other) or dict(zip(columns, columns, strict=True))
        _check_rule(ordered[name], ordered[other], on, other)
        kept = kept.join(
            ordered[other],
            left_on=list(on),
            right_on=list(on.values()),
            how="anti",
            nulls_equal=options.reconcile_on == "shared_columns" and other not in options.rules,
            maintain_order="left",
        )
    is_kept = pl.col(place).is_in(kept[place].implode())
    return Excluded(standard=kept.drop(place), complement=numbered.filter(~is_kept).drop(place))


def _check_rule(primary: pl.DataFrame, other: pl.DataFrame, on: dict[str, str], name: str) -> None:
    require_columns(primary, on, activity="Exclusion", where="the primary set")
    require_columns(other, on.values(), activity="Exclusion", where=f"'{name}'")
    check_key_types(primary.schema, other.schema, on, name=name)


@task(name="Exclusion", task_run_name="Exclusion", cache_policy=PER_RUN, result_serializer=ARROW)
def exclusion(inbound: Populations, options: ExclusionOptions | None = None) -> Excluded:
    """Take the members of the other populations out of the primary set.

    In: populations by name, the primary set among them. Out: `standard` and `complement` (who was excluded), with
    the primary set's columns. Errors: `PopulationUnknown`, `ColumnsMissing`, `ColumnTypesDiffer`,
    `KeyTypesDiffer`. Source: Adobe Campaign Standard, Exclusion activity.
    """
    outbound = exclude(inbound, options or ExclusionOptions())
    get_run_logger().info("%d members kept, %d excluded.", outbound.standard.height, outbound.complement.height)
    return outbound
