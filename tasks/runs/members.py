"""Members of an audience whose rows are in several parts.

A sink's function sees the rows of one part. It decides there what a member's second row is: a reject, a complement,
a later date. For the same meaning in one part and in many, all rows of a member are worked on in one part: they
move to the first part that has one of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from tasks.runs.audience import Audience
from tasks.runs.digest import digest_of
from tasks.runs.table import Part, kept_file, read_file

PART = "\x00part"
"""Column that holds the number of a member's first part."""


@dataclass(frozen=True)
class Moves:
    """Which rows move, and to which parts."""

    first: pl.DataFrame
    """The members that several parts have: the key's columns, and `PART`."""
    files: Mapping[int, str] = field(default_factory=dict)
    """By part: the file with the rows that come to it."""

    @property
    def key(self) -> str:
        """Digest of the moves, the same for the same parts."""
        return digest_of(self.first)

    def of(self, rows: pl.DataFrame, part: Part) -> pl.DataFrame:
        """A part's rows, without those that leave it and with those that come. Errors: `PartitionGone`."""
        staying = rows.join(self._elsewhere(part), on=self._keys, how="anti", maintain_order="left")
        coming = self.files.get(part.number)
        return pl.concat([staying, read_file(coming)]) if coming else staying

    def leaving(self, rows: pl.DataFrame, part: Part) -> pl.DataFrame:
        """The rows that leave a part, with `PART`, where they go."""
        return rows.join(self._elsewhere(part), on=self._keys, how="inner", maintain_order="left")

    def _elsewhere(self, part: Part) -> pl.DataFrame:
        return self.first.filter(pl.col(PART) != part.number)

    @property
    def _keys(self) -> list[str]:
        return [name for name in self.first.columns if name != PART]


def moves_of(audience: Audience, keys: list[str]) -> Moves | None:
    """The moves that bring each member's rows into one part; None where they are in one already.

    In: an audience in parts, the columns that are equal in a member's rows (a row with a null in them is nobody's).
    Memory: the keys of all parts, and the rows that move. Errors: `PartitionGone`, `ResultsUnwritable`.
    """
    if not keys or not set(keys) <= set(audience.table.schema) or keys == [audience.distinct]:
        return None
    of_parts = [
        part.read(keys).unique().with_columns(pl.lit(part.number).alias(PART)) for part in audience.table.parts
    ]
    found = pl.concat(of_parts).drop_nulls(keys).group_by(keys).agg(pl.col(PART).min(), parts=pl.len())
    first = found.filter(pl.col("parts") > 1).drop("parts").sort(keys)
    if first.is_empty():
        return None
    moves = Moves(first)
    coming = pl.concat([moves.leaving(part.read(), part) for part in audience.table.parts])
    folder = f"partitions/{audience.table.parts[0].run}/moved-{digest_of([keys, moves.key])[:16]}"
    files = {
        int(number): kept_file(rows.drop(PART), f"{folder}/{number:06}.arrow")
        for (number,), rows in coming.partition_by(PART, as_dict=True, maintain_order=True).items()
    }
    return Moves(first, files)
