"""SES events: reads what Amazon SES publishes of messages, from files that Transfer file brought."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import polars as pl
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks.errors import SourceUnreadable
from tasks.feedback.table import no_reports, reports_of_events
from tasks.files.storage import within
from tasks.settings import Settings

SOURCE = "ses"
LARGEST_FILE = 256 * 1024 * 1024
"""Decoded bytes of one file. Firehose writes files of at most 128 MB."""


def event_lines(path: Path) -> Iterator[str]:
    """The lines of one file, plain or compressed as `.gz`. Errors: `SourceUnreadable`."""
    left = LARGEST_FILE
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            while left >= 0 and (line := file.readline(left + 1)):
                left -= len(line)
                yield line.decode("utf-8", "replace")
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, str(error)) from None
    if left < 0:
        raise _unreadable(path, f"it has more than {LARGEST_FILE} bytes")


def _unreadable(path: Path, reason: str) -> SourceUnreadable:
    cure = "Transfer it again, or remove it."
    return SourceUnreadable(what="file of events", path=path.name, reason=reason, cure=cure)


@task(name="SES events", task_run_name="SES events", cache_policy=NO_CACHE, persist_result=False)
def ses_events(folder: str) -> pl.DataFrame:
    """Read every file of events in a folder of the storage, as reports. Files are left as they are.

    In: a folder of the storage, into which Transfer file brings the files that Firehose wrote.
    Out: reports, the columns of `tasks.feedback.table`. Errors: `SourceUnreadable`, `OutsideStorage`.

    Example:
        ```python
        reports = ses_events("ses")
        ```
    """
    place = within(Settings.load().storage.folder, folder)
    files = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else []
    reports = [reports_of_events(SOURCE, event_lines(file)) for file in files]
    get_run_logger().info("%d files of events.", len(files))
    return pl.concat(reports) if reports else no_reports()
