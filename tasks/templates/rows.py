"""Row by row: one message rendered by Jinja itself, in its sandbox."""

import re
from collections.abc import Iterator, Mapping
from html import unescape
from types import SimpleNamespace
from typing import Any

from jinja2 import Template, Undefined
from jinja2.exceptions import SecurityError, UndefinedError

from tasks.templates.environment import Rejected
from tasks.templates.escaping import UnsafeValue
from tasks.templates.fields import Path, Row, known_length, python_value
from tasks.templates.filters import EXPECTED

LARGEST_PART = 5_000_000
"""Bytes of a part of a message."""


OBJECT = re.compile(
    r"(?:<|&lt;)(?:(?:built-in|bound|function|class|module|generator|Macro|cyfunction)\s|Undefined|[\w.]+ object)"
    r"|\{(?:'|&#39;)[^'&{}<>]{1,40}(?:'|&#39;): "
)
"""How Python writes methods, functions, other objects and mappings."""

STATEMENTS = re.compile(r"\{[{%#].*?[}%#]\}", re.DOTALL)


NO_VALUE = "no value for "


def too_large(part: str) -> str:
    """Reason of a reject."""
    return f"the {part} has more than {LARGEST_PART} bytes"


def rendered(template: Template, context: Mapping[str, Any], part: str) -> tuple[str | None, str | None]:
    """One part of a message, or the reason to reject the profile. Errors: `MemoryError`."""
    pieces: list[str] = []
    size = 0
    try:
        for piece in template.generate(context):
            pieces.append(piece)
            size += len(piece.encode())
            if size > LARGEST_PART:
                return None, too_large(part)
    except (*EXPECTED, RecursionError) as error:
        return None, _reason(error, context)
    text = "".join(pieces)
    found = OBJECT.search(text)
    if found and not any(unescape(found[0]) in unescape(known) for known in known_texts(template, context)):
        return None, f"the {part} shows an object of Python's instead of a value: {unescape(found[0])}"
    return text, None


def known_texts(template: Template, context: Mapping[str, Any]) -> Iterator[str]:
    """Texts of the template's author, and of the profile."""
    for source in template.environment.sources.values():  # type: ignore[attr-defined]
        yield STATEMENTS.sub("", source)
    yield from _texts_of(context)


def _texts_of(context: Mapping[str, Any]) -> Iterator[str]:
    waiting: list[object] = list(context.values())
    while waiting:
        match waiting.pop():
            case str() as text:
                yield text
            case list() as several:
                waiting.extend(several)
            case SimpleNamespace() | Row() as named:
                waiting.extend(vars(named).values())


def _reason(error: Exception, context: Mapping[str, Any]) -> str:
    match error:
        case UndefinedError():
            said = _said(error)
            return said if said.startswith(NO_VALUE) else _without_values(said, context)
        case SecurityError():
            return f"the template does what is not allowed: {_without_values(str(error), context)}"
        case UnsafeValue() | Rejected():
            return str(error)
        case UnicodeEncodeError():
            return "the template prints half a character"
        case _:
            return f"the template fails on the values: {_without_values(str(error), context)}"


def _without_values(text: str, context: Mapping[str, Any]) -> str:
    """A reason is seen in artifacts; what the profile has is not."""
    found = sorted({value for value in _texts_of(context) if value.strip()}, key=len, reverse=True)
    for value in found:
        for written in (value, repr(value)[1:-1]):
            text = text.replace(written, "…") if len(written) > 1 else text
    return text


def undefined_reason(value: Undefined) -> str:
    """The reason to reject a profile when this value is used."""
    try:
        str(value)
    except UndefinedError as error:
        return _said(error)
    raise TypeError(value)


def _said(error: UndefinedError) -> str:
    text = str(error)
    name = text.split("'")[1] if text.count("'") == 2 and text.endswith("is undefined") else None
    return f"{NO_VALUE}{name}" if name else text


def context_of(
    row: Mapping[str, Any], constants: Mapping[Path, object], used: Mapping[Path, Path]
) -> dict[str, Any]:
    """The names that a template may use, with one profile's values."""
    context: dict[str, Any] = {}
    for path, full in used.items():
        name = ".".join(full)
        value = constants[full] if full in constants else row[name]
        *spaces, last = path[: known_length(path, full)]
        space = context
        for step in spaces:
            space = vars(space.setdefault(step, SimpleNamespace()))
        space[last] = python_value(value, name)
    return context
