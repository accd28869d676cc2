"""Report: shows in the Prefect UI how many rows each transition had, why rows were rejected, and a few messages."""

from collections.abc import Mapping

import polars as pl
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict, Field

from tasks.privacy import masked_email
from tasks.runs.artifacts import messages_shown, show_markdown, show_table
from tasks.runs.partitions import transition_counts
from tasks.send import Send
from tasks.tables.transitions import Transitions

PREVIEWED = 3


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


def reject_reasons(rejects: pl.DataFrame) -> pl.DataFrame:
    """Rejects by reason, the most frequent first: reason, profiles."""
    return rejects.group_by("reason").len("profiles").sort("profiles", "reason", descending=[True, False])


def message_preview(messages: pl.DataFrame) -> str:
    """Markdown of the first messages, addresses masked; the text of a message cannot become markup."""
    shown = messages.head(PREVIEWED).with_columns(masked_email("email").fill_null("nobody"))
    return messages_shown(shown.select("subject", "email", "text").iter_rows())


@task(name="Report", task_run_name="Report", cache_policy=NO_CACHE)
def report(
    send: Send,
    outbound: Mapping[str, pl.DataFrame | Transitions],
    messages: pl.DataFrame,
    rejects: pl.DataFrame,
) -> pl.DataFrame:
    """Make the run's artifacts: counts of every transition, rejects by reason, a preview of a few messages.

    In: each activity's name and result (for partitions, their joined outcome); messages (email, subject, text);
    rejects (reason).
    Out: the counts: activity, transition, rows. Artifact keys: `<campaign>-counts`, `-rejects`, `-preview`.
    """
    counts = transition_counts(outbound)
    day = send.business_date
    show_table(counts, key=f"{send.campaign}-counts", description=f"Rows of every transition, {day}")
    show_table(
        reject_reasons(rejects),
        key=f"{send.campaign}-rejects",
        description=f"Rejects by reason, {day}",
    )
    show_markdown(
        message_preview(messages),
        key=f"{send.campaign}-preview",
        description=f"The first messages, {day}",
    )
    get_run_logger().info("%d transitions reported, %d profiles rejected.", counts.height, rejects.height)
    return counts
