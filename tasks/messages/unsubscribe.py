"""Signed links by which a receiver unsubscribes: nobody else can make one, and no account is needed to use one.

A link is the page's address with the campaign `c`, the profile `p` and the signature `s`: HMAC-SHA256 of the
two under the sender's secret. The page that receives it (a POST for one click, RFC 8058) reads it by
`who_unsubscribes`.
"""

import hashlib
import hmac
from typing import NamedTuple
from urllib.parse import parse_qs, quote, urlsplit

PURPOSE = "unsubscribe"


class Unsubscriber(NamedTuple):
    """Who wants no more, and what was sent when they said so."""

    campaign: str
    profile_id: str


def unsubscribe_link(page: str, secret: bytes, who: Unsubscriber) -> str:
    """The address that unsubscribes one profile."""
    joint = "&" if "?" in page else "?"
    query = f"c={quote(who.campaign, safe='')}&p={quote(who.profile_id, safe='')}"
    return f"{page}{joint}{query}&s={_signature(secret, who)}"


def who_unsubscribes(link: str, secret: bytes) -> Unsubscriber | None:
    """Whom a link unsubscribes; None for a link that the holder of the secret did not make."""
    fields = parse_qs(urlsplit(link).query, keep_blank_values=True)
    if any(len(fields.get(name, ())) != 1 for name in "cps"):
        return None
    who = Unsubscriber(fields["c"][0], fields["p"][0])
    given = fields["s"][0].encode()
    return who if hmac.compare_digest(given, _signature(secret, who).encode()) else None


def _signature(secret: bytes, who: Unsubscriber) -> str:
    said = "\x1f".join((PURPOSE, *who)).encode()
    return hmac.digest(secret, said, hashlib.sha256).hex()[:40]
