"""The `Link` header of RFC 8288: addresses with their relations."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

TARGET = re.compile(r"[\s,]*<([^>]*)>")
PARAMETER = re.compile(r'\s*;\s*([^\s=;,"]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?')
REST = re.compile(r"[^,]*")


@dataclass(frozen=True)
class Link:
    """One link: the address as it is written (it may be relative), and its relations in lower case."""

    target: str
    relations: frozenset[str]


def links_in(fields: Iterable[str]) -> list[Link]:
    """The links of some `Link` header fields, in order. A field that breaks the grammar ends where it breaks it.

    Links of another context (`anchor`) are left out: they are not about this answer.
    """
    return [link for text in fields for link in _links(text)]


def _links(text: str) -> Iterator[Link]:
    at = 0
    while found := TARGET.match(text, at):
        target, at = found[1].strip(), found.end()
        parameters: dict[str, str] = {}
        while given := PARAMETER.match(text, at):
            value = re.sub(r"\\(.)", r"\1", given[2]) if given[2] is not None else given[3] or ""
            parameters.setdefault(given[1].lower(), value)  # of a parameter that comes twice, the first counts
            at = given.end()
        if "anchor" not in parameters:
            yield Link(target, frozenset(parameters.get("rel", "").lower().split()))
        rest = REST.match(text, at)
        at = rest.end() if rest else len(text)
