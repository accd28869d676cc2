"""Relations: how the rows of one table are linked to those of another, and what becomes of the linked rows."""

from typing import Literal, Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.errors import CardinalityViolated, ColumnTaken, KeyTypesDiffer
from tasks.tables.conditions import EVERYTHING, aggregates, condition, expression
from tasks.tables.transitions import quoted, require_columns

Cardinality = Literal["exactly_one", "zero_or_one", "many"]


class Relation(BaseModel):
    """A link from a primary set to additional data: its keys, its cardinality, and what to keep of it.

    Under `exactly_one` and `zero_or_one` the additional data is a struct, the linked row. Under `many` it is a
    list of structs (a collection); with `lines` 1 the first of them, a struct; with `aggregates` a struct of those.
    """

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
        description="Rows of the other set that a row of the primary set has: exactly_one, zero_or_one or many.",
    )
    where: str = Field(
        default=EVERYTHING,
        title="Filter",
        description="SQL condition over the other set's columns: rows for which it does not hold are not linked.",
    )
    columns: list[str] = Field(
        default_factory=list,
        title="Columns",
        description="Columns of the other set to add; empty adds all.",
    )
    order_by: list[str] = Field(
        default_factory=list,
        title="Order by",
        description="SQL expressions over the other set that put the rows of a collection in order; nulls last.",
    )
    descending: bool = Field(default=False, title="Descending", description="The largest first.")
    lines: int | None = Field(
        default=None,
        ge=1,
        title="Lines",
        description="How many rows of a collection to take; 1 gives the row itself; empty takes all.",
    )
    aggregates: dict[str, str] = Field(
        default_factory=dict,
        title="Aggregates",
        description="Values over all linked rows instead of the rows, {name: SQL aggregate}: {total: SUM(amount)}.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for_many = [name for name in ("order_by", "lines", "aggregates") if getattr(self, name)]
        if self.cardinality != "many" and for_many:
            raise ValueError(f"{quoted(for_many)} only goes with the cardinality many")
        besides = [name for name in ("columns", "order_by", "lines") if getattr(self, name)]
        if self.aggregates and besides:
            raise ValueError(f"{quoted(besides)} and aggregates cannot both be given: aggregates take all rows")
        return self


def link(primary: pl.DataFrame, additional: pl.DataFrame, relation: Relation, *, activity: str) -> pl.DataFrame:
    """The primary rows, in their order, with one column that holds their additional data.

    Null keys link to nothing: a null struct, an empty collection, or the aggregates of no rows (a count of 0, a
    sum of null). Errors: `ColumnsMissing`, `ColumnTaken`, `KeyTypesDiffer`, `FilterInvalid`, `ExpressionInvalid`;
    `CardinalityViolated`, naming the key: two rows for one key, or under `exactly_one` a row without any.
    """
    name, here = relation.name, list(relation.on)
    _check(primary, additional, relation, activity)
    linkable = linkable_rows(additional, relation, activity=activity)
    if relation.cardinality != "many":
        _check_unique(linkable, relation)
    side = _side(linkable, relation, activity)
    linked = primary.join(side, left_on=here, right_on=_hidden(relation), how="left", maintain_order="left")
    if relation.cardinality == "exactly_one":
        _check_complete(linked, relation)
    if relation.aggregates:
        return linked.with_columns(
            pl.coalesce(name, _aggregates_of_nothing(linkable, relation, activity)).alias(name)
        )
    if relation.cardinality == "many" and relation.lines != 1:
        return linked.with_columns(pl.col(name).fill_null([]))
    return linked


def linkable_rows(additional: pl.DataFrame, relation: Relation, *, activity: str) -> pl.DataFrame:
    """The additional rows that can be linked: those with a key for which the relation's filter holds."""
    where = condition(relation.where, additional.schema, activity=activity, where=f"'{relation.name}'")
    return additional.drop_nulls(list(relation.on.values())).filter(where)


def _check(primary: pl.DataFrame, additional: pl.DataFrame, relation: Relation, activity: str) -> None:
    there = [*relation.on.values(), *relation.columns]
    require_columns(primary, relation.on, activity=activity, where="the primary set")
    require_columns(additional, there, activity=activity, where=f"'{relation.name}'")
    if relation.name in primary.columns:
        raise ColumnTaken(activity=activity, name=relation.name)
    check_key_types(primary.schema, additional.schema, relation.on, name=relation.name)


def check_key_types(primary: pl.Schema, additional: pl.Schema, on: dict[str, str], *, name: str) -> None:
    """Check that linked columns are of one type. Errors: `KeyTypesDiffer`."""
    for here, there in on.items():
        if primary[here] != additional[there]:
            raise KeyTypesDiffer(
                name=name, here=here, here_type=primary[here], there=there, there_type=additional[there]
            )


def _hidden(relation: Relation) -> list[str]:
    return [f"\x00{there}" for there in relation.on.values()]


def _side(linkable: pl.DataFrame, relation: Relation, activity: str) -> pl.DataFrame:
    """The keys, and the additional data of each."""
    keys = [
        pl.col(there).alias(hidden) for there, hidden in zip(relation.on.values(), _hidden(relation), strict=True)
    ]
    row = pl.struct(relation.columns or pl.all())
    if relation.cardinality != "many":
        return linkable.select(*keys, row.alias(relation.name))
    if relation.aggregates:
        aggregated = pl.struct(_aggregates(linkable, relation, activity))
        return linkable.group_by(keys).agg(aggregated.alias(relation.name))
    where = f"'{relation.name}'"
    order = [expression(text, linkable.schema, activity=activity, where=where) for text in relation.order_by]
    if order:
        linkable = linkable.sort(order, descending=relation.descending, nulls_last=True, maintain_order=True)
    rows = row.first() if relation.lines == 1 else row.head(relation.lines or linkable.height)
    return linkable.group_by(keys, maintain_order=True).agg(rows.alias(relation.name))


def _aggregates(linkable: pl.DataFrame, relation: Relation, activity: str) -> list[pl.Expr]:
    return aggregates(relation.aggregates, linkable.schema, activity=activity, where=f"'{relation.name}'")


def _aggregates_of_nothing(linkable: pl.DataFrame, relation: Relation, activity: str) -> pl.Expr:
    values = linkable.clear().select(_aggregates(linkable, relation, activity))
    return pl.struct(pl.lit(column.item(), dtype=column.dtype).alias(column.name) for column in values)


def _check_unique(additional: pl.DataFrame, relation: Relation) -> None:
    keys = list(relation.on.values())
    repeated = additional.group_by(keys, maintain_order=True).len("\x00rows").filter(pl.col("\x00rows") > 1)
    if not repeated.is_empty():
        row = repeated.row(0, named=True)
        raise CardinalityViolated(
            name=relation.name,
            rows=row["\x00rows"],
            key=" and ".join(f"{key} {row[key]!r}" for key in keys),
            cardinality=relation.cardinality.replace("_", " "),
            columns=quoted(keys),
        )


def _check_complete(linked: pl.DataFrame, relation: Relation) -> None:
    lacking = linked[relation.name].null_count()
    if lacking:
        raise CardinalityViolated(
            name=relation.name,
            rows="no",
            # The rows are people's: how many, not which.
            key=f"the {' and '.join(relation.on)} of {lacking} rows",
            cardinality="exactly one",
            columns=quoted(relation.on.values()),
        )
