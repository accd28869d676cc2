"""Plans: what a lowered template does with a slice of profiles, as a list of steps over its table."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import polars as pl

from tasks.lowering.vectors import Mask
from tasks.templates.fields import materialized


@dataclass(frozen=True)
class Derived:
    """Adds a column: an expression, and what a function makes of its Series."""

    name: str
    expr: pl.Expr
    function: Callable[[pl.Series], pl.Series] | None = None

    def roots(self) -> set[str]:
        """Columns that it needs."""
        return set(self.expr.meta.root_names())

    def run(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows with the column. Errors: `CannotLower`."""
        column = rows.with_columns(self.expr.alias(self.name)).get_column(self.name)
        if self.function is not None:
            column = self.function(column).alias(self.name)
        return rows.hstack([column])


@dataclass(frozen=True)
class Loop:
    """Adds the columns of a loop: the text of all its rounds (null where there is none), and why one fails."""

    name: str
    elements: pl.Expr
    tests: tuple["Stage", ...]
    test: Mask
    test_reason: pl.Expr | None
    body: tuple["Stage", ...]
    text: pl.Expr
    reason: pl.Expr

    def roots(self) -> set[str]:
        """Columns that it needs."""
        possible = (self.elements, self.text, self.reason, self.test, self.test_reason)
        exprs = [expr for expr in possible if isinstance(expr, pl.Expr)]
        inner = {name for stage in (*self.tests, *self.body) for name in stage.roots()}
        return inner | {name for expr in exprs for name in expr.meta.root_names()}

    def run(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows with the columns. Errors: `CannotLower`."""
        row, element, index, length = (f"{self.name}{part}" for part in ("row", "element", "index", "length"))
        needed = self.roots().intersection(rows.columns)
        rounds = (
            rows.with_row_index(row)
            .select(row, *sorted(needed - {row}), self.elements.alias(element))
            .filter(pl.col(element).list.len() > 0)
            .with_columns(pl.col(element).list.len().cast(pl.Int64()).alias(length))
            .with_columns(pl.int_ranges(0, length).alias(index))
            .explode(element, index)
        )
        rounds = materialized(rounds)
        for stage in self.tests:
            rounds = stage.run(rounds)
        if self.test is not True:
            # A round whose test fails stays, to say why in its place.
            failing = pl.lit(value=False) if self.test_reason is None else self.test_reason.is_not_null()
            rounds = rounds.filter(self.test | failing).with_columns(
                pl.int_range(pl.len()).over(row).alias(index), pl.len().over(row).cast(pl.Int64()).alias(length)
            )
        for stage in self.body:
            rounds = stage.run(rounds)
        reason = self.reason if self.test_reason is None else pl.coalesce(self.test_reason, self.reason)
        joined = (
            rounds.select(row, self.text.alias(self.name), reason.alias(f"{self.name}reason"))
            .group_by(row, maintain_order=True)
            .agg(pl.col(self.name).str.join(""), pl.col(f"{self.name}reason").drop_nulls().first())
        )
        return rows.with_row_index(row).join(joined, on=row, how="left", maintain_order="left").drop(row)


Stage: TypeAlias = Derived | Loop


@dataclass(frozen=True)
class Plan:
    """A part of the message over a slice: its text, and the reason where there is none."""

    stages: tuple[Stage, ...]
    text: pl.Expr
    reason: pl.Expr | None

    def run(self, rows: pl.DataFrame) -> tuple[pl.Series, pl.Series | None]:
        """The texts, and the reasons, None where no row can have one. Errors: `CannotLower`."""
        for stage in self.stages:
            rows = stage.run(rows)
        columns = [self.text.alias("text"), *([] if self.reason is None else [self.reason.alias("reason")])]
        # with_columns, not select: a template that prints no field still has a text for every row.
        made = rows.with_columns(columns)
        return made.get_column("text"), None if self.reason is None else made.get_column("reason")
