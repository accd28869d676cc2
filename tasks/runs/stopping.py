"""A run that is stopped (Ctrl-C, SIGTERM, Cancel) stops in all its threads, and not in the main one alone."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Event

import polars as pl  # noqa: F401  # it sets a handler of its own when it is imported, and not later

if hasattr(signal, "siginterrupt"):  # not on Windows
    # With the handler of polars, Ctrl-C no longer ends a wait of the main thread: it would go on until a part has
    # ended (polars issue 21739). So Python's own way is set again; the handler of polars stays.
    signal.siginterrupt(signal.SIGINT, True)

STOPPING_SECONDS = 3.0
"""By then every part has ended after a stop."""

_STOPPED: ContextVar[Event | None] = ContextVar("stopped", default=None)


class Stopped(Exception):
    """The run was stopped, and this part of it with it."""

    def __init__(self) -> None:
        super().__init__("the run was stopped")


@contextmanager
def stoppable() -> Iterator[None]:
    """What is begun in this block, in threads too, ends when the block is left by an exception."""
    event = Event()
    before = _STOPPED.set(event)
    try:
        yield
    except BaseException:
        event.set()
        raise
    finally:
        _STOPPED.reset(before)


def end_if_stopped() -> None:
    """To be called now and then by whatever lasts. Errors: `Stopped`, where the run that it works for was."""
    event = _STOPPED.get()
    if event is not None and event.is_set():
        raise Stopped
