"""Outbox: delivers messages as files that any mail program opens, and a page that shows the first ones.

A send's folder is `<folder>/<campaign>/<business date>/` with `maildir/` (one RFC 5322 file a message), or, for
audiences too large for a file a message, `messages/` (Parquet); and `preview.html` and `rejects.csv`. The messages
themselves are the record of what was delivered. A message's file name in the Maildir is its key's digits, which are
the same for every variant, and a file with that name is made by a link, which the system refuses to make twice; for
Parquet see `tasks.messages.parts`.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import polars as pl
from jinja2 import Environment, PackageLoader
from prefect import get_run_logger
from pydantic import Field

from tasks.files.storage import make_private
from tasks.messages.address import Unsendable, are_no_addresses
from tasks.messages.letter import Letter, MessageOptions, prepared_skeleton
from tasks.messages.parts import placed_keys
from tasks.messages.send_folder import folder_of, placed, writable, write_rejects, written
from tasks.privacy import masked_email
from tasks.runs.audience import Part
from tasks.runs.sink import Closing, current_part, sink_activity
from tasks.send import VARIANT, Send, parts_of
from tasks.settings import Settings
from tasks.tables.transitions import REJECT_COLUMNS, Transitions, require_columns

CHANNEL = "email"
SENT = ("profile_id", "email", "message_key")
MESSAGE_COLUMNS = ("profile_id", "email", "subject", "html", "text")


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
        return self.send_folder(send) / ("messages" if self.format == "parquet" else "maildir")


@dataclass(frozen=True)
class Delivered(Transitions):
    """Outbound transitions of Outbox."""

    standard: pl.DataFrame
    """Messages that this run delivered: profile_id, email, message_key."""
    complement: pl.DataFrame
    """Messages that an earlier run had delivered: the same columns, with the keys that this run had for them."""
    rejects: pl.DataFrame
    """Messages that cannot be delivered: profile_id, email, reason."""


def delivered_keys(maildir: Path) -> frozenset[str]:
    """Digits of the keys of the messages that the Maildir holds, read or unread."""
    return frozenset(
        entry.name.partition(":")[0]
        for folder in ("new", "cur")
        if (maildir / folder).is_dir()
        for entry in os.scandir(maildir / folder)
    )


def deliver(
    messages: pl.DataFrame, options: OutboxOptions, send: Send, sent_at: datetime, part: Part | None = None
) -> Delivered:
    """Write each message that the send's outbox does not hold yet; `part` is the partition that they are of.

    No reader sees half a message, and no two runs deliver one twice. Errors: `ColumnsMissing`,
    `ConfigurationError`, `MessageFileUnreadable`, `OutboxUnwritable`.
    """
    require_columns(messages, MESSAGE_COLUMNS, activity="Outbox", where="the inbound transition")
    if options.format == "parquet":
        alone = Part(run=f"{sent_at:%Y%m%dT%H%M%S.%f}", number=1, rows=messages.height, file="")
        return _deliver_parquet(messages, options, send, part or alone)
    return _deliver_mail(messages, options, send, sent_at)


def _deliver_parquet(messages: pl.DataFrame, options: OutboxOptions, send: Send, part: Part) -> Delivered:
    reason = (
        pl.when(pl.col("profile_id").fill_null("") == "")
        .then(pl.lit("no profile id"))
        .when(pl.col("email").fill_null("") == "")
        .then(pl.lit("no address"))
        .when(are_no_addresses(messages["email"]))
        .then(pl.lit("the address is not valid"))
    )
    checked = messages.with_columns(reason.alias("reason"))
    sendable = checked.filter(pl.col("reason").is_null()).drop("reason")
    keyed = sendable.select(send.message_keys(CHANNEL, sendable), *MESSAGE_COLUMNS)
    first = keyed["profile_id"].is_first_distinct()
    folder = options.messages_folder(send)
    with writable(folder):
        placed_here = first & keyed["message_key"].is_in(placed_keys(keyed.filter(first), folder, part).implode())
    return Delivered(
        standard=keyed.filter(placed_here).select(SENT),
        complement=keyed.filter(~placed_here).select(SENT),
        rejects=checked.filter(pl.col("reason").is_not_null()).select(REJECT_COLUMNS),
    )


def _deliver_mail(messages: pl.DataFrame, options: OutboxOptions, send: Send, sent_at: datetime) -> Delivered:
    """Each message is written whole under `tmp` and then linked into `new`."""
    skeleton = prepared_skeleton(options, send, sent_at, Settings.load().unsubscribe)
    maildir = options.messages_folder(send)
    outcomes: dict[str, list[dict[str, str | None]]] = {"standard": [], "complement": [], "rejects": []}
    with writable(maildir):
        for folder in ("tmp", "new", "cur"):
            make_private(maildir / folder)
        known = delivered_keys(maildir)
        for row in messages.iter_rows(named=True):
            person = {"profile_id": row["profile_id"], "email": row["email"]}
            if (reason := _undeliverable(row)) is not None:
                outcomes["rejects"].append({**person, "reason": reason})
                continue
            key = send.message_key(CHANNEL, row["profile_id"], row.get(VARIANT))
            digits, _ = parts_of(key)
            if digits in known:
                outcomes["complement"].append({**person, "message_key": key})
                continue
            try:
                letter = Letter(key=key, **{name: row[name] for name in MESSAGE_COLUMNS})
                content = skeleton.message(letter).content.replace(b"\r\n", b"\n")
            except Unsendable as reason:
                outcomes["rejects"].append({**person, "reason": str(reason)})
                continue
            is_new = placed(maildir / "new" / digits, content, drafts=maildir / "tmp")
            outcome = "standard" if is_new else "complement"
            outcomes[outcome].append({**person, "message_key": key})
    sent = dict.fromkeys(SENT, pl.String())
    return Delivered(
        standard=pl.DataFrame(outcomes["standard"], schema=sent),
        complement=pl.DataFrame(outcomes["complement"], schema=sent),
        rejects=pl.DataFrame(outcomes["rejects"], schema=dict.fromkeys(REJECT_COLUMNS, pl.String())),
    )


def _undeliverable(row: dict[str, str | None]) -> str | None:
    if not row["profile_id"]:
        return "no profile id"
    if not row["email"]:
        return "no address"
    return None


def write_page(messages: pl.DataFrame, options: OutboxOptions, send: Send, total: int | None = None) -> Path:
    """`preview.html`: the first messages as their readers see them, addresses masked; `total`, if there are more.

    Errors: `OutboxUnwritable`.
    """
    environment = Environment(loader=PackageLoader("tasks.channels", "."), autoescape=True)
    shown = messages.head(options.preview_messages).with_columns(masked_email("email"))
    page = environment.get_template("outbox_page.html").render(
        send=send, options=options, total=messages.height if total is None else total, messages=shown.to_dicts()
    )
    return written(options.send_folder(send) / "preview.html", page.encode())


@sink_activity("Outbox")
def outbox(
    messages: pl.DataFrame, options: OutboxOptions, send: Send, sent_at: datetime | None = None
) -> Delivered:
    """Deliver messages into the send's outbox, each profile once however often the send is run.

    In: messages (profile_id, email, subject, html, text); `sent_at` for the Date header (now, if not given). The
    rejects of all activities before go into the rejects file with this activity's own.
    Out: `standard` (delivered now), `complement` (delivered before) with profile_id, email, message_key; `rejects`
    (profile_id, email, reason) of this activity.
    Errors: `ColumnsMissing`, `ConfigurationError`, `MessageFileUnreadable`, `OutboxUnwritable`; what was delivered
    before the error stays delivered.
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
    write_page(closing.messages, options, send, total=closing.inbound_rows)
    write_rejects(closing.rejects, options.send_folder(send))
    get_run_logger().info(
        "%d messages delivered, %d delivered before, %d rejected.",
        closing.rows(),
        closing.rows("complement"),
        closing.rows("rejects"),
    )
