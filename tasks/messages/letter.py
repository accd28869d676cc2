"""Internet messages (RFC 5322) from a prepared skeleton: what is the same for all is made once.

The skeleton is made by `email.message`, with its parts in place of two marks; a message is the skeleton with the
checked values of one recipient between its pieces. Parsed, it is what `email.message` itself would have made.
"""

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage, MIMEPart
from email.policy import SMTP
from pathlib import Path
from typing import NamedTuple, Self, cast

import polars as pl
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tasks.characters import forbidden_character
from tasks.errors import ColumnsMissing, ConfigurationError, MessageFileUnreadable
from tasks.messages.address import (
    LONGEST_LOCAL_PART,
    Recipient,
    Unsendable,
    checked_recipient,
    is_plain_address,
)
from tasks.messages.attachment import ProfileAttachment, media_type
from tasks.messages.headers import checked_headers, from_header, is_plain_subject, subject_header, to_header
from tasks.messages.texts import encoded_texts
from tasks.messages.unsubscribe import unsubscribe_link, unsubscribe_links
from tasks.send import DIGITS, Send
from tasks.settings import UnsubscribeSettings
from tasks.tables.transitions import quoted

NO_PAGE = UnsubscribeSettings()
"""No message has a link that unsubscribes."""
ONE_CLICK = "List-Unsubscribe: <{}>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
"""Headers by which a receiver unsubscribes, with the link's place."""
SHORT = 10_000
"""What follows the texts goes into many messages together where it is no longer; else, as files are, into each."""
SIGNED_HEADERS = (
    b"from",
    b"to",
    b"subject",
    b"date",
    b"message-id",
    b"reply-to",
    b"mime-version",
    b"content-type",
    b"list-unsubscribe",
    b"list-unsubscribe-post",
)
"""Headers that a DKIM signature covers; RFC 8058 asks for the last two."""


class Letter(NamedTuple):
    """What one profile is to get by mail; the rows of Personalization, with the message's key and name."""

    key: str
    name: str
    """By which the world knows it (`tasks.delivery.journal.keys.MessageNames`): no key can be read of it."""
    profile_id: str
    email: str
    subject: str
    to_name: str | None
    """Of the recipient, in To."""
    attachment: str | bytes | None
    """Of this message alone: a path below the folder of attachments, or bytes."""
    content: bytes
    """Of its message, what can be made for many together."""
    is_plain: bool
    """Whether its own headers are among that."""
    has_dots: bool
    """Whether a line of that begins with a dot, which SMTP doubles."""
    has_mark: bool
    """Whether its texts have the mark that separates the message's parts."""


LETTER_COLUMNS = {"to_name": "recipient_name", "attachment": "attachment"}
"""Columns of a letter that a table of messages need not have, each with the option that names the table's."""


class Message(NamedTuple):
    """One message, ready to leave."""

    sender: str
    """The address that it is sent from, and comes back to."""
    recipient: Recipient
    content: bytes
    has_dots: bool = True
    """Whether a line may begin with a dot."""


class MessageOptions(BaseModel):
    """What is the same in all messages of a send: the sender, files, and what is signed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sender_name: str = Field(default="Campaign Flows", title="Sender name", description="Name in From.")
    sender_address: str = Field(
        default="offers@campaign.example", title="Sender address", description="Address in From."
    )
    reply_to: str = Field(
        default="", title="Reply address", description="Address that answers go to, if not the sender's."
    )
    bounce_address: str = Field(
        default="",
        title="Bounce address",
        description=(
            "Address that messages come back to, with each message's name after a '+' (VERP), as in"
            " bounces+<name>@campaign.example: Feedback then knows the message. Its mailbox must take such"
            " addresses. Empty: the sender's address, as it is."
        ),
    )
    recipient_name: str = Field(
        default="",
        title="Recipient name",
        description="Column of the name in To. Empty: the address alone.",
    )
    headers: dict[str, str] = Field(
        default_factory=dict,
        title="Headers",
        description='Headers that every message has, List-*, X-* or Feedback-ID: {"X-Campaign": "spring"}.',
    )
    text_only: bool = Field(
        default=False, title="Text only", description="Whether messages have the text alone, and no HTML."
    )
    attachment: str = Field(
        default="",
        title="Attachment of a profile",
        description=(
            "Column of the file that a profile's message carries: a path below the folder of attachments, or bytes."
            " A profile whose file is missing or too large is rejected. Empty: none."
        ),
    )
    attachment_folder: Path | None = Field(
        default=None, title="Folder of attachments", description="Where the files of that column are; no others."
    )
    attachment_name: str = Field(
        default="attachment.pdf",
        pattern=r"^[^/\x00-\x1f\x7f]+$",
        title="Name of an attachment",
        description="Name of the file that is made of bytes.",
    )
    attachment_bytes: int = Field(
        default=10_000_000, ge=1, title="Largest attachment", description="Of a profile, in bytes."
    )
    attachments: tuple[Path, ...] = Field(
        default=(), title="Attachments", description="Files that every message carries."
    )
    inline_images: dict[str, Path] = Field(
        default_factory=dict,
        title="Inline images",
        description='Image files by content id: {"logo": "logo.png"} is shown by <img src="cid:logo">.',
    )
    dkim_selector: str = Field(
        default="", title="DKIM selector", description="Name of the key in the sender's DNS. Empty: no signature."
    )
    dkim_key_file: Path | None = Field(
        default=None, title="DKIM key", description="PEM file of the private key, RSA or Ed25519 (extra: dkim)."
    )

    @field_validator("bounce_address")
    @classmethod
    def _has_room(cls, address: str) -> str:
        if len(address.rpartition("@")[0]) > LONGEST_LOCAL_PART - 1 - DIGITS:
            raise ValueError(f"before the @ there is no room for '+' and {DIGITS} digits")
        return address

    @field_validator("sender_name")
    @classmethod
    def _is_one_line(cls, name: str) -> str:
        if character := forbidden_character(name):
            raise ValueError(f"the name has a line break or a control character, {character}")
        return name

    @field_validator("sender_address", "reply_to", "bounce_address")
    @classmethod
    def _is_an_address(cls, address: str) -> str:
        if address and checked_recipient(address).needs_utf8:
            raise ValueError("its local part is not ASCII, which only some servers take")
        return address

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if bool(self.dkim_selector) != bool(self.dkim_key_file):
            raise ValueError("dkim_selector and dkim_key_file go together")
        if self.text_only and self.inline_images:
            raise ValueError("text_only and inline_images do not go together")
        return self

    @field_validator("headers")
    @classmethod
    def _can_be_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        return checked_headers(headers)

    @property
    def carried(self) -> tuple[str, ...]:
        """Columns of the audience that messages must keep for a channel."""
        return tuple(dict.fromkeys(filter(None, (getattr(self, option) for option in LETTER_COLUMNS.values()))))

    def require_carried(self, messages: pl.DataFrame, activity: str) -> None:
        """Check that messages have the columns that they must keep. Errors: `ColumnsMissing`."""
        if missing := [name for name in self.carried if name not in messages.columns]:
            raise ColumnsMissing(
                activity=activity,
                missing=quoted(missing),
                where="the inbound transition",
                present=quoted(messages.columns),
                cure="Personalization keeps further columns of the audience that its option `carried` names.",
            )

    def letters(self, messages: pl.DataFrame, activity: str) -> pl.DataFrame:
        """Messages with all columns of a letter. Errors: `ColumnsMissing`."""
        self.require_carried(messages, activity)
        named = {own: getattr(self, option) for own, option in LETTER_COLUMNS.items()}
        return messages.with_columns(
            (pl.col(column) if column else pl.lit(None)).alias(own) for own, column in named.items()
        )

    @property
    def sender(self) -> str:
        """The sender's address as a mail server takes it."""
        return checked_recipient(self.sender_address).address

    def sent_from(self) -> Callable[[str], str]:
        """Gives the address that a message with a name is sent from."""
        sender = self.sender
        if not self.bounce_address:
            return lambda _: sender
        local, _, domain = checked_recipient(self.bounce_address).address.rpartition("@")
        return lambda name: f"{local}+{name}@{domain}"


@dataclass(frozen=True)
class Skeleton:
    """What all messages of a send have in common, cut where a message's own values go."""

    options: MessageOptions
    send: Send
    boundary: str
    head: str
    """From the Message-ID's end to the text part's encoding."""
    middle: str | None
    """From the text part's end to the HTML part's encoding; None for a text alone."""
    tail: str
    """What follows, up to the profile's own attachment, where it is short."""
    files: bytes
    """The same, where it is long."""
    end: bytes
    """What follows the profile's own attachment."""
    domain: str
    sent_from: Callable[[str], str]
    """Gives the address that a message with a name is sent from."""
    unsubscribe: UnsubscribeSettings
    sign: Callable[[bytes], bytes] | None
    """Makes the signature header that goes before a message."""

    attachment: ProfileAttachment | None
    """How a profile's own is found."""

    def letters(self, messages: pl.DataFrame) -> list[Letter]:
        """Letters of messages: message_key, name, profile_id, email, subject, html, text, to_name, attachment."""
        texts = messages.with_columns(
            encoded_texts(messages["text"]), encoded_texts(messages["html"]), pl.col("to_name").cast(pl.String())
        )
        is_plain = is_plain_address(pl.col("email")) & is_plain_subject(pl.col("subject"))
        is_plain &= pl.col("to_name").fill_null("") == ""
        own = pl.when("is_plain").then(self._plain_headers()).otherwise(pl.lit(""))
        html = [] if self.middle is None else [pl.lit(self.middle), pl.col("html")]
        content = pl.concat_str(own, pl.lit(self.head), "text", *html, pl.lit(self.tail))
        has_mark = pl.any_horizontal(pl.col("text", "html").str.contains(self.boundary, literal=True))
        made = (
            texts.rename({"message_key": "key"})
            .with_columns(is_plain=is_plain)
            .with_columns(content=content, has_mark=has_mark)
            .with_columns(
                pl.col("content").cast(pl.Binary()), has_dots=pl.col("content").str.contains("\n.", literal=True)
            )
        )
        return list(map(Letter, *(made[name].to_list() for name in Letter._fields)))

    def _plain_headers(self) -> pl.Expr:
        """Each message's own headers, where nothing in them needs encoding."""
        link = unsubscribe_links(pl.col("profile_id"), self.send, self.unsubscribe)
        return pl.format(self._own, "email", "subject", "name", *([link] if self.unsubscribe.url else []))

    @property
    def _own(self) -> str:
        """A message's own headers, with places for To, Subject, its name and, where there is a page, the link."""
        link = ONE_CLICK if self.unsubscribe.url else ""
        return f"To: {{}}\r\nSubject: {{}}\r\nMessage-ID: <{{}}@{self.domain}>\r\n{link}"

    def message(self, letter: Letter) -> Message:
        """The message of one profile. Errors: `Unsendable`, with the reason."""
        recipient = (
            Recipient(letter.email, needs_utf8=False) if letter.is_plain else checked_recipient(letter.email)
        )
        if letter.has_mark:
            raise Unsendable("a text has the mark that separates the message's parts")
        if letter.is_plain and self.is_whole:
            return Message(self.sent_from(letter.name), recipient, letter.content, letter.has_dots)
        own = b"" if letter.is_plain else self._headers(letter, recipient).encode()
        pieces = [own, letter.content, self.files]
        if self.attachment is not None:
            pieces += [self.attachment.part(letter.attachment), self.end]
        content = b"".join(pieces)
        whole = content if self.sign is None else self.sign(content) + content
        return Message(self.sent_from(letter.name), recipient, whole)

    @property
    def is_whole(self) -> bool:
        """Whether messages need nothing that is made for each."""
        return self.sign is None and self.attachment is None and not self.files

    def _headers(self, letter: Letter, recipient: Recipient) -> str:
        to = to_header(letter.to_name, recipient.address)
        link = unsubscribe_link(self.unsubscribe, self.send, letter.profile_id)
        return self._own.format(to, subject_header(letter.subject), letter.name, link)


def prepared_skeleton(
    options: MessageOptions, send: Send, sent_at: datetime, unsubscribe: UnsubscribeSettings = NO_PAGE
) -> Skeleton:
    """Make the skeleton of a send, reading the files that go into every message.

    Errors: `MessageFileUnreadable`, `ConfigurationError` (DKIM without its library).
    """
    identity = f"{send.campaign}\x1f{send.business_date}\x1f{options.sender_address}"
    mark = hashlib.sha256(identity.encode()).hexdigest()[:24]
    whole = bytes(_model(options, sent_at, mark))
    place = rb"Content-Transfer-Encoding: 7bit\r\n\r\n%b-(?:text|html)\r\n" % mark.encode()
    head, *middle, rest = re.split(place, whole)
    tail, end = _around_attachment(rest, mark) if options.attachment else (rest, b"")
    first = {"From": from_header(options.sender_name, options.sender), **options.headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in first.items()).encode() + head
    return Skeleton(
        options=options,
        send=send,
        sent_from=options.sent_from(),
        boundary=mark,
        head=head.decode("ascii"),
        middle=middle[0].decode("ascii") if middle else None,
        tail=tail.decode("ascii") if len(tail) <= SHORT else "",
        files=tail if len(tail) > SHORT else b"",
        end=end,
        domain=options.sender.rpartition("@")[2],
        unsubscribe=unsubscribe,
        sign=_signer(options),
        attachment=(
            ProfileAttachment(options.attachment_folder, options.attachment_name, options.attachment_bytes)
            if options.attachment
            else None
        ),
    )


def _model(options: MessageOptions, sent_at: datetime, mark: str) -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    if options.reply_to:
        message["Reply-To"] = Address(addr_spec=checked_recipient(options.reply_to).address)
    message["Date"] = sent_at
    message.set_content(f"{mark}-text", cte="7bit")
    if not options.text_only:
        _add_html(message, options, mark)
    for path in options.attachments:
        message.add_attachment(_content(path, "attachment"), *media_type(path.name), filename=path.name)
    if options.attachment:
        message.add_attachment(f"{mark}-attachment", cte="7bit")
    if not message.is_multipart():  # what is cut out ends with this header
        del message["Content-Transfer-Encoding"]
        message["Content-Transfer-Encoding"] = "7bit"
    for number, part in enumerate(part for part in message.walk() if part.is_multipart()):
        part.set_boundary(f"=_{mark}_{number}")
    return message


def _add_html(message: EmailMessage, options: MessageOptions, mark: str) -> None:
    message.add_alternative(f"{mark}-html", subtype="html", cte="7bit")
    *_, html = cast("list[MIMEPart]", list(message.iter_parts()))
    del html["MIME-Version"]  # belongs to the whole message only
    for content_id, path in options.inline_images.items():
        kind, subtype = media_type(path.name)
        if kind != "image":
            raise MessageFileUnreadable(what="inline image", path=path, reason="its name is not an image's")
        html.add_related(_content(path, "inline image"), kind, subtype, cid=f"<{content_id}>", filename=path.name)


def _around_attachment(rest: bytes, mark: str) -> tuple[bytes, bytes]:
    """What stands before and after the part that a profile's own attachment takes the place of."""
    place = rest.index(f"{mark}-attachment".encode())
    boundary = f"\r\n--=_{mark}_".encode()
    begin = rest.index(b"\r\n", rest.rindex(boundary, 0, place) + 2) + 2
    return rest[:begin], rest[rest.index(boundary, place) :]


def _content(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MessageFileUnreadable(what=what, path=path, reason=error.strerror or str(error)) from None


def _dkim_key(path: Path) -> tuple[bytes, bytes]:
    """The private key as dkimpy takes it, and the algorithm that goes with it (RFC 6376, RFC 8463)."""
    content = _content(path, "DKIM key")
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise MessageFileUnreadable(
            what="DKIM key", path=path, reason="it is no private key in PEM, or it has a password"
        ) from None
    if isinstance(key, Ed25519PrivateKey):
        return base64.b64encode(key.private_bytes_raw()), b"ed25519-sha256"
    return content, b"rsa-sha256"


def _signer(options: MessageOptions) -> Callable[[bytes], bytes] | None:
    if options.dkim_key_file is None:
        return None
    try:
        import dkim  # noqa: PLC0415  # an extra
    except ModuleNotFoundError:
        raise ConfigurationError(
            setting="dkim_selector", reason="the extra is missing: pip install 'campaign-flows[dkim]'"
        ) from None
    key, algorithm = _dkim_key(options.dkim_key_file)
    domain = options.sender.rpartition("@")[2].encode()

    def sign(content: bytes) -> bytes:
        signature: bytes = dkim.sign(
            content,
            options.dkim_selector.encode(),
            domain,
            key,
            include_headers=[*SIGNED_HEADERS, *(name.lower().encode() for name in options.headers)],
            linesep=b"\r\n",
            signature_algorithm=algorithm,
            canonicalize=(b"relaxed", b"relaxed"),
        )
        return signature

    try:
        sign(b"From: a@b\r\n\r\nx\r\n")
    except dkim.DKIMException as error:
        raise MessageFileUnreadable(what="DKIM key", path=options.dkim_key_file, reason=str(error)) from None
    return sign
