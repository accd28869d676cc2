"""In-app: hands each message to the application's own service by a webhook, which shows it to its user.

The webhook gets a JSON object a message, and its key in `Idempotency-Key`. A service that takes a key once only
may be called `idempotent`: then an answer that was lost is simply asked for again.
"""

import hashlib
import hmac
import json

import polars as pl
from pydantic import Field, SecretStr

from tasks.delivery.delivery import Channel, Delivery, close_channel, delivered
from tasks.delivery.provider import (
    Meaning,
    ProviderAnswer,
    ProviderMessage,
    ProviderOptions,
    ProviderRequest,
    provider_channel,
    short,
    usual_meaning,
)
from tasks.runs.sink import Closing, sink_activity
from tasks.send import Send
from tasks.settings import Settings


class InAppOptions(ProviderOptions):
    """Options of the In-app activity."""

    url: str = Field(default="", title="Webhook", description="https address that takes the messages.")
    secret: SecretStr = Field(
        default=SecretStr(""),
        title="Secret",
        description="Signs each body: X-Signature-256 is its HMAC-SHA256 in hexadecimal. Empty: no signature.",
    )
    idempotent: bool = Field(
        default=False,
        title="Knows repeats",
        description="Whether the service takes each Idempotency-Key once, however often it is sent.",
    )


class Webhook:
    """The webhook's format."""

    def __init__(self, options: InAppOptions) -> None:
        self.url = options.url
        self.idempotent = options.idempotent
        self._secret = options.secret.get_secret_value().encode()

    def request(self, message: ProviderMessage) -> ProviderRequest:
        """The request that sends a message."""
        content = {
            "message_key": message.key,
            "profile_id": message.profile_id,
            "address": message.address,
            "title": message.subject,
            "html": message.html,
            "text": message.text,
        }
        body = json.dumps(content, ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": message.key}
        if self._secret:
            headers["X-Signature-256"] = hmac.digest(self._secret, body, hashlib.sha256).hex()
        return ProviderRequest(self.url, headers, body)

    def answer(self, status: int, body: bytes) -> ProviderAnswer:
        """What the service's answer means: its status; 410 says that the user is no more."""
        meaning = Meaning.BAD_ADDRESS if status == 410 else usual_meaning(status)
        return ProviderAnswer(meaning, f"{status} {short(body.decode('utf-8', 'replace'))}".strip())


def in_app_channel(options: InAppOptions) -> Channel:
    """The channel. Errors, when it sends: `UrlNotSecure`, `HostNotAllowed`, `UrlUnparsable`, `SourceUnreadable`."""
    allowed_hosts = Settings.load().network.allowed_hosts
    return provider_channel("In-app", Webhook(options), options, allowed_hosts)


@sink_activity("In-app")
def in_app(messages: pl.DataFrame, options: InAppOptions, send: Send) -> Delivery:
    """Hand each profile's message to the application's service, once.

    In: messages (profile_id, email: the user's id there, subject, html, text).
    Out and artifacts: as Email's, for the channel `in-app`.
    Errors: `ColumnsMissing`, `JournalUnavailable`, `ProviderUnavailable`, `ProviderRefuses`, `HostNotAllowed`,
    `OutboxUnwritable`.

    Example:
        ```python
        options = InAppOptions(url="https://app.example/messages", idempotent=True)
        shown = in_app(messages, options, send)
        ```
    """
    return delivered(messages, in_app_channel(options), options, send)


@in_app.closing
def close_in_app(closing: Closing, options: InAppOptions, send: Send) -> None:
    """Write the manifest and the rejects file. Errors: `JournalUnavailable`, `OutboxUnwritable`."""
    close_channel(closing, in_app_channel(options), options, send)
