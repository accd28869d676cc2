"""Lowering: a template's syntax tree becomes polars expressions over a slice of profiles.

The tree is walked as Jinja would run it, but over all rows at once: a branch is the mask of the rows that take
it, a loop is a table with a row per element, and what would end a row's rendering is a mask with its reason, kept
in the order in which Jinja would meet it. What has no such form raises `CannotLower`, and the row path renders.
"""

from collections.abc import Iterable
from dataclasses import replace

import polars as pl
from jinja2 import nodes

from tasks.lowering import vectors
from tasks.lowering.columns import element_value
from tasks.lowering.expressions import Expressions, constant_text
from tasks.lowering.frames import (
    Binding,
    Frame,
    Macro,
    Module,
    Piece,
    Rounds,
    Space,
    Super,
    extend,
    joined,
    located,
    merge_scopes,
    zipped,
)
from tasks.lowering.operators import named, truth
from tasks.lowering.plan import Loop, Plan
from tasks.lowering.printing import printed_pieces
from tasks.lowering.vectors import Absent, CannotLower, Constant, Mask, Value, Vector, both, negated
from tasks.templates.fields import ELEMENT

LONGEST_UNROLLED = 200
"""Elements of a constant list that a loop may have."""
MOST_STEPS = 20_000
"""Statements that a part may unfold to."""
DEEPEST = 40
"""Macros and includes within each other."""


class Lowering(Expressions):
    """Lowers the parts of a message for slices of which the same facts are known."""

    _names = 0
    _steps = 0

    def _name(self) -> str:
        """A column name that no field has."""
        self._names += 1
        return f"\x00{self._names}"

    def plan(self, template: str) -> Plan:
        """The part that a template makes. Errors: `CannotLower`, with the construct, file and line."""
        space = Space(self._name)
        pieces = self._template(template, Frame(template, space, self._environment.html))
        return Plan(tuple(space.stages), joined(pieces), space.reason())

    def _tree(self, name: str) -> nodes.Template:
        return self._environment.parse(self._environment.sources[name], name)

    def _template(self, name: str, frame: Frame) -> list[Piece]:
        if frame.depth > DEEPEST:
            raise CannotLower("templates that include each other this deep")
        tree = self._tree(name)
        for block in tree.find_all(nodes.Block):
            frame.blocks.setdefault(block.name, []).append((block, name))
        parent = next((node for node in tree.body if isinstance(node, nodes.Extends)), None)
        if parent is None:
            return self._body(tree.body, frame)
        before = True
        for node in tree.body:
            match node:
                case nodes.Extends():
                    before = False
                case nodes.Output() if before:
                    raise located(node, frame, "text before 'extends'")
                case nodes.Output() | nodes.Block():
                    pass
                case nodes.Assign() | nodes.AssignBlock() | nodes.Macro() | nodes.Import() | nodes.FromImport():
                    self._body([node], frame)
                case _:
                    raise located(
                        node, frame, f"'{type(node).__name__.lower()}' outside the blocks of an extending template"
                    )
        parent_name = self._template_name(parent, frame)
        frame.template = parent_name
        frame.depth += 1
        return self._template(parent_name, frame)

    def _template_name(self, node: nodes.Extends | nodes.Import | nodes.FromImport, frame: Frame) -> str:
        if isinstance(node.template, nodes.Const) and node.template.value in self._environment.sources:
            return str(node.template.value)
        raise located(node, frame, "a template whose name is not a fixed text")

    def _body(self, body: Iterable[nodes.Node], frame: Frame) -> list[Piece]:
        pieces: list[Piece] = []
        for node in body:
            self._steps += 1
            if self._steps > MOST_STEPS:
                raise CannotLower("macros, loops and includes that unfold without end")
            try:
                extend(pieces, self._statement(node, frame))
            except CannotLower as reason:
                raise located(node, frame, reason.construct, reason) from None
        return pieces

    def _statement(self, node: nodes.Node, frame: Frame) -> list[Piece]:  # noqa: PLR0911, PLR0912
        match node:
            case nodes.Output():
                return self._output(node, frame)
            case nodes.If():
                return self._if(node, frame)
            case nodes.For():
                return self._for(node, frame)
            case nodes.Assign(target=nodes.Name(name=name)):
                frame.scope[name] = self._kept(self._value(node.node, frame), frame)
                return []
            case nodes.AssignBlock(target=nodes.Name(name=name)):
                inner = frame.inner(nested=True)
                text = self._markup(self._body(node.body, inner), inner)
                frame.scope[name] = text if node.filter is None else self._filtered(node.filter, frame, text)
                return []
            case nodes.FilterBlock():
                inner = frame.inner(nested=True)
                text = self._markup(self._body(node.body, inner), inner)
                return printed_pieces(self._filtered(node.filter, frame, text), frame)
            case nodes.With():
                values = [self._kept(self._value(value, frame), frame) for value in node.values]
                inner = frame.inner(nested=True)
                for target, value in zip(node.targets, values, strict=True):
                    if not isinstance(target, nodes.Name):
                        raise CannotLower("'with' that unpacks")
                    inner.scope[target.name] = value
                return self._body(node.body, inner)
            case nodes.Macro():
                # The frame as it is now: an extending template's goes on as that of the extended one.
                frame.scope[node.name] = Macro(node, replace(frame))
                return []
            case nodes.CallBlock():
                return self._call_block(node, frame)
            case nodes.Block():
                return self._block(node.name, 0, frame)
            case nodes.Include():
                return self._include(node, frame)
            case nodes.Import():
                frame.scope[node.target] = self._module(node, frame)
                return []
            case nodes.FromImport():
                self._from_import(node, frame)
                return []
            case nodes.Scope():
                return self._body(node.body, frame.inner(nested=True))
            case _:
                raise CannotLower(f"the statement '{type(node).__name__.lower()}'")

    def _output(self, node: nodes.Output, frame: Frame) -> list[Piece]:
        pieces: list[Piece] = []
        for child in node.nodes:
            try:
                if isinstance(child, nodes.TemplateData):
                    extend(pieces, [child.data])
                elif isinstance(child, nodes.Call) and (macro := self._macro_of(child, frame)) is not None:
                    extend(pieces, self._called(macro, child, frame))
                elif isinstance(child, nodes.CondExpr):
                    extend(pieces, self._conditional(child, frame))
                else:
                    extend(pieces, printed_pieces(self._value(child, frame), frame))
            except CannotLower as reason:
                raise located(child, frame, reason.construct, reason) from None
        return pieces

    def _conditional(self, node: nodes.CondExpr, frame: Frame) -> list[Piece]:
        # Without an else, Jinja prints nothing, also where a missing value is an error otherwise.
        chosen = nodes.Output([node.expr1], lineno=node.lineno)
        otherwise = [] if node.expr2 is None else [nodes.Output([node.expr2], lineno=node.lineno)]
        return self._if(nodes.If(node.test, [chosen], [], otherwise, lineno=node.lineno), frame)

    def _if(self, node: nodes.If, frame: Frame) -> list[Piece]:
        remaining: Mask = True
        branches: list[tuple[Mask, list[Piece]]] = []
        scopes: list[tuple[Mask, dict[str, Binding]]] = []
        for branch in (node, *node.elif_):
            here = frame.only(remaining)
            holds = frame.space.mask(truth(self._value(branch.test, here)))
            self._branch(branch.body, both(remaining, holds), frame, branches, scopes)
            remaining = both(remaining, negated(holds))
        self._branch(node.else_, remaining, frame, branches, scopes)
        merge_scopes(frame, scopes, lambda name: self._unset(name, frame))
        return zipped(branches)

    def _branch(
        self,
        body: list[nodes.Node],
        mask: Mask,
        frame: Frame,
        branches: list[tuple[Mask, list[Piece]]],
        scopes: list[tuple[Mask, dict[str, Binding]]],
    ) -> None:
        if mask is False:
            return
        mask = frame.space.mask(mask)
        inner = frame.only(mask)
        branches.append((mask, self._body(body, inner)))
        scopes.append((mask, inner.scope))

    def _for(self, node: nodes.For, frame: Frame) -> list[Piece]:
        if node.recursive:
            raise CannotLower("a recursive loop")
        if not isinstance(node.target, nodes.Name):
            raise CannotLower("a loop that unpacks")
        value = self._value(node.iter, frame)
        constants = [atom for _, atom in value if isinstance(atom, Constant)]
        if len(value) == 1 and constants and constants[0].value:
            return self._unrolled(node, constants[0], frame)
        sequences: list[tuple[Mask, vectors.Sequence]] = []
        for mask, atom in value:
            match atom:
                case Absent():
                    frame.fail(mask, atom.reason)
                case Constant(value=elements) if not elements and isinstance(elements, list | tuple):
                    pass
                case vectors.Sequence():
                    sequences.append((mask, atom))
                case _:
                    raise CannotLower(f"a loop over {named(atom)}")
        if len(sequences) > 1:
            raise CannotLower("a loop over one of several lists")
        if not sequences:
            return self._body(node.else_, frame.inner())
        return self._rounds(node, both(frame.active, sequences[0][0]), sequences[0][1], frame)

    def _unrolled(self, node: nodes.For, constant: Constant, frame: Frame) -> list[Piece]:
        elements = constant.value
        if not isinstance(elements, list | tuple) or len(elements) > LONGEST_UNROLLED or node.test is not None:
            raise CannotLower("a loop over such a constant")
        pieces: list[Piece] = []
        for index, element in enumerate(elements):
            inner = frame.inner(nested=True)
            inner.scope[node.target.name] = ((True, Constant(element)),)  # type: ignore[attr-defined]
            number, length = (pl.lit(each, pl.Int64()) for each in (index, len(elements)))
            inner.scope["loop"] = Rounds(number, length)
            extend(pieces, self._body(node.body, inner))
        return pieces

    def _rounds(self, node: nodes.For, mask: Mask, sequence: vectors.Sequence, frame: Frame) -> list[Piece]:
        name = self._name()
        path = (*sequence.path, ELEMENT)
        element = element_value(pl.col(f"{name}element"), sequence.element, path, self._facts)
        tests, body = Space(self._name), Space(self._name)
        inner = frame.inner(space=tests, active=True, nested=True)
        inner.scope[node.target.name] = element  # type: ignore[attr-defined]
        test: Mask = True
        if node.test is not None:
            test = truth(self._value(node.test, inner))
            if tests.failures and any(
                name.name == "loop" for each in node.body for name in each.find_all(nodes.Name)
            ):
                raise CannotLower("'loop' where the loop's condition can fail")
        inner.space = body
        inner.scope["loop"] = Rounds(pl.col(f"{name}index"), pl.col(f"{name}length"))
        pieces = self._body(node.body, inner)
        reason = body.reason()
        loop = Loop(
            name,
            sequence.expr if mask is True else pl.when(mask).then(sequence.expr),
            tuple(tests.stages),
            test,
            tests.reason(),
            tuple(body.stages),
            joined(pieces),
            pl.lit(None, pl.String()) if reason is None else reason,
        )
        frame.space.stages.append(loop)
        if reason is not None or tests.failures:
            failed = pl.col(f"{name}reason")
            frame.fail(failed.is_not_null(), failed)
        text = pl.col(name)
        if not node.else_:
            return [text.fill_null("")]
        none = frame.space.mask(text.is_null())
        otherwise = self._body(node.else_, frame.only(none))
        return zipped([(negated(none), [text]), (none, otherwise)])

    def _block(self, name: str, depth: int, frame: Frame) -> list[Piece]:
        if frame.nested:
            raise CannotLower("a block inside a loop or another statement")
        node, template = frame.blocks[name][depth]
        exported = {each: bound for each, bound in frame.scope.items() if not each.startswith("_")}
        inner = frame.inner(template=template, scope=exported, depth=frame.depth + 1)
        if depth + 1 < len(frame.blocks[name]):
            inner.scope["super"] = Super(name, depth + 1)
        return self._body(node.body, inner)

    def _include(self, node: nodes.Include, frame: Frame) -> list[Piece]:
        if not isinstance(node.template, nodes.Const) or node.template.value not in self._environment.sources:
            raise CannotLower("an include whose name is not a fixed text")
        name = node.template.value
        scope = dict(frame.scope) if node.with_context else {}
        return self._template(name, self._apart(name, scope, node.with_context, frame))

    def _module(self, node: nodes.Import | nodes.FromImport, frame: Frame) -> Module:
        name = self._template_name(node, frame)
        scope = dict(frame.scope) if node.with_context else {}
        inner = self._apart(name, scope, node.with_context, frame)
        self._template(name, inner)
        return Module(inner.scope)

    def _apart(self, name: str, scope: dict[str, Binding], with_context: bool, frame: Frame) -> Frame:
        """Where an included or imported template is walked: it has blocks of its own."""
        depth = frame.depth + 1
        return frame.inner(
            template=name, scope=scope, blocks={}, isolated=not with_context, nested=False, depth=depth
        )

    def _from_import(self, node: nodes.FromImport, frame: Frame) -> None:
        module = self._module(node, frame)
        for imported in node.names:
            name, alias = imported if isinstance(imported, tuple) else (imported, imported)
            if name not in module.names:
                raise CannotLower(f"an import of '{name}', which is not there")
            frame.scope[alias] = module.names[name]

    def _macro_of(self, node: nodes.Call, frame: Frame) -> "Macro | Super | None":
        found: Binding | None = None
        match node.node:
            case nodes.Name(name=name):
                found = frame.scope.get(name)
            case nodes.Getattr(node=nodes.Name(name=module), attr=name):
                outer = frame.scope.get(module)
                found = outer.names.get(name) if isinstance(outer, Module) else None
        return found if isinstance(found, Macro | Super) else None

    def _called(
        self, macro: "Macro | Super", call: nodes.Call, frame: Frame, caller: "Macro | None" = None
    ) -> list[Piece]:
        if isinstance(macro, Super):
            return self._block(macro.block, macro.depth, frame)
        if call.dyn_args is not None or call.dyn_kwargs is not None or frame.depth > DEEPEST:
            raise CannotLower("a macro that is called this way")
        names = [argument.name for argument in macro.node.args]
        given = dict(zip(names, call.args, strict=False)) | {each.key: each.value for each in call.kwargs}
        if (
            len(call.args) > len(names)
            or not set(given) <= set(names)
            or len(given) < len(call.args) + len(call.kwargs)
        ):
            raise CannotLower("a macro with arguments that it does not name")
        values = {name: self._kept(self._value(argument, frame), frame) for name, argument in given.items()}
        inner = macro.frame.inner(active=frame.active, space=frame.space, depth=frame.depth + 1, nested=True)
        inner.scope.pop("caller", None)
        if caller is not None:
            inner.scope["caller"] = caller
        defaults = dict(zip(reversed(names), reversed(macro.node.defaults), strict=False))
        for name in names:
            if name in values:
                inner.scope[name] = values[name]
            elif name in defaults:
                inner.scope[name] = self._value(defaults[name], inner)
            else:
                inner.scope[name] = ((True, Absent(f"parameter {name!r} was not provided")),)
        return self._body(macro.node.body, inner)

    def _call_block(self, node: nodes.CallBlock, frame: Frame) -> list[Piece]:
        macro = self._macro_of(node.call, frame)
        if not isinstance(macro, Macro):
            raise CannotLower("a call block of what is no macro")
        return self._called(macro, node.call, frame, Macro(node, frame))

    def _markup(self, pieces: list[Piece], frame: Frame) -> Value:
        if all(isinstance(piece, str) for piece in pieces):
            return ((True, Constant(constant_text(pieces), safe=frame.autoescape)),)
        text = frame.space.derive(joined(pieces), key="joined", growth=1)
        return ((True, Vector("text", text, safe=frame.autoescape)),)

    def _kept(self, value: Value, frame: Frame) -> Value:
        """The value of a variable: a column of its own, so that no expression has it in it time and again."""
        return tuple(
            (frame.space.mask(mask), replace(atom, expr=frame.space.derive(atom.expr, key="kept")))
            if isinstance(atom, Vector) and not atom.expr.meta.is_column()
            else (mask, atom)
            for mask, atom in value
        )

    def _macro_value(self, node: nodes.Call, frame: Frame) -> Value | None:
        macro = self._macro_of(node, frame)
        return None if macro is None else self._markup(self._called(macro, node, frame), frame)
