"""Mail addresses: which are valid, which are the same, and how a mail server takes them. One rule for all channels.

An address comes as people and files give it: with spaces around it, also those that do not break, with a byte
order mark, in capital letters, with an international domain.
"""

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

import idna
import polars as pl

LONGEST_ADDRESS = 254
LONGEST_LOCAL_PART = 64

ASCII_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+")
LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\u00a1-\U0010ffff-]+")
LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
DOMAIN = re.compile(rf"{LABEL}(?:\.{LABEL})*")
PLAIN_ADDRESS = rf"^[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@{LABEL}(?:\.{LABEL})*$"
"""What most addresses are. For any tool with regular expressions: which others are addresses, only code can say."""
PLAIN = re.compile(PLAIN_ADDRESS)
PLAIN_LENGTH = 64
"""Shorter ones break no bound on an address, its local part or its domain."""
AROUND = (
    " \t\r\n\v\f\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f"
    "\u205f\u3000\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
)
"""What may stand around an address without being of it: Unicode's spaces, and marks that are not seen."""


class Unsendable(ValueError):
    """A message that cannot be; says why, as the reason of a reject."""


class Recipient(NamedTuple):
    """An address as a mail server takes it."""

    address: str
    needs_utf8: bool
    """Whether only a server that knows SMTPUTF8 can take it: its local part is not ASCII."""


def checked_recipient(address: str) -> Recipient:
    """The address as a server takes it: an international domain in its ASCII form. Errors: `Unsendable`."""
    if len(address) < PLAIN_LENGTH and PLAIN.fullmatch(address):
        return Recipient(address, needs_utf8=False)
    address = address.strip(AROUND)
    local, _, domain = address.rpartition("@")
    ascii_domain = _ascii_domain(domain)
    if not _is_local_part(local) or not ascii_domain or len(address) > LONGEST_ADDRESS:
        raise Unsendable("the address is not valid")
    return Recipient(f"{local}@{ascii_domain}", needs_utf8=not local.isascii())


def normalized_address(address: str) -> str:
    """What is the same for all spellings of one address, over any channel.

    Capital letters count as small ones, before the @ too: no mail server is known to distinguish them.
    """
    bare = unicodedata.normalize("NFC", address.strip(AROUND)).lower()
    local, at, domain = bare.rpartition("@")
    return f"{local}@{_ascii_domain(domain) or domain}" if at else bare


def normalized_addresses(addresses: pl.Series) -> pl.Series:
    """`normalized_address` of each; only those that are not ASCII are looked at one by one."""
    bare = addresses.str.strip_chars(AROUND)
    plain = bare.str.len_bytes() == bare.str.len_chars()
    return (
        pl.DataFrame({"bare": bare, "plain": plain.fill_null(value=True)})
        .select(
            pl.when("plain")
            .then(pl.col("bare").str.to_lowercase())
            .otherwise(pl.col("bare").map_elements(normalized_address, return_dtype=pl.String()))
            .alias(addresses.name)
        )
        .to_series()
    )


def is_plain_address(text: pl.Expr) -> pl.Expr:
    """Whether each text is what most addresses are, which a server takes as it is."""
    return text.str.contains(PLAIN_ADDRESS) & (text.str.len_bytes() < PLAIN_LENGTH)


def are_no_addresses(texts: pl.Series) -> pl.Series:
    """Whether each text is no address; only those that are not plainly one are looked at one by one."""
    plain = is_plain_address(pl.col("address")).fill_null(value=True)
    return (
        texts.alias("address")
        .to_frame()
        .with_columns(plain=plain)
        .select(
            pl.when("plain")
            .then(pl.lit(value=False))
            .otherwise(pl.col("address").map_elements(_is_no_address, return_dtype=pl.Boolean()))
        )
        .to_series()
    )


def _is_no_address(text: str) -> bool:
    try:
        checked_recipient(text)
    except Unsendable:
        return True
    return False


def _is_local_part(local: str) -> bool:
    if ".." in f".{local}.":  # a dot at an end, or two together
        return False
    if local.isascii():
        return ASCII_LOCAL_PART.fullmatch(local) is not None and len(local) <= LONGEST_LOCAL_PART
    return (
        LOCAL_PART.fullmatch(local) is not None
        and local.isprintable()
        and len(local.encode()) <= LONGEST_LOCAL_PART
    )


@lru_cache(maxsize=10_000)
def _ascii_domain(domain: str) -> str:
    """The domain as DNS knows it; empty where it is none."""
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode()
        except idna.IDNAError:
            return ""
    return domain if DOMAIN.fullmatch(domain) and len(domain) < LONGEST_ADDRESS else ""
