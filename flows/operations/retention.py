"""Retention: remove what campaigns have written and is no longer needed; first as a dry run."""

from contextlib import closing
from typing import Annotated

from prefect import flow, get_run_logger
from pydantic import Field

from flows.operations.stores import stores
from flows.settings import CampaignSettings
from tasks.delivery.journal.storage import open_journal
from tasks.operations.retention import What, retained
from tasks.runs.artifacts import show_table

EVERYTHING: list[What] = ["partitions", "results", "outbox", "journal"]


@flow(name="Retention")
def retention(
    *,
    days: Annotated[int, Field(ge=1, le=36_500)] = 365,
    what: list[What] = EVERYTHING,
    campaign: str = "",
    dry_run: bool = True,
) -> int:
    """Remove what is older than the given number of days. Gives how many items were removed, or would be.

    Args:
        days: How long it is kept. Files count from their last change, sends from their business date.
        what: What is removed. Opt-outs, complaints and quarantine stay, whatever their age, while they hold.
        campaign: Of which campaign: its outbox and its messages only. Left empty: of all.
        dry_run: Only say what would be removed.
    """
    settings = CampaignSettings.load()
    with closing(open_journal(settings.journal)) as journal:
        removed = retained(stores(settings), journal, what, days, campaign, dry_run=dry_run)
    done = "Would be removed" if dry_run else "Removed"
    show_table(removed, key="retention", description=f"{done}: older than {days} days")
    get_run_logger().info("%s: %d items, %d bytes.", done, removed["items"].sum(), removed["bytes"].sum())
    return int(removed["items"].sum())
