"""How far a delivery is, while it runs: an artifact in the Prefect UI, and a bar where there is a terminal."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prefect.artifacts import update_progress_artifact
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tasks.delivery.dispatch import Tally
from tasks.runs.artifacts import begin_progress

ARTIFACT_SECONDS = 2.0
"""How often the artifact is brought up to date: each time is a request to the server."""


@contextmanager
def shown_progress(tally: Tally, key: str, title: str) -> Iterator[Callable[[], None]]:
    """Gives what is to be called now and then; the artifact and the bar end where the tally does."""
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
    artifact = begin_progress(f"{title}: messages sent", key=key)
    begun = last = time.monotonic()

    def show() -> None:
        nonlocal last
        now = time.monotonic()
        bar.update(row, completed=tally.done, rate=f"{tally.done / max(now - begun, 0.001):,.0f}/s")
        if now - last >= ARTIFACT_SECONDS:
            last = now
            update_progress_artifact(artifact, progress=percent(tally))

    with bar:
        row = bar.add_task(title, total=tally.total, rate="")
        yield show
        show()
    update_progress_artifact(artifact, progress=percent(tally))


def percent(tally: Tally) -> float:
    """How much is done, from 0 to 100."""
    return min(100.0, 100.0 * tally.done / tally.total) if tally.total else 100.0
