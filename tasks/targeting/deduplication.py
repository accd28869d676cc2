"""Deduplication: keeps one row, or a few, of those that are equal in some columns or expressions."""

from dataclasses import dataclass
from typing import Literal, Self

import polars as pl
from prefect import get_run_logger, task
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.runs.partitions import Partitions
from tasks.runs.results import ARROW, PER_RUN
from tasks.tables.conditions import expression
from tasks.tables.transitions import Transitions, require_columns

PLACE = "\x00place"
"""A row's number in the inbound transition."""


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
            " others, so that they are duplicates of each other; keep: each is kept, nobody's duplicate; leave_out:"
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


def deduplicate(inbound: pl.DataFrame, options: DeduplicationOptions) -> Deduplicated:
    """Split the rows into those kept and their duplicates, both in inbound order.

    What becomes of rows that lack a key, `missing_keys` says. Errors: `ColumnsMissing`, `ExpressionInvalid`.
    """
    keys = _keys(inbound, options)
    group = [f"\x00key{number}" for number in range(len(keys))]
    best_first = inbound.select(
        pl.int_range(pl.len()).alias(PLACE),
        *(key.alias(name) for name, key in zip(group, keys, strict=True)),
        _rank(inbound, options).alias("\x00rank"),
    ).sort("\x00rank", nulls_last=True, maintain_order=True, descending=options.which == "largest")
    is_kept = pl.lit(value=True) if options.keep == 0 else pl.int_range(pl.len()).over(group) < options.keep
    if options.missing_keys != "one_group":
        missing = pl.any_horizontal(_is_missing(pl.col(name), best_first.schema[name]) for name in group)
        is_kept = pl.when(missing).then(pl.lit(options.missing_keys == "keep")).otherwise(is_kept)
    mask = best_first.select(PLACE, is_kept.alias("\x00kept")).sort(PLACE)["\x00kept"]
    return Deduplicated(standard=inbound.filter(mask), complement=inbound.filter(~mask))


def rows_without_key(inbound: pl.DataFrame, options: DeduplicationOptions) -> int:
    """How many rows lack a key. Errors: as `deduplicate`."""
    keys = inbound.select(key.alias(str(number)) for number, key in enumerate(_keys(inbound, options)))
    return keys.filter(
        pl.any_horizontal(_is_missing(pl.col(name), kind) for name, kind in keys.schema.items())
    ).height


def _keys(inbound: pl.DataFrame, options: DeduplicationOptions) -> list[pl.Expr]:
    require_columns(inbound, options.columns, activity="Deduplication", where="the inbound transition")
    return [*(pl.col(name) for name in options.columns), *(_parsed(text, inbound) for text in options.expressions)]


def _is_missing(key: pl.Expr, kind: pl.DataType) -> pl.Expr:
    if kind == pl.String():
        return key.str.strip_chars().fill_null("") == ""
    return key.is_null() | key.is_nan().fill_null(value=False) if kind.is_float() else key.is_null()


def _parsed(text: str, inbound: pl.DataFrame) -> pl.Expr:
    return expression(text, inbound.schema, activity="Deduplication", where="the inbound transition")


def _rank(inbound: pl.DataFrame, options: DeduplicationOptions) -> pl.Expr:
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
    return by.fill_nan(None) if inbound.clear().select(by).to_series().dtype.is_float() else by


def deduplicate_partitions(inbound: Partitions, options: DeduplicationOptions) -> pl.DataFrame:
    """The rows of all partitions that `deduplicate` would keep, one partition in memory at a time.

    Errors: as `deduplicate`, `PartitionGone`.
    """
    kept: pl.DataFrame | None = None
    for part in inbound:
        rows = part.read()
        kept = deduplicate(rows if kept is None else pl.concat([kept, rows]), options).standard
    return pl.DataFrame() if kept is None else kept


@task(name="Deduplication", task_run_name="Deduplication", cache_policy=PER_RUN, result_serializer=ARROW)
def deduplication(inbound: pl.DataFrame, options: DeduplicationOptions) -> Deduplicated:
    """Keep one row, or a few, of those that are equal in some columns or expressions.

    In: any table with the options' columns. Out: `standard`, the rows kept, and `complement`, their duplicates;
    columns as inbound. Errors: `ColumnsMissing`, `ExpressionInvalid`.
    Source: Adobe Campaign Standard, Deduplication activity.
    """
    outbound = deduplicate(inbound, options)
    log = get_run_logger()
    log.info("%d rows kept, %d duplicates left out.", outbound.standard.height, outbound.complement.height)
    if lacking := rows_without_key(inbound, options):
        log.warning("%d rows lack a key; missing_keys is '%s'.", lacking, options.missing_keys)
    return outbound


@task(name="Deduplication", task_run_name="Deduplication", cache_policy=PER_RUN, result_serializer=ARROW)
def deduplication_of_partitions(inbound: Partitions, options: DeduplicationOptions) -> pl.DataFrame:
    """Deduplication over partitions, for keys that many profiles share, such as zip codes.

    In: partitions. Out: the rows kept, as one table: it is for what is small once deduplicated. The duplicates are
    not kept. Errors: `ColumnsMissing`, `ExpressionInvalid`, `PartitionGone`.
    """
    kept = deduplicate_partitions(inbound, options)
    get_run_logger().info("%d rows kept, %d duplicates left out.", kept.height, inbound.height - kept.height)
    return kept
