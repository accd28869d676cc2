"""Email: delivers messages to a mail server, each profile's once, whatever breaks.

What became of every message is in the journal (`tasks.delivery.journal`), by the message's key; a send's
manifest is the journal's part as a Parquet file, beside the rejects, in `<folder>/<campaign>/<business date>/`.
"""

from datetime import UTC, datetime

import polars as pl
from pydantic import Field

from tasks.delivery.delivery import Channel, Delivery, DeliveryOptions, close_channel, delivered
from tasks.delivery.smtp.carrier import MailCarrier
from tasks.delivery.smtp.connection import MailServer
from tasks.errors import ConfigurationError
from tasks.messages.letter import MessageOptions, prepared_skeleton
from tasks.messages.senders import is_placeholder
from tasks.privacy import is_this_machine
from tasks.runs.sink import Closing, sink_activity
from tasks.send import Send
from tasks.settings import Settings


class EmailOptions(MessageOptions, DeliveryOptions):
    """Options of the Email activity."""

    server: MailServer = Field(default=MailServer(), title="Mail server", description="Where messages are sent to.")


def check_placeholder(options: EmailOptions) -> None:
    """Check that no placeholder's address goes to a mail server other than one of this machine.

    Errors: `ConfigurationError`.
    """
    if is_this_machine(options.server.host):
        return
    for field in ("sender_address", "reply_to", "bounce_address"):
        if (address := getattr(options, field)) and is_placeholder(address):
            raise ConfigurationError(
                setting=f"CAMPAIGN_EMAIL__{field.upper()}",
                reason=f"'{address}' is of a domain for examples, and '{options.server}' is a real mail server",
            )


def email_channel(options: EmailOptions, send: Send, sent_at: datetime) -> Channel:
    """The channel, with the files read that go into every message.

    Errors: `ConfigurationError`, `MessageFileUnreadable`.
    """
    check_placeholder(options)
    settings = Settings.load()
    skeleton = prepared_skeleton(options, send, sent_at, settings.unsubscribe)
    return Channel(
        title="Email",
        name=options.channel("email"),
        carrier=lambda: MailCarrier(options.server, skeleton, settings.network.allowed_hosts),
        letters=skeleton.letters,
        connections=options.server.connections,
        is_mail=True,
        rows=lambda messages: options.letters(messages, "Email"),
        message_id=pl.concat_str(pl.lit("<"), "name", pl.lit(f"@{skeleton.domain}>")),
    )


@sink_activity("Email")
def email(messages: pl.DataFrame, options: EmailOptions, send: Send, sent_at: datetime | None = None) -> Delivery:
    """Send messages by mail, each profile's once, whatever the number of runs and machines.

    In: messages (profile_id, email, subject, html, text); `sent_at` for the Date header (now, if not given). The
    rejects of all activities before go into the rejects file with this activity's own.
    Out: `standard` (sent now), `complement` (sent by another run), `rejects` (not sent, with the reason), `unknown`
    (perhaps sent). Artifacts: `<campaign>-email-progress`, `<campaign>-email`.
    Errors: `ColumnsMissing`, `JournalUnavailable`, `MailServerUnavailable`, `MailServerRefuses`,
    `MessageFileUnreadable`, `OutboxUnwritable`; what was sent before the error stays sent, and is known.

    Example:
        ```python
        sent = email(messages, settings.email, send)
        perhaps_sent = sent.transition("unknown")
        ```
    """
    channel = email_channel(options, send, sent_at or datetime.now(UTC))
    return delivered(messages, channel, options, send)


@email.closing
def close_email(closing: Closing, options: EmailOptions, send: Send, sent_at: datetime | None = None) -> None:
    """Write the manifest and the rejects file. Errors: `JournalUnavailable`, `OutboxUnwritable`."""
    close_channel(closing, email_channel(options, send, sent_at or datetime.now(UTC)), options, send)
