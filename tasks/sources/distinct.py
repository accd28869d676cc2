"""The first row of each key, over batches of any number, in memory that is bounded.

A source of few rows is looked at in memory. The rows of a larger one go to a folder on disk, and their keys into
files by the hash of the key; each of these is looked at by itself, and names the rows that are not the first.
"""

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from tasks.sources.source import first_of_keys

IN_MEMORY = 200_000
"""Rows up to which no file is written."""
BUCKETS = 64
"""Files of keys. Of 100 million rows each has 1.6 million."""
ROWS_OF_FILE = 250_000
PLACE, FILE, BUCKET = "\x00place", "\x00file", "\x00bucket"


def distinct_batches(
    batches: Iterable[pl.DataFrame], key: str, size: int, *, in_memory: int = IN_MEMORY
) -> Iterator[pl.DataFrame]:
    """The rows of some batches without those whose key an earlier row has, in their order, `size` at a time.

    Rows without a key are all kept.
    """
    reading = iter(batches)
    held: list[pl.DataFrame] = []
    for batch in reading:
        held.append(batch)
        if sum(each.height for each in held) > in_memory:
            yield from _on_disk(_chain(held, reading), key, size)
            return
    if held:
        rows = first_of_keys(key)(pl.concat(held).lazy()).collect()
        yield from rows.iter_slices(size) if rows.height else [rows]


def _chain(held: list[pl.DataFrame], reading: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    while held:
        yield held.pop(0)
    yield from reading


def _on_disk(batches: Iterator[pl.DataFrame], key: str, size: int) -> Iterator[pl.DataFrame]:
    with TemporaryDirectory(prefix="campaign-") as name:
        folder = Path(name)
        files = _spool(batches, key, folder)
        for bucket in range(BUCKETS):
            _find_repeated(folder, bucket)
        left: pl.DataFrame | None = None
        for number in range(files):
            path = folder / f"rows-{number}.arrow"
            rows = pl.read_ipc(path)
            path.unlink()
            kept = rows.filter(_is_kept(folder, number, rows.height))
            left = kept if left is None else pl.concat([left, kept])
            while left.height >= size:
                yield left.head(size)
                left = left.slice(size)
        if left is not None and left.height:
            yield left


def _spool(batches: Iterator[pl.DataFrame], key: str, folder: Path) -> int:
    """Write the rows, and their keys by bucket; gives the number of files of rows."""
    files = 0
    for rows in _gathered(batches):
        rows.write_ipc(folder / f"rows-{files}.arrow")
        keys = rows.select(
            pl.col(key),
            pl.int_range(pl.len(), dtype=pl.UInt32()).alias(PLACE),
            pl.lit(files, pl.UInt32()).alias(FILE),
        )
        bucket = (pl.col(key).hash() % BUCKETS).alias(BUCKET)
        for (number,), part in keys.drop_nulls(key).with_columns(bucket).partition_by(BUCKET, as_dict=True).items():
            part.drop(BUCKET).write_ipc(folder / f"keys-{number}-{files:06}.arrow")
        files += 1
    return files


def _gathered(batches: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    held: list[pl.DataFrame] = []
    for batch in batches:
        held.append(batch)
        if sum(each.height for each in held) >= ROWS_OF_FILE:
            yield pl.concat(held)
            held = []
    if held:
        yield pl.concat(held)


def _find_repeated(folder: Path, bucket: int) -> None:
    """Note, for each file of rows, which of them are not the first of their key."""
    files = sorted(folder.glob(f"keys-{bucket}-*.arrow"))
    if not files:
        return
    keys = pl.concat([pl.read_ipc(file) for file in files])
    repeated = keys.filter(~pl.first().is_first_distinct())
    for (number,), part in repeated.partition_by(FILE, as_dict=True).items():
        with (folder / f"repeated-{number}").open("ab") as file:
            array("I", part[PLACE]).tofile(file)
    for path in files:
        path.unlink()


def _is_kept(folder: Path, number: int, height: int) -> pl.Series:
    kept = pl.repeat(value=True, n=height, eager=True)
    path = folder / f"repeated-{number}"
    if not path.is_file():
        return kept
    places = array("I")
    places.frombytes(path.read_bytes())
    return kept.scatter(pl.Series(places, dtype=pl.UInt32()), False)
