"""Guards of values in HTML: what a value may be in an address, a style or an attribute, one value at a time.

Which guard stands where is decided by `tasks.templates.guard`. Escaping itself is Jinja's.
"""

import html
import json
import re
from collections.abc import Callable
from datetime import date, time
from decimal import Decimal

from jinja2 import TemplateRuntimeError, Undefined
from markupsafe import Markup

from tasks.templates.fields import Row, printed

ADDRESS, ONE, STYLE, QUOTED, UNQUOTED, OWN = "_address", "_one", "_style", "_quoted", "_unquoted", "_own"
"""Names of the filters that printed values are wrapped in."""

SCHEMES = ("https", "http", "mailto", "tel", "sms", "cid")
"""Schemes that an address may have into which a value is printed."""
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
AUTHORITY = re.compile(r"https?:[/\\]*([^/\\?#]*)", re.IGNORECASE)
"""Where a browser finds the host: it takes any number of slashes, and backslashes for slashes (WHATWG URL)."""
UNFINISHED_HOST = re.compile(r"https?:[/\\]*[^/?#\\]+", re.IGNORECASE)
REFRESH = re.compile(r"\s*[\d.]*\s*[;,]?\s*(?:url\s*=\s*)?[\"']?", re.IGNORECASE)
MARK = re.compile("\x02[^\x02]*\x02")
"""What says which branch printed, for the preview."""
PLAIN_STYLE = re.compile(r"[A-Za-z0-9 #%.,+()-]*")
STYLE_FUNCTION = re.compile(r"(?:url|expression|image|image-set|var|attr)\s*\(", re.IGNORECASE)
SEPARATOR = re.compile(r"[\x00-\x20,()'\"\\<>]")
QUOTES = {'"': "&#34;", "'": "&#39;", "<": "&lt;", ">": "&gt;"}
UNQUOTED_CHARACTERS = {
    "\t": "&#9;",
    "\n": "&#10;",
    "\x0c": "&#12;",
    "\r": "&#13;",
    " ": "&#32;",
    "=": "&#61;",
    "`": "&#96;",
}


class UnsafeValue(TemplateRuntimeError):
    """A value that its place in the HTML does not allow."""


def text_shown(value: object) -> str:
    """What a reader sees of a value; one that is missing says so."""
    if isinstance(value, Undefined):
        return str(value)
    return html.unescape(str(value)) if isinstance(value, Markup) else str(printed(value))


def guarded_address(
    value: object, attribute: str, region: str = "address", prefix: str = "", suffix: str = ""
) -> object:
    """The whole address as it was rendered, if a reader's program may follow it."""
    fault = address_fault(str(value), attribute, region, prefix, suffix)
    if fault:
        raise UnsafeValue(fault)
    return value


def address_fault(
    rendered: str, attribute: str, region: str = "address", prefix: str = "", suffix: str = ""
) -> str | None:
    """What is wrong with the markup of an address: it has another scheme than `SCHEMES`, or another host.

    `region` is "address", "list" (of srcset), "refresh" (of a meta) or "style"; `prefix` is the template's own text
    before the first value, `suffix` the end of the host after it.
    """
    shown = html.unescape(MARK.sub("", rendered))
    if region == "list":
        parts = re.split(r"[\s,]+", shown)
    elif region == "refresh":
        parts = [shown[REFRESH.match(shown).end() :]]  # type: ignore[union-attr]  # it matches the empty text
    else:
        parts = [shown.strip(" \t\n\r\f\"'") if region == "style" else shown]
    if any(not _is_allowed(part) for part in parts):
        return f"the address in '{attribute}' does not begin with one of {', '.join(SCHEMES)}"
    if region == "address" and has_own_host(prefix, suffix):
        own, read = _as_read(html.unescape(prefix)), _as_read(shown)
        ends = AUTHORITY.match(read)
        if suffix and not (ends and ends[1].lower().endswith(html.unescape(suffix).strip().lower())):
            return another_host(attribute)
        if not suffix and _goes_on_with_another_host(read, own):
            return another_host(attribute)
    return None


def has_own_host(prefix: str, suffix: str) -> bool:
    """Whether the template has a part of the host that a value must not change."""
    return bool(suffix) or UNFINISHED_HOST.fullmatch(_as_read(html.unescape(prefix))) is not None


def another_host(attribute: str) -> str:
    """Reason of a reject."""
    return f"the value in '{attribute}' changes the host of the address"


def _as_read(address: str) -> str:
    """An address without what a browser leaves out of it."""
    return re.sub(r"[\t\n\r]", "", address.strip("".join(map(chr, range(0x21)))))


def _is_allowed(address: str) -> bool:
    bare = _as_read(address)
    if re.search(r"[\x00-\x1f\x7f]", bare):
        return False
    scheme = SCHEME.match(bare)
    if scheme is None:
        # A mail has no address of its own, to which another could be relative; "//host" is one of a browser.
        return not re.match(r"[/\\]{2}", bare) and ":" not in re.split(r"[/?#]", bare, maxsplit=1)[0]
    if scheme[1].lower() not in SCHEMES:
        return False
    authority = AUTHORITY.match(bare)
    return authority is None or not re.search(r"[@\s\"'<>]", authority[1])


def _goes_on_with_another_host(address: str, own: str) -> bool:
    rest = address[len(own) :]
    return bool(rest) and re.match(r"[/\\?#]|:\d", rest) is None


def guarded_one(value: object, attribute: str) -> object:
    """The value, unless it would be more than part of one address."""
    if SEPARATOR.search(text_shown(value)):
        raise UnsafeValue(more_than_one(attribute))
    return value


def more_than_one(attribute: str) -> str:
    """Reason of a reject."""
    return f"the value in '{attribute}' has a space, comma, quote or parenthesis, which ends the address there"


def guarded_style(value: object, attribute: str) -> object:
    """The value, unless it could be more than one plain value of a style."""
    text = text_shown(value)
    if not PLAIN_STYLE.fullmatch(text) or STYLE_FUNCTION.search(text):
        raise UnsafeValue(unsafe_style(attribute))
    return value


def unsafe_style(attribute: str) -> str:
    """Reason of a reject."""
    return f"the value in '{attribute}' is not a plain color, number, unit or word"


def quoted(value: object) -> object:
    """Markup whose quotes do not end the attribute; all else is escaped by Jinja."""
    if not isinstance(value, Markup):
        return value
    text = str(value)
    for character, entity in QUOTES.items():
        text = text.replace(character, entity)
    return Markup(text)  # noqa: S704  # escaped above


def unquoted(value: object) -> Markup:
    """The value escaped for an attribute without quotes."""
    escaped = str(Markup.escape(quoted(printed(value))))
    if not escaped:
        raise UnsafeValue(EMPTY_UNQUOTED)
    for character, entity in UNQUOTED_CHARACTERS.items():
        escaped = escaped.replace(character, entity)
    return Markup(escaped)  # noqa: S704  # escaped above


EMPTY_UNQUOTED = "an empty value stands in an attribute without quotes"


def own(value: object) -> Markup:
    """A constant text of the template's author, as it is."""
    return Markup(text_shown(value))  # noqa: S704  # no value of a profile or of content is in it


def dumped(value: object, **options: object) -> str:
    """`tojson`: dates as ISO 8601, decimals as text, rows as objects."""
    return json.dumps(value, default=_json_value, **options)  # type: ignore[arg-type]


def _json_value(value: object) -> object:
    match value:
        case Undefined():
            return str(value)  # says which value is missing
        case date() | time():
            return value.isoformat()
        case Decimal():
            return format(value, "f")
        case Row():
            return vars(value)
    raise TypeError(f"tojson cannot write a value of type {type(value).__name__}")


GUARDS: dict[str, Callable[..., object]] = {
    ADDRESS: guarded_address,
    ONE: guarded_one,
    STYLE: guarded_style,
    QUOTED: quoted,
    UNQUOTED: unquoted,
    OWN: own,
}
