"""Retention: removes partitions, results, outboxes and messages of the journal once they are old enough."""

import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Literal

import polars as pl

from tasks.delivery.journal.storage import Journal
from tasks.delivery.journal.upkeep import Upkeep
from tasks.operations.stores import Store

What = Literal["partitions", "results", "outbox", "journal"]
REMOVED = {"store": pl.String(), "what": pl.String(), "items": pl.Int64(), "bytes": pl.Int64()}
Removed = tuple[str, str, int, int]


def retained(
    stores: Sequence[Store], journal: Journal, what: Sequence[What], days: int, campaign: str, *, dry_run: bool
) -> pl.DataFrame:
    """Remove what is older than the given number of days, or say what would go: store, what, items, bytes.

    Of one campaign: its outbox and its messages only; files of partitions and results name no campaign.
    Errors: `JournalUnavailable`.
    """
    moment = journal.database.now() - timedelta(days=days)
    rows: list[Removed] = []
    for store in stores:
        if store.is_cache and store.name in what and not campaign:
            rows.append(_old_files(store, moment, dry_run=dry_run))
        elif store.name == "outbox" and "outbox" in what:
            rows += _old_sends(store.folder, moment.date(), campaign, dry_run=dry_run)
    if "journal" in what:
        forgotten = Upkeep(journal).forget(moment.date(), moment, campaign, dry_run=dry_run)
        rows += [("journal", table, count, 0) for table, count in forgotten.items()]
    return pl.DataFrame(rows, schema=REMOVED, orient="row")


def _old_files(store: Store, moment: datetime, *, dry_run: bool) -> Removed:
    old = [path for path in store.files() if datetime.fromtimestamp(path.stat().st_mtime, UTC) < moment]
    size = sum(path.stat().st_size for path in old)
    if not dry_run:
        for path in old:
            path.unlink(missing_ok=True)
    return store.name, "files", len(old), size


def _old_sends(folder: Path, before: date, campaign: str, *, dry_run: bool) -> Iterator[Removed]:
    for send in sorted(folder.glob(f"{campaign or '*'}/*")):
        day = _day(send.name)
        if day is None or day >= before or send.is_symlink() or not send.is_dir():
            continue
        files = [path for path in send.rglob("*") if path.is_file()]
        yield "outbox", f"{send.parent.name}/{send.name}", len(files), sum(path.stat().st_size for path in files)
        if not dry_run:
            shutil.rmtree(send)


def _day(name: str) -> date | None:
    try:
        return date.fromisoformat(name)
    except ValueError:
        return None
