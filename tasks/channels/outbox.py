"""Outbox: delivers messages as files that any mail program opens, and a page that shows the first ones.

A send's folder is `<folder>/<campaign>/<business date>/` with `maildir/` (one RFC 5322 file a message), or, for
audiences too large for a file a message, `messages/` (Parquet); and `preview.html` and `rejects.csv`. Beside them
`.delivered/` is the record of what was delivered, in either format (`tasks.messages.delivered`).
"""

import secrets
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import polars as pl
from jinja2 import Environment, PackageLoader
from prefect import get_run_logger
from pydantic import Field

from tasks.delivery.delivery import give_back_unsent, name_journal
from tasks.delivery.journal.codes import GIVEN_BACK, real_codes, shown_codes, wrong_samples
from tasks.delivery.journal.codes import use as use_codes
from tasks.delivery.journal.storage import Journal, open_journal
from tasks.messages.delivered import DIGITS_OF_KEY, DeliveredKeys
from tasks.messages.letter import MessageOptions, prepared_skeleton
from tasks.messages.placed import placed_messages
from tasks.messages.placing import PLACES, Held, place_mail, place_parquet
from tasks.messages.send_folder import folder_of, writable, write_rejects, written
from tasks.messages.sendable import MESSAGE_COLUMNS, MESSAGE_PARTS, sendable, unsendable
from tasks.privacy import masked_email
from tasks.runs.audience import HIDES_CODES
from tasks.runs.part import current_part
from tasks.runs.published import show_outcome
from tasks.runs.sink import Closing, sink_activity
from tasks.runs.table import Part
from tasks.send import CODES_SHOWN, Send
from tasks.settings import Settings
from tasks.tables.keys import key_texts
from tasks.tables.transitions import REJECT_COLUMNS, Transitions, require_columns

CHANNEL = "email"
SENT = ("profile_id", "email", "message_key")


class OutboxOptions(MessageOptions):
    """Options of the Outbox activity."""

    folder: Path = Field(default=Path("outbox"), title="Folder", description="Where sends are kept.")
    format: Literal["maildir", "parquet"] = Field(
        default="maildir",
        title="Format",
        description="How messages are kept: maildir (a file a message, as mail) or parquet (a file a partition).",
    )
    preview_messages: int = Field(
        default=20, ge=0, title="Messages on the page", description="How many messages preview.html shows."
    )

    def send_folder(self, send: Send) -> Path:
        """Folder of one send."""
        return folder_of(self.folder, send)

    def messages_folder(self, send: Send) -> Path:
        """Folder of one send's messages."""
        return self.send_folder(send) / PLACES[self.format]


@dataclass(frozen=True)
class Delivered(Transitions):
    """Outbound transitions of Outbox."""

    standard: pl.DataFrame
    """Messages that this run delivered: profile_id, email, message_key."""
    complement: pl.DataFrame
    """Messages that an earlier run had delivered: the same columns, with the keys that this run had for them."""
    rejects: pl.DataFrame
    """Messages that cannot be delivered, or must not be: profile_id, email, reason."""


def deliver(
    messages: pl.DataFrame, options: OutboxOptions, send: Send, sent_at: datetime, part: Part | None = None
) -> Delivered:
    """Write each message that the send's outbox has not delivered yet; `part` is the part that they are of.

    No reader sees half a message, no two runs deliver one twice, and who must not be contacted gets none. Errors:
    `ColumnsMissing`, `ConfigurationError`, `JournalUnavailable`, `MessageFileUnreadable`, `OutboxUnwritable`.
    """
    require_columns(messages, MESSAGE_COLUMNS, activity="Outbox", where="the inbound transition")
    options.require_carried(messages, "Outbox")
    messages = messages.with_columns(key_texts(messages, "profile_id"))
    part = part or Part(run=secrets.token_hex(8), number=1, rows=messages.height, file="")
    settings = Settings.load()
    reasons = unsendable(messages, "profile_id", "email", parts=MESSAGE_PARTS)
    wanted, rejects = sendable(messages, reasons)
    with closing(open_journal(settings.journal)) as journal:
        name_journal(journal)
        barred = journal.suppressions.reasons(wanted, CHANNEL)
        keyed = wanted.with_columns(send.message_keys(CHANNEL, wanted), barred)
        suppressed = keyed.filter(pl.col("reason").is_not_null()).select(REJECT_COLUMNS)
        keyed = journal.names.named(keyed.filter(pl.col("reason").is_null()))
        folder, record = (
            options.messages_folder(send),
            DeliveredKeys(options.send_folder(send) / ".delivered", part),
        )
        hold = _holding(keyed, journal, send)
        with writable(folder):
            if options.format == "parquet":
                unmade, ours = place_parquet(keyed, folder, record, hold)
            else:
                skeleton = prepared_skeleton(options, send, sent_at, settings.unsubscribe)
                unmade, ours = place_mail(options.letters(keyed, "Outbox"), folder, record, skeleton, hold)
        if CODES_SHOWN in keyed.columns:
            delivered = keyed.join(unmade, on="message_key", how="anti")["message_key"]
            use_codes(journal.database, journal.sends.begin(send, CHANNEL), delivered)
    made = keyed.join(unmade, on="message_key", how="anti", maintain_order="left")
    is_ours = DIGITS_OF_KEY.is_in(ours.implode())
    return Delivered(
        standard=made.filter(is_ours).select(SENT),
        complement=made.filter(~is_ours).select(SENT),
        rejects=pl.concat([rejects, suppressed, unmade.select(REJECT_COLUMNS)]),
    )


def _holding(messages: pl.DataFrame, journal: Journal, send: Send) -> Held:
    """What holds the codes of messages before they are placed."""
    shown = shown_codes(messages).with_columns(DIGITS_OF_KEY)

    def hold(digits: Sequence[str]) -> dict[str, str]:
        wanted = shown.filter(pl.col("message_key").is_in(list(digits)))
        samples = wrong_samples(wanted, is_proof=False)
        real = real_codes(wanted, samples)
        lost = journal.hold(send, CHANNEL, real) if real.height else set()
        return {**samples, **dict.fromkeys(lost, GIVEN_BACK)}

    return hold


LIKE_CODE = r"[<>{}]|&#?\w+;"
"""Signs that HTML or a template would take for its own, if a value of a profile were not escaped."""


def write_page(messages: pl.DataFrame, options: OutboxOptions, send: Send, total: int | None = None) -> Path:
    """`preview.html`: the first messages as they lie in the outbox, addresses masked; `total`, if there are more.

    In: the messages to show, as an audience shows them. One that has codes is shown as it is there, without them.
    Those with signs of code in what profiles brought come last, apart. Errors: `OutboxUnwritable`.
    """
    environment = Environment(loader=PackageLoader("tasks.channels", "."), autoescape=True)
    chosen = messages.head(options.preview_messages)
    hiding = chosen.filter(HIDES_CODES) if HIDES_CODES in chosen.columns else chosen.clear()
    digits = send.message_keys(CHANNEL, chosen.join(hiding, on="profile_id", how="anti", maintain_order="left"))
    folder = options.messages_folder(send)
    with writable(folder):
        placed = placed_messages(folder, digits.to_list())
    own = f"{options.sender_name} <{options.sender_address}>"
    shown = pl.concat([placed, hiding.select(pl.lit(None, pl.String()).alias("sender"), *placed.columns[1:])])
    shown = shown.with_columns(masked_email("email"), pl.col("sender").fill_null(own))
    like_code = pl.any_horizontal(pl.col("subject", "text").str.contains(LIKE_CODE).fill_null(value=False))
    page = environment.get_template("outbox_page.html").render(
        send=send,
        total=messages.height if total is None else total,
        ordinary=shown.filter(~like_code).to_dicts(),
        like_code=shown.filter(like_code).to_dicts(),
    )
    return written(options.send_folder(send) / "preview.html", page.encode())


@sink_activity("Outbox")
def outbox(
    messages: pl.DataFrame, options: OutboxOptions, send: Send, sent_at: datetime | None = None
) -> Delivered:
    """Deliver messages into the send's outbox, each profile once, however often the send is run.

    In: messages (profile_id, email, subject, html, text); `sent_at` for the Date header (now, if not given). The
    rejects of all activities before go into the rejects file with this activity's own.
    Out: `standard` (delivered now), `complement` (delivered before) with profile_id, email, message_key; `rejects`
    (profile_id, email, reason) of this activity.
    Errors: `ColumnsMissing`, `ConfigurationError`, `JournalUnavailable`, `MessageFileUnreadable`,
    `OutboxUnwritable`; what was delivered before the error stays delivered.

    Example:
        ```python
        sent = outbox(messages, settings.outbox, send)
        ```
    """
    return deliver(messages, options, send, sent_at or datetime.now(UTC), current_part())


@outbox.closing
def close_outbox(
    closing: Closing,
    options: OutboxOptions,
    send: Send,
    sent_at: datetime | None = None,  # noqa: ARG001
) -> None:
    """Write the page of the first messages and the rejects file. Errors: `OutboxUnwritable`."""
    page = write_page(closing.messages, options, send, total=closing.rows() + closing.rows("complement"))
    rejects = write_rejects(closing.rejects, options.send_folder(send))
    show_outcome(
        send,
        "files",
        {"got the message": closing.rows(), "had got it by an earlier run": closing.rows("complement")},
        closing.rejects,
        {
            "The messages": options.messages_folder(send),
            "The first of them, as a page": page,
            "Who got none, and why": rejects,
        },
    )
    give_back_unsent(closing, send, CHANNEL)
    get_run_logger().info(
        "%d messages delivered, %d delivered before, %d rejected.",
        closing.rows(),
        closing.rows("complement"),
        closing.rows("rejects"),
    )
