"""Push: delivers a notification to each profile's device, through Firebase Cloud Messaging's HTTP v1 API.

The notification's title is the message's subject and its body the text. FCM knows no repeat by a key: a message
whose answer was lost is unknown. Source: Firebase's REST reference, projects.messages.send and ErrorCode.
"""

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
from tasks.http.bounded import json_object
from tasks.messages.address import Unsendable
from tasks.runs.sink import Closing, sink_activity
from tasks.send import Send
from tasks.settings import Settings

LONGEST_PAYLOAD = 4096
BY_ERROR_CODE = {
    "UNREGISTERED": Meaning.BAD_ADDRESS,
    "SENDER_ID_MISMATCH": Meaning.BAD_ADDRESS,
    "INVALID_ARGUMENT": Meaning.REFUSED,
    "THIRD_PARTY_AUTH_ERROR": Meaning.SENDER_REFUSED,
    "QUOTA_EXCEEDED": Meaning.LATER,
    "UNAVAILABLE": Meaning.LATER,
}
"""FCM's error codes; others mean what their status does."""


class PushOptions(ProviderOptions):
    """Options of the Push activity."""

    url: str = Field(
        default="https://fcm.googleapis.com/v1", title="Address", description="Of the FCM HTTP v1 API."
    )
    project: str = Field(default="", title="Project", description="Id of the Firebase project.")
    access_token: SecretStr = Field(
        default=SecretStr(""),
        title="Access token",
        description="OAuth 2.0 token for the scope firebase.messaging; such a token lasts an hour.",
    )


class FcmMessages:
    """FCM's format."""

    idempotent = False

    def __init__(self, options: PushOptions) -> None:
        self.url = f"{options.url.rstrip('/')}/projects/{options.project}/messages:send"
        self._headers = {
            "Authorization": f"Bearer {options.access_token.get_secret_value()}",
            "Content-Type": "application/json",
        }

    def request(self, message: ProviderMessage) -> ProviderRequest:
        """The request that sends a message. Errors: `Unsendable`."""
        content = {
            "token": message.address,
            "notification": {"title": message.subject, "body": message.text.strip()},
            "data": {"message_key": message.key},
        }
        if len(json.dumps(content["notification"], ensure_ascii=False).encode()) > LONGEST_PAYLOAD:
            raise Unsendable(f"the notification is longer than {LONGEST_PAYLOAD} bytes")
        return ProviderRequest(self.url, self._headers, json.dumps({"message": content}).encode())

    def answer(self, status: int, body: bytes) -> ProviderAnswer:
        """What FCM's answer means."""
        try:
            said = json_object(body)
            if usual_meaning(status) is Meaning.TAKEN:
                return ProviderAnswer(Meaning.TAKEN, f"{status} {short(said['name'])}")
            error = said["error"]
            codes = [detail.get("errorCode") for detail in error.get("details", ())]
            code = str(next((code for code in codes if code), error.get("status", "")))
            words = f"{status} {code} {short(error.get('message', ''))}"
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            return ProviderAnswer(usual_meaning(status), f"{status}")
        return ProviderAnswer(BY_ERROR_CODE.get(code, usual_meaning(status)), words)


def push_channel(options: PushOptions) -> Channel:
    """The channel. Errors, when it sends: `UrlNotSecure`, `HostNotAllowed`, `UrlUnparsable`, `SourceUnreadable`."""
    allowed_hosts = Settings.load().network.allowed_hosts
    return provider_channel("Push", FcmMessages(options), options, allowed_hosts)


@sink_activity("Push")
def push(messages: pl.DataFrame, options: PushOptions, send: Send) -> Delivery:
    """Send a notification to each profile's device, once.

    In: messages (profile_id, email: the device's token, subject, html, text).
    Out and artifacts: as Email's, for the channel `push`.
    Errors: `ColumnsMissing`, `JournalUnavailable`, `ProviderUnavailable`, `ProviderRefuses`, `HostNotAllowed`,
    `OutboxUnwritable`.

    Example:
        ```python
        content = PersonalizationOptions(templates=templates, send=send, address="device")
        options = PushOptions(project="our-app", access_token=secret)
        sent = push(personalization(audience, content), options, send)
        ```
    """
    return delivered(messages, push_channel(options), options, send)


@push.closing
def close_push(closing: Closing, options: PushOptions, send: Send) -> None:
    """Write the manifest and the rejects file. Errors: `JournalUnavailable`, `OutboxUnwritable`."""
    close_channel(closing, push_channel(options), options, send)
