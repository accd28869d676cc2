"""Placeholders in what is sent: `${row.zip_code}` in an address, a query or a body stands for a value.

| placeholder | value |
|---|---|
| `${rows}` | the inbound rows, an array of objects with the sent keys |
| `${rows.zipCode}` | one key's values, an array; in a query one parameter each |
| `${rows.zipCode:,}` | the same as one text, with what follows the colon between them |
| `${row.zipCode}` | the value of the only row (a call for each key has one) |
| `${count}` | the number of inbound rows |
| `${params}`, `${params.state}` | the parameters, or one of them |
| `${since}` | where the last good answer ended, of an incremental endpoint |
| `${page}`, `${page.cursor}` | the page's parameters, or one of them; null where the page has none |

A text that is nothing but a placeholder becomes the value itself, of its JSON type; within a longer text the value
is written as text. `$${` is a plain `${`.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import JsonValue

from tasks.errors import RequestBodyInvalid

PLACEHOLDER = re.compile(r"\$\$\{|\$\{([^{}:]*)(?::([^{}]*))?\}")
WHOLE = {"rows", "count", "params", "page", "since"}
DOTTED = {"rows", "row", "params", "page"}

Value = Callable[[str], Any]
"""The value of a placeholder's name."""


def names_in(template: JsonValue) -> Iterator[str]:
    """The names of a template's placeholders."""
    if isinstance(template, str):
        yield from (found[1] for found in PLACEHOLDER.finditer(template) if found[1] is not None)
    elif isinstance(template, list):
        for inner in template:
            yield from names_in(inner)
    elif isinstance(template, dict):
        for name, inner in template.items():
            yield from names_in(name)
            yield from names_in(inner)


def check_names(template: JsonValue, sent: set[str]) -> None:
    """Check that every placeholder stands for something; `sent` are the keys of the inbound columns.

    Errors: `ValueError`.
    """
    for name in names_in(template):
        head, dot, key = name.partition(".")
        known = (head in DOTTED and key) if dot else name in WHOLE
        if not known:
            raise ValueError(
                f"the placeholder ${{{name}}} stands for nothing; known are rows, row.<key>, count, params,"
                " page and since"
            )
        if head in {"rows", "row"} and dot and key not in sent:
            raise ValueError(f"the placeholder ${{{name}}} needs an inbound column that is sent as '{key}'")


def filled(template: Any, value: Value, text: Callable[[Any], str]) -> Any:  # noqa: ANN401
    """The template with its values; `text` writes a value within a longer text. Errors: `RequestBodyInvalid`."""
    if isinstance(template, str):
        return _filled_text(template, value, text)
    if isinstance(template, list):
        return [filled(inner, value, text) for inner in template]
    if isinstance(template, dict):
        return {_filled_text(name, value, text): filled(inner, value, text) for name, inner in template.items()}
    return template


def _filled_text(template: str, value: Value, text: Callable[[Any], str]) -> Any:  # noqa: ANN401
    whole = PLACEHOLDER.fullmatch(template)
    if whole is not None and whole[1] is not None and whole[2] is None:
        return value(whole[1])

    def replaced(found: re.Match[str]) -> str:
        if found[1] is None:
            return "${"
        inner = value(found[1])
        if found[2] is not None:
            if not isinstance(inner, list):
                raise RequestBodyInvalid(part="placeholder", reason=f"${{{found[1]}}} is no array to be joined")
            return found[2].join(text(each) for each in inner)
        return text(inner)

    return PLACEHOLDER.sub(replaced, template)
