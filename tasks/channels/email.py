"""Email: delivers messages to a mail server, each profile's once, whatever breaks.

What became of every message is in the journal (`tasks.journal`), by the message's key; a send's manifest is the
journal's part as a Parquet file, beside the rejects, in `<folder>/<campaign>/<business date>/`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import polars as pl
from prefect import get_run_logger, task
from prefect.artifacts import create_table_artifact
from pydantic import Field

from tasks.dispatch import Dispatch, DispatchOptions, Tally, run_showing
from tasks.errors import CampaignError
from tasks.journal.states import State
from tasks.journal.storage import Journal, open_journal
from tasks.message import Letter, MessageOptions, prepared_skeleton
from tasks.progress import shown_progress
from tasks.results import ARROW, PER_RUN
from tasks.send import Send
from tasks.send_folder import REJECT_COLUMNS, folder_of, write_rejects, written
from tasks.settings import Settings
from tasks.smtp.carrier import MailCarrier
from tasks.smtp.connection import MailServer
from tasks.tables import Transitions, require_columns

MESSAGE_COLUMNS = ("profile_id", "email", "subject", "html", "text")


class EmailOptions(MessageOptions, DispatchOptions):
    """Options of the Email activity."""

    server: MailServer = Field(default=MailServer(), title="Mail server", description="Where messages are sent to.")
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

    @property
    def channel(self) -> str:
        """Channel as message keys and the journal have it."""
        return f"email-proof-{self.proof}" if self.proof else "email"


@dataclass(frozen=True)
class Mailed(Transitions):
    """Outbound transitions of Email."""

    standard: pl.DataFrame
    """Messages that the server took in this run: profile_id, email, message_key."""
    complement: pl.DataFrame
    """Messages that another run sent: the same columns."""
    rejects: pl.DataFrame
    """Messages that were not sent: profile_id, email, reason."""
    unknown: pl.DataFrame
    """Messages of which nobody knows whether the server took them: profile_id, email, message_key, message_id."""


def deliver(
    messages: pl.DataFrame,
    options: EmailOptions,
    send: Send,
    sent_at: datetime,
    *,
    journal: Journal,
    tally: Tally,
    show: Callable[[], None] = lambda: None,
) -> tuple[Mailed, CampaignError | None]:
    """Send each message that the journal does not know as sent, refused or unknown.

    Out: the transitions, and why not all could be tried, if so. Errors: `ColumnsMissing`, `ConfigurationError`,
    `MessageFileUnreadable`, `JournalUnavailable`.
    """
    require_columns(messages, MESSAGE_COLUMNS, activity="Email", where="the inbound transition")
    skeleton = prepared_skeleton(options, send, sent_at)
    sendable, rejects = _sendable(messages.select(MESSAGE_COLUMNS))
    if options.proof:
        sendable = sendable.with_columns(subject=pl.lit("[Proof] ") + pl.col("subject"))
    tally.total = sendable.height
    carrier = MailCarrier(options.server, skeleton)
    dispatch = Dispatch(
        send=send,
        channel=options.channel,
        journal=journal,
        carrier=carrier,
        options=options,
        row=Letter,
        tally=tally,
        smallest_window=2 * options.server.connections,
    )

    async def work() -> pl.DataFrame:
        async with carrier:
            return await dispatch.run(sendable)

    fates = run_showing(work, show)
    return _mailed(fates, rejects, skeleton.domain), carrier.failure


def _sendable(messages: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Messages that have a key of their own and an address, and the others with the reason."""
    reason = (
        pl.when(pl.col("profile_id").fill_null("") == "")
        .then(pl.lit("no profile id"))
        .when(pl.col("email").fill_null("") == "")
        .then(pl.lit("no address"))
        .when(~pl.col("profile_id").is_first_distinct())
        .then(pl.lit("the profile has another message in this send"))
    )
    checked = messages.with_columns(reason=reason)
    return checked.filter(pl.col("reason").is_null()).drop("reason"), checked.filter(
        pl.col("reason").is_not_null()
    ).select(REJECT_COLUMNS)


def _mailed(fates: pl.DataFrame, rejects: pl.DataFrame, domain: str) -> Mailed:
    person = ("profile_id", "email")
    state = pl.col("state")
    why = {State.REFUSED: "refused by the mail server: ", State.DEFERRED: "not taken yet: "}
    untaken = fates.filter(state.is_in(list(why))).select(
        *person, reason=state.replace_strict({str(key): text for key, text in why.items()}) + pl.col("answer")
    )
    sent = fates.filter(state == State.SENT)
    columns = (*person, "message_key")
    unknown = fates.filter(state == State.UNKNOWN).select(columns)
    return Mailed(
        standard=sent.filter("ours").select(columns),
        complement=sent.filter(~pl.col("ours")).select(columns),
        rejects=pl.concat([rejects, untaken]),
        unknown=unknown.with_columns(message_id=_message_id(domain)),
    )


def _message_id(domain: str) -> pl.Expr:
    return pl.concat_str(pl.lit("<"), "message_key", pl.lit(f"@{domain}>"))


def write_manifest(journal: Journal, options: EmailOptions, send: Send) -> Path:
    """`email-manifest.parquet`: one row for each message of the send that any run ever claimed.

    Columns: message_key, message_id, profile_id, outcome (sent, refused, deferred, unknown, claimed), attempts,
    at (UTC), answer. Errors: `JournalUnavailable`, `OutboxUnwritable`.
    """
    domain = options.sender.rpartition("@")[2]
    manifest = journal.entries(send, options.channel).select(
        "message_key",
        "profile_id",
        "attempts",
        "answer",
        message_id=_message_id(domain),
        outcome="state",
        at="changed_at",
    )
    file = BytesIO()
    manifest.write_parquet(file)
    return written(folder_of(options.folder, send) / f"{options.channel}-manifest.parquet", file.getvalue())


def outcome_counts(mailed: Mailed, duration: timedelta) -> list[dict[str, str | int]]:
    """Rows of the report: what became of how many messages, in how long."""
    seconds = duration.total_seconds()
    rows: list[dict[str, str | int]] = [
        {"outcome": "sent", "messages": mailed.standard.height},
        {"outcome": "sent by another run", "messages": mailed.complement.height},
        {"outcome": "not sent", "messages": mailed.rejects.height},
        {"outcome": "unknown", "messages": mailed.unknown.height},
    ]
    rate = mailed.standard.height / max(seconds, 0.001)
    return [*rows, {"outcome": f"in {seconds:,.1f} seconds, a second", "messages": round(rate)}]


@task(name="Email", task_run_name="Email", cache_policy=PER_RUN, result_serializer=ARROW)
def email(
    messages: pl.DataFrame,
    rejects: pl.DataFrame,
    options: EmailOptions,
    send: Send,
    sent_at: datetime | None = None,
) -> Mailed:
    """Send messages by mail, each profile's once, in however many runs and on however many machines.

    In: messages (profile_id, email, subject, html, text); the rejects of earlier activities (profile_id, email,
    reason), which go into the rejects file with this activity's own; `sent_at` for the Date header (now, if not
    given). Out: `standard` (sent now), `complement` (sent by another run), `rejects` (not sent, with the reason),
    `unknown` (perhaps sent). Artifacts: `<campaign>-email-progress`, `<campaign>-email`.
    Errors: `ColumnsMissing`, `JournalUnavailable`, `MailServerUnavailable`, `MailServerRefuses`,
    `MessageFileUnreadable`, `OutboxUnwritable`; what was sent before the error stays sent, and is known.
    """
    logger = get_run_logger()
    journal = open_journal(Settings.load().journal)
    begun = time.monotonic()
    tally = Tally(messages.height)
    name = f"{send.campaign}-{options.channel}"
    with shown_progress(tally, f"{name}-progress", send.label) as show:
        mailed, failure = deliver(
            messages, options, send, sent_at or datetime.now(UTC), journal=journal, tally=tally, show=show
        )
    counts = outcome_counts(mailed, timedelta(seconds=time.monotonic() - begun))
    create_table_artifact(table=counts, key=name, description=f"Outcome of {options.channel}, {send.business_date}")
    write_rejects(pl.concat([rejects.select(REJECT_COLUMNS), mailed.rejects]), folder_of(options.folder, send))
    manifest = write_manifest(journal, options, send)
    logger.info(
        "%d messages sent, %d sent by another run, %d not sent; manifest: %s.",
        mailed.standard.height,
        mailed.complement.height,
        mailed.rejects.height,
        manifest,
    )
    if mailed.unknown.height:
        logger.warning(
            "%d messages may have been sent, or not, and are not sent again: see outcome 'unknown' in the manifest,"
            " and look for their Message-IDs in the mail server's log.",
            mailed.unknown.height,
        )
    if failure is not None:
        raise failure
    return mailed
