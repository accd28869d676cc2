"""Several populations that are brought together: which of their rows are the same member, and whose values win."""

from collections.abc import Mapping
from typing import Literal, Self, TypeVar

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.errors import ColumnsMissing, ColumnTypesDiffer, PopulationUnknown
from tasks.tables.transitions import quoted, require_columns

T = TypeVar("T")

Populations = Mapping[str, pl.LazyFrame]
"""Inbound transitions by name."""

SET = "\x00set"
SETS = "\x00sets"


class ReconcilingOptions(BaseModel):
    """How rows of several inbound populations are known to be the same member."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reconcile_on: Literal["keys", "shared_columns", "chosen_columns"] = Field(
        default="keys",
        title="Reconcile on",
        description=(
            "keys: populations of one kind, told apart by their key; shared_columns: rows equal in all columns that"
            " every population has; chosen_columns: rows equal in the columns named below."
        ),
    )
    key: list[str] = Field(default=["profile_id"], min_length=1, title="Key", description="Columns of the key.")
    columns: list[str] = Field(
        default_factory=list, title="Columns", description="The chosen columns, where those are reconciled on."
    )
    primary: str = Field(
        default="",
        title="Primary set",
        description="Name of the population whose values win; empty is the first.",
    )

    def tells_apart_by(self, column: str) -> bool:
        """Whether rows with one value in the column are one member."""
        return self.reconcile_on == "keys" and self.key == [column]

    @model_validator(mode="after")
    def _names_chosen_columns(self) -> Self:
        if (self.reconcile_on == "chosen_columns") != bool(self.columns):
            raise ValueError("'columns' goes with reconcile_on chosen_columns, and must be given there")
        return self


class MergingOptions(ReconcilingOptions):
    """How the rows of one member become one row."""

    common_additional_data_only: bool = Field(
        default=False,
        title="Common additional data only",
        description="Keep only the columns that every population has.",
    )
    maximum_size: int | None = Field(
        default=None, ge=1, title="Maximum size", description="How many members to keep at most; empty keeps all."
    )


def primary_first(inbound: Mapping[str, T], options: ReconcilingOptions, *, activity: str) -> dict[str, T]:
    """The populations in the order in which their values win. Errors: `PopulationUnknown`."""
    name = options.primary or next(iter(inbound), "")
    if name not in inbound:
        raise PopulationUnknown(activity=activity, name=f"'{name}'" if name else "at all", present=quoted(inbound))
    return {name: inbound[name], **inbound}


def reconciled_columns(inbound: Populations, options: ReconcilingOptions, *, activity: str) -> list[str]:
    """The columns in which rows of one member are equal. Errors: `ColumnsMissing`, `ColumnTypesDiffer`."""
    chosen = {"keys": options.key, "chosen_columns": options.columns}
    columns = chosen.get(options.reconcile_on) or shared_columns(inbound)
    if not columns:
        present = "; ".join(f"{name}: {quoted(names_of(table))}" for name, table in inbound.items())
        raise ColumnsMissing(
            activity=activity,
            missing="that every population has",
            where="the populations together",
            present=present,
            cure="Reconcile on keys or chosen columns, or rename columns so that they are shared.",
        )
    for name, table in inbound.items():
        require_columns(table, columns, activity=activity, where=f"'{name}'")
    _check_types(inbound, columns, activity)
    return columns


def shared_columns(inbound: Populations) -> list[str]:
    """The columns that every population has, in the order of the first."""
    first, *others = map(names_of, inbound.values())
    return [name for name in first if all(name in other for other in others)]


def names_of(table: pl.LazyFrame) -> list[str]:
    """Names of a lazy table's columns."""
    return table.collect_schema().names()


def members(inbound: Populations, options: MergingOptions, *, activity: str) -> pl.LazyFrame:
    """Each member of any population once, with a column `SETS`: in how many populations it is.

    In: populations by name. Out: their columns; a value is that of the first population, the primary set before
    the others, that has both the member and the column. Members in the order in which they are first met. A null in
    a key or chosen column makes a row a member of its own; among shared columns nulls are equal.
    Errors: `PopulationUnknown`, `ColumnsMissing`, `ColumnTypesDiffer`.
    """
    ordered = primary_first(inbound, options, activity=activity)
    columns = reconciled_columns(ordered, options, activity=activity)
    shared = shared_columns(ordered)
    if options.common_additional_data_only:
        ordered = {name: table.select(shared) for name, table in ordered.items()}
    _check_types(ordered, {name: None for table in ordered.values() for name in names_of(table)}, activity)
    numbered = [table.with_columns(pl.lit(place).alias(SET)) for place, table in enumerate(ordered.values())]
    rows = pl.concat(numbered, how="diagonal")
    names = names_of(rows)
    nobody = (
        pl.any_horizontal(pl.col(columns).is_null()) if options.reconcile_on != "shared_columns" else pl.lit(False)
    )
    holders = [names_of(table) for table in ordered.values()]
    values = [
        _value(name, [place for place, present in enumerate(holders) if name in present], len(ordered))
        for name in names
        if name not in {SET, *columns}
    ]
    lone = pl.when(nobody).then(pl.int_range(pl.len())).alias("\x00lone")
    merged = rows.group_by(*columns, lone, maintain_order=True).agg(*values, pl.col(SET).n_unique().alias(SETS))
    return merged.select(*(name for name in names if name != SET), SETS)


def _value(name: str, holders: list[int], populations: int) -> pl.Expr:
    if len(holders) == populations:
        return pl.col(name).first()
    return pl.col(name).filter(pl.col(SET).is_in(holders)).first()


def _check_types(inbound: Populations, columns: Mapping[str, None] | list[str], activity: str) -> None:
    for column in columns:
        schemas = {name: table.collect_schema() for name, table in inbound.items()}
        types = {name: schema[column] for name, schema in schemas.items() if column in schema}
        if len(set(types.values())) > 1:
            listed = ", ".join(f"{kind} in '{name}'" for name, kind in types.items())
            raise ColumnTypesDiffer(activity=activity, column=column, types=listed)
