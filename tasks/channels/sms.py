"""SMS: delivers the text of each message to a telephone, through a provider that speaks Twilio's Messages API.

Twilio knows no repeat by a key: a message whose answer was lost is unknown. Source: Twilio's API reference,
"Messages resource" and "Error and warning dictionary".
"""

import re
from base64 import b64encode
from urllib.parse import urlencode

import phonenumbers
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
from tasks.messages.address import AROUND, Unsendable
from tasks.runs.sink import Closing, sink_activity
from tasks.send import Send
from tasks.settings import Settings

AS_WRITTEN = re.compile(r"\+[0-9 ()./\u00a0-]+", re.ASCII)
"""Nothing but one number: no extension, no words, no second one."""
LONGEST_TEXT = 1600
BAD_ADDRESS_CODES = frozenset({21211, 21214, 21217, 21401, 21407, 21421, 21610, 21612, 21614})
"""Twilio's codes for a number that is none, is no mobile's, cannot be reached, or has unsubscribed."""


class SmsOptions(ProviderOptions):
    """Options of the SMS activity."""

    url: str = Field(
        default="https://api.twilio.com/2010-04-01",
        title="Address",
        description="Of Twilio's API, or of another provider that speaks it.",
    )
    account_sid: str = Field(default="", title="Account SID", description="The account that sends and pays.")
    username: str = Field(default="", title="API key", description="SID of an API key; empty: the account's own.")
    password: SecretStr = Field(
        default=SecretStr(""), title="Secret", description="Of the API key, or the account's auth token."
    )
    sender: str = Field(
        default="", title="Sender", description="A number (+15550100), a sender id, or a messaging service (MG...)."
    )


def international(number: str) -> str:
    """A telephone number as networks know it (E.164), of one as people write it. Errors: `Unsendable`.

    In: as in `+43 (0)1 555-0100`, where the 0 is dialled within the country only.
    """
    bare = number.strip(AROUND)
    try:
        parsed = phonenumbers.parse(bare, None) if AS_WRITTEN.fullmatch(bare) else None
    except phonenumbers.NumberParseException:
        parsed = None
    if parsed is None or not phonenumbers.is_possible_number(parsed):
        raise Unsendable("the telephone number is not international, as in +4315550100")
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


class TwilioMessages:
    """Twilio's format."""

    idempotent = False

    def __init__(self, options: SmsOptions) -> None:
        self.url = f"{options.url.rstrip('/')}/Accounts/{options.account_sid}/Messages.json"
        credentials = f"{options.username or options.account_sid}:{options.password.get_secret_value()}"
        self._headers = {
            "Authorization": f"Basic {b64encode(credentials.encode()).decode()}",
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }
        is_service = options.sender.startswith("MG")
        self._sender = {"MessagingServiceSid" if is_service else "From": options.sender}

    def request(self, message: ProviderMessage) -> ProviderRequest:
        """The request that sends a message. Errors: `Unsendable`."""
        number = international(message.address)
        text = message.text.strip()
        if not text or len(text) > LONGEST_TEXT:
            raise Unsendable(f"the text is empty or longer than {LONGEST_TEXT} characters")
        form = {"To": number, **self._sender, "Body": text}
        return ProviderRequest(self.url, self._headers, urlencode(form).encode())

    def answer(self, status: int, body: bytes) -> ProviderAnswer:
        """What Twilio's answer means."""
        try:
            said = json_object(body)
            if usual_meaning(status) is Meaning.TAKEN:
                return ProviderAnswer(
                    Meaning.TAKEN, f"{status} {short(said['sid'])} {short(said.get('status', ''))}"
                )
            code, words = (
                int(said.get("code", 0)),
                f"{status} {said.get('code', '')} {short(said.get('message', ''))}",
            )
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            return ProviderAnswer(usual_meaning(status), f"{status}")
        return ProviderAnswer(Meaning.BAD_ADDRESS if code in BAD_ADDRESS_CODES else usual_meaning(status), words)


def sms_channel(options: SmsOptions) -> Channel:
    """The channel. Errors, when it sends: `UrlNotSecure`, `HostNotAllowed`, `UrlUnparsable`, `SourceUnreadable`."""
    allowed_hosts = Settings.load().network.allowed_hosts
    return provider_channel("SMS", TwilioMessages(options), options, allowed_hosts)


@sink_activity("SMS")
def sms(messages: pl.DataFrame, options: SmsOptions, send: Send) -> Delivery:
    """Send the text of each message to its profile's telephone, once.

    In: messages (profile_id, email: the telephone number, subject, html, text).
    Out and artifacts: as Email's, for the channel `sms`.
    Errors: `ColumnsMissing`, `JournalUnavailable`, `ProviderUnavailable`, `ProviderRefuses`, `HostNotAllowed`,
    `OutboxUnwritable`.

    Example:
        ```python
        content = PersonalizationOptions(templates=templates, send=send, address="phone")
        options = SmsOptions(account_sid="AC123", password=secret, sender="+15550100")
        sent = sms(personalization(audience, content), options, send)
        ```
    """
    return delivered(messages, sms_channel(options), options, send)


@sms.closing
def close_sms(closing: Closing, options: SmsOptions, send: Send) -> None:
    """Write the manifest and the rejects file. Errors: `JournalUnavailable`, `OutboxUnwritable`."""
    close_channel(closing, sms_channel(options), options, send)
