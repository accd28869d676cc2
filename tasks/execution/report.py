"""Report: shows in the Prefect UI how many rows each transition had, why rows were rejected, and a few messages."""

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict, Field

from tasks.delivery.journal.database import open_database
from tasks.pools.stock import Pools
from tasks.pools.telling import pools_of_send, stock_of, tell
from tasks.runs.artifacts import show_table
from tasks.runs.audience import Audience
from tasks.runs.counts import WITH_CONTENT, counts_of, merged
from tasks.runs.published import publish, reject_reasons
from tasks.send import Send
from tasks.settings import Settings
from tasks.tables.transitions import Transitions


class CampaignReport(BaseModel):
    """What a run did, in numbers of profiles."""

    model_config = ConfigDict(frozen=True)

    send: Send = Field(description="The campaign and its business date.")
    queried: int = Field(description="Profiles that the query selected.")
    enriched: int = Field(description="Of those, profiles that have the content.")
    personalized: int = Field(description="Messages that were rendered.")
    rejected: int = Field(description="Profiles that get no message, with the reason in the rejects file.")
    delivered: int = Field(description="Messages that this run delivered.")
    delivered_before: int = Field(description="Messages that an earlier run of the same send had delivered.")
    sent_by: str = Field(default="", description="The channel that delivered, such as Outbox; empty: none did.")
    pools: tuple[str, ...] = Field(
        default=(),
        description="The stock of each pool of which messages have codes; whether it is low or ending.",
    )


@task(name="Report", task_run_name="Report", cache_policy=NO_CACHE, persist_result=False)
def report(send: Send, *outbound: Audience | Transitions) -> CampaignReport:
    """Make the run's artifacts: counts of every transition, rejects by reason, a preview of a few messages.

    In: what the activities of the run gave, in their order; of activities that were planned, the sink knows the
    counts. Out: the run in numbers. Artifact keys: `<campaign>-counts`, `-rejects`, `-preview`; with codes of pools
    also `-pools`. Events where a pool's stock is low or ends soon: `campaign.pool.low`, `campaign.pool.ending`.

    Example:
        ```python
        sent = outbox(messages, settings.outbox, send)
        report(send, audience, messages, sent)
        ```
    """
    audiences = [one.counted() if isinstance(one, Audience) and one is outbound[-1] else one for one in outbound]
    people = [one for one in audiences if isinstance(one, Audience)]
    counts = merged([_counts(place, one) for place, one in enumerate(audiences)])
    first, last = people[0], people[-1]
    reasons = reject_reasons(last.rejects_so_far())
    publish(send, counts, reasons, last.shown)
    queried = _rows(counts, first.activity)
    sent = last.activity if counts.filter(activity=last.activity, transition="inbound").height else ""
    return CampaignReport(
        send=send,
        queried=queried,
        enriched=_enriched(counts, queried),
        personalized=_rows(counts, "Personalization"),
        rejected=int(reasons["profiles"].sum()),
        delivered=_rows(counts, sent),
        delivered_before=_rows(counts, sent, "complement"),
        sent_by=sent,
        pools=_pools(send),
    )


def _pools(send: Send) -> tuple[str, ...]:
    """The stock of the pools that a send uses, in lines; what will soon be a problem is told."""
    database = open_database(Settings.load().journal)
    try:
        pools = Pools(database)
        stocks = [stock_of(pools, name) for name in pools_of_send(database, send)]
    finally:
        database.engine.dispose()
    for stock in stocks:
        tell(stock)
    if stocks:
        table = pl.DataFrame([stock._asdict() for stock in stocks])
        show_table(table, key=f"{send.campaign}-pools", description=f"Stock of codes, {send.business_date}")
    return tuple(stock.line for stock in stocks)


def _counts(place: int, outbound: Audience | Transitions) -> pl.DataFrame:
    if isinstance(outbound, Audience):
        return outbound.counts
    return counts_of(outbound, outbound.activity or type(outbound).__name__, f"content {place}")


def _rows(counts: pl.DataFrame, activity: str, transition: str = "standard") -> int:
    return int(counts.filter(activity=activity, transition=transition)["rows"].sum())


def _enriched(counts: pl.DataFrame, otherwise: int) -> int:
    """Rows that have all content after the last enrichment; all that were selected, where nothing was added."""
    enrichments = counts.filter(pl.col("activity").str.starts_with("Enrichment"))
    with_content = enrichments.filter(pl.col("transition").str.starts_with("standard, with "))
    if with_content.is_empty():
        return otherwise
    last = with_content.filter(pl.col("activity") == with_content["activity"][-1])
    whole = last.filter(transition=WITH_CONTENT)
    return int((whole if whole.height else last)["rows"][-1])
