"""Deadlines of what is asked of a server that may hang: the wait is said, and then its connection is cut off.

A driver that waits for an answer cannot be told to stop waiting, and a server that hangs keeps no limit of its own.
One thread watches all that is waited for.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import Context, copy_context
from dataclasses import dataclass

from tasks.runs.log import run_logger

SILENCE_SECONDS = 5.0
"""How long a wait is not logged."""
WATCH_SECONDS = 0.25


@dataclass
class Waiting:
    """One thing that is waited for."""

    what: str
    file: int
    after: float
    begun: float
    context: Context
    is_said: bool = False


_WAITING: dict[int, Waiting] = {}
_CHANGED = threading.Event()
_STARTING = threading.Lock()
_WATCH: threading.Thread | None = None


@contextmanager
def cut_off(file: int, *, after: float, what: str) -> Iterator[Waiting]:
    """Cut the socket `file` off when the block has lasted `after` seconds. `what`: a sentence for the log."""
    waiting = Waiting(what, file, after, time.monotonic(), copy_context())
    _WAITING[id(waiting)] = waiting
    _watched()
    try:
        yield waiting
    finally:
        del _WAITING[id(waiting)]


def _watched() -> None:
    global _WATCH  # noqa: PLW0603  # one thread a process
    if _WATCH is None or not _WATCH.is_alive():  # not in a process that was forked
        with _STARTING:
            if _WATCH is None or not _WATCH.is_alive():
                _WATCH = threading.Thread(target=_watch, name="deadlines", daemon=True)
                _WATCH.start()
    _CHANGED.set()


def _watch() -> None:
    while True:
        if not _WAITING:
            _CHANGED.clear()
            _CHANGED.wait(60)
        time.sleep(WATCH_SECONDS)
        for waiting in list(_WAITING.values()):
            seconds = time.monotonic() - waiting.begun
            if seconds > waiting.after:
                _cut(waiting)
            elif seconds > SILENCE_SECONDS and not waiting.is_said:
                waiting.is_said = True
                waiting.context.run(_say, waiting)


def _say(waiting: Waiting) -> None:
    run_logger().warning("%s: it is waited for, %d seconds at most.", waiting.what, waiting.after)


def _cut(waiting: Waiting) -> None:
    with suppress(OSError), socket.socket(fileno=os.dup(waiting.file)) as connection:
        connection.shutdown(socket.SHUT_RDWR)
