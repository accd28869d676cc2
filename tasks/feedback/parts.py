"""A message from outside, in the parts that reports have: read leniently, within bounds, never trusted."""

import base64
import binascii
import quopri
import re
from collections.abc import Iterator
from email import message_from_bytes, message_from_string
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message

from tasks.feedback.report import NoReport

LARGEST_MESSAGE = 1024 * 1024
"""Bytes of a message that are read: a report's fields come first, and the message that came back last."""
MOST_PARTS = 100
BLANK_LINE = re.compile(r"\r?\n[ \t]*\r?\n")

Fields = Message
"""A block of header fields."""


def parsed(content: bytes) -> Message:
    """The message. Errors: `NoReport` where it cannot be read."""
    if not content.strip():
        raise NoReport("the message is empty")
    try:
        return message_from_bytes(content[:LARGEST_MESSAGE])
    except RecursionError:
        raise NoReport("its parts are nested too deep") from None
    except (MessageError, ValueError, LookupError, TypeError) as error:
        raise NoReport(f"it is not a message that can be read ({type(error).__name__})") from None


def parts_of(message: Message) -> Iterator[Message]:
    """The message's own parts in their order; nothing of a message that lies inside it."""
    waiting, seen = [message], 0
    while waiting:
        part = waiting.pop(0)
        seen += 1
        if seen > MOST_PARTS:
            raise NoReport(f"it has more than {MOST_PARTS} parts")
        inner = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(inner, list):
            waiting = [one for one in inner if isinstance(one, Message)] + waiting
        else:
            yield part


def first_part(message: Message, *kinds: str) -> Message | None:
    """The first part of one of these content types."""
    return next((part for part in parts_of(message) if part.get_content_type() in kinds), None)


def text_of(part: Message) -> str:
    """The text of a part, decoded, whatever the parser made of it: it takes message/* apart, encoded or not."""
    inner = part.get_payload()
    if isinstance(inner, list):
        # The parser has read the blocks of a report as messages, one for each; each ends with its blank line.
        raw = "\n\n".join(one.as_string().strip("\r\n") for one in inner if isinstance(one, Message))
    else:
        raw = str(inner)
    encoding = header(part, "Content-Transfer-Encoding").lower()
    try:
        if encoding == "base64":
            return base64.b64decode("".join(raw.split())).decode("utf-8", "replace")
        if encoding == "quoted-printable":
            return quopri.decodestring(raw.encode("utf-8", "surrogateescape")).decode("utf-8", "replace")
    except binascii.Error:
        raise NoReport(f"its part {part.get_content_type()} is not {encoding}, as it says it is") from None
    return raw.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def blocks_of(part: Message) -> list[Fields]:
    """Blocks of header fields, with a blank line between them."""
    return [message_from_string(f"{block}\n\n") for block in BLANK_LINE.split(text_of(part).strip()) if block]


def original_of(message: Message) -> Fields | None:
    """The header of the message that came back, if it did."""
    part = first_part(message, "message/rfc822", "message/global", "text/rfc822-headers", "message/global-headers")
    return message_from_string(text_of(part).lstrip("\r\n")) if part is not None else None


def header(fields: Fields, name: str) -> str:
    """One header field as text in one line, decoded; empty where it is missing or cannot be read."""
    value = fields.get(name)
    if value is None:
        return ""
    try:
        text = str(make_header(decode_header(value)))
    except (MessageError, ValueError, LookupError, TypeError):
        text = str(value)
    return " ".join(text.encode("utf-8", "replace").decode().split())


def headers(fields: Fields, *names: str) -> list[str]:
    """Every value of header fields, in the order of the names."""
    return [" ".join(str(value).split()) for name in names for value in fields.get_all(name, [])]
