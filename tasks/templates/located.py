"""Where the markup of templates stands in their files: texts, tags and attributes by their offsets.

What Jinja reads is taken out first, character for character, so that HTML5's tokenizer reads the rest and every
offset is one of the file. Only what an edit names is rewritten in a template.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from html5lib._tokenizer import HTMLTokenizer
from html5lib.constants import tokenTypes
from jinja2 import nodes
from jinja2.lexer import Token, TokenStream
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tasks.templates.html import RAW, OutOfText, Text

STATEMENT, VALUE = "\ue000", "\ue001"
"""What stands in place of Jinja's pieces: of those that only choose what is shown, and of all others."""
CHOOSING = re.compile(r"\{%[-+]?\s*(?:if|elif|else|endif)\b")
ATTRIBUTE = re.compile(r"""[\s/]*(?P<name>=?[^\s/>=]+)(?:\s*=\s*(?P<value>"[^"]*"|'[^']*'|[^\s>"'][^\s>]*))?""")
OUTLOOK = re.compile(r"<!--\[if[^\]]*\]>((?:(?!--!?>).)*?)<!\[endif\]-->", re.DOTALL)
"""A conditional comment that all others take for one comment; they do not with `<!--[if !mso]><!-- -->`."""
BEGINNING = frozenset(
    {"tagOpenState", "rawtextLessThanSignState", "rcdataLessThanSignState", "scriptDataLessThanSignState"}
)


class Placed(str):
    """A text of a template that knows where it begins in its file."""

    __slots__ = ("start",)
    start: int


@dataclass(frozen=True)
class Attribute:
    """An attribute of a tag."""

    name: str
    value: str
    """As it is written, without its quotes; Jinja's pieces are `STATEMENT` and `VALUE`."""
    start: int
    end: int
    value_start: int
    quote: str
    chosen: bool
    """Whether a Jinja statement decides on it."""

    @property
    def is_fixed(self) -> bool:
        """Whether it is the same in every message."""
        return not self.chosen and not has_piece(self.value)


@dataclass(frozen=True)
class Tag:
    """A start or end tag."""

    file: str
    name: str
    start: int
    end: int
    line: int
    closing: bool
    attributes: tuple[Attribute, ...] = ()
    torn: bool = False
    """Whether it begins and ends in different branches, or has attributes that are not known."""

    @property
    def where(self) -> str:
        """File and line."""
        return f"{self.file}, line {self.line}"

    def get(self, name: str) -> Attribute | None:
        """The attribute that a browser takes."""
        return next((each for each in self.attributes if each.name == name), None)


class LocatingEnvironment(ImmutableSandboxedEnvironment):
    """Parses templates so that each of their texts is a `Placed`."""

    def __init__(self) -> None:
        super().__init__(extensions=["jinja2.ext.i18n"])
        self.newstyle_gettext = True  # of the extension

    def _tokenize(
        self, source: str, name: str | None, filename: str | None = None, state: str | None = None
    ) -> TokenStream:
        stream = super()._tokenize(source, name, filename, state)
        starts = (start for start, kind, _ in self.pieces(source) if kind == "data")
        return TokenStream((_placed(token, starts) for token in stream), name, filename)

    def pieces(self, source: str) -> Iterator[tuple[int, str, str]]:
        """Jinja's tokens: where each begins, its kind, and its text."""
        at = 0
        for _, kind, text in self.lexer.tokeniter(source, None):
            at = source.index(text, at)
            yield at, kind, text
            at += len(text)


def _placed(token: Token, starts: Iterator[int]) -> Token:
    if token.type != "data":
        return token
    text = Placed(token.value)
    text.start = next(starts)
    return Token(token.lineno, token.type, text)


ENVIRONMENT = LocatingEnvironment()


class File:
    """A template's file. Its newlines are those that Jinja makes of them."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = re.sub(r"\r\n|\r", "\n", source)
        self.tree = ENVIRONMENT.parse(self.source, name)
        self._bodies = sorted(_bodies(self.tree))
        self._lines = [match.start() for match in re.finditer("\n", self.source)]

    def line(self, offset: int) -> int:
        """Number of the line."""
        return bisect_left(self._lines, offset) + 1

    def body(self, offset: int) -> int:
        """Which body of which statement the text stands in; -1 for what is no text."""
        place = bisect_left(self._bodies, (offset + 1,)) - 1
        _, end, body = self._bodies[place] if place >= 0 else (0, 0, -1)
        return body if offset < end else -1

    @cached_property
    def masked(self) -> str:
        """The text with Jinja's pieces taken out, character for character."""
        made = list(self.source)
        begin, of_kind = 0, ""
        for start, kind, text in ENVIRONMENT.pieces(self.source):
            whole = kind in {"raw_begin", "raw_end"}
            if whole or kind.endswith("_begin"):
                begin, of_kind = start, kind
            if whole or kind.endswith("_end"):
                end = start + len(text.rstrip())
                made[begin:end] = self._mask(begin, end, of_kind)
        return "".join(made)

    def _mask(self, begin: int, end: int, kind: str) -> str:
        if kind in {"comment_begin", "raw_begin", "raw_end"} and (begin == 0 or self.source[begin - 1] in " \n\t>"):
            return " " * (end - begin)
        return (STATEMENT if CHOOSING.match(self.source, begin) else VALUE) * (end - begin)

    @cached_property
    def tags(self) -> list[Tag]:
        """Every tag that a browser would read, in order."""
        return [self._tag(*found) for found in _Scanner(self.masked).found()]

    @cached_property
    def outlook_tags(self) -> list[Tag]:
        """Tags that only Outlook reads: those of conditional comments."""
        return [
            self._tag(comment.start(1) + start, comment.start(1) + end, token)
            for comment in OUTLOOK.finditer(self.masked)
            for start, end, token in _Scanner(comment[1]).found()
        ]

    def tags_from(self, start: int, end: int) -> list[Tag]:
        """Those that begin in a piece of the text."""
        return _between(self.tags, start, end)

    def outlook_tags_from(self, start: int, end: int) -> list[Tag]:
        """Those of conditional comments."""
        return _between(self.outlook_tags, start, end)

    def _tag(self, start: int, end: int, token: Mapping[str, Any]) -> Tag:
        closing = token["type"] == tokenTypes["EndTag"]
        name = str(token["name"]).lower()
        body = self.body(start)
        inner = start + 1 + closing + len(token["name"])
        found = list(self._attributes(inner, end - 1, body))
        read = {str(each).lower().strip(STATEMENT) for each, _ in token["data"]} - {""}
        known = {attribute.name for attribute in found}
        torn = body != self.body(end - 1) or read != known or any(has_piece(each) for each in (name, *known))
        return Tag(self.name, name, start, end, self.line(start), closing, tuple(found), torn)

    def _attributes(self, start: int, end: int, body: int) -> Iterator[Attribute]:
        for match in ATTRIBUTE.finditer(self.masked, start, end):
            name = match["name"].lower().strip(STATEMENT)
            if not name:
                continue
            value = match["value"] or ""
            quote = value[:1] if value[:1] in {'"', "'"} else ""
            value_start = match.start("value") + len(quote) if match["value"] is not None else match.end()
            begin = match.start("name")
            yield Attribute(
                name,
                value[1:-1] if quote else value,
                begin,
                match.end(),
                value_start,
                quote,
                chosen=STATEMENT in match["name"] or self.body(begin) != body,
            )


def _between(tags: list[Tag], start: int, end: int) -> list[Tag]:
    first = bisect_left(tags, start, key=lambda tag: tag.start)
    return tags[first : bisect_left(tags, end, key=lambda tag: tag.start)]


def has_piece(text: str) -> bool:
    """Whether a piece of Jinja's stands in it."""
    return STATEMENT in text or VALUE in text


def _bodies(tree: nodes.Template) -> Iterator[tuple[int, int, int]]:
    """Each text: start, end, and a number of the body that it stands in."""
    waiting: list[list[nodes.Node]] = [tree.body]
    number = 0
    while waiting:
        body = waiting.pop()
        number += 1
        for node in body:
            if isinstance(node, nodes.Output):
                texts = (child.data for child in node.nodes if isinstance(child, nodes.TemplateData))
                yield from (
                    (text.start, text.start + len(text), number) for text in texts if isinstance(text, Placed)
                )
            waiting += [
                getattr(node, name) for name in ("body", "else_") if isinstance(getattr(node, name, 0), list)
            ]
            waiting += [other.body for other in getattr(node, "elif_", ())]


class _Scanner(HTMLTokenizer):  # type: ignore[misc]  # html5lib has no types
    """The tokenizer, which notes where tags begin and end."""

    def __init__(self, text: str) -> None:
        self.stream = Text(text)
        self.parser = None
        self.tokenQueue: list[Any] = []
        self.temporaryBuffer = ""
        self.currentToken: Any = None
        self.state = self.dataState
        self._begun = 0
        self._tags: list[tuple[int, int, Mapping[str, Any]]] = []

    def found(self) -> list[tuple[int, int, Mapping[str, Any]]]:
        """Start, end and token of each tag."""
        while self.stream.at < len(self.stream.text):
            try:
                self.state()
            except OutOfText:
                break
            if self.state.__name__ in BEGINNING:
                self._begun = self.stream.at - 1
            self.tokenQueue.clear()
        return self._tags

    def emitCurrentToken(self) -> None:  # noqa: N802  # html5lib's name
        token = self.currentToken
        self._tags.append((self._begun, self.stream.at, {**token, "data": list(token["data"])}))
        super().emitCurrentToken()
        if token["type"] == tokenTypes["StartTag"] and token["name"] in RAW:
            self.temporaryBuffer = ""
            self.state = getattr(self, f"{RAW[token['name']]}State")


@dataclass(frozen=True)
class Edit:
    """A piece of a file's text that is replaced."""

    file: str
    start: int
    end: int
    text: str


def edited(files: Mapping[str, File], edits: Iterable[Edit]) -> dict[str, str]:
    """The text of each file that changes."""
    made: dict[str, str] = {}
    for edit in sorted(edits, key=lambda each: (each.start, each.end), reverse=True):
        before = made.get(edit.file, files[edit.file].source)
        made[edit.file] = before[: edit.start] + edit.text + before[edit.end :]
    return made
