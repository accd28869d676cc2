"""Rows that a source leaves out because a value, or their shape, is bad."""

from collections.abc import Iterator
from threading import Lock

import polars as pl

from tasks.runs.log import run_logger
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

    def shown(self, source: str) -> Iterator[pl.DataFrame]:
        """All rejects as an activity's transition, asked for once all rows were read; the first is logged.

        Columns: profile_id, email (null), reason, row, column, value.
        """
        rows = self.table()
        where = pl.format("row {} of the source, column '{}': {}", "row", pl.col("column").fill_null("-"), "reason")
        if rows.height:
            first = rows.select(pl.coalesce(where, "reason")).item(0, 0)
            run_logger().warning("%d rows of '%s' are rejected, the first: %s.", rows.height, source, first)
        yield rows.select(
            "profile_id",
            pl.lit(None, pl.String()).alias("email"),
            pl.coalesce(where, "reason").alias("reason"),
            "row",
            "column",
            "value",
        )
