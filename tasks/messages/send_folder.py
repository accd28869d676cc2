"""The folder of one send: what deliveries leave there for people; each file whole or not at all, and private."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from tasks.errors import OutboxUnwritable
from tasks.send import Send

REJECT_COLUMNS = ("profile_id", "email", "reason")


def folder_of(folder: Path, send: Send) -> Path:
    """Folder of one send."""
    return folder / send.campaign / send.business_date.isoformat()


def write_rejects(rejects: pl.DataFrame, folder: Path) -> Path:
    """`rejects.csv`: profile_id, email, reason of everyone who gets no message. Errors: `OutboxUnwritable`."""
    return written(folder / "rejects.csv", rejects.select(REJECT_COLUMNS).write_csv().encode())


def written(path: Path, content: bytes) -> Path:
    """Write a file in one step: a reader sees the old one or the new one. Errors: `OutboxUnwritable`."""
    draft = path.with_name(draft_name(path.name))
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            draft.write_bytes(content)
            draft.chmod(0o600)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    return path


def draft_name(name: str) -> str:
    """A hidden name for a file that is being written, which no other process or thread uses."""
    return f".{name}.{secrets.token_hex(6)}"


def placed(path: Path, content: bytes, drafts: Path | None = None) -> bool:
    """Write a file whole under a name that is free; False where the name is taken. Errors: `OSError`.

    It is made in the folder `drafts`, on the same file system (beside it, if not given), and linked: the system
    refuses to make a name twice.
    """
    draft = (drafts or path.parent) / draft_name(path.name)
    try:
        draft.write_bytes(content)
        draft.chmod(0o600)
        path.hardlink_to(draft)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    return True


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Tell a system's refusal to write in a sentence. Errors: `OutboxUnwritable`."""
    try:
        yield
    except OSError as error:
        raise OutboxUnwritable(path=path, reason=error.strerror or str(error)) from None
