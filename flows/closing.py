"""How campaigns begin and end alike: the day they are run for, and the report that closes them."""

from collections.abc import Mapping
from datetime import date
from zoneinfo import ZoneInfo

import polars as pl
from prefect.runtime import flow_run

from tasks.channels.outbox import Delivered
from tasks.content.personalization import Personalized
from tasks.delivery.delivery import Delivery
from tasks.execution.report import CampaignReport, report
from tasks.runs.partitions import Outcome, Partitions, rows_with_content
from tasks.send import Send
from tasks.tables.transitions import Transitions


def business_date_of(given: date | None, zone: ZoneInfo) -> date:
    """The day that a run is for: the one given, else the day that it was scheduled for, in the time zone."""
    return given or flow_run.scheduled_start_time.astimezone(zone).date()


def closed(
    send: Send,
    before: Mapping[str, pl.DataFrame | Transitions],
    *,
    audience: pl.DataFrame,
    enriched: pl.DataFrame,
    messages: Personalized,
    sent: Delivered | Delivery | None,
) -> CampaignReport:
    """Report a run that is done, as artifacts and as numbers.

    In: what the activities gave; `before` are those between the query and the enrichment, by name; `sent` is
    None where nothing was to be delivered.
    """
    rejects = pl.concat([messages.rejects, sent.rejects]) if sent else messages.rejects
    report(
        send,
        {
            "Query": audience,
            **before,
            "Enrichment": enriched,
            "Personalization": messages,
            **({"Outbox" if isinstance(sent, Delivered) else "Email": sent} if sent else {}),
        },
        messages.standard,
        rejects,
    )
    return CampaignReport(
        send=send,
        queried=audience.height,
        enriched=rows_with_content(enriched, [name for name in enriched.columns if name not in audience.columns]),
        personalized=messages.standard.height,
        rejected=rejects.height,
        delivered=sent.standard.height if sent else 0,
        delivered_before=sent.complement.height if sent else 0,
    )


def closed_partitions(
    send: Send,
    before: Mapping[str, pl.DataFrame | Transitions],
    *,
    audience: Partitions,
    content: str,
    outcome: Outcome,
    channel: str,
) -> CampaignReport:
    """Report a run that is done, whose audience went through it partition by partition.

    In: as in `closed`; `content` is the name of the additional data, `outcome` what all partitions came to, and
    `channel` the activity in it that delivered.
    """
    report(send, {"Query": audience, **before, "Partitions": outcome}, outcome.messages, outcome.rejects)
    return CampaignReport(
        send=send,
        queried=audience.height,
        enriched=outcome.rows("Enrichment", f"standard, with {content}"),
        personalized=outcome.rows("Personalization"),
        rejected=outcome.rejects.height,
        delivered=outcome.rows(channel),
        delivered_before=outcome.rows(channel, "complement"),
    )
