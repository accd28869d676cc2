"""An outbox that leaves a trace of each part it worked on, and dies where a test has asked for it."""

import os
import signal
import uuid
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from tasks.channels.outbox import Delivered, OutboxOptions, close_outbox, deliver
from tasks.runs.part import current_part
from tasks.runs.sink import Closing, sink_activity
from tasks.send import Send


@sink_activity("Outbox")
def traced_outbox(messages: pl.DataFrame, options: OutboxOptions, send: Send, folder: Path) -> Delivered:
    """Deliver the messages of one part."""
    part = current_part()
    (folder / f"worked-{part.number}-{uuid.uuid4().hex}").touch()
    sent = deliver(messages, options, send, datetime.now(UTC), part)
    _die_if_asked(folder / f"die-{part.number}")
    return sent


@traced_outbox.closing
def close_traced_outbox(closing: Closing, options: OutboxOptions, send: Send, folder: Path) -> None:
    """What Outbox does after all parts."""
    _die_if_asked(folder / "die-closing")
    close_outbox(closing, options, send)


def _die_if_asked(order: Path) -> None:
    if order.exists():
        order.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
