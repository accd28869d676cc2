"""Escaping by context: what a value may be depends on where in the HTML it is printed.

The text of an HTML template is followed as a browser would read it. In text and in quoted attributes Jinja's own
escaping is right. The value of an attribute that is an address (`href`, `src`, ...) must not begin with a scheme
that runs code or carries content; that of `style` must be a plain value; one without quotes must not end its
attribute. Inside `script` and `style`, in event handlers and in the names of tags and attributes no value is
safe, so none is allowed there.

A template is a tree of branches, so there may be several contexts in which a value is printed; it is wrapped in
the one filter that all of them ask for, and refused where they differ.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from jinja2 import TemplateRuntimeError, Undefined, nodes
from markupsafe import Markup

from tasks.templates.fields import printed

ADDRESS, STYLE, UNQUOTED = "_address", "_style", "_unquoted"
"""Names of the filters that values are wrapped in."""

ADDRESS_ATTRIBUTES = frozenset(
    {
        "action", "archive", "background", "cite", "classid", "codebase", "data", "dynsrc", "formaction", "href",
        "icon", "longdesc", "lowsrc", "manifest", "poster", "profile", "src", "usemap", "xlink:href", "xmlns",
    }
)  # fmt: skip
RAW_ELEMENTS = frozenset({"script", "style", "xmp", "iframe", "noembed", "noframes", "plaintext"})
RUNS_CODE = re.compile(
    r"[\x00-\x20]*(?:j[\t\n\r]*a[\t\n\r]*v[\t\n\r]*a|v[\t\n\r]*b)[\t\n\r]*s[\t\n\r]*c[\t\n\r]*r[\t\n\r]*i[\t\n\r]*p[\t\n\r]*t[\t\n\r]*:|[\x00-\x20]*d[\t\n\r]*a[\t\n\r]*t[\t\n\r]*a[\t\n\r]*:",
    re.IGNORECASE,
)
OTHER_SCHEME = re.compile(r"[^/?#]*:")
PLAIN_STYLE = re.compile(r"[A-Za-z0-9 #%.,+()-]*")
STYLE_FUNCTION = re.compile(r"(?:url|expression|image|image-set|var|attr)\s*\(", re.IGNORECASE)
UNQUOTED_CHARACTERS = {
    "\t": "&#9;",
    "\n": "&#10;",
    "\x0c": "&#12;",
    "\r": "&#13;",
    " ": "&#32;",
    "=": "&#61;",
    "`": "&#96;",
}

Mode = Literal["text", "tag name", "tag", "attribute name", "after name", "before value", "value", "comment", "raw"]


class UnsafeValue(TemplateRuntimeError):
    """A value that its place in the HTML does not allow."""


@dataclass(frozen=True)
class Place:
    """Where in the HTML a template's text has arrived."""

    mode: Mode = "text"
    element: str = ""
    attribute: str = ""
    quote: str = ""
    name: str = ""
    """The tag or attribute name while it is being read."""
    scheme: bool = False
    """In an address: still before anything that ends its scheme."""
    dynamic: bool = False
    """A value was printed into this attribute."""


TEXT = frozenset({Place()})
Places = frozenset[Place]


def after(place: Place, text: str) -> Place:
    """The place after some text of the template."""
    position = 0
    while position < len(text):
        place, position = _step(place, text, position)
    return place


def _step(place: Place, text: str, position: int) -> tuple[Place, int]:  # noqa: PLR0911, PLR0912
    character = text[position]
    match place.mode:
        case "text":
            return _in_text(text, position)
        case "comment":
            end = text.find("-->", position)
            return (Place(), end + 3) if end >= 0 else (place, len(text))
        case "raw":
            end = text.lower().find(f"</{place.element}", position)
            return (Place("tag name", name="/"), end + 2) if end >= 0 else (place, len(text))
        case "tag name":
            if character.isspace() or character in "/>":
                return _in_tag(replace(place, mode="tag", element=place.name, name=""), character), position + 1
            return replace(place, name=place.name + character.lower()), position + 1
        case "tag":
            return _in_tag(place, character), position + 1
        case "attribute name":
            if character == "=":
                return replace(place, mode="before value", attribute=place.name, name=""), position + 1
            if character.isspace():
                return replace(place, mode="after name", attribute=place.name, name=""), position + 1
            if character in "/>":
                return _in_tag(replace(place, mode="tag", name=""), character), position + 1
            return replace(place, name=place.name + character.lower()), position + 1
        case "after name":
            if character == "=":
                return replace(place, mode="before value"), position + 1
            return (place if character.isspace() else _in_tag(place, character)), position + 1
        case "before value":
            if character.isspace():
                return place, position + 1
            if character == ">":
                return _in_tag(place, character), position + 1
            quote = character if character in "\"'" else ""
            value = replace(place, mode="value", quote=quote, scheme=place.attribute in ADDRESS_ATTRIBUTES)
            return value, position + bool(quote)
        case "value":
            return _in_value(place, text, position)


def _in_text(text: str, position: int) -> tuple[Place, int]:
    start = text.find("<", position)
    if start < 0:
        return Place(), len(text)
    following = text[start + 1 : start + 2]
    if text.startswith("<!--", start) and not text.startswith("<!--[if", start):
        return Place("comment"), start + 4
    if following.isalpha() or start + 1 == len(text):
        return Place("tag name"), start + 1
    if following == "/":
        return Place("tag name", name="/"), start + 2
    if following in {"!", "?"}:
        end = text.find(">", start)
        return Place(), end + 1 if end >= 0 else len(text)
    return Place(), start + 1


def _in_tag(place: Place, character: str) -> Place:
    if character == ">":
        return Place("raw", element=place.element) if place.element in RAW_ELEMENTS else Place()
    if character.isspace() or character == "/":
        return Place("tag", element=place.element)
    return Place("attribute name", element=place.element, name=character.lower())


def _in_value(place: Place, text: str, position: int) -> tuple[Place, int]:
    for index in range(position, len(text)):
        character = text[index]
        if place.quote:
            if character == place.quote:
                return Place("tag", element=place.element), index + 1
        elif character.isspace() or character == ">":
            return _in_tag(Place("tag", element=place.element), character), index + 1
        if character in "/?#:":
            place = replace(place, scheme=False)
    return place, len(text)


def _printed(place: Place) -> Place:
    if place.mode == "before value":
        scheme = place.attribute in ADDRESS_ATTRIBUTES
        return replace(place, mode="value", quote="", scheme=scheme, dynamic=True)
    return replace(place, dynamic=True) if place.mode == "value" else place


def _treatment(place: Place) -> tuple[str, ...] | str:  # noqa: PLR0911  # one row of a table each
    """The filters that a value printed here goes through, or why none can be printed."""
    element = place.element.lstrip("/")
    match place.mode:
        case "raw":
            return f"stands inside <{element}>, where no value is safe"
        case "tag name" | "tag" | "attribute name" | "after name":
            return "stands inside a tag, but not in the value of an attribute, where no value is safe"
        case "before value" | "value":
            unquoted = () if place.quote else (UNQUOTED,)
            if place.attribute.startswith("on"):
                return f"stands inside the event handler '{place.attribute}', where no value is safe"
            if place.attribute == "srcdoc":
                return "stands inside 'srcdoc', where no value is safe"
            if place.attribute == "style":
                return (STYLE, *unquoted)
            if _printed(place).scheme:
                return (ADDRESS, *unquoted)
            return unquoted
        case _:
            return ()


@dataclass
class Contexts:
    """Follows one template's HTML, wraps what is printed, and keeps what must not be there."""

    template: str
    outer: Mapping[str, Places] = field(default_factory=dict)
    """Where the blocks of the template that this one extends stand."""
    blocks: dict[str, Places] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    _printed_in: dict[int, tuple[nodes.Expr, Places]] = field(default_factory=dict)
    """Each printed expression, and where."""

    def follow(self, body: Iterable[nodes.Node], places: Places) -> Places:
        """The places after `body`, whose printed expressions are wrapped on the way."""
        for node in body:
            places = self._node(node, places)
        return places

    def _node(self, node: nodes.Node, places: Places) -> Places:  # noqa: PLR0911
        match node:
            case nodes.Output():
                return self._output(node, places)
            case nodes.If():
                ends = [
                    self.follow(branch, places) for branch in (node.body, *(e.body for e in node.elif_), node.else_)
                ]
                return frozenset().union(*ends)
            case nodes.For():
                once = places | self.follow(node.body, places)
                return once | self.follow(node.body, once) | self.follow(node.else_, places)
            case nodes.Block():
                start = self.outer.get(node.name, places)
                self.blocks[node.name] = start
                self.follow(node.body, start)
                return self.follow(node.body, places)
            case nodes.Macro() | nodes.CallBlock() | nodes.AssignBlock():
                self.follow(node.body, TEXT)
                return places
            case nodes.Include():
                if any(place.mode not in {"text", "comment"} for place in places):
                    self._problem(node.lineno, "an include", "stands inside a tag, a script or a style")
                return places
            case nodes.With() | nodes.FilterBlock() | nodes.Scope() | nodes.ScopedEvalContextModifier():
                return self.follow(node.body, places)
            case _:
                return places

    def _output(self, node: nodes.Output, places: Places) -> Places:
        for index, child in enumerate(node.nodes):
            if isinstance(child, nodes.TemplateData):
                places = frozenset(after(place, child.data) for place in places)
            else:
                node.nodes[index] = self._wrapped(child, places)
                places = frozenset(_printed(place) for place in places)
        return places

    def _wrapped(self, expression: nodes.Expr, places: Places) -> nodes.Expr:
        expression = _unwrapped(expression)
        if _is_fixed(expression) or _is_super(expression):
            return expression
        # The body of a loop is followed more than once: what counts is every place where a round may print.
        _, known = self._printed_in.get(id(expression), (expression, frozenset[Place]()))
        places |= known
        self._printed_in[id(expression)] = expression, places
        treatment = _strictest({_treatment(place) for place in places})
        if isinstance(treatment, str):
            self._problem(expression.lineno, "a value", treatment)
            return expression
        attribute = min(place.attribute for place in places)
        dynamic = any(place.dynamic for place in places)
        for name in treatment:
            given = {ADDRESS: (attribute, dynamic), STYLE: (attribute,), UNQUOTED: ()}[name]
            arguments: list[nodes.Expr] = [nodes.Const(each, lineno=expression.lineno) for each in given]
            expression = nodes.Filter(expression, name, arguments, [], None, None, lineno=expression.lineno)
        return expression

    def _problem(self, line: int, what: str, why: str) -> None:
        problem = f"{self.template}, line {line}: {what} {why}"
        if problem not in self.problems:
            self.problems.append(problem)


def _strictest(treatments: set[tuple[str, ...] | str]) -> tuple[str, ...] | str:
    """The treatment that will do in every place, or why there is none."""
    refused = sorted(each for each in treatments if isinstance(each, str))
    if refused:
        return refused[0]
    filters = sorted(each for each in treatments if isinstance(each, tuple))
    if len(filters) == 1:
        return filters[0]
    # What may be the beginning of an address is treated as one.
    with_address = [each for each in filters if ADDRESS in each]
    return max(with_address, key=len) if with_address else "stands in another part of the HTML in each branch"


def _unwrapped(expression: nodes.Expr) -> nodes.Expr:
    while isinstance(expression, nodes.Filter) and expression.name in GUARDS and expression.node is not None:
        expression = expression.node
    return expression


def _is_fixed(expression: nodes.Expr) -> bool:
    """Whether only texts of the template itself can be printed."""
    if isinstance(expression, nodes.CondExpr):
        return _is_fixed(expression.expr1) and (expression.expr2 is None or _is_fixed(expression.expr2))
    return isinstance(expression, nodes.Const)


def _is_super(expression: nodes.Expr) -> bool:
    """Whether a block of the extended template is printed, whose values are wrapped where they stand."""
    return (
        isinstance(expression, nodes.Call)
        and isinstance(expression.node, nodes.Name)
        and expression.node.name == "super"
    )


def _text_of(value: object) -> str:
    if isinstance(value, Undefined):
        return str(value)  # says which value is missing
    return value.unescape() if isinstance(value, Markup) else str(printed(value))


def safe_address(value: object, attribute: str, dynamic: bool = False) -> object:
    """The value, unless it would make an address that runs code or carries its content (`data:`)."""
    text = _text_of(value)
    if RUNS_CODE.match(text) or (dynamic and OTHER_SCHEME.match(text)):
        raise UnsafeValue(unsafe_address(attribute))
    return value


def unsafe_address(attribute: str) -> str:
    """Reason of a reject."""
    return f"the value in '{attribute}' is a javascript:, vbscript: or data: address"


def safe_style(value: object, attribute: str) -> object:
    """The value, unless it could be more than one plain value of a style."""
    text = _text_of(value)
    if not PLAIN_STYLE.fullmatch(text) or STYLE_FUNCTION.search(text):
        raise UnsafeValue(unsafe_style(attribute))
    return value


def unsafe_style(attribute: str) -> str:
    """Reason of a reject."""
    return f"the value in '{attribute}' is not a plain color, number, unit or word"


def unquoted(value: object) -> Markup:
    """The value escaped for an attribute without quotes."""
    escaped = str(Markup.escape(printed(value)))
    for character, entity in UNQUOTED_CHARACTERS.items():
        escaped = escaped.replace(character, entity)
    return Markup(escaped)  # noqa: S704  # escaped above


GUARDS: dict[str, Callable[..., object]] = {ADDRESS: safe_address, STYLE: safe_style, UNQUOTED: unquoted}
