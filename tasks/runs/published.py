"""What a run shows of itself in the Prefect UI: counts, rejects by reason, a preview of a few messages."""

import polars as pl

from tasks.privacy import masked, masked_email
from tasks.runs.artifacts import messages_shown, show_markdown, show_table
from tasks.send import Send

PREVIEWED = 3


def publish(send: Send, counts: pl.DataFrame, rejects: pl.DataFrame, messages: pl.DataFrame) -> None:
    """Make the artifacts `<campaign>-counts`, `-rejects` and `-preview`.

    In: activity, transition, rows; reason, profiles; email, subject, text.
    """
    day = send.business_date
    told = counts.select("activity", "transition", "rows")
    show_table(told, key=f"{send.campaign}-counts", description=f"Rows of every transition, {day}")
    show_table(rejects, key=f"{send.campaign}-rejects", description=f"Rejects by reason, {day}")
    show_markdown(
        message_preview(messages),
        key=f"{send.campaign}-preview",
        description=f"The first messages, {day}",
    )


def reject_reasons(rejects: pl.LazyFrame) -> pl.DataFrame:
    """Rejects by reason, the most frequent first: reason, profiles. A reason that quotes a profile is masked."""
    counted = rejects.group_by("reason").agg(profiles=pl.len().cast(pl.Int64())).collect(engine="streaming")
    shown = counted.with_columns(pl.col("reason").map_elements(masked, return_dtype=pl.String()))
    told = shown.group_by("reason").agg(pl.col("profiles").sum())
    return told.sort("profiles", "reason", descending=[True, False])


def message_preview(messages: pl.DataFrame) -> str:
    """Markdown of the first messages, addresses masked; the text of a message cannot become markup."""
    shown = messages.head(PREVIEWED).with_columns(masked_email("email").fill_null("nobody"))
    return messages_shown(shown.select("subject", "email", "text").iter_rows())
