"""Outcomes: what became of each message of a send, as a table."""

from contextlib import closing

import polars as pl
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks.delivery.journal.states import State
from tasks.delivery.journal.storage import open_journal
from tasks.runs.results import ARROW
from tasks.send import DIGITS, Send
from tasks.settings import Settings

OUTCOMES = {
    "profile_id": pl.String(),
    "message_key": pl.String(),
    "variant": pl.String(),
    "outcome": pl.String(),
    "at": pl.Datetime("us", "UTC"),
    "detail": pl.String(),
}
OF_STATE = {
    str(State.SENT): "delivered",
    str(State.REFUSED): "bounced",
    str(State.UNKNOWN): "unknown",
    str(State.CLAIMED): "unknown",
}
"""What a state of the journal means while nothing came back. The others were not sent, and have no outcome."""
STRONGEST_FIRST = ("complained", "unsubscribed", "bounced", "delivered")
"""What a message with several events counts as."""


def outcomes_of(entries: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """One row for each message that was sent, or may have been.

    In: the journal's entries of a send (message_key, profile_id, state, changed_at, answer) and what came back
    (message_key, as digits; kind, at, detail). Out: the columns of `OUTCOMES`.
    """
    strongest = (
        events.filter(pl.col("kind").is_in(STRONGEST_FIRST))
        .with_columns(rank=pl.col("kind").replace_strict({kind: n for n, kind in enumerate(STRONGEST_FIRST)}))
        .sort("rank", "at")
        .unique("message_key", keep="first", maintain_order=True)
        .select(digits="message_key", kind="kind", told_at="at", told="detail")
    )
    sent = entries.filter(pl.col("state").is_in(list(OF_STATE))).with_columns(
        digits=pl.col("message_key").str.slice(0, DIGITS), variant=pl.col("message_key").str.slice(DIGITS + 1)
    )
    joined = sent.join(strongest, on="digits", how="left", maintain_order="left")
    return joined.select(
        "profile_id",
        "message_key",
        "variant",
        outcome=pl.coalesce("kind", pl.col("state").replace_strict(OF_STATE)),
        at=pl.coalesce("told_at", "changed_at"),
        detail=pl.coalesce("told", "answer"),
    )


@task(name="Outcomes", task_run_name="Outcomes {send.campaign}", cache_policy=NO_CACHE, result_serializer=ARROW)
def outcomes(send: Send, channel: str = "email") -> pl.DataFrame:
    """What became of each message of a send, by what is known now.

    In: the send and its channel. Out: profile_id, message_key, variant (empty where there are none), outcome, at
    (UTC), detail. `outcome` is delivered (taken by the receiver's server, and nothing came back), bounced,
    complained, unsubscribed or unknown; of several the strongest. Messages that did not leave have no row.
    Errors: `JournalUnavailable`. Source: the journal, which the flow Feedback keeps.

    Example:
        ```python
        became = outcomes(send)
        bounced = became.filter(pl.col("outcome") == "bounced")
        ```
    """
    with closing(open_journal(Settings.load().journal)) as journal, journal.entries(send, channel) as entries:
        table = outcomes_of(entries.collect(), journal.outcomes.entries(send, channel))
    get_run_logger().info("%d messages have an outcome.", table.height)
    return table
