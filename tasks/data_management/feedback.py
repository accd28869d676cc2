"""Feedback: writes into the journal what became of sent messages, and who must not be contacted."""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass

import polars as pl
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks.delivery.journal.outcomes import OutcomeKind
from tasks.delivery.journal.storage import Journal, open_journal
from tasks.feedback.booking import Booked, book
from tasks.feedback.services import RowMapping
from tasks.feedback.table import REPORTS, reports_of_unmatched
from tasks.runs.artifacts import show_table
from tasks.send import Send
from tasks.settings import Settings
from tasks.tables.transitions import Transitions, require_columns

MATCHED = {
    "campaign": pl.String(),
    "business_date": pl.Date(),
    "channel": pl.String(),
    "message_key": pl.String(),
    "profile_id": pl.String(),
    "kind": pl.String(),
    "at": pl.Datetime("us", "UTC"),
}


@dataclass(frozen=True)
class Recorded(Transitions):
    """Outbound transitions of Feedback."""

    standard: pl.DataFrame
    """Outcomes of messages: campaign, business_date, channel, message_key, profile_id, kind, at (UTC)."""
    unmatched: pl.DataFrame
    """All reports that are kept, as no message was found for them or they cannot be read: source, kind, reason."""
    sends: pl.DataFrame
    """The sends that the outcomes are of: campaign, business_date, channel."""


def record(reports: pl.DataFrame, journal: Journal) -> Booked:
    """Write reports into the journal; the same ones told again change nothing. Errors: `JournalUnavailable`."""
    outcomes = journal.outcomes

    told_once = reports.unique(["source", "reference"], keep="first", maintain_order=True)
    booked = book(
        told_once.iter_rows(named=True),
        outcomes.message,
        journal.database.now(),
        has_bounced=lambda key: outcomes.has(key, OutcomeKind.BOUNCED),
    )
    journal.suppressions.add(booked.sightings)
    outcomes.add(booked.outcomes)
    outcomes.keep_unmatched(booked.unmatched)
    outcomes.matched(booked.found)
    # Last: what was read is written down.
    read = reports.filter(pl.col("position").fill_null("") != "", pl.col("kept_as").is_null())
    for source, position in read.group_by("source").agg(pl.col("position").last()).iter_rows():
        outcomes.move_to(source, position)
    return booked


def recorded(booked: Booked, unmatched: pl.DataFrame) -> Recorded:
    """The transitions of what was written. In: what is kept as unmatched now (source, kind, reason)."""
    rows = [
        {**message._asdict(), "message_key": one.key, "kind": str(one.kind), "at": one.at}
        for message, one in zip(booked.messages, booked.outcomes, strict=True)
    ]
    standard = pl.DataFrame(rows, schema=MATCHED)
    return Recorded(
        standard=standard,
        unmatched=unmatched.select("source", "kind", "reason"),
        sends=standard.select("campaign", "business_date", "channel").unique(maintain_order=True),
    )


def read_so_far(sources: Iterable[str]) -> dict[str, str]:
    """How far each source has been read and written down; a source that never was is left out."""
    with closing(open_journal(Settings.load().journal)) as journal:
        found = {source: journal.outcomes.position(source) for source in sources}
    return {source: position for source, position in found.items() if position}


def outcome_counts(journal: Journal, send: Send, channel: str) -> pl.DataFrame:
    """What a send has come to by now: outcome, messages."""
    states = {str(state): count for state, count in journal.sends.counts(send, channel).items()}
    kinds = journal.outcomes.entries(send, channel).unique(["message_key", "kind"])
    counted = dict(kinds.group_by("kind").len().iter_rows())
    rows = [*states.items(), *((str(kind), counted[kind]) for kind in OutcomeKind if kind in counted)]
    return pl.DataFrame(rows, schema={"outcome": pl.String(), "messages": pl.Int64()}, orient="row")


@task(name="Feedback", task_run_name="Feedback", cache_policy=NO_CACHE, persist_result=False)
def feedback(reports: list[pl.DataFrame], mappings: dict[str, RowMapping] | None = None) -> Recorded:
    """Find the message of each report, write its outcome into the journal, and who must not be contacted.

    In: reports of mailboxes and providers' lists, in order; the mappings of the lists, by which what was kept as
    unmatched is read again. Out: `standard`, `unmatched`, `sends`. Artifacts: `<campaign>-<channel>` of every send
    concerned, `feedback-unmatched`. Errors: `ColumnsMissing`, `JournalUnavailable`; what cannot be matched is kept.

    Example:
        ```python
        reports = mailbox(MailboxOptions(kind="maildir", path="bounces"))
        recorded = feedback([reports])
        ```
    """
    logger = get_run_logger()
    with closing(open_journal(Settings.load().journal)) as journal:
        again = reports_of_unmatched(journal.outcomes.unmatched(), mappings or {})
        for one in reports:
            require_columns(one, list(REPORTS), activity="Feedback", where="the inbound transition")
        booked = record(pl.concat([again, *reports]), journal)
        result = recorded(booked, journal.outcomes.unmatched())
        for campaign, day, channel in result.sends.iter_rows():
            send = Send(campaign=campaign, label=campaign, business_date=day)
            counts = outcome_counts(journal, send, channel)
            show_table(counts, key=f"{campaign}-{channel}", description=f"Outcome of {channel}, {day}")
    show_table(
        result.unmatched.group_by("source", "reason").len("reports").sort("source", "reason"),
        key="feedback-unmatched",
        description="Reports that belong to no known message, or cannot be read",
    )
    logger.info(
        "%d outcomes of %d sends, %d reasons not to write to somebody; %d reports said nothing final.",
        result.standard.height,
        result.sends.height,
        len(booked.sightings),
        booked.nothing_final,
    )
    if result.unmatched.height:
        logger.warning(
            "%d reports belong to no known message, or cannot be read. They are kept with the reason, and the next"
            " run tries them again: see the artifact feedback-unmatched.",
            result.unmatched.height,
        )
    return result
