"""The text of a key: the same in every run, whatever type its column has that day."""

import polars as pl

from tasks.tables.natives import text_of


def key_text(key: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """A key as a text.

    Whole numbers that came as floating ones (a column of integers with a gap in it, as many tools write it) are the
    same keys as the integers.
    """
    return text_of(key, kind) if kind.is_float() else key.cast(pl.String())


def key_texts(rows: pl.DataFrame, key: str) -> pl.Series:
    """The column `key` of a table as texts."""
    return rows.select(key_text(pl.col(key), rows.schema[key])).to_series()
