"""Headers of a message: written so that they read back as what they are, and no value begins another header."""

import base64
import re
from collections.abc import Mapping
from email import message_from_bytes
from email.header import decode_header, make_header
from email.policy import SMTP
from email.utils import parseaddr

import polars as pl

from tasks.characters import CONTROL
from tasks.errors import ConfigurationError
from tasks.messages.address import Unsendable

LONGEST_LINE = 998
ENCODED_WORD_BYTES = 45
"""Bytes that one encoded word of 75 characters holds in base64."""

LONGEST_NAME = 200
"""Characters of a name in From that stand on one line as they are."""
PLAIN_NAME = re.compile(r"[A-Za-z0-9'_-]+(?: [A-Za-z0-9'_-]+)*")
PLAIN_SUBJECT = re.compile(r"[!-~](?:[ -~]{0,64}[!-~])?")
FOLD = re.compile(r"([ -~]{30,66}) (?=[!-~])")

OWN = re.compile(r"(?:X-|List-)[A-Za-z0-9-]*[A-Za-z0-9]|Feedback-ID", re.IGNORECASE)
"""Names of headers that a send may set itself."""
RESERVED = frozenset({"list-unsubscribe", "list-unsubscribe-post"})
"""Those of them that are each message's own (RFC 8058)."""
VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """A send's own headers, if each can be one. Errors: `ValueError`, naming the first that cannot."""
    known: set[str] = set()
    for name, value in headers.items():
        small = name.lower()
        if not OWN.fullmatch(name):
            raise ValueError(
                f"'{name}' is no header of a send: its name begins with List- or X-, or is Feedback-ID"
            )
        if small in RESERVED:
            raise ValueError(f"'{name}' is set in each message, by CAMPAIGN_UNSUBSCRIBE__URL")
        if small in known:
            raise ValueError(f"'{name}' stands more than once")
        if not VALUE.fullmatch(value) or len(name) + 2 + len(value) > LONGEST_LINE:
            raise ValueError(f"the value of '{name}' is not one line of ASCII of {LONGEST_LINE} characters at most")
        known.add(small)
    return dict(headers)


def subject_header(subject: str) -> str:
    """A subject as its header carries it: plain where it can be, else RFC 2047's encoded words.

    Errors: `Unsendable` for a line break or another control character, which could begin another header.
    """
    if PLAIN_SUBJECT.fullmatch(subject) and "=?" not in subject:
        return subject
    if CONTROL.search(subject):
        raise Unsendable("the subject has a line break or a control character")
    folded = FOLD.sub("\\1\r\n ", subject)
    return folded if _is_plain(folded) else "\r\n ".join(_encoded_words(subject.encode()))


def is_plain_subject(subject: pl.Expr) -> pl.Expr:
    """Whether each subject is its header as it stands."""
    whole = subject.str.contains(f"^(?:{PLAIN_SUBJECT.pattern})$")
    return whole & ~subject.str.contains("=?", literal=True)


def _is_plain(folded: str) -> bool:
    lines = folded.split("\r\n ")
    return (
        all(line.isascii() and line.isprintable() and line == line.strip() for line in lines)
        and max(map(len, lines)) <= LONGEST_LINE - len("Subject: ")
        and "=?" not in folded
    )


def _encoded_words(text: bytes) -> list[str]:
    words = []
    begin = 0
    while begin < len(text):
        end = min(begin + ENCODED_WORD_BYTES, len(text))
        while end < len(text) and text[end] & 0xC0 == 0x80:
            end -= 1
        words.append(f"=?utf-8?b?{base64.b64encode(text[begin:end]).decode()}?=")
        begin = end
    return words


def named_address(name: str, address: str) -> str:
    """A name with an address: plain, quoted or encoded, whatever the name has in it."""
    if len(name) <= LONGEST_NAME and PLAIN_NAME.fullmatch(name):
        written = f"{name} <{address}>"
    elif len(name) <= LONGEST_NAME and name.isascii() and name == name.strip() and "=?" not in name:
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        written = f'"{escaped}" <{address}>'
    elif name:
        words = "\r\n ".join(_encoded_words(name.encode()))
        written = f"{words}\r\n <{address}>"
    else:
        written = address
    return written


def to_header(name: str | None, address: str) -> str:
    """The recipient as To carries it. Errors: `Unsendable` for a name that is not one line."""
    if not name:
        return address
    name = name.strip()
    if CONTROL.search(name):
        raise Unsendable("the recipient's name has a line break or a control character")
    return named_address(name, address)


def from_header(name: str, address: str) -> str:
    """The sender as From carries it: read back, it is this name and this one address.

    `email.message` is not asked: where it folds a long name it loses the quotes, and a comma makes two addresses.
    Errors: `ConfigurationError`.
    """
    written = named_address(name, address)
    parsed = message_from_bytes(f"From: {written}\r\n\r\n".encode(), policy=SMTP)["From"].addresses
    # Of a name of several encoded words, the library's newer parser keeps the spaces that RFC 2047 leaves out.
    read = str(make_header(decode_header(parseaddr(written.replace("\r\n", ""))[0])))
    if [each.addr_spec for each in parsed] != [address] or read != name:
        raise ConfigurationError(setting="sender_address", reason="From would not read back as it is written")
    return written
