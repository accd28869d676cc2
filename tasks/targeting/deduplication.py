"""Deduplication: keeps one row, or a few, of those that are equal in some columns or expressions."""

from dataclasses import dataclass
from typing import Literal, Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.runs.log import run_logger
from tasks.runs.shapes import Lazily, table_activity
from tasks.tables.conditions import expression
from tasks.tables.transitions import Transitions, require_columns

PLACE = "\x00place"
"""A row's number in the inbound transition."""
RANK = "\x00rank"


class DeduplicationOptions(BaseModel):
    """Options of the Deduplication activity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: list[str] = Field(
        default_factory=list, title="Columns", description="Rows that are equal in all of these are duplicates."
    )
    expressions: list[str] = Field(
        default_factory=list,
        title="Expressions",
        description="SQL expressions in which duplicates are equal too, for example LOWER(email).",
    )
    keep: int = Field(
        default=1,
        ge=0,
        title="Keep",
        description="How many of each group of duplicates to keep; 0 keeps all.",
    )
    which: Literal["any", "preferred_values", "non_empty", "smallest", "largest"] = Field(
        default="any",
        title="Which one",
        description=(
            "Which to keep first: any (the first), those with a preferred value of 'by', those whose 'by' is not"
            " empty, those with the smallest or the largest 'by'. Among equals the first."
        ),
    )
    by: str = Field(
        default="", title="By", description="SQL expression that decides which one, such as updated_at."
    )
    missing_keys: Literal["one_group", "keep", "leave_out"] = Field(
        default="one_group",
        title="Missing keys",
        description=(
            "Rows that lack a key (null, not a number, a blank text): one_group: a missing value is a value like"
            " others, so that they are duplicates of each other; keep: each is kept, as no duplicate; leave_out:"
            " each goes to the complement."
        ),
    )
    preferred_values: list[str] = Field(
        default_factory=list,
        title="Preferred values",
        description="Values of 'by' as text, the most preferred first; other values come after them.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.columns and not self.expressions:
            raise ValueError("name at least one column or expression that duplicates are equal in")
        if (self.which == "any") == bool(self.by):
            raise ValueError("'by' goes with every choice of 'which' but any, and must be given there")
        if (self.which == "preferred_values") != bool(self.preferred_values):
            raise ValueError("'preferred_values' goes with the choice preferred_values, and must be given there")
        return self


@dataclass(frozen=True)
class Deduplicated(Transitions):
    """Outbound transitions of Deduplication."""

    standard: pl.DataFrame
    """Rows that were kept."""
    complement: pl.DataFrame
    """Duplicates that were left out, and rows that lack a key where those are left out."""


@table_activity("Deduplication", gives=Deduplicated)
def deduplication(inbound: pl.LazyFrame, options: DeduplicationOptions) -> Lazily:
    """Keep one row, or a few, of those that are equal in some columns or expressions.

    In: any table with the options' columns. Out: `standard`, the rows kept, and `complement`, their duplicates,
    both in inbound order; columns as inbound. `missing_keys` says what becomes of rows that lack a key.
    Errors: `ColumnsMissing`, `ExpressionInvalid`. Source: Adobe Campaign Standard, Deduplication activity.

    Example:
        ```python
        kept = deduplication(audience, DeduplicationOptions(expressions=["LOWER(email)"]))
        duplicates = kept.transition("complement")
        ```
    """
    keys = _keys(inbound, options)
    group = [f"\x00key{number}" for number in range(len(keys))]
    rows = inbound.with_row_index(PLACE)
    ranked = rows.select(
        PLACE,
        *(key.alias(name) for name, key in zip(group, keys, strict=True)),
        _rank(inbound, options).alias(RANK),
    )
    kinds = ranked.collect_schema()
    lacking = pl.any_horizontal(_is_missing(pl.col(name), kinds[name]) for name in group)
    kept = _kept(ranked if options.missing_keys == "one_group" else ranked.filter(~lacking), group, options)
    if options.missing_keys == "keep":
        kept = pl.concat([kept, ranked.filter(lacking).select(PLACE)])
    # Computed once: each transition is read by itself, and would find the duplicates again.
    places, without_key = pl.collect_all([kept, ranked.filter(lacking).select(pl.len())], engine="streaming")
    _warn_of_lacking(without_key.item(), options)
    standard = rows.join(places.lazy(), on=PLACE, how="semi", maintain_order="left")
    complement = rows.join(places.lazy(), on=PLACE, how="anti", maintain_order="left")
    return {"standard": standard.drop(PLACE), "complement": complement.drop(PLACE)}


def _kept(ranked: pl.LazyFrame, group: list[str], options: DeduplicationOptions) -> pl.LazyFrame:
    """The places of the rows that are kept: the best of each group, among equals the first."""
    if options.keep == 0:
        return ranked.select(PLACE)
    best_first = pl.col(PLACE).sort_by(RANK, PLACE, descending=[options.which == "largest", False], nulls_last=True)
    one_or_few = (
        pl.col(PLACE).min() if (options.keep, options.which) == (1, "any") else best_first.head(options.keep)
    )
    found = ranked.group_by(group).agg(one_or_few).select(PLACE)
    return found if (options.keep, options.which) == (1, "any") else found.explode(PLACE)


def _warn_of_lacking(rows: int, options: DeduplicationOptions) -> None:
    if rows:
        run_logger().warning("%d rows lack a key; missing_keys is '%s'.", rows, options.missing_keys)


def _keys(inbound: pl.LazyFrame, options: DeduplicationOptions) -> list[pl.Expr]:
    require_columns(inbound, options.columns, activity="Deduplication", where="the inbound transition")
    return [*(pl.col(name) for name in options.columns), *(_parsed(text, inbound) for text in options.expressions)]


def _is_missing(key: pl.Expr, kind: pl.DataType) -> pl.Expr:
    if kind == pl.String():
        return key.str.strip_chars().fill_null("") == ""
    return key.is_null() | key.is_nan().fill_null(value=False) if kind.is_float() else key.is_null()


def _parsed(text: str, inbound: pl.LazyFrame) -> pl.Expr:
    return expression(text, inbound.collect_schema(), activity="Deduplication", where="the inbound transition")


def _rank(inbound: pl.LazyFrame, options: DeduplicationOptions) -> pl.Expr:
    """What a row is preferred by: the smallest first, or under `largest` the largest; null comes last."""
    if options.which == "any":
        return pl.lit(0)
    by = _parsed(options.by, inbound)
    if options.which == "preferred_values":
        places = {value: place for place, value in enumerate(dict.fromkeys(options.preferred_values))}
        return by.cast(pl.String()).replace_strict(places, default=None, return_dtype=pl.Int64())
    if options.which == "non_empty":
        text = by.cast(pl.String()).str.strip_chars()
        return pl.when(text != "").then(0)
    # Not a number is no value: it is neither the largest nor the smallest.
    kind = inbound.select(by.alias(RANK)).collect_schema()[RANK]
    return by.fill_nan(None) if kind.is_float() else by
