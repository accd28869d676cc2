"""How long an answer may be used again by the partner's word (RFC 9111, a private cache): rules without I/O."""

import re
from collections.abc import Iterable, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

DIRECTIVE = re.compile(r'([\w!#$%&\'*+.^`|~-]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]*)))?')
LONGEST = 366 * 24 * 3600.0


@dataclass(frozen=True)
class Freshness:
    """What the header of an answer says about caching it."""

    is_kept: bool = True
    """False: it is for this use alone (no-store)."""
    seconds: float | None = None
    """How long it may be used without a question; None: the partner says nothing."""
    must_revalidate: bool = False
    """Whether it may not be used later than that, not even where the partner fails."""
    etag: str = ""
    last_modified: str = ""

    @property
    def conditions(self) -> dict[str, str]:
        """Headers that ask whether it is still right (RFC 9110, 13); none where the partner gave nothing for it."""
        conditions = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {
            name: value for name, value in conditions.items() if value.isascii() and value.isprintable() and value
        }


def freshness_of(
    headers: httpx.Headers, now: datetime, took_seconds: float = 0.0, unkeyed: Set[str] = frozenset()
) -> Freshness:
    """The freshness of an answer that came `now`, `took_seconds` after it was asked for.

    `unkeyed` are names (in lower case) of request headers that are sent and not in the key of what is kept: an
    answer that varies by them fits no other request.
    """
    directives = _directives(headers.get_list("Cache-Control"))
    vary = {name.strip().lower() for field in headers.get_list("Vary") for name in field.split(",")}
    if vary & {"*", *unkeyed}:
        return Freshness(is_kept="no-store" not in directives, seconds=0.0, must_revalidate=True)
    lifetime = 0.0 if "no-cache" in directives else _lifetime(directives, headers, now)
    return Freshness(
        is_kept="no-store" not in directives,
        seconds=None if lifetime is None else max(lifetime - _age(headers, now, took_seconds), 0.0),
        must_revalidate=bool({"must-revalidate", "no-cache"} & directives.keys()),
        etag=headers.get("ETag", ""),
        last_modified=headers.get("Last-Modified", ""),
    )


def freshness_of_all(pages: Iterable[Freshness]) -> Freshness:
    """The freshness of an answer of several pages: that of the page that ends first; nothing revalidates it."""
    pages = list(pages)
    if len(pages) == 1:
        return pages[0]
    said = [page.seconds for page in pages if page.seconds is not None]
    return Freshness(
        is_kept=all(page.is_kept for page in pages),
        seconds=min(said) if said else None,
        must_revalidate=any(page.must_revalidate for page in pages),
    )


def revalidated(before: Freshness, now: Freshness) -> Freshness:
    """The freshness after a 304: the new one, with the validators of before where it gives none."""
    return replace(now, etag=now.etag or before.etag, last_modified=now.last_modified or before.last_modified)


def _directives(fields: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for field in fields:
        for name, quoted, plain in DIRECTIVE.findall(field):
            found.setdefault(name.lower(), []).append(quoted or plain)
    return found


def _lifetime(directives: dict[str, list[str]], headers: httpx.Headers, now: datetime) -> float | None:
    if "max-age" in directives:
        # What says two things, or no number, is taken for stale (RFC 9111, 4.2.1).
        return min(_seconds(value) for value in directives["max-age"])
    if "Expires" in headers:
        expires = _moment(headers["Expires"])
        if expires is None:
            return 0.0  # "0", say: it has ended
        return min((expires - (_moment(headers.get("Date", "")) or now)).total_seconds(), LONGEST)
    return None


def _age(headers: httpx.Headers, now: datetime, took_seconds: float) -> float:
    """How old the answer is (RFC 9111, 4.2.3)."""
    said = headers.get("Age", "").partition(",")[0].strip()
    sent = _moment(headers.get("Date", ""))
    apparent = 0.0 if sent is None else (now - sent).total_seconds()
    return max(apparent, (_seconds(said) if said else 0.0) + took_seconds, 0.0)


def _seconds(text: str) -> float:
    return min(float(text), LONGEST) if text.isascii() and text.isdecimal() else 0.0


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC)
