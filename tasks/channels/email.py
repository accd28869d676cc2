"""Email: delivers messages to a mail server, each profile's once, whatever breaks.

What became of every message is in the journal (`tasks.delivery.journal`), by the message's key; a send's
manifest is the journal's part as a Parquet file, beside the rejects, in `<folder>/<campaign>/<business date>/`.
"""

from datetime import UTC, datetime

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from tasks.delivery.delivery import Channel, Delivery, DeliveryOptions, closed, delivered, delivered_part
from tasks.delivery.smtp.carrier import MailCarrier
from tasks.delivery.smtp.connection import MailServer
from tasks.messages.letter import Letter, MessageOptions, prepared_skeleton
from tasks.runs.partitions import Outcome
from tasks.runs.results import ARROW, PER_RUN
from tasks.send import Send
from tasks.settings import Settings


class EmailOptions(MessageOptions, DeliveryOptions):
    """Options of the Email activity."""

    server: MailServer = Field(default=MailServer(), title="Mail server", description="Where messages are sent to.")


def email_channel(options: EmailOptions, send: Send, sent_at: datetime) -> Channel:
    """The channel, with the files read that go into every message.

    Errors: `ConfigurationError`, `MessageFileUnreadable`.
    """
    skeleton = prepared_skeleton(options, send, sent_at, Settings.load().unsubscribe)
    return Channel(
        title="Email",
        name=options.channel("email"),
        carrier=MailCarrier(options.server, skeleton),
        row=Letter,
        connections=options.server.connections,
        message_id=pl.concat_str(pl.lit("<"), "message_key", pl.lit(f"@{skeleton.domain}>")),
    )


def mail(messages: pl.DataFrame, options: EmailOptions, send: Send, sent_at: datetime) -> Delivery:
    """Send the messages of one partition, within the task that works on it. Errors: as `email`."""
    return delivered_part(messages, email_channel(options, send, sent_at), options, send)


@task(name="Email", task_run_name="Email", cache_policy=PER_RUN, result_serializer=ARROW)
def email(
    messages: pl.DataFrame,
    rejects: pl.DataFrame,
    options: EmailOptions,
    send: Send,
    sent_at: datetime | None = None,
) -> Delivery:
    """Send messages by mail, each profile's once, in however many runs and on however many machines.

    In: messages (profile_id, email, subject, html, text); the rejects of earlier activities (profile_id, email,
    reason), which go into the rejects file with this activity's own; `sent_at` for the Date header (now, if not
    given). Out: `standard` (sent now), `complement` (sent by another run), `rejects` (not sent, with the reason),
    `unknown` (perhaps sent). Artifacts: `<campaign>-email-progress`, `<campaign>-email`.
    Errors: `ColumnsMissing`, `JournalUnavailable`, `MailServerUnavailable`, `MailServerRefuses`,
    `MessageFileUnreadable`, `OutboxUnwritable`; what was sent before the error stays sent, and is known.
    """
    channel = email_channel(options, send, sent_at or datetime.now(UTC))
    return delivered(messages, rejects, channel, options, send)


@task(name="Email", task_run_name="Email", cache_policy=NO_CACHE)
def email_of_partitions(outcome: Outcome, options: EmailOptions, send: Send) -> None:
    """Email, when its messages were sent partition by partition: the manifest and the rejects file of all.

    In: the joined outcome of the partitions, each of which went through `mail` as the activity "Email".
    Errors: `JournalUnavailable`, `OutboxUnwritable`.
    """
    closed(outcome, email_channel(options, send, datetime.now(UTC)), options, send)
