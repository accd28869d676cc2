"""Parquet files that are whole or not there: what activities keep between runs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from tasks.errors import StoreUnwritable


def replace_parquet(table: pl.DataFrame, path: Path) -> None:
    """Write the file, in the place of an earlier one. Errors: `StoreUnwritable`."""
    with _draft(table, path) as draft:
        draft.replace(path)


def create_parquet(table: pl.DataFrame, path: Path) -> bool:
    """Write the file unless there is one; False when there is. Errors: `StoreUnwritable`."""
    with _draft(table, path) as draft:
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return False
    return True


@contextmanager
def _draft(table: pl.DataFrame, path: Path) -> Iterator[Path]:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            table.write_parquet(draft)
            draft.chmod(0o600)
            yield draft
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise StoreUnwritable(path=path, reason=error.strerror or str(error)) from None
