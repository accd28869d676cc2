"""Exclusion: takes the members of other populations out of the primary set."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import polars as pl
from pydantic import Field

from tasks.errors import PopulationUnknown
from tasks.runs.audience import Audience
from tasks.runs.shapes import Lazily, row_activity, table_activity
from tasks.tables.populations import Populations, ReconcilingOptions, primary_first, reconciled_columns
from tasks.tables.relations import check_key_types
from tasks.tables.transitions import Transitions, quoted, require_columns

PLACE = "\x00place"
"""A row's number in the primary set."""


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


@row_activity("Exclusion")
def exclusion_of_few(
    inbound: pl.DataFrame, name: str, others: dict[str, pl.DataFrame], options: ExclusionOptions
) -> Excluded:
    """Exclusion where the other populations are in memory: each row of the primary set by itself.

    In: the primary set, its name, the other populations by name. Out and errors: as `exclusion`.
    """
    made = _excluded({name: inbound.lazy(), **{other: table.lazy() for other, table in others.items()}}, options)
    standard, complement = pl.collect_all([made["standard"], made["complement"]])
    return Excluded(standard, complement)


def _by_rows(
    inbound: Mapping[str, Audience | pl.DataFrame], options: ExclusionOptions | None = None
) -> Callable[..., Audience] | None:
    """The call for a primary set in parts, if nothing else is in parts."""
    chosen = options or ExclusionOptions()
    in_parts = {name: one for name, one in inbound.items() if isinstance(one, Audience) and not one.in_memory}
    if [*in_parts] != [chosen.primary or next(iter(inbound), "")]:
        return None
    ((name, people),) = in_parts.items()
    few = {other: one for other, one in inbound.items() if other != name}
    met = people.after(one for one in few.values() if isinstance(one, Audience))
    tables = {other: one.collect() if isinstance(one, Audience) else one for other, one in few.items()}
    return partial(exclusion_of_few, met, name, tables, chosen)


@table_activity("Exclusion", gives=Excluded, by_rows=_by_rows)
def exclusion(inbound: Populations, options: ExclusionOptions | None = None) -> Lazily:
    """Take the members of the other populations out of the primary set.

    In: populations by name, the primary set among them. Out: `standard` and `complement` (who was excluded), with
    the primary set's columns, in its order. Errors: `PopulationUnknown`, `ColumnsMissing`, `ColumnTypesDiffer`,
    `KeyTypesDiffer` (a rule's columns). Source: Adobe Campaign Standard, Exclusion activity.

    Example:
        ```python
        written_to = pl.DataFrame({"profile_id": ["2"]})
        rest = exclusion({"profiles": audience, "written to": written_to})
        ```
    """
    chosen = options or ExclusionOptions()
    return _excluded(primary_first(inbound, chosen, activity="Exclusion"), chosen)


def _excluded(ordered: Populations, chosen: ExclusionOptions) -> dict[str, pl.LazyFrame]:
    """The transitions; the primary set is the first of the populations."""
    name, *others = ordered
    for ruled in chosen.rules:
        if ruled not in others:
            raise PopulationUnknown(activity="Exclusion", name=f"'{ruled}'", present=quoted(others))
    alike = {other: table for other, table in ordered.items() if other not in chosen.rules}
    columns = reconciled_columns(alike, chosen, activity="Exclusion") if len(alike) > 1 else []
    rows = ordered[name].with_row_index(PLACE)
    kept = rows
    for other in others:
        on = chosen.rules.get(other) or dict(zip(columns, columns, strict=True))
        _check_rule(ordered[name].collect_schema(), ordered[other].collect_schema(), on, other)
        kept = kept.join(
            ordered[other].select(on.values()),
            left_on=list(on),
            right_on=list(on.values()),
            how="anti",
            nulls_equal=chosen.reconcile_on == "shared_columns" and other not in chosen.rules,
            maintain_order="left",
        )
    excluded = rows.join(kept.select(PLACE), on=PLACE, how="anti", maintain_order="left")
    return {"standard": kept.drop(PLACE), "complement": excluded.drop(PLACE)}


def _check_rule(primary: pl.Schema, other: pl.Schema, on: dict[str, str], name: str) -> None:
    require_columns(primary, on, activity="Exclusion", where="the primary set")
    require_columns(other, on.values(), activity="Exclusion", where=f"'{name}'")
    check_key_types(primary, other, on, name=name)
