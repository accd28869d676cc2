"""Fields that templates use: every name that is no variable of the templates themselves, with its file and line.

The files of a part are walked as Jinja runs them, so that an include sees the variables of the file that includes
it, and the blocks of a base those that an extending file sets at its top.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

from jinja2 import Environment, nodes

from tasks.errors import TemplatesInvalid
from tasks.templates.environment import CampaignEnvironment
from tasks.templates.fields import ELEMENT, Fields, Path, Use
from tasks.templates.guard import fixed_names
from tasks.templates.reading import Templates

LOCAL: Path = ()
"""What a variable of the template stands for: no field."""
RESERVED = ("self", "super", "caller", "varargs", "kwargs")
MAYBE: Path = ("?",)
"""A variable that only some branches set; elsewhere its name is a field's."""


@dataclass(frozen=True)
class Walk:
    """Where the walk is."""

    file: str
    scope: dict[str, Path]
    """Variables of the template: `LOCAL`, `MAYBE`, or the element of a list that a loop is at."""
    chain: tuple[str, ...] = ()
    blocks: dict[str, list[tuple[nodes.Block, str]]] = field(default_factory=dict)
    top: dict[str, Path] = field(default_factory=dict)
    """Variables that blocks see."""
    isolated: bool = False
    """Imported without context, so that it sees no field."""
    required: bool = True
    asked: frozenset[str] | None = None
    """Macros of an imported file that are used; None for all."""

    def inner(self, **changes: Any) -> "Walk":  # noqa: ANN401
        """The same with variables of its own."""
        return replace(self, **{"scope": dict(self.scope), **changes})

    @property
    def via(self) -> str:
        """How the file is reached."""
        return f" (from {', '.join(reversed(self.chain))})" if self.chain else ""


def uses_of(templates: Templates) -> list[Use]:
    """Every field that the templates name. Needs templates that parse."""
    found: dict[Use, None] = {}
    environment = CampaignEnvironment(templates.sources)
    for name in dict.fromkeys(templates.parts.values()):
        scope = dict.fromkeys((*environment.globals, *RESERVED), LOCAL)
        uses = _Uses(environment, templates.sources)
        uses.template(name, Walk(name, scope))
        found.update(dict.fromkeys(uses.found))
    return list(found)


class _Uses:
    """The walk over the files of one part."""

    def __init__(self, environment: Environment, sources: Mapping[str, str]) -> None:
        self.found: list[Use] = []
        self._environment = environment
        self._sources = sources
        self._trees: dict[str, nodes.Template] = {}

    def _tree(self, name: str) -> nodes.Template:
        if name not in self._trees:
            self._trees[name] = self._environment.parse(self._sources[name], name)
        return self._trees[name]

    def template(self, name: str, walk: Walk) -> None:
        """Walk a file."""
        tree = self._tree(name)
        for block in tree.find_all(nodes.Block):
            walk.blocks.setdefault(block.name, []).append((block, name))
        # A macro may call one that is defined after it.
        walk.scope.update({node.name: LOCAL for node in tree.body if isinstance(node, nodes.Macro)})
        parent = next((node for node in tree.body if isinstance(node, nodes.Extends)), None)
        top = replace(walk, top=walk.scope)
        if parent is None:
            self._body((node for node in tree.body if _is_asked(node, walk, tree)), top)
            return
        self._body([node for node in tree.body if not isinstance(node, nodes.Output | nodes.Block)], top)
        if (other := self._other(parent.template, walk)) is not None:
            self.template(other, replace(walk, file=other, chain=_chained(walk, parent)))

    def _other(self, node: nodes.Node, walk: Walk) -> str | None:
        """A file that is named in the template, unless the walk is in it already."""
        name = node.value if isinstance(node, nodes.Const) else None
        seen = {walk.file, *(place.rsplit(", line ", 1)[0] for place in walk.chain)}
        return name if isinstance(name, str) and name in self._sources and name not in seen else None

    def _body(self, body: Iterable[nodes.Node], walk: Walk) -> None:
        for node in body:
            self._node(node, walk)

    def _node(self, node: nodes.Node, walk: Walk) -> None:  # noqa: PLR0912
        match node:
            case nodes.If():
                self._if(node, walk)
            case nodes.For():
                self._for(node, walk)
            case nodes.Assign():
                self._node(node.node, walk)
                walk.scope.update(dict.fromkeys(_stored(node.target), LOCAL))
            case nodes.AssignBlock():
                self._body([*([node.filter] if node.filter else []), *node.body], walk.inner())
                walk.scope.update(dict.fromkeys(_stored(node.target), LOCAL))
            case nodes.With():
                inner = walk.inner()
                for target, value in zip(node.targets, node.values, strict=True):
                    self._node(value, walk)
                    inner.scope.update(dict.fromkeys(_stored(target), LOCAL))
                self._body(node.body, inner)
            case nodes.Macro() | nodes.CallBlock():
                if isinstance(node, nodes.CallBlock):
                    self._node(node.call, walk)
                else:
                    walk.scope[node.name] = LOCAL
                inner = walk.inner()
                names = [argument.name for argument in node.args]
                defaults = dict(zip(reversed(names), reversed(node.defaults), strict=False))
                for name in names:
                    # A default sees the arguments before it.
                    self._body([defaults[name]] if name in defaults else [], inner)
                    inner.scope[name] = LOCAL
                self._body(node.body, inner)
            case nodes.Block():
                blocks = walk.blocks.get(node.name, [(node, walk.file)])
                top = {name: path for name, path in walk.top.items() if not name.startswith("_")}
                scope = {**walk.scope, **top} if node.scoped else dict(top)
                for block, file in blocks:
                    self._body(block.body, walk.inner(file=file, scope=dict(scope)))
            case nodes.Include():
                self._include(node, walk)
            case nodes.Import() | nodes.FromImport():
                self._import(node, walk)
            case nodes.FilterBlock() | nodes.Scope() | nodes.ScopedEvalContextModifier():
                self._body(node.iter_child_nodes(), walk.inner())
            case _:
                self._expression(node, walk)

    def _if(self, node: nodes.If, walk: Walk) -> None:
        scopes = []
        for branch in (node, *node.elif_):
            self._tested(branch.test, walk)
        for body in (node.body, *(branch.body for branch in node.elif_), node.else_):
            inner = walk.inner(required=False)
            self._body(body, inner)
            scopes.append(inner.scope)
        for name in {name for scope in scopes for name in scope}:
            found = {scope.get(name) for scope in scopes}
            walk.scope[name] = (found.pop() or LOCAL) if len(found) == 1 else MAYBE

    def _for(self, node: nodes.For, walk: Walk) -> None:
        self._node(node.iter, walk)
        inner = walk.inner(required=False)
        inner.scope.update(dict.fromkeys((*_stored(node.target), "loop"), LOCAL))
        whole = node.iter.node if _is_slice(node.iter) else node.iter
        element = self._path(whole, walk)
        if element is not None and isinstance(node.target, nodes.Name):
            inner.scope[node.target.name] = (*element[0], ELEMENT)
        self._body([*([node.test] if node.test else []), *node.body], inner)
        self._body(node.else_, walk.inner(required=False))

    def _include(self, node: nodes.Include, walk: Walk) -> None:
        for each in fixed_names(node):
            other = self._other(nodes.Const(each), walk)
            if other is not None:
                self.template(other, self._apart(other, node, walk, with_context=node.with_context))

    def _import(self, node: nodes.Import | nodes.FromImport, walk: Walk) -> None:
        if isinstance(node, nodes.Import):
            attributes = self._tree(walk.file).find_all(nodes.Getattr)
            asked = {each.attr for each in attributes if getattr(each.node, "name", None) == node.target}
            names = [node.target]
        else:
            pairs = [each if isinstance(each, tuple) else (each, each) for each in node.names]
            asked, names = {original for original, _ in pairs}, [alias for _, alias in pairs]
        if (other := self._other(node.template, walk)) is not None:
            inner = self._apart(other, node, walk, with_context=node.with_context)
            self.template(other, replace(inner, asked=frozenset(asked)))
        walk.scope.update(dict.fromkeys(names, LOCAL))

    def _apart(self, file: str, node: nodes.Stmt, walk: Walk, *, with_context: bool) -> Walk:
        globals_ = dict.fromkeys(self._environment.globals, LOCAL)
        scope = dict(walk.scope) if with_context else globals_
        return Walk(
            file, scope, _chained(walk, node), isolated=walk.isolated or not with_context, required=walk.required
        )

    def _expression(self, node: nodes.Node, walk: Walk) -> None:
        path = self._path(node, walk)
        if path is not None:
            self._use(node, *path, walk)
            return
        match node:
            case nodes.Filter(name="default" | "d", node=nodes.Expr() as value):
                self._node(value, replace(walk, required=False))
                self._body([*node.args, *(pair.value for pair in node.kwargs)], walk)
            case nodes.Test(name="defined" | "undefined" | "none", node=value):
                self._node(value, replace(walk, required=False))
            case nodes.CondExpr():
                self._tested(node.test, walk)
                chosen = [each for each in (node.expr1, node.expr2) if each is not None]
                self._body(chosen, replace(walk, required=False))
            case nodes.And(left=test, right=right) | nodes.Or(left=test, right=right):
                self._tested(test, walk)
                self._node(right, replace(walk, required=False))
            case _:
                self._body(node.iter_child_nodes(), walk)

    def _tested(self, test: nodes.Node, walk: Walk) -> None:
        """Uses in a condition: a field alone, or what `not`, `and` and `or` make of it, may be missing."""
        match test:
            case nodes.Not(node=inner):
                self._tested(inner, walk)
            case nodes.And(left=left, right=right) | nodes.Or(left=left, right=right):
                self._tested(left, walk)
                self._tested(right, walk)
            case _:
                alone = self._path(test, walk) is not None
                self._node(test, replace(walk, required=walk.required and not alone))

    def _path(self, node: nodes.Node, walk: Walk) -> tuple[Path, bool] | None:
        """The path of a field, and whether its name is a variable's in some branches; None for all else."""
        match node:
            case nodes.Name(name=name, ctx="load"):
                known = walk.scope.get(name, LOCAL if name in RESERVED else None)
                if known is None or known == MAYBE:
                    return (name,), known == MAYBE
                return (known, False) if known else None
            case nodes.Getattr(node=inner, attr=attribute):
                pass
            case nodes.Getitem(node=inner, arg=nodes.Const(value=str(attribute))):
                pass
            case _:
                return None
        parent = self._path(inner, walk)
        return None if parent is None else ((*parent[0], attribute), parent[1])

    def _use(self, node: nodes.Node, path: Path, assigned: bool, walk: Walk) -> None:
        self.found.append(Use(walk.file, node.lineno, path, walk.required, assigned, walk.via, walk.isolated))


def _is_asked(node: nodes.Node, walk: Walk, tree: nodes.Template) -> bool:
    """Whether a statement of an imported file is run: a macro only if it is used."""
    if walk.asked is None or not isinstance(node, nodes.Macro):
        return True
    called = {call.node.name for call in tree.find_all(nodes.Call) if isinstance(call.node, nodes.Name)}
    return node.name in walk.asked | called


def _chained(walk: Walk, node: nodes.Node) -> tuple[str, ...]:
    return (*walk.chain, f"{walk.file}, line {node.lineno}")


def _stored(target: nodes.Node) -> list[str]:
    names = [target] if isinstance(target, nodes.Name) else list(target.find_all(nodes.Name))
    return [name.name for name in names]


def _is_slice(node: nodes.Node) -> TypeGuard[nodes.Getitem]:
    return isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)


def path_of(node: nodes.Node) -> Path | None:
    """The path that a name with attributes makes."""
    match node:
        case nodes.Name(name=name, ctx="load"):
            return (name,)
        case nodes.Getattr(node=inner, attr=attribute):
            pass
        case nodes.Getitem(node=inner, arg=nodes.Const(value=str(attribute))):
            pass
        case _:
            return None
    parent = path_of(inner)
    return None if parent is None else (*parent, attribute)


def optional_fields(templates: Templates, fields: Fields) -> list[Path]:
    """Fields without which there is a message all the same: everywhere tested, or with a default."""
    needed = required_uses(templates, fields)
    every = (fields.resolve(use) for use in uses_of(templates))
    return list(dict.fromkeys(path for path in every if isinstance(path, tuple) and path not in needed))


def required_uses(templates: Templates, fields: Fields) -> dict[Path, list[Use]]:
    """Fields without which there is no message, each with the places that print it without a default."""
    needed: dict[Path, list[Use]] = {}
    for use in uses_of(templates):
        found = fields.resolve(use)
        if use.required and isinstance(found, tuple):
            needed.setdefault(found, []).append(use)
    return needed


def resolved_uses(templates: Templates, fields: Fields) -> dict[Path, Path]:
    """Each path that the templates name, and the field that it is.

    Errors: `TemplatesInvalid`, listing with file and line every name that no field has.
    """
    resolved: dict[Path, Path] = {}
    problems: list[str] = []
    for use in uses_of(templates):
        found = fields.resolve(use)
        if isinstance(found, str):
            if not use.assigned:
                problems.append(found)
        else:
            resolved[use.path] = found
    if problems:
        unique = list(dict.fromkeys(problems))
        raise TemplatesInvalid(folder=templates.folder, count=len(unique), errors="; ".join(unique))
    return resolved
