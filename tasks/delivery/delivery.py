"""What every journaled channel does around its carrier: check the table, send, tell what became of it.

A channel gives its carrier to `delivered`, and to `close_channel`; the journal, the progress, the report, the
rejects file and the manifest are the same for all.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import polars as pl
from prefect import get_run_logger
from prefect.runtime import flow_run
from pydantic import Field

from tasks.delivery.dispatch import Carrier, Dispatch, DispatchOptions, Tally, run_showing
from tasks.delivery.garbage import rarer_searches
from tasks.delivery.journal.database import shown
from tasks.delivery.journal.states import State
from tasks.delivery.journal.storage import Journal, open_journal
from tasks.delivery.progress import shown_progress
from tasks.delivery.record import SendRecord
from tasks.delivery.windows import wave_of
from tasks.errors import CampaignError, JournalUnavailable
from tasks.files.storage import private_draft
from tasks.messages.send_folder import folder_of, writable, write_rejects
from tasks.messages.sendable import MESSAGE_COLUMNS, MESSAGE_PARTS, sendable, unsendable
from tasks.runs.artifacts import show_table
from tasks.runs.log import run_logger
from tasks.runs.part import PartFailed, current_part
from tasks.runs.published import show_outcome
from tasks.runs.sink import Closing
from tasks.send import Send
from tasks.settings import Settings
from tasks.tables.keys import key_texts
from tasks.tables.transitions import REJECT_COLUMNS, Transitions, require_columns

WAVE = "\x00wave"
"""No column of anybody's."""
THE_KEY = pl.col("message_key")


class DeliveryOptions(DispatchOptions):
    """What every journaled channel can be told."""

    folder: Path = Field(
        default=Path("outbox"), title="Folder", description="Where the manifest and the rejects of sends are kept."
    )
    proof: str = Field(
        default="",
        pattern=r"^[a-z0-9-]*$",
        title="Proof",
        description=(
            "Name of a proof, as in 'first'. A proof's messages are others than the send's: marked in the subject,"
            " and sent once per name. Empty: the send itself."
        ),
    )

    def channel(self, name: str) -> str:
        """A channel as message keys and the journal have it."""
        return f"{name}-proof-{self.proof}" if self.proof else name


@dataclass(frozen=True)
class Delivery(Transitions):
    """Outbound transitions of the journaled channels."""

    standard: pl.DataFrame
    """Messages that were taken in this run: profile_id, email, message_key."""
    complement: pl.DataFrame
    """Messages that another run sent: the same columns, with the keys that this run had for them."""
    rejects: pl.DataFrame
    """Messages that were not sent: profile_id, email, reason."""
    unknown: pl.DataFrame
    """Messages that may or may not have been taken: profile_id, email, message_key, message_id."""


class ChannelCarrier(Carrier, AbstractAsyncContextManager["ChannelCarrier"], Protocol):
    """A carrier that works while its context is entered."""


@dataclass(frozen=True)
class Channel:
    """A channel as one delivery uses it."""

    title: str
    name: str
    """Of the channel in message keys and the journal, with the proof's, if it is one."""
    carrier: Callable[[], ChannelCarrier]
    """Gives the carrier of one delivery, which serves for no other. Errors: those of the channel's settings."""
    letters: Callable[[pl.DataFrame], Sequence[Any]]
    """What the carrier carries: named tuples that begin with `key`, of messages with message_key and name."""
    connections: int
    is_mail: bool = False
    """Whether addresses must be valid for mail."""
    rows: Callable[[pl.DataFrame], pl.DataFrame] = lambda messages: messages
    """Messages with what else the carrier needs, by the options. Errors: `ColumnsMissing`."""
    message_id: pl.Expr = THE_KEY
    """By what the receiving side knows a message, made of `message_key` and `name` (of `MessageNames`)."""


def send_messages(
    messages: pl.DataFrame,
    channel: Channel,
    options: DeliveryOptions,
    send: Send,
    *,
    journal: Journal,
    tally: Tally,
    show: Callable[[], None] = lambda: None,
) -> tuple[Delivery, CampaignError | None]:
    """Send each message that the journal does not know as sent, refused or unknown.

    Out: the transitions, and why not all could be tried, if so. Errors: `ColumnsMissing`, `JournalUnavailable`,
    `JournalBehind`, `OutboxUnwritable`, those of the channel's carrier.
    """
    carrier = channel.carrier()
    require_columns(messages, MESSAGE_COLUMNS, activity=channel.title, where="the inbound transition")
    messages = messages.with_columns(key_texts(messages, "profile_id"))
    reasons = unsendable(messages, "profile_id", "email", is_mail=channel.is_mail, parts=MESSAGE_PARTS)
    wanted, rejects = sendable(channel.rows(messages), reasons)
    wanted, later = _until_wave(wanted, channel.name, options, send)
    if options.proof:
        wanted = wanted.with_columns(subject=pl.lit("[Proof] ") + pl.col("subject"))
    tally.total = wanted.height
    record = SendRecord.of(options.folder, send, channel.name, journal)
    record.check()
    dispatch = Dispatch(
        send=send,
        channel=channel.name,
        journal=journal,
        carrier=carrier,
        options=options,
        letters=channel.letters,
        tally=tally,
        smallest_window=2 * channel.connections,
        claimed=record.keep_up,
    )

    async def work() -> pl.DataFrame:
        async with carrier:
            return await dispatch.run(wanted)

    try:
        with rarer_searches():
            fates = run_showing(work, show)
    except BaseException as error:
        # What was sent is told, whatever ended the work: another error, or that the run was stopped.
        done = _delivery(dispatch.up_to_now(wanted), pl.concat([rejects, later]), channel, journal)
        raise PartFailed(done, error) from error
    return _delivery(fates, pl.concat([rejects, later]), channel, journal), carrier.failure


def _until_wave(
    messages: pl.DataFrame, channel: str, options: DeliveryOptions, send: Send
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The messages of this wave and those before it, and the others as rejects."""
    if options.wave == options.waves:
        return messages, messages.select(*REJECT_COLUMNS[:2], reason=pl.lit("")).clear()
    numbered = messages.with_columns(send.message_keys(channel, messages)).with_columns(
        wave_of(options.waves).alias(WAVE)
    )
    why = pl.format(f"not yet: wave {{}} of {options.waves}", WAVE)
    later = numbered.filter(pl.col(WAVE) > options.wave).select(*REJECT_COLUMNS[:2], reason=why)
    return numbered.filter(pl.col(WAVE) <= options.wave).drop("message_key", WAVE), later


def _delivery(fates: pl.DataFrame, rejects: pl.DataFrame, channel: Channel, journal: Journal) -> Delivery:
    person = ("profile_id", "email")
    state = pl.col("state")
    why = {str(State.REFUSED): "refused: ", str(State.DEFERRED): "not taken yet: ", str(State.SUPPRESSED): ""}
    why |= {str(State.CLAIMED): "another run has it, and has not said what became of it"}
    not_heard_of = (state == State.CLAIMED) & pl.col("ours")
    untaken = fates.filter(state.is_in(list(why)) & ~not_heard_of).select(
        *person, reason=state.replace_strict(why) + pl.col("answer")
    )
    sent = fates.filter(state == State.SENT)
    columns = (*person, "message_key")
    unknown = fates.filter((state == State.UNKNOWN) | not_heard_of).select(columns)
    return Delivery(
        standard=sent.filter("ours").select(columns),
        complement=sent.filter(~pl.col("ours")).select(columns),
        rejects=pl.concat([rejects, untaken]),
        unknown=journal.names.named(unknown).select(*columns, message_id=channel.message_id),
    )


def write_manifest(journal: Journal, channel: Channel, options: DeliveryOptions, send: Send) -> Path:
    """`<channel>-manifest.parquet`: one row for each message of the send that any run ever claimed.

    Columns: message_key, message_id, profile_id, outcome (sent, refused, deferred, unknown, claimed), attempts,
    at (UTC), answer. Errors: `JournalUnavailable`, `OutboxUnwritable`.
    """
    path = folder_of(options.folder, send) / f"{channel.name}-manifest.parquet"
    with writable(path), private_draft(path) as draft, journal.entries(send, channel.name) as entries:
        named = {**entries.collect_schema(), "name": pl.String()}
        manifest = entries.map_batches(journal.names.named, schema=named, streamable=True).select(
            "message_key",
            channel.message_id.alias("message_id"),
            "profile_id",
            pl.col("state").alias("outcome"),
            "attempts",
            pl.col("changed_at").alias("at"),
            "answer",
        )
        manifest.sink_parquet(draft)
        draft.replace(path)
    return path


def outcome_counts(delivery: Delivery, seconds: float) -> list[dict[str, str | int]]:
    """Rows of the report: what became of how many messages, in how long."""
    rate = round(delivery.standard.height / max(seconds, 0.001))
    return [
        {"outcome": "sent", "messages": delivery.standard.height},
        {"outcome": "sent by another run", "messages": delivery.complement.height},
        {"outcome": "not sent", "messages": delivery.rejects.height},
        {"outcome": "unknown", "messages": delivery.unknown.height},
        {"outcome": f"in {seconds:,.1f} seconds, a second", "messages": rate},
    ]


def delivered(messages: pl.DataFrame, channel: Channel, options: DeliveryOptions, send: Send) -> Delivery:
    """A channel's work on the messages of one part: deliver, and show the progress where the part is the whole.

    Artifacts: `<campaign>-<channel>-progress`, `<campaign>-<channel>`. Errors: those of `send_messages`;
    `PartFailed` with the carrier's failure. What was sent before the error stays sent, and is known.
    """
    with closing(open_journal(Settings.load().journal)) as journal:
        name_journal(journal)
        if current_part().alone:
            delivery, failure = _reported(messages, channel, options, send, journal)
        else:
            tally = Tally(messages.height)
            delivery, failure = send_messages(messages, channel, options, send, journal=journal, tally=tally)
    if failure is not None:
        raise PartFailed(delivery, failure)
    return delivery


def name_journal(journal: Journal) -> None:
    """Say in the log where the journal is, and that it is new, if it is."""
    place = shown(journal.engine.url)
    if journal.database.identity.is_new:
        run_logger().warning(
            "The journal %s is new: it knows of no message that was sent before. Where there was one, stop this run"
            " and set CAMPAIGN_JOURNAL__URL to its place.",
            place,
        )
    else:
        run_logger().info("Journal: %s.", place)


def close_channel(outcome: Closing, channel: Channel, options: DeliveryOptions, send: Send) -> None:
    """What a channel does once after all parts: rejects file and manifest, also after a failure or a stop.

    Errors: `JournalUnavailable`, `OutboxUnwritable`.
    """
    rejects = write_rejects(outcome.rejects, folder_of(options.folder, send))
    if isinstance(outcome.failure, JournalUnavailable):
        return  # of which there is nothing to be read
    give_back_unsent(outcome, send, channel.name)
    with closing(open_journal(Settings.load().journal)) as journal:
        manifest = write_manifest(journal, channel, options, send)
    show_outcome(
        send,
        channel.title,
        {
            "got the message": outcome.rows(),
            "had got it by another run": outcome.rows("complement"),
            "may have got it: nobody knows": outcome.rows("unknown"),
        },
        outcome.rejects,
        {"Every message, and what became of it": manifest, "Who got none, and why": rejects},
    )
    _tell([outcome.rows(field.name) for field in fields(Delivery)], manifest)


def give_back_unsent(outcome: Closing, send: Send, channel: str) -> None:
    """At the end of a run that went well: give back the codes of messages that nobody will send.

    A run that failed is tried again, with the same codes. Errors: `JournalUnavailable`.
    """
    if outcome.failure is not None:
        return
    with closing(open_journal(Settings.load().journal)) as journal:
        given_back = journal.give_back_codes(send, channel, str(flow_run.id or ""))
    if given_back:
        run_logger().info("%d codes of messages that are not sent were given back.", given_back)


def _reported(
    messages: pl.DataFrame, channel: Channel, options: DeliveryOptions, send: Send, journal: Journal
) -> tuple[Delivery, CampaignError | None]:
    begun = time.monotonic()
    tally = Tally(messages.height)
    name = f"{send.campaign}-{channel.name}"
    with shown_progress(tally, f"{name}-progress", send.label) as show:
        delivery, failure = send_messages(messages, channel, options, send, journal=journal, tally=tally, show=show)
    show_table(
        pl.DataFrame(outcome_counts(delivery, time.monotonic() - begun)),
        key=name,
        description=f"Outcome of {channel.name}, {send.business_date}",
    )
    return delivery, failure


def _tell(rows: list[int], manifest: Path) -> None:
    """Log the rows of `Delivery`'s transitions, in their order."""
    sent, before, unsent, unknown = rows
    logger = get_run_logger()
    logger.info(
        "%d messages sent, %d sent by another run, %d not sent; manifest: %s.",
        sent,
        before,
        unsent,
        manifest,
    )
    if unknown:
        logger.warning(
            "%d messages may have been sent, or not, and are not sent again: see outcome 'unknown' in the manifest,"
            " and look for their message_id in the records of the receiving side.",
            unknown,
        )
