"""The guard: follows the HTML of a part through its template's branches, and wraps what is printed.

The files of a part are walked as Jinja runs them: includes and blocks where they stand, macros and `set` blocks
as fragments of their own, which have to end in the text in which they began. A value is wrapped in the filters
that its places ask for; an address into which values are printed is wrapped as a whole. What no filter makes safe,
and what stands in a place that differs from branch to branch, is a problem with its file and line.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from html import unescape
from typing import Any

from jinja2 import TemplateSyntaxError, nodes

from tasks.templates.catalogues import TRANSLATING
from tasks.templates.escaping import ADDRESS, GUARDS, ONE, OWN, QUOTED, STYLE, UNQUOTED
from tasks.templates.html import STYLES, TEXT, Edge, Place, Places, after, after_value

HOST_BEGINS = re.compile(r"\s*https?:[/\\]*[^/?#\\]*", re.IGNORECASE)
MOST_PLACES = 40
MOST_ROUNDS = 8
"""Rounds of a loop after which its end must be in a place that is known."""
NO_VALUE_ELEMENTS = frozenset(
    {"script", "object", "embed", "applet", "iframe", "frame", "base", "link", "param", "portal", "set"}
)
"""Elements whose attributes load or run something."""
DECIDING = frozenset({"http-equiv", "attributename", "srcdoc", "type", "is", "xmlns"})
"""Attributes that decide what others mean."""


@dataclass(frozen=True)
class Walk:
    """Where the walk is."""

    file: str
    chain: tuple[str, ...] = ()
    """Files that lead here, each with its line."""
    scope: dict[str, bool] = field(default_factory=dict)
    """Names that the template sets: whether only the author's own texts are in them."""
    blocks: dict[str, list[tuple[nodes.Block, str]]] = field(default_factory=dict)
    block: tuple[str, int] | None = None
    within: frozenset[tuple[str, int]] = frozenset()
    """Blocks that the walk is in."""

    def inner(self, **changes: Any) -> "Walk":  # noqa: ANN401
        """The same with a scope of its own."""
        return replace(self, **{"scope": dict(self.scope), **changes})

    @property
    def via(self) -> str:
        """How the file is reached, for the reader of a problem."""
        return f" (from {', '.join(reversed(self.chain))})" if self.chain else ""


@dataclass
class Printed:
    """An expression that is printed, and all places where it can be."""

    expression: nodes.Expr
    file: str
    via: str
    places: Places
    own: bool


class Guard:
    """Guards the files of one part; `trees` are what Jinja then compiles and the lowering walks."""

    def __init__(self, main: str, sources: Mapping[str, str], parse: Callable[[str], nodes.Template]) -> None:
        self.trees: dict[str, nodes.Template] = {}
        self.problems: list[str] = []
        self.unencoded: list[str] = []
        """Values in the query of an address that no `urlencode` has encoded, each with its file and line."""
        self._sources = sources
        self._parse = parse
        self._printed: dict[int, Printed] = {}
        self._edges: dict[int, set[tuple[Edge, ...]]] = {}
        self._covered: set[int] = set()
        self._covered_files: set[str] = set()
        if self._tree(main) is not None:
            ends = self._template(main, TEXT, Walk(main))
            self._ends_in_text(ends, main, 1, "the template", Walk(main))
        for tree in self.trees.values():
            tree.body = self._rebuilt(tree.body)
        self._tell_uncovered()

    def _tree(self, name: str) -> nodes.Template | None:
        if name not in self.trees and name in self._sources:
            try:
                self.trees[name] = self._parse(name)
            except (TemplateSyntaxError, RecursionError):
                return None  # told by whoever reads the templates
        return self.trees.get(name)

    # Where each text leads

    def _template(self, name: str, places: Places, walk: Walk) -> Places:
        tree = self._tree(name)
        if tree is None:
            return places
        for block in tree.find_all(nodes.Block):
            walk.blocks.setdefault(block.name, []).append((block, name))
        parent = next((node for node in tree.body if isinstance(node, nodes.Extends)), None)
        if parent is None:
            return self._body(tree.body, places, walk)
        for node in tree.body:
            if not isinstance(node, nodes.Output | nodes.Block | nodes.Extends):
                self._node(node, TEXT, walk)
        other = _constant(parent.template)
        if not isinstance(other, str) or other in _files(walk):
            return places
        chain = (*walk.chain, f"{name}, line {parent.lineno}")
        return self._template(other, places, replace(walk, file=other, chain=chain))

    def _body(self, body: Iterable[nodes.Node], places: Places, walk: Walk) -> Places:
        for node in body:
            places = self._node(node, places, walk)
            if len(places) > MOST_PLACES:
                self._problem(node.lineno, "the HTML can be in too many states here", walk)
                places = frozenset(sorted(places, key=repr)[:1])
        return places

    def _node(self, node: nodes.Node, places: Places, walk: Walk) -> Places:  # noqa: PLR0911, PLR0912
        match node:
            case nodes.Output():
                return self._output(node, places, walk)
            case nodes.If():
                return self._if(node, places, walk)
            case nodes.For():
                return self._for(node, places, walk)
            case nodes.Block():
                return self._block(node.name, 0, places, walk)
            case nodes.Include():
                return self._include(node, places, walk)
            case nodes.Import() | nodes.FromImport():
                self._import(node, walk)
            case nodes.Extends():
                what = "an 'extends' in a condition; extend one file, and write the condition in its blocks"
                self._problem(node.lineno, what, walk)
            case nodes.Assign(target=nodes.Name(name=name)):
                walk.scope[name] = self._is_own(node.node, walk)
            case nodes.AssignBlock(target=nodes.Name(name=name)):
                self._fragment(node.body, node.lineno, "the 'set' block", walk.inner())
                walk.scope[name] = node.filter is None and all(self._own_output(each) for each in node.body)
            case nodes.Macro():
                inner = walk.inner()
                inner.scope.update({each.name: self._is_constant_argument(node, each.name) for each in node.args})
                self._fragment(node.body, node.lineno, f"the macro '{node.name}'", inner)
            case nodes.CallBlock():
                self._fragment(node.body, node.lineno, "the 'call' block", walk.inner())
                self._needs_text(node, places, "a 'call' block", walk)
            case nodes.FilterBlock():
                self._fragment(node.body, node.lineno, "the 'filter' block", walk.inner())
                self._needs_text(node, places, "a 'filter' block", walk)
            case nodes.With():
                inner = walk.inner()
                for target, value in zip(node.targets, node.values, strict=True):
                    if isinstance(target, nodes.Name):
                        inner.scope[target.name] = self._is_own(value, walk)
                return self._body(node.body, places, inner)
            case nodes.ScopedEvalContextModifier(options=options) if not all(map(_is_true, options)):
                self._problem(node.lineno, "escaping cannot be switched off in HTML; mark a text as safe", walk)
                return self._body(node.body, places, walk)
            case nodes.Scope() | nodes.ScopedEvalContextModifier():
                return self._body(node.body, places, walk.inner())
        return places

    def _output(self, node: nodes.Output, places: Places, walk: Walk) -> Places:
        for child in node.nodes:
            if isinstance(child, nodes.TemplateData):
                ends: set[Place] = set()
                shown = [place for place in places if not place.in_comment] or list(places)
                for place in places:
                    found, edges = after(place, child.data)
                    ends |= found
                    if place in shown:
                        self._edges.setdefault(id(child), set()).add(edges)
                places = frozenset(ends)
            elif (block := printed_block(child, walk.block)) is not None:
                places = self._block(*block, places, walk)
            else:
                self._print(child, places, walk)
                places = frozenset(end for place in places for end in after_value(place))
        return places

    def _print(self, expression: nodes.Expr, places: Places, walk: Walk) -> None:
        for call in _of_kind(expression, nodes.Call):
            texts = [each.value for each in call.args if isinstance(each, nodes.Const)]
            if getattr(call.node, "name", "") in TRANSLATING and any("<" in str(text) for text in texts):
                self._problem(call.lineno, "a text to be translated has markup; translate texts only", walk)
        expression = _unwrapped(expression)
        own = self._is_own(expression, walk)
        known = self._printed.get(id(expression))
        if known is not None:
            places, own = places | known.places, own and known.own
        self._printed[id(expression)] = Printed(expression, walk.file, walk.via, places, own)

    def _if(self, node: nodes.If, places: Places, walk: Walk) -> Places:
        ends: Places = frozenset()
        scopes: list[dict[str, bool]] = []
        for body in (node.body, *(each.body for each in node.elif_), node.else_):
            inner = walk.inner()
            ends |= self._body(body, places, inner)
            scopes.append(inner.scope)
        for name in {name for scope in scopes for name in scope}:
            walk.scope[name] = all(scope.get(name, False) for scope in scopes)
        return ends

    def _for(self, node: nodes.For, places: Places, walk: Walk) -> Places:
        inner = walk.inner()
        for target in (
            node.target.find_all(nodes.Name) if not isinstance(node.target, nodes.Name) else [node.target]
        ):
            inner.scope[target.name] = self._is_own(node.iter, walk)
        once = places
        for _ in range(MOST_ROUNDS):
            more = once | self._body(node.body, once, inner)
            if more == once:
                break
            once = more
        else:
            self._problem(node.lineno, "the loop ends in another state of the HTML in each round", walk)
        return once | self._body(node.else_, places, walk.inner())

    def _block(self, name: str, depth: int, places: Places, walk: Walk) -> Places:
        found = walk.blocks.get(name, [])
        if depth >= len(found):
            return places
        block, file = found[depth]
        if (name, depth) in walk.within:
            self._problem(block.lineno, f"the block '{name}' shows itself", walk.inner(file=file))
            return places
        within = walk.within | {(name, depth)}
        return self._body(block.body, places, walk.inner(file=file, block=(name, depth), within=within))

    def _include(self, node: nodes.Include, places: Places, walk: Walk) -> Places:
        for name in fixed_names(node):
            if name in _files(walk) or name not in self._sources:
                continue
            chain = (*walk.chain, f"{walk.file}, line {node.lineno}")
            scope = dict(walk.scope) if node.with_context else {}
            ends = self._template(name, places, Walk(name, chain, scope))
            if ends != places:
                self._problem(
                    node.lineno, f"the include of '{name}' does not end where it begins in the HTML", walk
                )
        return places

    def _import(self, node: nodes.Import | nodes.FromImport, walk: Walk) -> None:
        name = _constant(node.template)
        inner = Walk(str(name), (*walk.chain, f"{walk.file}, line {node.lineno}"))
        if isinstance(name, str) and name not in _files(walk):
            self._template(name, TEXT, inner)
        if isinstance(node, nodes.Import):
            walk.scope[node.target] = False
            walk.scope.update({f"{node.target}.{each}": own for each, own in inner.scope.items()})
        else:
            for each in node.names:
                original, alias = each if isinstance(each, tuple) else (each, each)
                walk.scope[alias] = inner.scope.get(original, False)

    def _fragment(self, body: list[nodes.Node], line: int, what: str, walk: Walk) -> None:
        self._ends_in_text(self._body(body, TEXT, walk), walk.file, line, what, walk)

    def _ends_in_text(self, ends: Places, file: str, line: int, what: str, walk: Walk) -> None:
        if any(end.state not in {"data", "entityData", "plaintext"} or end.pending for end in ends):
            self._problem(line, f"{what} ends inside a tag, a comment or a raw element", replace(walk, file=file))

    def _needs_text(self, node: nodes.Node, places: Places, what: str, walk: Walk) -> None:
        if any(place.state not in {"data", "rcdata", "entityData"} and not place.in_comment for place in places):
            self._problem(node.lineno, f"{what} stands inside a tag, a script or a style", walk)

    # Whose text it is

    def _is_own(self, expression: nodes.Node, walk: Walk) -> bool:  # noqa: PLR0911
        """Whether only texts of the author can be in it, no value of a profile or of content."""
        match expression:
            case nodes.Const() | nodes.TemplateData():
                return True
            case nodes.Name(name=name):
                return walk.scope.get(name, False)
            case nodes.Getattr(node=nodes.Name(name=module), attr=name):
                return walk.scope.get(f"{module}.{name}", False)
            case nodes.CondExpr():
                other = expression.expr2 is None or self._is_own(expression.expr2, walk)
                return self._is_own(expression.expr1, walk) and other
            case nodes.List(items=items) | nodes.Tuple(items=items) | nodes.Concat(nodes=items):
                return all(self._is_own(each, walk) for each in items)
            case nodes.Add(left=left, right=right):
                return self._is_own(left, walk) and self._is_own(right, walk)
            case nodes.Filter(node=nodes.Expr() as inner, name="safe" | "upper" | "lower" | "trim"):
                return self._is_own(inner, walk)
        return False

    def _own_output(self, node: nodes.Node) -> bool:
        return isinstance(node, nodes.Output) and all(
            isinstance(child, nodes.TemplateData) or self._printed[id(_unwrapped(child))].own
            for child in node.nodes
        )

    def _is_constant_argument(self, macro: nodes.Macro, name: str) -> bool:
        """Whether every call of a macro gives it a constant, or its default is one."""
        position = [each.name for each in macro.args].index(name)
        first_default = len(macro.args) - len(macro.defaults)
        if position >= first_default and not isinstance(macro.defaults[position - first_default], nodes.Const):
            return False
        called = False
        for each in list(self._sources):
            tree = self._tree(each)
            for call in tree.find_all(nodes.Call) if tree is not None else []:
                if getattr(call.node, "name", getattr(call.node, "attr", None)) != macro.name:
                    continue
                called = True
                given = dict(enumerate(call.args)).get(position)
                given = next((pair.value for pair in call.kwargs if pair.key == name), given)
                if call.dyn_args or call.dyn_kwargs or not (given is None or isinstance(given, nodes.Const)):
                    return False
        return called

    # What is printed

    def _rebuilt(self, body: list[nodes.Node]) -> list[nodes.Node]:
        """The statements, values wrapped, and each address with values in it as one."""
        made: list[nodes.Node] = []
        begun: tuple[int, str, str] | None = None
        for node in body:
            for piece in self._pieces(node):
                if isinstance(piece, Edge):
                    if begun is not None:
                        self._close(made, *begun)
                    begun = (len(made), piece.region, piece.attribute) if piece.region else None
                else:
                    made.append(piece)
        return _merged(made)

    def _pieces(self, node: nodes.Node) -> Iterator[nodes.Node | Edge]:
        if not isinstance(node, nodes.Output):
            for name in ("body", "else_"):
                if isinstance(getattr(node, name, None), list):
                    setattr(node, name, self._rebuilt(getattr(node, name)))
            for other in getattr(node, "elif_", ()):
                other.body = self._rebuilt(other.body)
            if isinstance(node, nodes.FilterBlock | nodes.AssignBlock) and node.filter is not None:
                node.filter = _filter("escape", node.filter)
            yield node
            return
        for child in node.nodes:
            if isinstance(child, nodes.TemplateData):
                yield from self._cut(child)
                continue
            printed = self._printed.get(id(_unwrapped(child)))
            if printed is not None and all(place.state == "beforeAttributeValue" for place in printed.places):
                begins = next(iter(after_value(min(printed.places, key=repr))))
                if begins.region:
                    yield Edge(0, begins.region, begins.attribute)
            shown = child if printed is None else self._wrapped(printed)
            yield nodes.Output([shown], lineno=child.lineno)

    def _cut(self, data: nodes.TemplateData) -> Iterator[nodes.Node | Edge]:
        """A text of the template, cut where an address begins or ends."""
        known = self._edges.get(id(data), set())
        start = 0
        for edge in next(iter(known)) if len(known) == 1 else ():
            yield _text(data.data[start : edge.offset], data.lineno)
            yield edge
            start = edge.offset
        yield _text(data.data[start:], data.lineno)

    def _close(self, made: list[nodes.Node], start: int, region: str, attribute: str) -> None:
        inside = made[start:]
        values = [_unwrapped(child) for node in inside for child in _outputs(node)]
        self._covered.update(map(id, values))
        others = [each for node in inside for each in _of_kind(node, nodes.Include, nodes.Block)]
        if not others and all(self._printed[id(each)].own for each in values if id(each) in self._printed):
            return
        self._covered_files.update(
            name for each in others if isinstance(each, nodes.Include) for name in fixed_names(each)
        )
        first = inside[0].nodes[0] if isinstance(inside[0], nodes.Output) else None
        own_text = first.data if isinstance(first, nodes.TemplateData) else ""
        line = values[0].lineno if values else inside[0].lineno
        suffix = _end_of_host(own_text, inside) if region == "address" else ""
        guard = _filter(ADDRESS, nodes.Const("", lineno=line), attribute, region, own_text, suffix)
        guard.node = None
        made[start:] = [nodes.FilterBlock(_merged(inside), guard, lineno=line)]

    def _wrapped(self, printed: Printed) -> nodes.Expr:
        expression = printed.expression
        where = Walk(printed.file)
        places = frozenset(next(iter(after_value(place))) for place in printed.places)
        shown = frozenset(place for place in places if not place.in_comment)
        treatments = {_treatment(place, expression, printed.own) for place in shown}
        refused = sorted(each for each in treatments if isinstance(each, str))
        if refused or len(treatments) > 1:
            why = refused[0] if refused else "stands in another part of the HTML in each branch"
            self._problem(expression.lineno, f"a value {why}", where, printed.via)
            return expression
        attribute = min((place.attribute for place in shown), default="")
        for name in next(iter(treatments), ()):
            expression = _filter(name, expression, *((attribute,) if name in {ONE, STYLE} else ()))
        if not printed.own and any(place.region and place.value[:1] == "?" for place in shown):
            self._tell_unencoded(printed)
        return expression

    def _tell_unencoded(self, printed: Printed) -> None:
        shown = printed.expression
        encoded = isinstance(shown, nodes.Filter) and shown.name in {"urlencode", "int", "length", "count", "round"}
        if not encoded and not isinstance(shown, nodes.Filter | nodes.Call):
            told = f"{printed.file}, line {shown.lineno}: a value in the query of an address is not encoded"
            if told not in self.unencoded:
                self.unencoded.append(told)

    def _tell_uncovered(self) -> None:
        for key, printed in self._printed.items():
            dynamic = {end.region for place in printed.places for end in after_value(place) if not end.in_comment}
            if dynamic - {""} and not printed.own and key not in self._covered:
                if printed.file in self._covered_files:
                    continue
                what = "the address that a value stands in does not begin and end in the same branch"
                self._problem(printed.expression.lineno, what, Walk(printed.file), printed.via)

    def _problem(self, line: int, what: str, walk: Walk, via: str | None = None) -> None:
        problem = f"{walk.file}, line {line}{walk.via if via is None else via}: {what}"
        if problem not in self.problems:
            self.problems.append(problem)


def _treatment(place: Place, expression: nodes.Expr, own: bool) -> tuple[str, ...] | str:  # noqa: PLR0911
    """The filters that a value printed here goes through, or why none can be printed."""
    if place.state in {"data", "rcdata", "plaintext", "entityData", "characterReferenceInRcdata"}:
        return ()
    if place.state.startswith(("rawtext", "script")):
        if own:
            return (OWN,)
        json = dict(place.attributes).get("type", "").strip().lower() == "application/ld+json"
        if place.element == "script" and json and isinstance(expression, nodes.Filter):
            return () if expression.name == "tojson" else "stands inside <script>; there only 'tojson' is safe"
        return f"stands inside <{place.element}>, where no value is safe"
    if not place.in_value:
        return "stands inside a tag, but not in the value of an attribute, where no value is safe"
    quotes = (QUOTED,) if place.state != "attributeValueUnQuoted" else (UNQUOTED,)
    if place.attribute.startswith("on") and not own:
        return f"stands inside the event handler '{place.attribute}', where no value is safe"
    if place.attribute in DECIDING and not own:
        return f"stands inside '{place.attribute}', where no value is safe"
    if place.element in NO_VALUE_ELEMENTS and not own:
        return f"stands inside an attribute of <{place.element}>, where no value is safe"
    if own:
        return quotes
    if place.region in {"list", "style"}:
        return (ONE, *quotes)
    if place.attribute in STYLES:
        return (STYLE, *quotes)
    return quotes


def printed_block(expression: nodes.Expr, block: tuple[str, int] | None) -> tuple[str, int] | None:
    """The block that `super()` or `self.name()` prints; `block` is the one that it stands in, with its depth."""
    match expression:
        case nodes.Call(node=nodes.Name(name="super")) if block is not None:
            return block[0], block[1] + 1
        case nodes.Call(node=nodes.Getattr(node=nodes.Name(name="self"), attr=name)):
            return name, 0
    return None


def fixed_names(node: nodes.Stmt) -> list[str]:
    """Files that an include, import or extends names; none where a name is no fixed text."""
    template = node.template  # type: ignore[attr-defined]
    names = template.items if isinstance(template, nodes.List | nodes.Tuple) else [template]
    values = [name.value if isinstance(name, nodes.Const) else None for name in names]
    found = [each for value in values for each in (value if isinstance(value, list | tuple) else [value])]
    texts = [each for each in found if isinstance(each, str)]
    return texts if len(texts) == len(found) else []


def _is_true(option: nodes.Keyword) -> bool:
    return isinstance(option.value, nodes.Const) and option.value.value is True


def _constant(node: nodes.Node) -> object:
    return node.value if isinstance(node, nodes.Const) else None


def _files(walk: Walk) -> set[str]:
    """Files that the walk is in, which are not walked again within themselves."""
    return {walk.file, *(place.rsplit(", line ", 1)[0] for place in walk.chain)}


def _end_of_host(prefix: str, inside: list[nodes.Node]) -> str:
    """The template's own text that ends the host of an address after a value; "" where there is none."""
    if not HOST_BEGINS.fullmatch(unescape(prefix)):
        return ""
    outputs = [node for node in inside if isinstance(node, nodes.Output)]
    if len(outputs) < len(inside):
        return ""
    children = [child for node in outputs for child in node.nodes]
    last = ""
    for child in children[1:]:
        last = child.data if isinstance(child, nodes.TemplateData) else ""
        ended = re.search(r"[/?#\\]", unescape(last))
        if ended:
            return unescape(last)[: ended.start()]
    return last


def _filter(name: str, node: nodes.Expr, *arguments: object) -> nodes.Filter:
    constants: list[nodes.Expr] = [nodes.Const(each, lineno=node.lineno) for each in arguments]
    return nodes.Filter(node, name, constants, [], None, None, lineno=node.lineno)


def _text(data: str, line: int) -> nodes.Output:
    return nodes.Output([nodes.TemplateData(data, lineno=line)], lineno=line)


def _outputs(node: nodes.Node) -> Iterator[nodes.Expr]:
    """What a statement prints, but for texts."""
    for output in _of_kind(node, nodes.Output):
        yield from (child for child in output.nodes if not isinstance(child, nodes.TemplateData))


def _of_kind(node: nodes.Node, *kinds: type[nodes.Node]) -> Iterator[Any]:
    if isinstance(node, kinds):
        yield node
    yield from node.find_all(kinds)


def _merged(statements: list[nodes.Node]) -> list[nodes.Node]:
    """The statements with neighbouring outputs made one, and neighbouring texts."""
    made: list[nodes.Node] = []
    for node in statements:
        last = made[-1] if made else None
        if not (isinstance(node, nodes.Output) and isinstance(last, nodes.Output)):
            made.append(node)
            continue
        for child in node.nodes:
            before = last.nodes[-1]
            if isinstance(child, nodes.TemplateData) and isinstance(before, nodes.TemplateData):
                last.nodes[-1] = nodes.TemplateData(before.data + child.data, lineno=before.lineno)
            else:
                last.nodes.append(child)
    return made


def _unwrapped(expression: nodes.Expr) -> nodes.Expr:
    while isinstance(expression, nodes.Filter) and expression.name in GUARDS and expression.node is not None:
        expression = expression.node
    return expression
