"""The first row of each key, over batches of any number, in memory that is bounded.

A source of few bytes is looked at in memory. The rows of a larger one go to a folder on disk; their keys are then
looked at by themselves, in as many shares, by the hash of the key, as have room in memory.
"""

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

ROWS_IN_MEMORY = 128 * 2**20
"""Bytes of rows up to which no file is written."""
KEYS_IN_MEMORY = 32 * 2**20
"""Bytes of keys that are looked at together: finding the repeated ones takes some three times as much."""
ROWS_OF_FILE = 250_000
PLACE, FILE, BUCKET = "\x00place", "\x00file", "\x00bucket"


def distinct_batches(
    batches: Iterable[pl.DataFrame],
    key: str,
    size: int,
    *,
    rows_in_memory: int = ROWS_IN_MEMORY,
    keys_in_memory: int = KEYS_IN_MEMORY,
) -> Iterator[pl.DataFrame]:
    """The rows of some batches without those whose key an earlier row has, in their order, `size` at a time.

    Rows without a key are all kept.
    """
    reading = iter(batches)
    held: list[pl.DataFrame] = []
    total = 0
    for batch in reading:
        held.append(batch)
        total += int(batch.estimated_size())
        if total > rows_in_memory:
            with TemporaryDirectory(prefix="campaign-") as name:
                yield from _sized(_on_disk(_chain(held, reading), key, Path(name), keys_in_memory), size)
            return
    if held:
        yield from _sized(_of_memory(held, key), size)


def _of_memory(held: list[pl.DataFrame], key: str) -> Iterator[pl.DataFrame]:
    keys = pl.concat([batch[key] for batch in held])
    kept = keys.is_null() | keys.is_first_distinct()
    place = 0
    while held:
        batch = held.pop(0)
        yield batch.filter(kept.slice(place, batch.height))
        place += batch.height


def _sized(parts: Iterator[pl.DataFrame], size: int) -> Iterator[pl.DataFrame]:
    """The same rows, `size` at a time; the last may be fewer."""
    left: list[pl.DataFrame] = []
    rows = 0
    for part in parts:
        left.append(part)
        rows += part.height
        if rows >= size:
            whole = pl.concat(left)
            full = rows - rows % size
            yield from whole.head(full).iter_slices(size)
            left, rows = [whole.slice(full)], rows - full
    if rows:
        yield pl.concat(left)


def _chain(held: list[pl.DataFrame], reading: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    while held:
        yield held.pop(0)
    yield from reading


def _on_disk(
    batches: Iterator[pl.DataFrame], key: str, folder: Path, keys_in_memory: int
) -> Iterator[pl.DataFrame]:
    files = total = 0
    for rows in _gathered(batches):
        rows.write_ipc(folder / f"rows-{files}.arrow")
        total += int(rows[key].estimated_size())
        files += 1
    buckets = -(-total // keys_in_memory)
    if buckets <= 1:
        _note_repeated(folder, [_keys(folder, number, key) for number in range(files)])
    else:
        _spread(folder, files, key, buckets)
        for bucket in range(buckets):
            _find_repeated(folder, bucket)
    for number in range(files):
        path = folder / f"rows-{number}.arrow"
        rows = pl.read_ipc(path)
        path.unlink()
        yield rows.filter(_is_kept(folder, number, rows.height))


def _keys(folder: Path, number: int, key: str) -> pl.DataFrame:
    """The keys of a file of rows, each with its place."""
    keys = pl.read_ipc(folder / f"rows-{number}.arrow", columns=[key]).with_columns(
        pl.int_range(pl.len(), dtype=pl.UInt32()).alias(PLACE), pl.lit(number, pl.UInt32()).alias(FILE)
    )
    return keys.drop_nulls(key)


def _spread(folder: Path, files: int, key: str, buckets: int) -> None:
    bucket = (pl.col(key).hash() % buckets).alias(BUCKET)
    for file in range(files):
        keys = _keys(folder, file, key).with_columns(bucket)
        for (number,), part in keys.partition_by(BUCKET, as_dict=True, include_key=False).items():
            part.write_ipc(folder / f"keys-{number}-{file:06}.arrow")


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
    files = sorted(folder.glob(f"keys-{bucket}-*.arrow"))
    _note_repeated(folder, [pl.read_ipc(file) for file in files])
    for path in files:
        path.unlink()


def _note_repeated(folder: Path, keys: list[pl.DataFrame]) -> None:
    """Note, for each file of rows, which of them are not the first of their key."""
    if not keys:
        return
    repeated = pl.concat(keys).filter(~pl.first().is_first_distinct())
    for (number,), part in repeated.partition_by(FILE, as_dict=True).items():
        with (folder / f"repeated-{number}").open("ab") as file:
            array("I", part[PLACE]).tofile(file)


def _is_kept(folder: Path, number: int, height: int) -> pl.Series:
    kept = pl.repeat(value=True, n=height, eager=True)
    path = folder / f"repeated-{number}"
    if not path.is_file():
        return kept
    places = array("I")
    places.frombytes(path.read_bytes())
    return kept.scatter(pl.Series(places, dtype=pl.UInt32()), False)
