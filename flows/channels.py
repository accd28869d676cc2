"""The channels that a campaign of parameters may deliver over: what the form asks of each, and nothing secret."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from flows.settings import CampaignSettings
from tasks.channels.direct_mail import DirectMailOptions
from tasks.channels.email import EmailOptions, check_placeholder
from tasks.channels.in_app import InAppOptions
from tasks.channels.outbox import OutboxOptions
from tasks.channels.push import PushOptions
from tasks.channels.sms import SmsOptions
from tasks.delivery.dispatch import Wave, Waves
from tasks.errors import ConfigurationError, ParameterInvalid
from tasks.forms import AsChoice
from tasks.messages.headers import checked_headers
from tasks.messages.senders import check_sender
from tasks.settings import merged


class _Choice(BaseModel):
    """One channel of the form. What it leaves empty, and whatever is secret, the settings say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    medium: ClassVar[str] = "email"
    """The channel as message keys and suppressions have it."""
    is_mail: ClassVar[bool] = False
    """Whether addresses must be valid for mail."""
    has_messages: ClassVar[bool] = True
    """Whether messages are made for it; if not, it is given the audience itself."""

    @property
    def address_column(self) -> str:
        """Column of the address to send to; empty where the channel has none."""
        return "email"

    @property
    def is_proof(self) -> bool:
        """Whether messages show a sample in the place of a code, and take none."""
        return False

    def check_codes(self, count: int) -> None:
        """Check that so many codes of pools have a message to stand in. Errors: `ParameterInvalid`."""
        if count and not self.has_messages:
            raise ParameterInvalid(parameter="codes", reason="letters have no messages that a code could stand in")

    @property
    def needed_columns(self) -> list[str]:
        """Columns that the audience must have, content aside."""
        return [self.address_column]

    @property
    def addresses(self) -> list[str]:
        """Addresses that messages would come from or answers go to, where parameters say so."""
        return []

    def carried(self, settings: CampaignSettings) -> tuple[str, ...]:  # noqa: ARG002
        """Further columns of the audience that messages keep for the channel."""
        return ()

    def chosen(self) -> dict[str, Any]:
        """What is said here and is not left to the settings."""
        given = self.model_dump(exclude={"kind", "address"})
        return {name: value for name, value in given.items() if value not in ("", {}, (), False)}

    def check(self, settings: CampaignSettings) -> None:
        """Check what the channel needs, before anything is read.

        Errors: `SenderNotAllowed`; `ParameterInvalid`; `ConfigurationError` (a setting that the channel needs is
        empty, or a placeholder's address would go to a real server).
        """
        for address in self.addresses:
            check_sender(address, settings.allowed_senders)


class _FromSomebody(_Choice):
    """Options of every channel that sends mail."""

    is_mail: ClassVar[bool] = True

    sender_name: str = Field(
        default="", title="Sender name", description="Name in From. Empty: the one of the settings."
    )
    sender_address: str = Field(
        default="",
        pattern=r"^([^@\s]+@[^@\s]+)?$",
        title="Sender address",
        description=(
            "Address in From, one that the operator allows (CAMPAIGN_SENDERS). Empty: the one of the settings."
        ),
    )
    recipient_name: str = Field(
        default="", title="Recipient name", description="Column of the name in To. Empty: as the settings say."
    )
    attachment: str = Field(
        default="",
        title="Attachment of a profile",
        description=(
            "Column of the file that a profile's message carries: a path below the operator's folder of"
            " attachments. Empty: as the settings say."
        ),
    )
    text_only: bool = Field(
        default=False, title="Text only", description="Whether messages have the text alone, and no HTML."
    )
    headers: dict[str, str] = Field(
        default={},
        title="Headers",
        description='Headers that every message has, List-*, X-* or Feedback-ID: {"X-Campaign": "spring"}.',
    )

    @field_validator("headers")
    @classmethod
    def _can_be_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        return checked_headers(headers)

    @property
    def needed_columns(self) -> list[str]:
        """Columns that the audience must have, content aside."""
        return [*super().needed_columns, *filter(None, (self.recipient_name, self.attachment))]

    @property
    def addresses(self) -> list[str]:
        """Those that are the parameters' own."""
        return [self.sender_address] if self.sender_address else []


class OutboxChannel(_FromSomebody):
    """Files that any mail program opens."""

    model_config = ConfigDict(title="Files (outbox)")

    kind: Literal["outbox"] = Field(default="outbox", title="Kind", description="Messages are delivered as files.")

    def carried(self, settings: CampaignSettings) -> tuple[str, ...]:
        """Columns of the recipient's name and attachment."""
        return self.options(settings).carried

    def options(self, settings: CampaignSettings) -> OutboxOptions:
        """The activity's options; where its folder is, the settings say."""
        return merged(settings.outbox, **self.chosen())

    def check(self, settings: CampaignSettings) -> None:
        """Check the sender. Errors: `SenderNotAllowed`; `ParameterInvalid`."""
        self.options(settings)
        super().check(settings)


class _Journaled(_Choice):
    """Options of every channel whose messages are claimed in the journal."""

    proof: str = Field(
        default="",
        pattern=r"^[a-z0-9-]*$",
        title="Proof",
        description="Name of a proof, marked in the subject and sent once per name. Empty: the send itself.",
    )
    waves: Waves = 1
    wave: Wave = 1

    @property
    def is_proof(self) -> bool:
        """Whether it has a proof's name."""
        return bool(self.proof)


class EmailChannel(_Journaled, _FromSomebody):
    """Mail, through the mail server of the settings."""

    model_config = ConfigDict(title="E-mail")

    kind: Literal["email"] = Field(default="email", title="Kind", description="Messages are sent by mail.")
    reply_to: str = Field(
        default="", title="Reply address", description="Address that answers go to, if not the sender's."
    )

    @property
    def addresses(self) -> list[str]:
        """Those that are the parameters' own."""
        return [*super().addresses, *([self.reply_to] if self.reply_to else [])]

    def carried(self, settings: CampaignSettings) -> tuple[str, ...]:
        """Columns of the recipient's name and attachment."""
        return self.options(settings).carried

    def options(self, settings: CampaignSettings) -> EmailOptions:
        """The activity's options; the mail server, the settings say."""
        return merged(settings.email, **self.chosen())

    def check(self, settings: CampaignSettings) -> None:
        """Check the sender. Errors: `SenderNotAllowed`; `ParameterInvalid`; `ConfigurationError`."""
        check_placeholder(self.options(settings))
        super().check(settings)


def _needed(settings: BaseModel, prefix: str, *names: str) -> None:
    """Check that settings are there. Errors: `ConfigurationError`, naming the first that is empty."""
    for name in names:
        value = getattr(settings, name)
        if not (value.get_secret_value() if hasattr(value, "get_secret_value") else value):
            reason = f"it is empty, and the channel '{prefix.replace('_', '-').lower()}' cannot send without it"
            raise ConfigurationError(setting=f"CAMPAIGN_{prefix}__{name.upper()}", reason=reason)


class _ToAddress(_Journaled):
    """Options of every channel whose addresses are in a column that the form names."""

    address: str = Field(min_length=1)

    @property
    def address_column(self) -> str:
        """As the form says."""
        return self.address


class SmsChannel(_ToAddress):
    """Text messages, through the provider of the settings."""

    model_config = ConfigDict(title="SMS")
    medium: ClassVar[str] = "sms"

    kind: Literal["sms"] = Field(default="sms", title="Kind", description="The text is sent to the telephone.")
    address: str = Field(
        default="phone",
        min_length=1,
        title="Telephone number",
        description="Column of the telephone number, written as +43 1 555 0100.",
    )

    def options(self, settings: CampaignSettings) -> SmsOptions:
        """The activity's options; account and sender, the settings say."""
        return merged(settings.sms, **self.chosen())

    def check(self, settings: CampaignSettings) -> None:
        """Check the account. Errors: `ConfigurationError`."""
        _needed(settings.sms, "SMS", "account_sid", "password", "sender")


class PushChannel(_ToAddress):
    """Notifications on telephones, through Firebase Cloud Messaging."""

    model_config = ConfigDict(title="Push")
    medium: ClassVar[str] = "push"

    kind: Literal["push"] = Field(
        default="push", title="Kind", description="Subject and text are shown as a notification."
    )
    address: str = Field(
        default="push_token", min_length=1, title="Device", description="Column of the device's token."
    )

    def options(self, settings: CampaignSettings) -> PushOptions:
        """The activity's options; project and token, the settings say."""
        return merged(settings.push, **self.chosen())

    def check(self, settings: CampaignSettings) -> None:
        """Check the project. Errors: `ConfigurationError`."""
        _needed(settings.push, "PUSH", "project", "access_token")


class InAppChannel(_ToAddress):
    """Messages inside an application, through its own service."""

    model_config = ConfigDict(title="In-app")
    medium: ClassVar[str] = "in-app"

    kind: Literal["in-app"] = Field(
        default="in-app", title="Kind", description="The application shows the message to its user."
    )
    address: str = Field(
        default="profile_id", min_length=1, title="User", description="Column of the user's id in the application."
    )

    def options(self, settings: CampaignSettings) -> InAppOptions:
        """The activity's options; address and secret of the service, the settings say."""
        return merged(settings.in_app, **self.chosen())

    def check(self, settings: CampaignSettings) -> None:
        """Check the service's address. Errors: `ConfigurationError`."""
        _needed(settings.in_app, "IN_APP", "url")


class DirectMailChannel(_Choice):
    """Letters: a file for the printer. The printer has the text; subject, HTML and text are not used."""

    model_config = ConfigDict(title="Letters (file for the printer)")
    medium: ClassVar[str] = "direct-mail"
    has_messages: ClassVar[bool] = False

    kind: Literal["direct-mail"] = Field(
        default="direct-mail", title="Kind", description="A file with a row for each letter is written."
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        title="Columns",
        description=(
            "Columns of the file in their order, {column of the audience: label in the file}. Empty: all of the"
            " audience's."
        ),
    )
    required: tuple[str, ...] = Field(
        default=(),
        title="Required columns",
        description="Columns that must not be empty, such as zip_code: who lacks one gets no letter.",
    )

    @property
    def address_column(self) -> str:
        """None: the address of a letter is several columns."""
        return ""

    @property
    def needed_columns(self) -> list[str]:
        """Those of the file."""
        return [*self.columns, *self.required]

    def options(self, settings: CampaignSettings) -> DirectMailOptions:
        """The activity's options; where its folder is, the settings say."""
        return merged(settings.direct_mail, **self.chosen())


class PreviewOnly(_Choice):
    """Nothing is delivered: the messages and the counts can be looked at."""

    model_config = ConfigDict(title="Nothing (preview only)")

    is_mail: ClassVar[bool] = True

    kind: Literal["preview"] = Field(default="preview", title="Kind", description="Nothing is delivered.")

    @property
    def is_proof(self) -> bool:
        """What nobody gets takes no code."""
        return True


AS_FILES = OutboxChannel()
"""How messages are delivered where nothing is said."""

Channel = Annotated[
    OutboxChannel | EmailChannel | SmsChannel | PushChannel | InAppChannel | DirectMailChannel | PreviewOnly,
    Field(discriminator="kind"),
    AsChoice(),
]
