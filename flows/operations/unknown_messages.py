"""Unknown messages: list those that may or may not have been taken, and decide about them."""

from contextlib import closing
from datetime import date
from typing import Literal

import polars as pl
from prefect import flow, get_run_logger

from tasks.delivery.journal.storage import open_journal
from tasks.delivery.journal.upkeep import Upkeep
from tasks.errors import DecisionIncomplete
from tasks.runs.artifacts import show_table
from tasks.send import Send
from tasks.settings import Settings


@flow(name="Unknown messages", flow_run_name="{decision}")
def unknown_messages(
    *,
    decision: Literal["list", "send again", "mark as sent", "mark as not sent"] = "list",
    campaign: str = "",
    business_date: date | None = None,
    channel: str = "email",
    profile_ids: list[str] = [],  # noqa: B006  # Prefect shows it as the form's default, and never changes it
    decided_by: str = "",
    why: str = "",
) -> int:
    """Decide about messages that the server may or may not have taken.

    Args:
        decision: What to do with them. "send again" lets the next run of the campaign send them.
        campaign: Whose messages. The list is of all campaigns where this is empty.
        business_date: Of which business date of the campaign.
        channel: Over which channel.
        profile_ids: Whose messages. Left empty: those of everybody.
        decided_by: Who decided. It is kept with each message.
        why: Why. It is kept with each message.
    """
    with closing(open_journal(Settings.load().journal)) as journal:
        upkeep = Upkeep(journal)
        settled = 0
        if decision != "list":
            given = {
                "a campaign": campaign,
                "a business date": business_date,
                "who decided": decided_by,
                "why": why,
            }
            if missing := [name for name, value in given.items() if not value]:
                raise DecisionIncomplete(operation=decision, missing=", ".join(missing))
            assert business_date is not None, "it is not missing"  # noqa: S101  # for the types
            send = Send(campaign=campaign, label=campaign, business_date=business_date)
            settled = upkeep.settle(send, channel, decision, by=decided_by, why=why, profiles=profile_ids)
        left = upkeep.unknown().filter(pl.col("campaign") == campaign if campaign else pl.lit(value=True))
    show_table(left, key="unknown-messages", description="Messages that may or may not have been taken")
    get_run_logger().info("%d messages decided about, %d are unknown.", settled, left.height)
    return settled
