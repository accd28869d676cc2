"""Counts: how many rows each outbound transition of an activity had."""

from collections.abc import Iterator

import polars as pl

from tasks.tables.transitions import Transitions

COUNTS = {"run": pl.String(), "activity": pl.String(), "transition": pl.String(), "rows": pl.Int64()}

WITH_CONTENT = "standard, with all content"


def counts_of(outbound: object, activity: str, run: str) -> pl.DataFrame:
    """Rows of every outbound transition: run (of the activity's task), activity, transition, rows.

    A column of additional data (a struct, or a list of structs) adds the row "standard, with <column>": how many
    rows it was found for; several of them also the row "standard, with all content".
    """
    rows = [(run, activity, name, count) for name, count in _counts(outbound)]
    return pl.DataFrame(rows, schema=COUNTS, orient="row")


def summed(counts: list[pl.DataFrame]) -> pl.DataFrame:
    """The counts of several parts as those of one."""
    joined = pl.concat([pl.DataFrame(schema=COUNTS), *counts])
    return joined.group_by("run", "activity", "transition", maintain_order=True).agg(pl.col("rows").sum())


def merged(counts: list[pl.DataFrame]) -> pl.DataFrame:
    """Counts from several branches, without repetitions, in the order of their first appearance."""
    joined = pl.concat([pl.DataFrame(schema=COUNTS), *counts])
    return joined.unique(["run", "activity", "transition"], keep="last", maintain_order=True)


def _counts(outbound: object) -> Iterator[tuple[str, int]]:
    if isinstance(outbound, pl.DataFrame):
        tables = {"standard": outbound}
    elif isinstance(outbound, Transitions):
        tables = outbound.tables()
    else:
        return
    for name, table in tables.items():
        if isinstance(outbound, Transitions) and name in outbound.unshown:
            continue
        if isinstance(outbound, Transitions) and name in outbound.totals:
            yield from zip(table.columns, table.row(0), strict=True)
            continue
        yield name, table.height
        added = [column for column, kind in table.schema.items() if is_content(kind)]
        for column in added:
            yield f"{name}, with {column}", rows_with_content(table, [column])
        if name == "standard" and len(added) > 1:
            yield WITH_CONTENT, rows_with_content(table, added)


def is_content(kind: pl.DataType) -> bool:
    """Whether a column of this type holds additional data: a struct, or a list of structs."""
    return isinstance(kind, pl.Struct) or (isinstance(kind, pl.List) and isinstance(kind.inner, pl.Struct))


def rows_with_content(table: pl.DataFrame, columns: list[str]) -> int:
    """How many rows have all of these columns of additional data: a row, or a collection that is not empty."""
    found = [
        pl.col(name).list.len() > 0 if isinstance(table.schema[name], pl.List) else pl.col(name).is_not_null()
        for name in columns
    ]
    return int(table.select(pl.all_horizontal(found).sum()).item()) if found else table.height
