"""What a sender's claimed messages have come to since the journal was last told: a file for those that come after.

A sender claims some messages ahead, and tells the journal of some answers together. When it is killed, this file
says which messages may have left (a key is written down before its message's first byte goes) and what was
answered to which. The sender holds the file's lock while it lives;
whoever gets the lock knows for certain that it is dead. The file is not forced to the disk, so it is believed only
while the machine has not been started anew; without it, every claim of a dead sender is in doubt.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from tasks.delivery.journal.states import Event

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

IN_DOUBT = "its sender was gone before an answer was written down"
EVENTS = frozenset(Event)
BOOT = Path("/proc/sys/kernel/random/boot_id")


def boot() -> str | None:
    """What names the time since the machine was started; None where no such name or no lock is to be had."""
    if fcntl is None:
        return None
    try:
        return BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return None


class Departures:
    """The file of one sender. It is made with the first departure."""

    def __init__(self, folder: Path, sender: str) -> None:
        self._path = file_of(folder, sender)
        self._boot = boot()
        self._file: int | None = None

    def open(self) -> None:
        """Make the file and take its lock; nothing, where departures cannot be kept. Errors: `OSError`."""
        if self._boot is not None and self._file is None:
            self._path.parent.mkdir(exist_ok=True, mode=0o700)
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            os.write(self._file, f"{self._boot}\n".encode())

    def begin(self, key: str) -> None:
        """A message is about to leave. Errors: `OSError`; the message must then stay."""
        if self._file is not None:
            line = f"\n{key}\n".encode()  # of its own, though the one before was cut
            if os.write(self._file, line) != len(line):
                raise OSError("the file of departures took half a line")

    def end(self, key: str, event: Event, answer: str) -> None:
        """A message that had begun to leave was answered. A note that cannot be made leaves it in doubt."""
        if self._file is not None:
            with suppress(OSError):
                os.write(self._file, f"\n{key} {event} {' '.join(answer.split())}\n".encode())

    def close(self, *, done: bool) -> None:
        """Give the lock back; with `done`, nothing is in doubt and the file goes."""
        if self._file is not None:
            if done:
                self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None


def file_of(folder: Path, sender: str) -> Path:
    """The file of a sender."""
    return folder / sha256(sender.encode()).hexdigest()[:32]


@contextmanager
def departed(folder: Path, sender: str) -> Iterator[dict[str, tuple[Event, str]] | None]:
    """What a dead sender's messages that may have left have come to, by key; None where nobody can say.

    The file is removed at the end of the block, which is to have noted what follows from it.
    """
    path = file_of(folder, sender)
    try:
        file = os.open(path, os.O_RDWR)
    except OSError:
        yield None
        return
    try:
        if boot() is None or not _locked(file):
            yield None
            return
        begun, *lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        believed = begun == boot()
        whole = filter(None, lines[:-1])  # what has no end was not written whole
        yield dict(map(_noted, whole)) if believed else None
        if believed:
            path.unlink(missing_ok=True)
    finally:
        os.close(file)


def _noted(line: str) -> tuple[str, tuple[Event, str]]:
    key, _, rest = line.partition(" ")
    event, _, answer = rest.partition(" ")
    return key, (Event(event), answer) if event in EVENTS else (Event.LOST, IN_DOUBT)


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
