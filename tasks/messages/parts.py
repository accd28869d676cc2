"""Messages as Parquet files of one folder, a partition a file, no profile in two of them.

A file is made whole beside its place and then linked there, under a lock that all writers of the folder take:
between looking for messages that others placed and placing its own, no other file comes to be. Partitions of one
run have no profile in common, so only the files of other runs are looked at: none, when a send is run once.
"""

from pathlib import Path

import polars as pl
from filelock import FileLock

from tasks.files.storage import private_draft
from tasks.runs.audience import Part
from tasks.send import DIGITS

WITHOUT_VARIANT = pl.col("message_key").str.head(DIGITS)
"""What tells messages apart: who got one variant gets no other."""
ROW_GROUP = 10_000
"""Messages that are encoded together: more of them take more memory, and no less room."""


def placed_keys(messages: pl.DataFrame, folder: Path, part: Part) -> pl.Series:
    """Place the messages of a partition that no file has yet; gives the keys of all that the partition placed.

    That is more than this call did where an earlier attempt at the partition was cut off before it could tell. In:
    messages with the column message_key, no two with the same. Errors: `OSError`.
    """
    name = f"{part.run}-{part.number:06}"
    with private_draft(folder / name) as draft:
        _write(messages, draft)
        with FileLock(folder / ".lock", mode=0o600):
            own = _place(messages, draft, folder, part, name)
    return _keys(own).collect()["message_key"]


def _write(messages: pl.DataFrame, draft: Path) -> None:
    messages.write_parquet(draft, compression="zstd", compression_level=1, row_group_size=ROW_GROUP)


def _place(messages: pl.DataFrame, draft: Path, folder: Path, part: Part, name: str) -> list[Path]:
    """Link the draft, without messages that are placed already; gives the partition's files."""
    files = sorted(folder.glob("[!.]*.parquet"))
    own = [file for file in files if file.name.startswith(f"{name}.")]
    known = own + [file for file in files if not file.name.startswith(f"{part.run}-")]
    fresh = messages.join(_keys(known).collect(), on=WITHOUT_VARIANT, how="anti") if known else messages
    if fresh.is_empty():
        return own
    if fresh.height < messages.height:
        _write(fresh, draft)
    path = folder / f"{name}.{len(own)}.parquet"
    path.hardlink_to(draft)
    return [*own, path]


def _keys(files: list[Path]) -> pl.LazyFrame:
    if not files:
        return pl.LazyFrame(schema={"message_key": pl.String()})
    return pl.scan_parquet(files).select("message_key")
