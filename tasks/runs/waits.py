"""A wait that lasts is said: what for, how long, and how to stop it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from threading import Timer

from tasks.runs.log import run_logger

SILENCE_SECONDS = 5.0
"""So long nothing is said of a wait."""
STOP = "Cancel, or Ctrl-C, ends this run"


@contextmanager
def said(what: str, *, at_most: str = "until it is over") -> Iterator[None]:
    """Say in the run's log what the block waits for, once it has lasted some seconds; `what` in words."""
    context, logger = copy_context(), run_logger()
    timer = Timer(SILENCE_SECONDS, context.run, [logger.warning, "Waiting for %s, %s. %s.", what, at_most, STOP])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def tell_of_wait(receiver: str, reason: str, patience: float) -> None:
    """Say that a receiver takes nothing, and is tried again."""
    run_logger().warning(
        "%s takes nothing (%s): it is tried again, for %g seconds at most. %s.", receiver, reason, patience, STOP
    )
