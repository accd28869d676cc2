"""Parquet files that are whole or not there: what activities keep between runs."""

from pathlib import Path

import polars as pl

from tasks.files.storage import created_whole, written_whole


def replace_parquet(table: pl.DataFrame | pl.LazyFrame, path: Path) -> None:
    """Write the file, replacing an earlier one. Errors: `StoreUnwritable`."""
    with written_whole(path) as draft:
        table.lazy().sink_parquet(draft)


def create_parquet(table: pl.DataFrame | pl.LazyFrame, path: Path) -> None:
    """Write the file. Errors: `FileExistsError` when there is one, `StoreUnwritable`."""
    with created_whole(path) as draft:
        table.lazy().sink_parquet(draft)
