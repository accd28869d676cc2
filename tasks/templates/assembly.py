"""The HTML of a part as it is assembled of its files: tags and style sheets in the order in which they are shown.

Blocks stand where the base has them, included files where they are included, and every branch is there once.
Macros, `set` and `call` blocks are apart: they are shown wherever they are called.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from html5lib.constants import voidElements
from jinja2 import nodes

from tasks.templates.guard import fixed_names, printed_block
from tasks.templates.html import RAW
from tasks.templates.located import VALUE, File, Placed, Tag
from tasks.templates.stylesheet import CHOICE, CHOSEN, READ_WHERE_SHOWN, Sheet, SheetText

DOCTYPE = re.compile(r"<!--.*?-->|(<!doctype[^>]*>)", re.IGNORECASE | re.DOTALL)
SCREENS = frozenset({"", "all", "screen"})


@dataclass(frozen=True)
class Walk:
    """Where the walk is."""

    file: str
    files: frozenset[str]
    """Files that the walk is in."""
    blocks: dict[str, list[tuple[nodes.Block, str]]] = field(default_factory=dict)
    block: tuple[str, int] | None = None
    within: frozenset[tuple[str, int]] = frozenset()
    """Blocks that the walk is in."""
    chosen: bool = False
    """Whether a condition or a loop stands around."""


class Assembly:
    """The markup of a part: `files` are those that it is made of."""

    def __init__(self, main: str, sources: Mapping[str, str]) -> None:
        self._sources = sources
        self.files: dict[str, File] = {}
        self.tags: list[Tag] = []
        """Of the page, in order; a tag that is shown in several places is there for each."""
        self.apart: list[Tag] = []
        """Of macros and their like, and of what only Outlook reads."""
        self.sheets: list[Sheet] = []
        self.style_tags: list[tuple[Tag, Tag | None]] = []
        """Start and end tag of each `<style>`."""
        self.unsure = ""
        """Where a branch does not close what it opens, so that it is not known what stands in what."""
        self.branches = False
        self._sheet: Sheet | None = None
        self._apart = False
        self._open: list[str] = []
        self._depth = 0
        self._walked: set[int] = set()
        self._template(main, Walk(main, frozenset({main})))

    @property
    def doctype(self) -> str:
        """The document type that stands before everything else; empty where there is none."""
        for file in self.files.values():
            found = next((each for each in DOCTYPE.finditer(file.masked) if each[1]), None)
            if found and not any(tag.file == file.name and tag.start < found.start() for tag in self.tags):
                return found[1]
        return ""

    def _file(self, name: str) -> File:
        if name not in self.files:
            self.files[name] = File(name, self._sources[name])
        return self.files[name]

    def _template(self, name: str, walk: Walk) -> None:
        tree = self._file(name).tree
        for block in tree.find_all(nodes.Block):
            walk.blocks.setdefault(block.name, []).append((block, name))
        parent = next((node for node in tree.body if isinstance(node, nodes.Extends)), None)
        if parent is None:
            self._body(tree.body, walk)
            return
        self._body((node for node in tree.body if not isinstance(node, nodes.Output | nodes.Block)), walk)
        for other in fixed_names(parent)[:1]:
            if other in self._sources and other not in walk.files:
                self._template(other, replace(walk, file=other, files=walk.files | {other}))

    def _body(self, body: Iterable[nodes.Node], walk: Walk) -> None:
        for node in body:
            self._node(node, walk)

    def _node(self, node: nodes.Node, walk: Walk) -> None:  # noqa: PLR0912
        match node:
            case nodes.Output():
                self._output(node, walk)
            case nodes.If():
                for body in (node.body, *(each.body for each in node.elif_), node.else_):
                    self._branch(body, node, walk)
            case nodes.For():
                self._branch(node.body, node, walk)
                self._branch(node.else_, node, walk)
            case nodes.Block():
                self._block(node.name, 0, walk)
            case nodes.Include():
                for name in [each for each in fixed_names(node) if each in self._sources][:1]:
                    if name not in walk.files:
                        self._template(name, Walk(name, walk.files | {name}, chosen=walk.chosen))
            case nodes.Import() | nodes.FromImport():
                for name in fixed_names(node):
                    if name in self._sources and name not in walk.files:
                        self._beside(self._file(name).tree.body, Walk(name, walk.files | {name}, chosen=True))
            case nodes.Macro() | nodes.CallBlock() | nodes.AssignBlock():
                self._beside(node.body, replace(walk, chosen=True))
            case _ if isinstance(getattr(node, "body", None), list):
                self._body(node.body, walk)  # type: ignore[attr-defined]

    def _beside(self, body: list[nodes.Node], walk: Walk) -> None:
        """What is shown where it is called."""
        if id(body) in self._walked:
            return
        self._walked.add(id(body))
        before, sheet, self._apart, self._sheet = self._apart, self._sheet, True, None
        self._body(body, walk)
        self._apart, self._sheet = before, sheet

    def _branch(self, body: list[nodes.Node], node: nodes.Node, walk: Walk) -> None:
        if not body:
            return
        self.branches = True
        self._add_style(CHOICE)
        before, self._open = self._open, []
        self._depth += 1
        self._body(body, replace(walk, chosen=True))
        self._depth -= 1
        if self._open:
            self._tell_unsure(f"{walk.file}, line {node.lineno}")
        self._open = before
        self._add_style(CHOICE)

    def _block(self, name: str, depth: int, walk: Walk) -> None:
        found = walk.blocks.get(name, [])
        if depth < len(found) and (name, depth) not in walk.within:
            block, file = found[depth]
            within = walk.within | {(name, depth)}
            self._body(block.body, replace(walk, file=file, block=(name, depth), within=within))

    def _output(self, node: nodes.Output, walk: Walk) -> None:
        for child in node.nodes:
            if isinstance(child, nodes.TemplateData):
                if isinstance(child.data, Placed):
                    self._text(child.data, walk)
            elif (block := printed_block(child, walk.block)) is not None:
                self._block(*block, walk)
            else:
                self._add_style(VALUE)

    def _text(self, text: Placed, walk: Walk) -> None:
        file = self._file(walk.file)
        at, end = text.start, text.start + len(text)
        outlooks = {tag.start for tag in file.outlook_tags_from(at, end)}
        tags = [*file.tags_from(at, end), *file.outlook_tags_from(at, end)]
        for tag in sorted(tags, key=lambda each: each.start):
            if tag.start in outlooks:
                self._outlook(file, tag)
                continue
            if self._sheet is not None:
                if not (tag.closing and tag.name == "style"):
                    continue
                self._add_text(file, at, tag.start, walk)
                self._end_sheet(tag)
            elif tag.name == "style" and not tag.closing:
                self._begin_sheet(tag, walk)
            self._tag(tag)
            at = max(tag.end, at)
        self._add_text(file, at, end, walk)

    def _outlook(self, file: File, tag: Tag) -> None:
        """A tag of a conditional comment. A style sheet there stays, and is like all others for Outlook."""
        if not tag.closing:
            self.apart.append(tag)
        if not tag.closing and tag.name == "style":
            end = next((each.start for each in file.outlook_tags if each.start >= tag.end), tag.end)
            text = SheetText(file.masked[tag.end : end], file.name, tag.end, tag.line)
            self.sheets.append(Sheet(READ_WHERE_SHOWN, [text]))

    def _begin_sheet(self, tag: Tag, walk: Walk) -> None:
        self.style_tags.append((tag, None))
        media, kind = tag.get("media"), tag.get("type")
        self._sheet = Sheet()
        if walk.chosen or tag.torn:
            self._sheet.stays = CHOSEN
        elif media is not None and media.value.strip().lower() not in SCREENS:
            self._sheet.stays = READ_WHERE_SHOWN
        if kind is None or kind.value.strip().lower() in {"", "text/css"}:
            self.sheets.append(self._sheet)

    def _end_sheet(self, tag: Tag) -> None:
        self._sheet = None
        self.style_tags[-1] = (self.style_tags[-1][0], tag)

    def _add_text(self, file: File, start: int, end: int, walk: Walk) -> None:
        if self._sheet is not None and start < end:
            text = SheetText(file.source[start:end], file.name, start, file.line(start), walk.chosen)
            self._sheet.texts.append(text)

    def _add_style(self, text: str) -> None:
        if self._sheet is not None:
            self._sheet.texts.append(SheetText(text))

    def _tag(self, tag: Tag) -> None:
        if self._apart:
            if not tag.closing:
                self.apart.append(tag)
            return
        self.tags.append(tag)
        if tag.torn:
            self._tell_unsure(tag.where)
        if tag.name in voidElements or tag.name in RAW:
            return
        if not tag.closing:
            self._open.append(tag.name)
        elif tag.name in self._open:
            while self._open.pop() != tag.name:
                pass
        elif self._depth:
            self._tell_unsure(tag.where)

    def _tell_unsure(self, where: str) -> None:
        self.unsure = self.unsure or where
