"""Rows that a source leaves out because a value, or their shape, is bad."""

from threading import Lock

import polars as pl

from tasks.tables.columns import REPORT

SOURCE_REJECTS = {"profile_id": pl.String(), **REPORT}
"""Columns of a source's rejects: the raw key (null where it cannot be told), row, column, reason, raw value."""


class Rejects:
    """Takes the rejected rows of one reading, from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._tables: list[pl.DataFrame] = []

    def add(self, rows: pl.DataFrame) -> None:
        """Keep some rows with the columns of `SOURCE_REJECTS`."""
        if rows.height:
            with self._lock:
                self._tables.append(rows)

    def table(self) -> pl.DataFrame:
        """All rejects, in the source's order."""
        return pl.concat([pl.DataFrame(schema=SOURCE_REJECTS), *self._tables]).sort("row", maintain_order=True)
