"""Messages as Parquet files of one folder, a partition a file, no profile in two of them.

A file is made whole beside its place and then linked there, under a lock that all writers of the folder take:
between looking for messages that others placed and placing its own, no other file comes to be. Partitions of one
run have no profile in common, so only the files of other runs are looked at: none, when a send is run once.
"""

import os
from pathlib import Path

import polars as pl
from filelock import FileLock

from tasks.partitions import Part

ROW_GROUP = 10_000
"""Messages that are encoded together: more of them take more memory, and no less room."""


def placed_messages(messages: pl.DataFrame, folder: Path, part: Part) -> pl.Series:
    """Place the messages of a partition that no other file has; True for those that are in the partition's file.

    A partition that was placed before, by an attempt of which nobody heard the end, stays as it is. In: messages
    with the column message_key, no two with the same. Errors: `OSError`.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / _name(part)
    if not path.exists():
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            _write(messages, draft)
            with FileLock(folder / ".lock"):
                _place(messages, draft, path, part)
        finally:
            draft.unlink(missing_ok=True)
    return messages["message_key"].is_in(pl.read_parquet(path, columns=["message_key"])["message_key"].implode())


def _name(part: Part) -> str:
    return f"{part.run}-{part.number:06}.parquet"


def _write(messages: pl.DataFrame, draft: Path) -> None:
    messages.write_parquet(draft, compression="zstd", compression_level=1, row_group_size=ROW_GROUP)
    draft.chmod(0o600)


def _place(messages: pl.DataFrame, draft: Path, path: Path, part: Part) -> None:
    others = [file for file in folder_files(path.parent) if not file.name.startswith(f"{part.run}-")]
    if others:
        known = pl.scan_parquet(others).select("message_key")
        fresh = messages.lazy().join(known, on="message_key", how="anti", maintain_order="left").collect()
        if fresh.height < messages.height:
            _write(fresh, draft)
    if not path.exists():
        path.hardlink_to(draft)


def folder_files(folder: Path) -> list[Path]:
    """The files of messages in a folder."""
    return sorted(folder.glob("[!.]*.parquet"))
