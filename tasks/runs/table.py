"""A table in memory, or in parts: references to Arrow files in the result storage."""

import io
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from functools import cached_property
from pathlib import Path
from typing import Self

import polars as pl
from polars.io.plugins import register_io_source
from prefect.filesystems import LocalFileSystem
from pydantic import BaseModel, ConfigDict

from tasks.errors import PartitionGone, ResultsUnwritable
from tasks.runs.digest import arrow_file, digest_of, write_arrow
from tasks.runs.results import as_table, result_storage
from tasks.settings import Settings
from tasks.tables.transitions import Transitions


class Part(BaseModel):
    """A reference to one part's rows."""

    model_config = ConfigDict(frozen=True)

    run: str
    """No profile is in two parts of the same run, where the audience's keys are distinct."""
    number: int
    rows: int
    file: str
    """Path of the Arrow file in the result storage."""
    alone: bool = False
    """Whether it is the whole audience."""

    @property
    def key(self) -> str:
        """What tells its rows from those of any other part."""
        return digest_of([self.run, self.number, self.file])[:16]

    def read(self, columns: list[str] | None = None) -> pl.DataFrame:
        """The part's rows, or some of their columns. Errors: `PartitionGone`."""
        return read_file(self.file, columns)


def read_file(file: str, columns: list[str] | None = None) -> pl.DataFrame:
    """A table of the result storage, as `kept_file` wrote it, or some of its columns, in the order given.

    A local file is read by polars itself: its bytes are not in memory a second time. Errors: `PartitionGone`.
    """
    try:
        path = _local(file)
        source = io.BytesIO(result_storage().read_path(file)) if path is None else path  # type: ignore[arg-type]
        return pl.read_ipc(source, columns=columns)
    except Exception as error:  # noqa: BLE001  # each storage has errors of its own
        raise PartitionGone(file=file, reason=str(error) or type(error).__name__) from None


def _local(file: str) -> Path | None:
    """Where a file of the result storage lies on this machine; None where the storage is none of its folders.

    Errors: `ValueError` for a file outside the storage's folder.
    """
    storage = result_storage()
    if type(storage) is not LocalFileSystem:
        return None
    folder = Path(storage.basepath or ".").expanduser().resolve()
    path = (folder / file).resolve()
    if not path.is_relative_to(folder):
        raise ValueError("It is outside the result storage.")
    return path


PARTS = {"run": pl.String(), "number": pl.Int64(), "rows": pl.Int64(), "file": pl.String()}


class Table:
    """A table in memory, or in parts."""

    def __init__(self, schema: pl.Schema, frame: pl.DataFrame | None, parts: tuple[Part, ...] = ()) -> None:
        self.schema = schema
        self.frame = frame
        self.parts = parts

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Self:
        """A table in memory."""
        return cls(frame.schema, frame)

    @property
    def height(self) -> int:
        """How many rows it has."""
        return sum(part.rows for part in self.parts) if self.frame is None else self.frame.height

    def pieces(self, columns: list[str] | None = None) -> Iterator[pl.DataFrame]:
        """Its rows, or some of their columns, one part in memory at a time."""
        if self.frame is not None:
            yield self.frame if columns is None else self.frame.select(columns)
            return
        for part in self.parts:
            yield part.read(columns)

    def scan(self) -> pl.LazyFrame:
        """Its rows as a lazy table that reads one part at a time."""
        return lazily(self.pieces, self.schema) if self.frame is None else self.frame.lazy()

    def collect(self) -> pl.DataFrame:
        """Its rows in memory. Errors: `PartitionGone`."""
        return pl.concat([self.schema.to_frame(), *self.pieces()]) if self.frame is None else self.frame

    @cached_property
    def key(self) -> str:
        """Digest of what it holds: its rows, or the references to its parts."""
        return digest_of(self.frame if self.frame is not None else [part.model_dump() for part in self.parts])


def lazily(pieces: Callable[[list[str] | None], Iterator[pl.DataFrame]], schema: pl.Schema) -> pl.LazyFrame:
    """Tables that come one after another as one lazy table.

    `pieces` gives them; it is told the columns that are wanted of them, in their order, and None for all.
    """
    run = copy_context()  # polars reads on threads of its own, which know no run

    def read(
        columns: list[str] | None, predicate: pl.Expr | None, limit: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        wanted = None if columns is None else _wanted(schema, columns, predicate)
        own, following, left = run.copy(), pieces(wanted), limit
        while (piece := own.run(next, following, None)) is not None and left != 0:
            # The limit is one of rows that are read, of which the predicate takes some.
            chosen = piece if left is None else piece.head(left)
            left = None if left is None else left - chosen.height
            chosen = chosen if predicate is None else chosen.filter(predicate)
            yield chosen if columns is None else chosen.drop(name for name in chosen.columns if name not in columns)

    return register_io_source(read, schema=schema)


def _wanted(schema: pl.Schema, columns: list[str], predicate: pl.Expr | None) -> list[str]:
    """The columns to read: those asked for, and those that the predicate needs.

    One at least: a table without columns has no rows, which may be counted or numbered.
    """
    needed = {*columns, *(predicate.meta.root_names() if predicate is not None else ())}
    return [name for name in schema if name in needed] or schema.names()[:1]


def stored(batches: Iterable[pl.DataFrame], run: str, *, distinct: bool) -> Table:
    """Keep tables that come one after another: in memory where they are one part, else as parts of `run`.

    In: tables of one schema, one at least, each at most a part's size. Errors: `ResultsUnwritable`.
    """
    following = iter(batches)
    first = next(following, None)
    if first is None:
        raise ValueError("A source gives one table at least: one without rows, where there are none.")
    second = next(following, None)
    if second is None:
        return Table.of(first)
    parts = [_kept(first, run, 1, distinct=distinct), _kept(second, run, 2, distinct=distinct)]
    parts += [_kept(table, run, number, distinct=distinct) for number, table in enumerate(following, 3)]
    return Table(first.schema, None, tuple(parts))


def _kept(table: pl.DataFrame, run: str, number: int, *, distinct: bool) -> Part:
    file = kept_file(table, f"partitions/{run}/{number:06}.arrow")
    return Part(run=run if distinct else f"{run}.{number}", number=number, rows=table.height, file=file)


def kept_file(table: pl.DataFrame | Transitions, file: str) -> str:
    """Write a table or a result into the result storage, replacing an earlier one. Errors: `ResultsUnwritable`."""
    try:
        path, rows = _local(file), as_table(table)
        if path is None:
            result_storage().write_path(file, content=arrow_file(rows))  # type: ignore[unused-coroutine]
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_arrow(rows, path)
    except Exception as error:  # noqa: BLE001  # each storage has errors of its own
        raise ResultsUnwritable(file=file, reason=str(error) or type(error).__name__) from None
    return file


def part_size() -> int:
    """Profiles of one part, as the settings say."""
    return Settings.load().partitions.size
