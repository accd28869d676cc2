"""The storage folder: where activities read and write files, and never outside it."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from errno import ENOTDIR
from os import strerror
from pathlib import Path

import polars as pl

from tasks.errors import OutsideStorage, SourceMissing, StoreUnwritable
from tasks.tables.transitions import nearest

FILES = {"file": pl.String(), "bytes": pl.Int64()}
"""Columns of a transition without population that tells of files: their names in the storage folder, and sizes."""


def within(storage: Path, file: str) -> Path:
    """The path of a file of the storage folder, whether it is there or not. Errors: `OutsideStorage`."""
    root = storage.resolve()
    path = (root / file).resolve()
    if "\x00" in file or not file.strip() or path == root or not path.is_relative_to(root):
        raise OutsideStorage(file=file)
    return path


def stored(storage: Path, file: str) -> Path:
    """The path of a file that is there. Errors: `OutsideStorage`, `SourceMissing`, with the nearest name."""
    path = within(storage, file)
    if not path.is_file():
        known = [known.name for known in path.parent.glob("*")] if path.parent.is_dir() else []
        hint = nearest([path.name], known)
        raise SourceMissing(
            what="file", path=path, setting="the activity's file", hint=f" ({hint})" if hint else ""
        )
    return path


def files_table(storage: Path, paths: list[Path]) -> pl.DataFrame:
    """Columns of `FILES` for files of the storage folder, in the order given."""
    root = storage.resolve()
    return pl.DataFrame(
        [(path.relative_to(root).as_posix(), path.stat().st_size) for path in paths], schema=FILES, orient="row"
    )


def written_whole(path: Path) -> AbstractContextManager[Path]:
    """A draft to write, which takes the file's place when the block ends well. Errors: `StoreUnwritable`."""
    return _whole(path, lambda draft: draft.replace(path))


def created_whole(path: Path) -> AbstractContextManager[Path]:
    """As `written_whole`, for a file that is not there yet. Errors: `FileExistsError`, `StoreUnwritable`."""
    return _whole(path, path.hardlink_to)


@contextmanager
def _whole(path: Path, place: Callable[[Path], object]) -> Iterator[Path]:
    try:
        with private_draft(path) as draft:
            yield draft
            place(draft)
    except FileExistsError:
        raise
    except OSError as error:
        raise StoreUnwritable(path=path, reason=error.strerror or str(error)) from None


@contextmanager
def private_draft(path: Path, folder: Path | None = None) -> Iterator[Path]:
    """An empty hidden file, with mode 0600 from the start, that will become `path`; removed at the block's end.

    It is beside `path`, or in `folder` of the same file system. Its name is no other writer's. Errors: `OSError`.
    """
    draft = (folder or path.parent) / f".{path.name}.{secrets.token_hex(6)}"
    make_private(draft.parent)
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def make_private(folder: Path) -> None:
    """Make the folder and those above it that are not there, each 0700. Errors: `OSError`."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(ENOTDIR, strerror(ENOTDIR), str(folder))
    if not folder.is_dir():
        make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
