"""Signed links by which a receiver unsubscribes: nobody else can make one, and no account is needed to use one.

A link is the page's address with the campaign `c`, the business date `d`, the profile `p` and the signature `s`:
HMAC-SHA256 of the three under the sender's secret. The page that receives it (a POST for one click, RFC 8058)
reads it by `who_unsubscribes`.
"""

import hashlib
import hmac
from typing import NamedTuple
from urllib.parse import parse_qs, quote, urlsplit

import polars as pl

from tasks.send import Send
from tasks.settings import UnsubscribeSettings

PURPOSE = "unsubscribe"
FIELDS = "cdps"
LONGEST_LINK = 4_000


class Unsubscriber(NamedTuple):
    """Who wants no more, and what was sent when they said so."""

    campaign: str
    business_date: str
    profile_id: str


def unsubscribe_link(settings: UnsubscribeSettings, send: Send, profile_id: str) -> str:
    """The address that unsubscribes one profile; empty where there is no page."""
    if not settings.url:
        return ""
    who = Unsubscriber(send.campaign, send.business_date.isoformat(), profile_id)
    signature = _signature(settings.secret.get_secret_value().encode(), who)
    values = zip(FIELDS, (*who, signature), strict=True)
    joint = "&" if "?" in settings.url else "?"
    return settings.url + joint + "&".join(f"{name}={quote(value, safe='')}" for name, value in values)


def unsubscribe_links(key: pl.Expr, send: Send, settings: UnsubscribeSettings) -> pl.Expr:
    """The link of each profile, by its key as a text; null where there is no page."""
    if not settings.url:
        return pl.lit(None, pl.String())

    def link(profile_id: str) -> str:
        return unsubscribe_link(settings, send, profile_id)

    return key.map_elements(link, return_dtype=pl.String())


def who_unsubscribes(link: str, secret: bytes) -> Unsubscriber | None:
    """Whom a link unsubscribes; None for a link that the holder of the secret did not make."""
    try:
        fields = parse_qs(urlsplit(link[:LONGEST_LINK]).query, keep_blank_values=True, max_num_fields=20)
    except ValueError:
        return None
    if any(len(fields.get(name, ())) != 1 for name in FIELDS):
        return None
    *named, given = (fields[name][0] for name in FIELDS)
    who = Unsubscriber(*named)
    return who if hmac.compare_digest(given.encode(), _signature(secret, who).encode()) else None


def _signature(secret: bytes, who: Unsubscriber) -> str:
    said = "\x1f".join((PURPOSE, *who)).encode()
    return hmac.digest(secret, said, hashlib.sha256).hex()[:40]
