"""What a send's folder delivered: one record for all formats of a channel, apart from what people do with the mail.

A reader may delete, rename or archive what lies in the folder; it is not delivered again. The record is files of
keys, each forced to the disk after what it tells of is there. Writers of one folder take turns under a lock:
between looking for what others delivered and noting one's own, nobody else writes.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from filelock import FileLock, Timeout

from tasks.errors import OutboxUnwritable
from tasks.files.storage import make_private, private_draft
from tasks.runs.log import run_logger
from tasks.runs.table import Part
from tasks.send import DIGITS

DIGITS_OF_KEY = pl.col("message_key").str.head(DIGITS)
"""What tells messages apart: who got one variant gets no other."""
LOCK_SECONDS = 120
"""How long another run of the send is waited for: it holds the lock for one window of messages."""
LOCK_SILENCE_SECONDS = 5


@dataclass(frozen=True)
class DeliveredKeys:
    """The record of one part's run, in the record of a send: keys' digits, in Parquet files."""

    folder: Path
    part: Part
    _read: set[Path] = field(default_factory=set)
    """Files of other runs whose keys were given."""

    @property
    def name(self) -> str:
        """What the part's files are named by."""
        return f"{self.part.run}-{self.part.number:06}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """A writer's turn. Errors: `OSError`, `OutboxUnwritable` where another one does not end its own."""
        make_private(self.folder)
        lock = FileLock(self.folder / ".lock", mode=0o600)
        try:
            lock.acquire(timeout=LOCK_SILENCE_SECONDS)
        except Timeout:
            run_logger().warning(
                "Another run writes to %s: it is waited for, %d seconds at most.", self.folder, LOCK_SECONDS
            )
            try:
                lock.acquire(timeout=LOCK_SECONDS)
            except Timeout:
                reason = f"another run has held its lock for {LOCK_SECONDS} seconds"
                raise OutboxUnwritable(path=self.folder, reason=reason) from None
        try:
            yield
        finally:
            lock.release()

    def of_part(self) -> pl.Series:
        """Digits that earlier attempts at this part delivered."""
        return _digits([file for file in self._files() if file.name.startswith(f"{self.name}.")])

    def of_others(self) -> pl.Series:
        """Digits that other runs delivered, which no call before gave.

        Parts of one run have no profile in common, and are not looked at.
        """
        of_others = {file for file in self._files() if not file.name.startswith(f"{self.part.run}-")}
        new = sorted(of_others - self._read)
        self._read.update(new)
        return _digits(new)

    def next_name(self) -> str:
        """The name that the part's next file has, in the record and, in a Parquet outbox, beside the messages."""
        number = sum(name.startswith(f"{self.name}.") for name in self.names())
        return f"{self.name}.{number:06}.parquet"

    def names(self) -> set[str]:
        """Names of all files of the record."""
        return {file.name for file in self._files()}

    def add(self, keys: Iterable[str], name: str = "") -> None:
        """Note keys of messages that are on the disk, in a file of this name. Errors: `OSError`."""
        digits = pl.DataFrame({"digits": pl.Series([key[:DIGITS] for key in keys], dtype=pl.String())})
        if digits.height:
            path = self.folder / (name or self.next_name())
            with private_draft(path) as draft:
                digits.write_parquet(draft, compression="uncompressed")
                forced(draft)
                draft.rename(path)
            forced(self.folder)

    def count(self) -> int:
        """How often something was noted, by anybody."""
        return len(self._files())

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("[!.]*.parquet"))


def _digits(files: list[Path]) -> pl.Series:
    if not files:
        return pl.Series("digits", dtype=pl.String())
    return pl.scan_parquet(files).select("digits").collect()["digits"]


def forced(path: Path) -> None:
    """Have a file's content, or a folder's names, on the disk before anything follows. Errors: `OSError`."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
