"""Python's search for objects that only hold each other, while messages are sent or get their codes.

By default it begins with every 700 new objects. Thousands of letters wait in a window, so that it looks through the
same ones again and again: that took a fifth of the time of a send, and a third of that of reserving codes (`make
bench BENCH=delivery`).
"""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

NEW_OBJECTS = 50_000
"""So many new objects begin a search."""

_LOCK = threading.Lock()
_before: list[tuple[int, int, int]] = []
"""What the process had before the first of the blocks that go on, once for each of these."""


@contextmanager
def rarer_searches() -> Iterator[None]:
    """Search after `NEW_OBJECTS` in this block, in all threads; no more often than the process does now."""
    with _LOCK:
        _before.append(_before[0] if _before else gc.get_threshold())
        first, *others = _before[0]
        if first:  # 0: it does not search at all
            gc.set_threshold(max(first, NEW_OBJECTS), *others)
    try:
        yield
    finally:
        with _LOCK:
            before = _before.pop()
            if not _before:
                gc.set_threshold(*before)
