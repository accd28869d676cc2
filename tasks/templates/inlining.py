"""CSS inlining: the rules of a part's `<style>` are written into the `style` attributes of its templates, once.

Only `style` attributes and `<style>` are edited; every other character of a template stays, and with it what Jinja
reads. What a reader sees stays the same: a rule is inlined where its selector surely matches and where no rule that
has to stay in `<style>` has to win over it. All else stays in `<style>`, with a finding.
"""

import re
from collections import defaultdict
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from html import escape, unescape
from typing import Any
from xml.etree.ElementTree import Element

import html5lib
from cssselect2 import ElementWrapper

from tasks.errors import TemplatesInvalid
from tasks.settings import merged
from tasks.templates.assembly import Assembly
from tasks.templates.html import RAW
from tasks.templates.located import STATEMENT, VALUE, Attribute, Edit, Tag, edited
from tasks.templates.reading import Templates
from tasks.templates.rewriting import KEPT, Rewritten
from tasks.templates.stylesheet import (
    READ_WHERE_SHOWN,
    Declaration,
    Order,
    Rule,
    Selector,
    declarations_in,
    overlaps,
    rules_of,
)

UNSTYLED = frozenset({"head", "meta", "title", "link", "style", "script", "base", "noscript", "template", "param"})
"""Elements of which nothing is shown."""
MARK = "data-place"

Key = tuple[str, int]
"""File and offset of a tag."""


@dataclass
class Styled:
    """A start tag, and what it is wherever it is shown."""

    tag: Tag
    at_least: list[Any] = field(default_factory=list)
    """As an element of each place, with the attributes that it surely has."""
    at_most: list[Any] = field(default_factory=list)
    """With all that it can have."""
    apart: bool = False
    """Whether it is not known what stands around."""

    @cached_property
    def classes(self) -> set[str]:
        """All that it can have."""
        return {name for each in self.at_most for name in each.classes}

    def can_be(self, subject: Any) -> bool:  # noqa: ANN401
        """Whether it has the name and the class that a selector asks for, before more is looked at."""
        return subject is None or (
            subject.lower_local_name in {None, self.tag.name}
            and (subject.class_name is None or subject.class_name in self.classes)
        )

    @property
    def is_outlooks(self) -> bool:
        """Whether it is an element that only Outlook knows."""
        return ":" in self.tag.name or self.tag.name == "xml"

    @cached_property
    def is_open(self) -> bool:
        """Whether nothing can be written into it."""
        style = self.tag.get("style")
        return (
            self.tag.torn
            or self.is_outlooks
            or (style is not None and (style.chosen or (not style.quote and not style.is_fixed)))
        )


@dataclass(frozen=True)
class Found:
    """A declaration that an element has, or can have, from a rule."""

    order: Order
    number: int
    """Its place in the rule."""
    rule: Rule
    declaration: Declaration


def inlined(templates: Templates) -> Rewritten:
    """The templates, whose HTML part has its styles inlined. Errors: `TemplatesInvalid`."""
    parts = tuple(sorted(templates.parts.items()))
    sources, findings = _inlined(parts, tuple(sorted(templates.sources.items())), str(templates.folder))
    return Rewritten(merged(templates, sources=dict(sources)), findings)


@lru_cache(KEPT)
def _inlined(
    parts: tuple[tuple[str, str], ...], sources: tuple[tuple[str, str], ...], folder: str
) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    named, texts = dict(parts), dict(sources)
    work = _Inlining(Assembly(named["html"], texts))
    changed = edited(work.assembly.files, work.edits)
    others = [Assembly(name, texts).files for part, name in parts if part != "html"]
    shared = [name for name in changed if any(name in files for files in others)]
    problems = [
        f"{name}: it is also part of the subject or the text; styles are inlined in HTML only" for name in shared
    ]
    problems += work.problems
    if problems:
        raise TemplatesInvalid(folder=folder, count=len(problems), errors="; ".join(problems))
    return tuple({**texts, **changed}.items()), tuple(dict.fromkeys(work.findings))


class _Inlining:
    """One part's inlining: what is edited, what stays and what is wrong."""

    def __init__(self, assembly: Assembly) -> None:
        self.assembly = assembly
        self.edits: list[Edit] = []
        self.findings: list[str] = []
        self.problems: list[str] = []
        self._rules: list[Rule] = []
        for sheet in assembly.sheets:
            self._rules += rules_of(sheet, len(self._rules))
        self._kept: dict[int, str] = {}
        """Rules that stay in `<style>`, by their place."""
        self._matched: set[tuple[int, str]] = set()
        self._unwritten: list[Any] = []
        """Elements that a browser adds, <tbody> for one."""
        self._classes = {name for rule in self._rules for each in rule.selectors for name in each.classes}
        self._refuse_styles()
        if self._rules and not self.problems:
            self._styled = self._elements()
            self._undecided = self._undecided_names()
            self._ids = {each.id for styled in self._styled.values() for each in styled.at_most}
            torn = any(styled.tag.torn for styled in self._styled.values())
            self._ids_known = "id" not in self._undecided and not torn
            for styled in self._styled.values():
                self._inline(styled)
            self._keep_for_unwritten()
            self._cut()

    def _refuse_styles(self) -> None:
        for rule in self._rules:
            if any("style" in selector.attributes for selector in rule.selectors):
                self.problems.append(
                    f"{rule.file}, line {rule.line}: a selector asks for the attribute 'style',"
                    " which inlining writes; give the elements a class"
                )

    # What the elements are

    def _elements(self) -> dict[Key, Styled]:
        found: dict[Key, Styled] = {}
        for tag in (*self.assembly.tags, *self.assembly.apart):
            if not tag.closing and tag.name not in UNSTYLED:
                found.setdefault((tag.file, tag.start), Styled(tag))
        doctype = self.assembly.doctype
        for begun in [doctype] if doctype else ["", "<!DOCTYPE html>"]:  # programs choose one where there is none
            self._add_page(begun, found)
        for tag in self.assembly.apart:
            if (tag.file, tag.start) in found:
                found[tag.file, tag.start].apart = True
        for styled in found.values():
            if styled.apart or not styled.at_least:
                styled.apart = True
                self._stand_alone(styled)
        return found

    def _add_page(self, doctype: str, found: dict[Key, Styled]) -> None:
        """Add the elements of the page as it is read with a document type: it decides whether <p> holds <table>."""
        page = html5lib.parse(doctype + "".join(map(_shown, self.assembly.tags)), namespaceHTMLElements=False)
        fuller = deepcopy(page)
        for element in fuller.iter():
            if (key := _key(element)) in found:
                self._fill(element, found[key].tag)
        for tree, name in ((page, "at_least"), (fuller, "at_most")):
            for wrapper in ElementWrapper.from_html_root(tree).iter_subtree():
                if (key := _key(wrapper.etree_element)) in found:
                    getattr(found[key], name).append(wrapper)
                elif not key[0] and wrapper.local_name not in UNSTYLED:
                    self._unwritten.append(wrapper)

    def _stand_alone(self, styled: Styled) -> None:
        sure = Element(styled.tag.name, _fixed(styled.tag))
        fuller = deepcopy(sure)
        self._fill(fuller, styled.tag)
        styled.at_least.append(ElementWrapper.from_html_root(sure))
        styled.at_most.append(ElementWrapper.from_html_root(fuller))

    def _fill(self, element: Any, tag: Tag) -> None:  # noqa: ANN401
        """Add what Jinja's pieces can give the element."""
        for attribute in tag.attributes:
            if attribute.name not in {"class", "style"} and not attribute.is_fixed:
                element.set(attribute.name, element.get(attribute.name, unescape(attribute.value)))
        patterns = _class_patterns(tag)
        more = [name for name in sorted(self._classes) if any(re.fullmatch(each, name) for each in patterns)]
        if more:
            element.set("class", " ".join([element.get("class", ""), *more]))

    def _undecided_names(self) -> dict[str, str]:
        """Attributes whose value is not known, each with a place."""
        found: dict[str, str] = {}
        for styled in self._styled.values():
            for attribute in styled.tag.attributes:
                if not attribute.is_fixed:
                    found.setdefault(attribute.name, styled.tag.where)
        return found

    # What matches

    def _doubt(self, selector: Selector, styled: Styled) -> str:  # noqa: PLR0911  # a reason each
        """Why it is not known whether a selector matches an element, though it seems to."""
        assembly = self.assembly
        for name in sorted({*selector.attributes, *(["id"] if selector.ids else [])} & self._undecided.keys()):
            own = styled.tag.get(name)
            if selector.combined or (own is not None and not own.is_fixed):
                return f"the attribute '{name}' is decided by the template ({self._undecided[name]})"
        if styled.is_outlooks:
            return f"it is also of Outlook's <{styled.tag.name}> ({styled.tag.where})"
        if selector.structural and (assembly.branches or assembly.apart):
            return "what stands beside the element is decided by the template"
        if selector.combined and styled.apart:
            return f"what stands around the element is not known ({styled.tag.where})"
        if selector.combined and assembly.unsure:
            return f"a branch of the template does not close what it opens ({assembly.unsure})"
        if styled.is_open:
            return f"the attributes of the element are decided by the template ({styled.tag.where})"
        return ""

    def _lacks(self, selector: Selector) -> bool:
        """Whether no message has an element with an id that a selector asks for (`#outlook`)."""
        return self._ids_known and not selector.ids <= self._ids

    def _match(self, selector: Selector, styled: Styled) -> tuple[bool, str]:
        """Whether a selector can match an element, and why that is not sure."""
        if selector.matcher is None:
            return True, READ_WHERE_SHOWN
        doubt = self._doubt(selector, styled)
        if doubt:
            loose = selector.subject if selector.subject is not None else selector.matcher
            if selector.structural or doubt.startswith("the attribute '"):
                return True, doubt
            return any(loose.test(each) for each in styled.at_most), doubt
        if all(selector.matcher.test(each) for each in styled.at_least):
            return True, ""
        can = any(selector.matcher.test(each) for each in styled.at_most)
        if any(selector.matcher.test(each) for each in styled.at_least):
            return can, f"it matches the element in one place or program and not in another ({styled.tag.where})"
        return can, f"a class is decided by the template ({styled.tag.where})"

    def _inline(self, styled: Styled) -> None:
        sure: list[Found] = []
        staying: list[Found] = []
        for rule in self._rules:
            for selector in rule.selectors:
                if selector.on_part or not styled.can_be(selector.subject) or self._lacks(selector):
                    continue
                matches, doubt = self._match(selector, styled)
                if not matches:
                    continue
                self._matched.add((rule.order, selector.text))
                stays = rule.stays or (READ_WHERE_SHOWN if selector.dynamic else doubt)
                if stays:
                    self._keep(rule, stays)
                found = staying if stays else sure
                order = (selector.specificity, rule.order)
                found += [Found(order, number, rule, each) for number, each in enumerate(rule.declarations)]
        written: list[Found] = []
        for each in sorted(sure, key=lambda found: (found.order, found.number), reverse=True):
            winner = next((other for other in staying if _has_to_win(other, each)), None)
            if winner is None:
                written.append(each)
            else:
                staying.append(each)
                self._keep(each.rule, _held(each, winner))
        if written:
            self._write(styled.tag, written[::-1])

    def _keep_for_unwritten(self) -> None:
        for rule in self._rules:
            matchers = [each.matcher for each in rule.selectors if each.matcher is not None]
            found = next((each for each in self._unwritten if any(one.test(each) for one in matchers)), None)
            if found is not None:
                self._keep(rule, f"it is also of <{found.local_name}>, which a browser adds; write that tag")

    def _keep(self, rule: Rule, why: str) -> None:
        if self._kept.get(rule.order, READ_WHERE_SHOWN) == READ_WHERE_SHOWN:
            self._kept[rule.order] = why

    # What is written

    def _write(self, tag: Tag, written: list[Found]) -> None:
        style = tag.get("style")
        own = declarations_in(unescape(style.value)) if style is not None and style.is_fixed else None
        plain = {each.name for each in own or () if each.is_plain and not each.important}
        declarations = list(dict.fromkeys(each.declaration for each in reversed(written)))[::-1]
        kept = [
            each
            for place, each in enumerate(declarations)
            if each.important
            or (each.name not in plain and not any(_replaces(later, each) for later in declarations[place + 1 :]))
        ]
        if not kept:
            return
        quote = style.quote if style is not None and style.quote else '"'
        text = ";".join(_attribute_text(each, quote) for each in kept)
        self.edits.append(_edit(tag, style, text))

    def _cut(self) -> None:
        """Take the rules that are inlined whole out of their `<style>`, and say which stay."""
        cut: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for rule in self._rules:
            why = self._kept.get(rule.order, rule.stays)
            everywhere = all((rule.order, each.text) in self._matched for each in rule.selectors)
            if why not in {"", READ_WHERE_SHOWN}:
                self.findings.append(f"the rule {rule.named} stays in <style>: {why}")
            elif not why and everywhere and rule.whole and rule.declarations:
                cut[rule.file].append((rule.start, rule.end))
        for start, end in self.assembly.style_tags:
            spans = cut.get(start.file, [])
            if end is None or end.file != start.file:
                continue
            left = list(self.assembly.files[start.file].source[start.end : end.start])
            for first, last in spans:
                if start.end <= first and last <= end.start:
                    left[first - start.end : last - start.end] = " " * (last - first)
            if spans and not "".join(left).strip():
                cut[start.file] = [(a, b) for a, b in spans if not start.end <= a < end.start]
                cut[start.file].append((start.start, end.end))
        self.edits += [Edit(file, *span, "") for file, spans in cut.items() for span in dict.fromkeys(spans)]


def _shown(tag: Tag) -> str:
    """A tag as the page has it for the selectors."""
    if tag.closing:
        return "" if tag.name in RAW else f"</{tag.name}>"
    attributes = {**_fixed(tag), MARK: f"{tag.start} {tag.file}"}
    written = " ".join(f'{name}="{escape(value)}"' for name, value in attributes.items())
    return f"<{tag.name} {written}>" + (f"</{tag.name}>" if tag.name in RAW else "")


def _key(element: Any) -> Key:  # noqa: ANN401
    start, _, file = str(element.get(MARK) or "0 ").partition(" ")
    return file, int(start)


def _fixed(tag: Tag) -> dict[str, str]:
    """The attributes that the tag has in every message; of classes those that it always has."""
    made = {each.name: unescape(each.value) for each in reversed(tag.attributes) if each.is_fixed}
    style = tag.get("class")
    if style is not None and not style.is_fixed and not style.chosen:
        sure = re.sub(rf"[{STATEMENT}].*[{STATEMENT}]|\S*[{VALUE}]+\S*", " ", style.value, flags=re.DOTALL)
        made["class"] = " ".join(each for each in sure.split())
    return made


def _class_patterns(tag: Tag) -> list[str]:
    """Patterns of the classes that Jinja's pieces can give a tag."""
    if tag.torn:
        return [".*"]
    found: list[str] = []
    for attribute in tag.attributes:
        if attribute.name == "class" and not attribute.is_fixed:
            for word in unescape(attribute.value).split():
                parts = re.split(rf"[{STATEMENT}{VALUE}]+", word)
                found.append(".*".join(map(re.escape, parts)))
    return [each for each in found if each]


def _has_to_win(staying: Found, inlined: Found) -> bool:
    return (
        (staying.order, staying.number) > (inlined.order, inlined.number)
        and staying.declaration.important == inlined.declaration.important
        and staying.declaration != inlined.declaration
        and overlaps(staying.declaration.name, inlined.declaration.name)
    )


def _held(held: Found, winner: Found) -> str:
    if winner.rule is held.rule:
        return READ_WHERE_SHOWN
    name = winner.declaration.name
    return f"the rule {winner.rule.named} has to win over it with '{name}'; write '!important' there"


def _replaces(later: Declaration, earlier: Declaration) -> bool:
    return later.name == earlier.name and later.is_plain and not later.important


def _attribute_text(declaration: Declaration, quote: str) -> str:
    value = declaration.value + (" !important" if declaration.important else "")
    other = "'" if quote == '"' else '"'
    if other not in value and "\\" not in value:
        value = value.replace(quote, other)
    return f"{declaration.name}:{value}".replace("&", "&amp;").replace(quote, "&#34;" if quote == '"' else "&#39;")


def _edit(tag: Tag, style: Attribute | None, text: str) -> Edit:
    if style is None:
        after_name = tag.start + 1 + len(tag.name)
        return Edit(tag.file, after_name, after_name, f' style="{text}"')
    if not style.quote:
        own = f";{style.value}" if style.value else ""
        return Edit(tag.file, style.start, style.end, f'style="{text}{own}"'.replace("\n", " "))
    return Edit(tag.file, style.value_start, style.value_start, f"{text};" if style.value.strip() else text)
