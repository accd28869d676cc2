"""Style rules of templates, read by WeasyPrint's parsers: selectors, declarations, and where they stand."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import tinycss2
from cssselect2 import SelectorError, compile_selector_list

from tasks.templates.located import has_piece

STRUCTURE = frozenset(
    {
        "first-child", "last-child", "only-child", "nth-child", "nth-last-child", "first-of-type", "last-of-type",
        "only-of-type", "nth-of-type", "nth-last-of-type", "empty", "root", "not", "is", "where", "has",
    }
)  # fmt: skip
"""Pseudo-classes that the markup decides; all others are decided where the mail is read."""
ELEMENTS = frozenset({"before", "after", "first-line", "first-letter"})
BESIDE = ("+", "~")
COMBINATORS = (">", "+", "~")
CONDITIONS = frozenset({"media", "supports", "layer", "container"})
"""At-rules with rules inside that hold only sometimes."""
CHOICE = "/*\ue000*/"
"""Stands in a style sheet where a condition or a loop begins or ends."""
CHOSEN = "it stands in a condition or a loop of the template"
READ_WHERE_SHOWN = "@"
"""Why a rule stays that needs no word: it depends on the program that shows the mail."""

Order = tuple[tuple[int, ...], int]
"""What decides between declarations: the specificity, then the place."""


@dataclass(frozen=True)
class Declaration:
    """A property and its value."""

    name: str
    value: str
    important: bool

    @property
    def is_plain(self) -> bool:
        """Whether every mail program that knows the property can read it."""
        return "(" not in self.value and not self.value.startswith("-")


@dataclass(frozen=True)
class Selector:
    """One selector of a rule."""

    text: str
    matcher: Any
    """Of cssselect2; None where it cannot read the selector."""
    subject: Any
    """Matches what the last part of the selector does."""
    dynamic: int
    """How many pseudo-classes have to hold too, which only the mail program knows."""
    on_part: bool
    """Whether it is of a pseudo-element."""
    combined: bool
    structural: bool
    classes: frozenset[str]
    ids: frozenset[str]
    attributes: frozenset[str]

    @property
    def specificity(self) -> tuple[int, ...]:
        """Of CSS."""
        if self.matcher is None:
            return 9, 9, 9
        ids, classes, elements = self.matcher.specificity
        return ids, classes + self.dynamic, elements


@dataclass(frozen=True)
class Rule:
    """A rule of a style sheet."""

    file: str
    start: int
    end: int
    line: int
    order: int
    selectors: tuple[Selector, ...]
    declarations: tuple[Declaration, ...]
    stays: str = ""
    """Why nothing of it is inlined."""
    whole: bool = True
    """Whether its text can be taken out of its file."""

    @property
    def named(self) -> str:
        """Its selectors, shortened, with file and line."""
        shown = ", ".join(each.text for each in self.selectors)
        return f"'{shown if len(shown) <= 60 else shown[:57] + '...'}' ({self.file}, line {self.line})"


@dataclass(frozen=True)
class SheetText:
    """A piece of a style sheet; what is no file's has no file."""

    text: str
    file: str = ""
    offset: int = 0
    line: int = 0
    chosen: bool = False
    """Whether a condition or a loop stands around."""


@dataclass
class Sheet:
    """The texts of one `<style>`, which may come from several files."""

    stays: str = ""
    texts: list["SheetText"] = field(default_factory=list)


EMPTY = Rule("", 0, 0, 0, 0, (), ())


def rules_of(sheet: Sheet, first: int) -> list[Rule]:
    """The rules of a sheet, in order; `first` is the place of the first one."""
    text = "".join(each.text for each in sheet.texts)
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    found = tinycss2.parse_stylesheet(text, skip_comments=False, skip_whitespace=False)
    offsets = [starts[node.source_line - 1] + node.source_column - 1 for node in found]
    made: list[Rule] = []
    for node, start, limit in zip(found, offsets, [*offsets, len(text)][1:], strict=True):
        span = (start, text.rfind("}", start, limit) + 1 or limit)
        made += [
            _rule(
                rule, sheet, text[slice(*span)], span, replace(EMPTY, order=first + len(made) + number, stays=stays)
            )
            for number, (rule, stays) in enumerate(_rules(node, ""))
        ]
    return made


def _rules(node: Any, stays: str) -> Iterator[tuple[Any, str]]:  # noqa: ANN401
    if node.type == "qualified-rule":
        yield node, stays
    elif node.type == "at-rule" and node.content is not None and node.lower_at_keyword in CONDITIONS:
        for inner in tinycss2.parse_rule_list(node.content, skip_comments=True, skip_whitespace=True):
            yield from _rules(inner, READ_WHERE_SHOWN)


def _rule(rule: Any, sheet: Sheet, text: str, span: tuple[int, int], known: Rule) -> Rule:  # noqa: ANN401
    source, inside, whole = _source(sheet, *span)
    parsed = tinycss2.parse_blocks_contents(rule.content, skip_comments=True, skip_whitespace=True)
    declared = [each for each in parsed if each.type == "declaration"]
    declarations = tuple(
        Declaration(each.lower_name, tinycss2.serialize(each.value).strip(), each.important) for each in declared
    )
    unread = len(declared) < len(parsed) or any(set("{}<>") & set(each.value) for each in declarations)
    selectors = tuple(_selector(each) for each in _split(rule.prelude))
    stays = known.stays or sheet.stays or (CHOSEN if source.chosen else _reason(text, selectors))
    if any(each.type == "qualified-rule" for each in parsed):
        stays = stays or "it has rules inside; write them after it"
    offset = source.offset + inside
    return replace(
        known,
        file=source.file,
        start=offset,
        end=offset + len(text),
        line=source.line + source.text.count("\n", 0, inside),
        selectors=selectors,
        declarations=declarations,
        stays=stays,
        whole=whole and not unread,
    )


def _reason(text: str, selectors: Sequence[Selector]) -> str:
    if CHOICE in text:
        return CHOSEN
    if has_piece(text):
        return "it has a piece of Jinja's in it"
    if any(each.matcher is None for each in selectors):
        return READ_WHERE_SHOWN
    return ""


def _source(sheet: Sheet, start: int, end: int) -> tuple[SheetText, int, bool]:
    """The text in which a piece of the sheet begins, where that is in it, and whether it ends in it."""
    at = 0
    for each in sheet.texts:
        if each.file and at <= start < at + len(each.text):
            return each, start - at, end <= at + len(each.text)
        at += len(each.text)
    return next((each for each in sheet.texts if each.file), SheetText("")), 0, False


def _split(prelude: Sequence[Any]) -> Iterator[list[Any]]:
    part: list[Any] = []
    for token in prelude:
        if token == ",":  # noqa: S105  # of a selector
            yield part
            part = []
        elif token.type != "comment":
            part.append(token)
    yield part


def _selector(tokens: list[Any]) -> Selector:
    text = tinycss2.serialize(tokens).strip()
    names = list(_pseudos(tokens))
    dynamic = sum(name not in STRUCTURE | ELEMENTS for name in names)
    kept = _without_dynamic(tokens) if dynamic else tokens
    return Selector(
        text=re.sub(r"\s+", " ", text),
        matcher=_compiled(kept),
        subject=_compiled(_last(kept)),
        dynamic=dynamic,
        on_part="::" in text or any(name in ELEMENTS for name in names),
        combined=len(_last(kept)) < len(_stripped(kept)),
        structural=any(name in STRUCTURE for name in names)
        or bool({"+", "~"} & {getattr(t, "value", "") for t in tokens}),
        classes=frozenset(_classes(tokens)),
        ids=frozenset(token.value for token in _all(tokens) if token.type == "hash"),
        attributes=frozenset(
            inner.lower_value
            for token in _all(tokens)
            if token.type == "[] block"
            for inner in token.content[:1]
            if inner.type == "ident"
        ),
    )


def _compiled(tokens: list[Any]) -> Any:  # noqa: ANN401
    try:
        found = compile_selector_list(tokens)
    except (SelectorError, NotImplementedError, AttributeError):
        return None
    return found[0] if len(found) == 1 else None


def _all(tokens: Sequence[Any]) -> Iterator[Any]:
    for token in tokens:
        yield token
        if token.type == "function":
            yield from _all(token.arguments)


def _classes(tokens: Sequence[Any]) -> Iterator[str]:
    every = list(_all(tokens))
    for before, token in pairwise(every):
        if before == "." and token.type == "ident":
            yield token.value


def _pseudos(tokens: Sequence[Any]) -> Iterator[str]:
    every = list(_all(tokens))
    for before, token in pairwise(every):
        if before == ":" and token.type in {"ident", "function"}:
            yield token.lower_value if token.type == "ident" else token.lower_name


def _without_dynamic(tokens: list[Any]) -> list[Any]:
    """The selector as it would be without what only the mail program knows."""
    made: list[Any] = []
    rest = list(tokens)
    while rest:
        token = rest.pop(0)
        if rest and token.type == "literal" and token.value == ":" and rest[0].type in {"ident", "function"}:
            name = rest[0].lower_value if rest[0].type == "ident" else rest[0].lower_name
            if name not in STRUCTURE | ELEMENTS:
                rest.pop(0)
                if not made or made[-1].type == "whitespace" or made[-1] in COMBINATORS:
                    made.append(tinycss2.parse_one_component_value("*"))
                continue
        made.append(token)
    return made


def _stripped(tokens: list[Any]) -> list[Any]:
    made = list(tokens)
    while made and made[-1].type == "whitespace":
        made.pop()
    while made and made[0].type == "whitespace":
        made.pop(0)
    return made


def _last(tokens: list[Any]) -> list[Any]:
    """The last compound of a selector."""
    made: list[Any] = []
    for token in reversed(_stripped(tokens)):
        if token.type == "whitespace" or token in COMBINATORS:
            break
        made.insert(0, token)
    return made


def overlaps(one: str, other: str) -> bool:
    """Whether two properties can decide the same thing: one is a part of the other, or both are of a border."""
    if one == other or "all" in {one, other}:
        return True
    short, long = sorted((one, other), key=len)
    if long.startswith(f"{short}-") or (short == "font" and long == "line-height"):
        return True
    return short.startswith("border-") and long.startswith("border-")


def declarations_in(style: str) -> list[Declaration] | None:
    """Those of a `style` attribute; None where they cannot be read."""
    parsed = tinycss2.parse_blocks_contents(style, skip_comments=True, skip_whitespace=True)
    if any(each.type != "declaration" for each in parsed):
        return None
    return [Declaration(each.lower_name, tinycss2.serialize(each.value).strip(), each.important) for each in parsed]
