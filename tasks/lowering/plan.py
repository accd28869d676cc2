"""Plans: what a lowered template does with a slice of profiles, as a list of steps over its table."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import polars as pl

from tasks.lowering.vectors import CannotLower, Mask
from tasks.templates.fields import materialized

LARGEST_TOGETHER = 400_000_000
"""Bytes of texts that one step may make for all rows together; more rows than that are halved."""
MOST_ROUNDS = 2_000_000
"""Rounds of a loop for all rows together."""
BYTES_OF_A_NUMBER = 40


class TooWide(Exception):
    """A step would make more than it may of so many rows."""


@dataclass(frozen=True)
class Derived:
    """Adds a column: an expression, and what a function makes of its Series."""

    name: str
    expr: pl.Expr
    function: Callable[[pl.Series], pl.Series] | None = None
    growth: float = 0
    """How many times as long as its columns a text may be; 0 for what makes no text longer."""

    def roots(self) -> set[str]:
        """Columns that it needs."""
        return set(self.expr.meta.root_names())

    def run(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows with the column. Errors: `CannotLower`, `TooWide`."""
        if self.growth:
            require_room(self.expr, rows, self.growth)
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

    @cached_property
    def _contents(self) -> "Contents":
        return contents_of(self.text)

    def run(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows with the columns. Errors: `CannotLower`, `TooWide`."""
        rounds_of_all = rows.select(self.elements.list.len().cast(pl.Int64()).sum()).item() or 0
        if rounds_of_all > MOST_ROUNDS:
            raise TooWide
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
        require_room(self.text, rounds, contents=self._contents)
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

    @cached_property
    def _contents(self) -> "Contents":
        return contents_of(self.text)

    def run(self, rows: pl.DataFrame) -> tuple[pl.Series, pl.Series | None]:
        """The texts, and the reasons, None where no row can have one. Errors: `CannotLower`."""
        try:
            return self._run(rows)
        except TooWide:
            if rows.height <= 1:
                raise CannotLower(f"texts or loops of more than {LARGEST_TOGETHER} bytes") from None
        half = rows.height // 2
        (text, reason), (other, why) = self.run(rows[:half]), self.run(rows[half:])
        return text.append(other), None if reason is None or why is None else reason.append(why)

    def _run(self, rows: pl.DataFrame) -> tuple[pl.Series, pl.Series | None]:
        for stage in self.stages:
            rows = stage.run(rows)
        require_room(self.text, rows, contents=self._contents)
        columns = [self.text.alias("text"), *([] if self.reason is None else [self.reason.alias("reason")])]
        # with_columns, not select: a template that prints no field still has a text for every row.
        made = rows.with_columns(columns)
        return made.get_column("text"), None if self.reason is None else made.get_column("reason")


Contents: TypeAlias = tuple[int, Counter[str]]
"""Bytes of the template's own texts in an expression, at most, and how often each column is in it."""


def contents_of(expr: pl.Expr) -> Contents:
    """What is in an expression of a text, with all its branches."""
    return len(expr.meta.serialize()), Counter(expr.meta.root_names())


def require_room(expr: pl.Expr, rows: pl.DataFrame, growth: float = 1, *, contents: Contents | None = None) -> None:
    """Check that a text which is made of these columns has room for all rows. Errors: `TooWide`."""
    literal, columns = contents or contents_of(expr)
    total = literal * rows.height
    for name, times in columns.items():
        column = rows.get_column(name)
        text = isinstance(column.dtype, pl.String)
        total += times * int((column.str.len_bytes().sum() if text else rows.height * BYTES_OF_A_NUMBER) or 0)
    if total * growth > LARGEST_TOGETHER:
        raise TooWide
