"""Places in HTML: where a template's text has arrived, by the states of HTML5's own tokenizer.

The states are html5lib's. Between two pieces of text the tokenizer is kept as a `Place`, so that it can go on in
each branch of a template. Where a browser's tree decides how text is read (SVG's `<style>`), or where Outlook reads
what others take for a comment (`<!--[if mso]>`), both readings are followed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from html5lib._tokenizer import HTMLTokenizer
from html5lib.constants import tokenTypes

ADDRESS_ATTRIBUTES = frozenset(
    {
        "action", "archive", "attributionsrc", "background", "cite", "classid", "codebase",
        "data", "dynsrc", "formaction", "href", "icon", "longdesc", "lowsrc", "manifest", "ping", "poster",
        "profile", "src", "usemap", "xlink:href", "xml:base",
    }
)  # fmt: skip
ADDRESS_LISTS = frozenset({"srcset", "imagesrcset"})
ANIMATED = frozenset({"values", "to", "from", "by"})
"""Attributes that SVG's animations write into others."""
STYLES = frozenset(
    {"style", "fill", "stroke", "filter", "mask", "clip-path", "cursor", "marker", "marker-start", "marker-mid"}
)
KEPT = frozenset({"type", "http-equiv", "name", "property", "charset", "itemprop"})
"""Attributes whose values decide what others mean."""
RAW = {
    **dict.fromkeys(("style", "xmp", "iframe", "noembed", "noframes"), "rawtext"),
    **dict.fromkeys(("title", "textarea"), "rcdata"),
    "script": "scriptData",
    "plaintext": "plaintext",
}
"""Elements whose content is read in a state of its own."""
VALUE_STATES = {
    "attributeValueDoubleQuoted": '"',
    "attributeValueSingleQuoted": "'",
    "attributeValueUnQuoted": "",
}
PRINTED = "\ufffc"
"""Stands for a printed value in what is kept of an attribute."""


@dataclass(frozen=True)
class Place:
    """Where in the HTML a template's text has arrived."""

    state: str = "data"
    """Name of the tokenizer's state."""
    pending: str = ""
    """Text that the state has read in part: an entity, the beginning of a comment."""
    element: str = ""
    closing: bool = False
    attributes: tuple[tuple[str, str], ...] = ()
    """Those of `KEPT` that stand before."""
    attribute: str = ""
    value: str = ""
    """Of a kept attribute its value; of a style its last characters; of others "?" once a query has begun."""
    buffer: str = ""
    foreign: int = 0
    """How many of SVG and MathML are open."""

    @property
    def in_value(self) -> bool:
        """Whether it is in the value of an attribute."""
        return self.state in VALUE_STATES or self.state == "beforeAttributeValue"

    @property
    def in_comment(self) -> bool:
        """Whether a browser shows nothing of what stands here."""
        return self.state.startswith(("comment", "bogusComment"))

    @property
    def region(self) -> str:
        """What is checked as one address here: "address", "list", "refresh", "style", or nothing."""
        if self.state not in VALUE_STATES:
            return ""
        if self.attribute in ADDRESS_LISTS:
            return "list"
        if self.attribute in ADDRESS_ATTRIBUTES or (self.foreign and self.attribute in ANIMATED):
            return "address"
        if self.attribute in STYLES:
            return "style" if _in_url(self.value) else ""
        known = dict(self.attributes)
        if self.element == "meta" and self.attribute == "content":
            described = bool(known.keys() & {"name", "property", "charset", "itemprop"})
            meant = known.get("http-equiv", "" if described else "refresh")
            return "refresh" if meant.strip().lower() == "refresh" else ""
        return ""


Places = frozenset[Place]
TEXT: Places = frozenset({Place()})


@dataclass(frozen=True)
class Edge:
    """An offset in a text of the template at which what is checked as one address begins or ends."""

    offset: int
    region: str
    """What begins; "" if it ends."""
    attribute: str


def after(place: Place, text: str) -> tuple[Places, tuple[Edge, ...]]:
    """The places after a text of the template, and where addresses begin and end in it."""
    ends: set[Place] = set()
    edges: dict[Edge, None] = {}
    waiting = [(place, 0)]
    begun: set[tuple[Place, int]] = set()
    while waiting:
        start, offset = waiting.pop()
        if (start, offset) in begun:
            continue
        begun.add((start, offset))
        reader = _Reader(start, text[offset:])
        for edge in reader.edges():
            edges[replace(edge, offset=edge.offset + offset)] = None
        ends.add(reader.place())
        waiting.extend((other, offset + there) for other, there in reader.others)
    return frozenset(ends), tuple(sorted(edges, key=lambda edge: (edge.offset, edge.region)))


def after_value(place: Place) -> Iterator[Place]:
    """The places after a printed value, escaped for its place."""
    if place.state == "beforeAttributeValue":
        place = replace(place, state="attributeValueUnQuoted")
    place = replace(place, pending="")
    if place.in_value:
        yield replace(place, value=_kept(place.attribute, place.value + PRINTED))
        return
    yield place
    if place.state.startswith("comment"):
        # A value may end with hyphens, so that a following ">" closes the comment.
        yield from (replace(place, state=f"comment{end}") for end in ("", "EndDash", "End", "EndBang"))


class OutOfText(Exception):
    """The text ends inside a step of the tokenizer."""


class Text:
    """html5lib's stream, over one piece of text that need not be the last."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.errors: list[str] = []
        self.by_character = False

    def char(self) -> str:
        """The next character. Errors: `OutOfText`."""
        if self.at >= len(self.text):
            raise OutOfText
        self.at += 1
        return self.text[self.at - 1]

    def charsUntil(self, characters: Any, opposite: bool = False) -> str:  # noqa: ANN401, N802  # html5lib's name
        """The characters before the first of some, or all that are some of them."""
        start = self.at
        while (
            not self.by_character
            and self.at < len(self.text)
            and (self.text[self.at] in characters) == bool(opposite)
        ):
            self.at += 1
        return self.text[start : self.at]

    def unget(self, character: str | None) -> None:
        """Go back."""
        self.at -= len(character or "")


class _Reader(HTMLTokenizer):  # type: ignore[misc]  # html5lib has no types
    """The tokenizer, begun at a place."""

    def __init__(self, place: Place, text: str) -> None:
        self.stream = Text(place.pending + text.replace("\r\n", "\n").replace("\r", "\n"))
        self._pending = len(place.pending)
        self.parser = None
        self.tokenQueue: list[Any] = []
        self.temporaryBuffer = place.buffer
        self.state = getattr(self, f"{place.state}State")
        self.foreign = place.foreign
        self.others: list[tuple[Place, int]] = []
        """Other readings, each with the offset where it begins."""
        attributes = [list(each) for each in place.attributes]
        if place.attribute:
            attributes.append([place.attribute, place.value])
        self.currentToken = {
            "type": tokenTypes["EndTag" if place.closing else "StartTag"],
            "name": place.element,
            "data": attributes if place.state != "comment" and not place.in_comment else "",
            "selfClosing": False,
            "correct": True,
            "publicId": None,
            "systemId": None,
        }

    def edges(self) -> Iterator[Edge]:
        """Read the text to its end."""
        before = self.place()
        while True:
            kept = self.state, self.stream.at, self._token_copy(), self.temporaryBuffer
            self.stream.by_character = before.attribute in STYLES
            try:
                self.state()
            except OutOfText:
                self.state, self.stream.at, self.currentToken, self.temporaryBuffer = kept
                return
            self.tokenQueue.clear()
            now = self.place(whole=True)
            if now.region != before.region or (now.region and now.attribute != before.attribute):
                consumed = self.stream.at - self._pending
                if before.region:
                    yield Edge(max(consumed - 1, 0), "", before.attribute)
                if now.region:
                    first = before.state == "beforeAttributeValue" and now.state == "attributeValueUnQuoted"
                    yield Edge(max(consumed - (len(self._value()) if first else 0), 0), now.region, now.attribute)
            if now.state == "commentStart" and before.state != "commentStart":
                self._read_as_outlook()
            before = now
            if self.stream.at >= len(self.stream.text):
                return

    def place(self, *, whole: bool = False) -> Place:
        """Where it is; `whole` leaves out what it has not read."""
        state = self.state.__name__.removesuffix("State")
        token = self.currentToken
        pending = "" if whole else self.stream.text[self.stream.at :]
        base = Place(state=state, pending=pending, foreign=self.foreign, buffer="")
        if state in {"data", "plaintext"} or base.in_comment or not isinstance(token, dict):
            return base
        if state.startswith(("rcdata", "rawtext", "script")):
            kind = tuple((name, value) for name, value in dict(token["data"] or ()).items() if name == "type")
            return replace(base, element=token["name"].lower(), buffer=self.temporaryBuffer, attributes=kind)
        if "name" not in token or token["type"] not in {tokenTypes["StartTag"], tokenTypes["EndTag"]}:
            return base
        data = token["data"] if isinstance(token["data"], list) else []
        last = data[-1] if data and state not in {"beforeAttributeName", "tagName"} else ["", ""]
        before = data[:-1] if last[0] or last[1] else data
        name = last[0].lower()
        return replace(
            base,
            element=token["name"].lower(),
            closing=token["type"] == tokenTypes["EndTag"],
            attributes=tuple((n.lower(), v) for n, v in before if n.lower() in KEPT),
            attribute=name,
            value=_kept(name, last[1]),
        )

    def emitCurrentToken(self) -> None:  # noqa: N802  # html5lib's name
        """Choose the state of the element's content, which a browser's tree does."""
        super().emitCurrentToken()
        token = self.currentToken
        name = token["name"]
        if name in {"svg", "math"}:
            if token["type"] == tokenTypes["EndTag"]:
                self.foreign = max(self.foreign - 1, 0)
            elif not token["selfClosing"]:
                self.foreign = min(self.foreign + 1, 8)
        if token["type"] == tokenTypes["StartTag"] and name in RAW:
            if self.foreign:
                # In SVG and MathML its content is markup, unless it stands where HTML goes on.
                self.others.append((Place(foreign=self.foreign), self.stream.at - self._pending))
            self.temporaryBuffer = ""
            self.state = getattr(self, f"{RAW[name]}State")

    def _read_as_outlook(self) -> None:
        start = re.match(r"\[if[^\]>]*\]>", self.stream.text[self.stream.at :])
        if start:
            self.others.append((Place(foreign=self.foreign), self.stream.at + start.end() - self._pending))

    def _value(self) -> str:
        data = self.currentToken["data"]
        return str(data[-1][1]) if isinstance(data, list) and data else ""

    def _token_copy(self) -> Any:  # noqa: ANN401
        token = dict(self.currentToken)
        if isinstance(token.get("data"), list):
            token["data"] = [list(each) for each in token["data"]]
        return token


def _kept(attribute: str, value: str) -> str:
    if attribute in KEPT:
        return value[-100:]
    if attribute in STYLES:
        shown = value.lower()
        start = shown.rfind("url(")
        if start >= 0 and ")" not in shown[start:]:
            return "url("
        return shown[-3:]
    return "?" if "?" in value else ""


def _in_url(style: str) -> bool:
    return style == "url("
