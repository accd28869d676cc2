"""The folder of one send: what deliveries leave there for people; each file whole or not at all, and private."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from tasks.errors import OutboxUnwritable
from tasks.files.delimited import write_delimited
from tasks.files.storage import private_draft
from tasks.messages.delivered import forced
from tasks.send import Send
from tasks.tables.transitions import REJECT_COLUMNS


def folder_of(folder: Path, send: Send) -> Path:
    """Folder of one send."""
    return folder / send.campaign / send.business_date.isoformat()


def write_rejects(rejects: pl.DataFrame | pl.LazyFrame, folder: Path) -> Path:
    """`rejects.csv`: profile_id, email, reason of everyone who gets no message. Errors: `OutboxUnwritable`."""
    path = folder / "rejects.csv"
    with writable(path), private_draft(path) as draft:
        write_delimited(rejects.lazy().select(REJECT_COLUMNS), draft, activity="The rejects file")
        draft.replace(path)
    return path


def written(path: Path, content: bytes) -> Path:
    """Write a file in one step: a reader sees the old one or the new one. Errors: `OutboxUnwritable`."""
    with writable(path), private_draft(path) as draft:
        draft.write_bytes(content)
        draft.replace(path)
    return path


def placed(path: Path, content: bytes, drafts: Path | None = None) -> bool:
    """Write a file whole under a name that is free; False where the name is taken. Errors: `OSError`.

    It is made in the folder `drafts`, on the same file system (beside it, if not given), and linked: the system
    refuses to make a name twice.
    """
    with private_draft(path, drafts) as draft:
        draft.write_bytes(content)
        forced(draft)
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return False
    forced(path.parent)
    return True


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Tell a system's refusal to write in a sentence. Errors: `OutboxUnwritable`."""
    try:
        yield
    except OSError as error:
        raise OutboxUnwritable(path=path, reason=error.strerror or str(error)) from None
