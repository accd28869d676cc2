"""What a partner says about an error: one line of its body, bounded and masked.

Read are problem details (RFC 9457), OAuth's errors, and the names that APIs use for a message. A body that is none
of these is shown by its first words.
"""

import re
from collections.abc import Iterable
from html import unescape
from typing import Any

import orjson
from pydantic import SecretStr

from tasks.privacy import masked

LONGEST_BODY = 64 * 1024
"""Bytes of an error's body that are read."""
LONGEST = 300
"""Characters that are shown."""
NAMES = (
    "error_description",
    "detail",
    "message",
    "title",
    "error_message",
    "errorMessage",
    "reason",
    "description",
    "msg",
    "faultstring",
)
CONTAINERS = ("error", "errors", "fault", "data", "status")
CODES = ("code", "error", "errorCode", "error_code", "type")
MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)


def partner_words(body: bytes, secrets: Iterable[SecretStr] = ()) -> str:
    """The partner's reason as one line; an empty text where it gives none. What was sent as a secret is masked."""
    text = body[:LONGEST_BODY].decode("utf-8", "replace").strip()
    try:
        words = _message(orjson.loads(text))
    except orjson.JSONDecodeError:
        words = unescape(MARKUP.sub(" ", text)) if "<" in text else text
    return _shown(words, secrets)


def words_of(document: Any) -> str:  # noqa: ANN401
    """The reason in a part of an answer, as one masked line."""
    return _shown(_message(document) or "(no message)")


def _shown(words: str, secrets: Iterable[SecretStr] = ()) -> str:
    words = masked(words, secrets)
    words = " ".join("".join(each if each.isprintable() else " " for each in words).split())
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}…"


def _message(value: Any, depth: int = 0) -> str:  # noqa: ANN401
    """The message in a document, with its code before it where there is one."""
    if isinstance(value, str):
        return value
    if depth > 5:
        return ""
    if isinstance(value, list):
        return "; ".join(filter(None, (_message(each, depth + 1) for each in value[:3])))
    if not isinstance(value, dict):
        return ""
    said = next((value[name] for name in NAMES if isinstance(value.get(name), str) and value[name]), "")
    inner = "" if said else next(filter(None, (_message(value.get(name), depth + 1) for name in CONTAINERS)), "")
    code = next((value[name] for name in CODES if isinstance(value.get(name), str | int) and value[name]), "")
    said = said or inner
    more = _message(value.get("errors"), depth + 1) if said and not inner and value.get("errors") else ""
    parts = [str(code)] if code and str(code) not in said and str(code) != "about:blank" else []
    return ": ".join([*parts, *filter(None, [said])]) + (f" ({more})" if more and more != said else "")
