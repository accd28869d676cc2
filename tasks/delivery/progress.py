"""How far a delivery is, while it runs: an artifact in the Prefect UI, and a bar where there is a terminal."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context

from prefect.artifacts import update_progress_artifact
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tasks.delivery.dispatch import Tally
from tasks.runs.artifacts import begin_progress, harmlessly

ARTIFACT_SECONDS = 2.0
"""How often the artifact is brought up to date: each time is a request to the server."""
LAST_SECONDS = 5.0
"""So long the end waits for the artifact's last state."""


@contextmanager
def shown_progress(tally: Tally, key: str, title: str) -> Iterator[Callable[[], None]]:
    """Gives a function to call now and then; the artifact and the bar end with the tally."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not sys.stderr.isatty(),
    )
    begun = time.monotonic()

    def show() -> None:
        bar.update(row, completed=tally.done, rate=f"{tally.done / max(time.monotonic() - begun, 0.001):,.0f}/s")

    is_over = threading.Event()
    context = copy_context()
    artifact = threading.Thread(
        target=context.run, args=(_artifact_shown, tally, key, title, is_over), name=key, daemon=True
    )
    artifact.start()
    try:
        with bar:
            row = bar.add_task(title, total=tally.total, rate="")
            yield show
            show()
    finally:
        is_over.set()
        artifact.join(LAST_SECONDS)


def _artifact_shown(tally: Tally, key: str, title: str, is_over: threading.Event) -> None:
    """Keep the artifact up to date, in a thread of its own: an API that is away, or slow, delays no message."""
    with harmlessly(key):
        artifact = begin_progress(f"{title}: messages sent", key=key)
        while not is_over.wait(ARTIFACT_SECONDS):
            update_progress_artifact(artifact, progress=percent(tally))
        update_progress_artifact(artifact, progress=percent(tally))


def percent(tally: Tally) -> float:
    """How much is done, from 0 to 100."""
    return min(100.0, 100.0 * tally.done / tally.total) if tally.total else 100.0
