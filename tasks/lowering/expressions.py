"""Expressions of a template over whole columns."""

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import date, time

import polars as pl
from jinja2 import TemplateError, Undefined, nodes
from markupsafe import Markup

from tasks.lowering import vectors
from tasks.lowering.columns import element_value, field_value
from tasks.lowering.filters import COLUMN_FORMS, MARKUP_FILTERS, Call, escaped
from tasks.lowering.frames import Binding, Frame, Module, Piece, Rounds, joined, zipped
from tasks.lowering.guards import address_faults, quotes_escaped, refused, spaces_escaped
from tasks.lowering.operators import (
    boolean,
    compared,
    comparison,
    computed,
    is_clean,
    is_markup,
    named,
    negative,
    pairwise,
    plain,
    small_integer,
    truth,
    truthy,
)
from tasks.lowering.printing import list_text, printed_pieces, text_of
from tasks.lowering.vectors import (
    Absent,
    Atom,
    CannotLower,
    Constant,
    Mask,
    Record,
    Value,
    Vector,
    any_of,
    both,
    merged,
    negated,
)
from tasks.templates.catalogues import PLACEHOLDER, TRANSLATING
from tasks.templates.environment import CampaignEnvironment
from tasks.templates.escaping import EMPTY_UNQUOTED, GUARDS, QUOTED, UnsafeValue
from tasks.templates.fields import ELEMENT, Fact, Fields, Path, known_length, struct_types
from tasks.templates.filters import EXPECTED
from tasks.templates.rows import undefined_reason
from tasks.templates.uses import path_of

TEST_OPERATORS = {
    "eq": "eq", "==": "eq", "equalto": "eq", "ne": "ne", "!=": "ne", "lt": "lt", "<": "lt", "lessthan": "lt",
    "le": "lteq", "<=": "lteq", "gt": "gt", ">": "gt", "greaterthan": "gt", "ge": "gteq", ">=": "gteq", "in": "in",
}  # fmt: skip
KIND_TESTS: Mapping[str, frozenset[str]] = {
    "string": frozenset({"text"}),
    "number": frozenset({"integer", "number", "boolean", "decimal"}),
    "integer": frozenset({"integer"}),
    "float": frozenset({"number"}),
    "boolean": frozenset({"boolean"}),
}
DIVISORS = {"even": 0, "odd": 1, "divisibleby": 0}
"""Tests of a remainder, and which it must be."""
SMALL_FILTERS = frozenset(
    {*COLUMN_FORMS, "default", "d", "first", "last", "join", "list", "sort", "reverse", "min", "max", "string"}
)
"""Filters of constants that are evaluated while lowering: what they make is no longer than what they are given."""
LONGEST_CONSTANT = 1_000_000
"""Characters that a filter of a constant may make while lowering."""
PASSING_ABSENCE = frozenset({"string", "list", "select", "reject", "map", "tojson", "pprint", "attr"})
"""Filters that do something else with a missing value than fail with its name."""


class Expressions(ABC):
    """Lowers expressions to values; what macros make is said by whoever lowers statements."""

    def __init__(
        self,
        environment: CampaignEnvironment,
        fields: Fields,
        used: Mapping[Path, Path],
        facts: Mapping[Path, Fact],
    ) -> None:
        self._environment = environment
        self._fields = fields
        self._used = used
        self._facts = facts

    @abstractmethod
    def _macro_value(self, node: nodes.Call, frame: Frame) -> Value | None:
        """What a call of a macro gives; None if it calls no macro."""

    def _value(self, node: nodes.Node, frame: Frame) -> Value:  # noqa: PLR0911, PLR0912  # one row of a table each
        if not isinstance(node, nodes.Expr):
            raise CannotLower(f"'{type(node).__name__.lower()}' as a value")
        context = nodes.EvalContext(self._environment, frame.template)
        if is_small(node):
            try:
                return constant_value(node.as_const(context))
            except nodes.Impossible:
                pass
            except TemplateError as error:
                raise CannotLower(f"what is not allowed ({error})") from None
        match node:
            case nodes.Name() | nodes.Getattr() | nodes.Getitem():
                return self._named_value(node, frame)
            case nodes.CondExpr(expr2=nodes.Expr() as otherwise):
                return self._chosen(self._value(node.test, frame), node.expr1, otherwise, frame)
            case nodes.CondExpr():
                raise CannotLower("an inline if without else inside an expression")
            case nodes.And():
                left = self._value(node.left, frame)
                return self._chosen(left, node.right, None, frame)
            case nodes.Or():
                left = self._value(node.left, frame)
                return self._chosen(left, None, node.right, frame)
            case nodes.Not():
                return boolean(negated(truth(self._value(node.node, frame))))
            case nodes.Compare():
                return self._compare(node, frame)
            case nodes.Filter():
                return self._filtered(node, frame, None)
            case nodes.Test():
                return self._test(node, frame)
            case nodes.Concat():
                return self._concatenated(node, frame)
            case nodes.Neg():
                value = self._value(node.node, frame)
                return merged([(mask, negative(atom, frame.only(mask))) for mask, atom in value])
            case nodes.Add() | nodes.Sub() | nodes.Mul() | nodes.Div() | nodes.FloorDiv() | nodes.Mod():
                left, right = self._value(node.left, frame), self._value(node.right, frame)
                return self._arithmetic(node.operator, left, right, frame)
            case nodes.Call():
                return self._call(node, frame)
            case _:
                raise CannotLower(f"the expression '{type(node).__name__.lower()}'")

    def _named_value(self, node: nodes.Name | nodes.Getattr | nodes.Getitem, frame: Frame) -> Value:  # noqa: PLR0911
        match node:
            case nodes.Name(name=name) if name in frame.scope:
                bound = frame.scope[name]
                if not isinstance(bound, tuple):
                    raise CannotLower(f"'{name}' as a value")
                return bound
            case nodes.Getattr(node=nodes.Name(name=name), attr=attribute) if isinstance(
                frame.scope.get(name), Rounds | Module
            ):
                return _attribute_of_binding(frame.scope[name], attribute)
        free = _root_name(node)
        path = path_of(node) if free is not None and free not in frame.scope else None
        if path is not None and self._full_path(path) is not None:
            return self._field(path, frame)
        if isinstance(node, nodes.Getattr):
            return self._attribute(self._value(node.node, frame), node.attr, frame)
        if isinstance(node, nodes.Getitem):
            if isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
                return self._attribute(self._value(node.node, frame), node.arg.value, frame)
            if isinstance(node.arg, nodes.Slice):
                return self._sliced(self._value(node.node, frame), node.arg, frame)
            return self._element(self._value(node.node, frame), node.arg, frame)
        return self._unset(node.name, frame)

    def _unset(self, name: str, frame: Frame) -> Value:
        """A name that nothing has set so far: a field, or no value."""
        if (name,) in self._used:
            return self._field((name,), frame)
        if name in self._environment.globals or frame.isolated:
            raise CannotLower(f"the name '{name}'")
        return ((True, Absent(f"no value for {name}")),)

    def _field(self, path: Path, frame: Frame) -> Value:
        if frame.isolated:
            raise CannotLower("a field in a template that is imported without context")
        full = self._full_path(path)
        if full is None:
            raise CannotLower(f"the name '{'.'.join(path)}'")
        value = field_value(self._fields, full, self._facts)
        for attribute in path[known_length(path, full) :]:
            value = self._attribute(value, attribute, frame)
        return value

    def _full_path(self, path: Path) -> Path | None:
        if path in self._used:
            return self._used[path]
        # A method's value is named with the method: `born` is known by `born.strftime`.
        for used, full in self._used.items():
            if used[: len(path)] == path and known_length(used, full) <= len(path):
                return full
        return None

    def _attribute(self, value: Value, name: str, frame: Frame) -> Value:
        result: list[tuple[Mask, Atom]] = []
        for mask, atom in value:
            match atom:
                case Absent():
                    frame.fail(mask, atom.reason)
                case Record(kind=kind):
                    types = struct_types(kind)
                    if name not in types:
                        raise CannotLower(f"the attribute '{name}'")
                    expr = atom.expr.struct.field(name)
                    inner = element_value(expr, types[name], (*atom.path, name), self._facts)
                    result.extend((both(mask, here), each) for here, each in inner)
                case Constant(value=date() as day) if name in {"year", "month", "day"}:
                    result.append((mask, Constant(getattr(day, name))))
                case Vector(kind="date" | "datetime", expr=expr) if name in {"year", "month", "day"}:
                    result.append((mask, small_integer(getattr(expr.dt, name)())))
                case Vector(kind="datetime" | "time", expr=expr) if name in {"hour", "minute", "second"}:
                    result.append((mask, small_integer(getattr(expr.dt, name)())))
                case _:
                    raise CannotLower(f"the attribute '{name}'")
        return merged(result)

    def _element(self, value: Value, node: nodes.Expr, frame: Frame) -> Value:
        if not isinstance(node, nodes.Const) or type(node.value) is not int or node.value < 0:
            raise CannotLower("an element by such a number")
        result: list[tuple[Mask, Atom]] = []
        for mask, atom in value:
            match atom:
                case Absent():
                    frame.fail(mask, atom.reason)
                case vectors.Sequence(expr=expr):
                    beyond = expr.list.len() <= node.value
                    chosen = expr.list.get(node.value, null_on_oob=True)
                    found = element_value(chosen, atom.element, (*atom.path, ELEMENT), self._facts)
                    result.extend((both(both(mask, ~beyond), here), each) for here, each in found)
                    result.append((both(mask, beyond), Absent(f"list object has no element {node.value}")))
                case Constant(value=list() as elements):
                    there = node.value < len(elements)
                    nothing = Absent(f"list object has no element {node.value}")
                    result.append((mask, Constant(elements[node.value]) if there else nothing))
                case _:
                    raise CannotLower(f"an element of {named(atom)}")
        return merged(result)

    def _sliced(self, value: Value, node: nodes.Slice, frame: Frame) -> Value:
        bounds = []
        for bound in (node.start, node.stop, node.step):
            number = None if bound is None else bound.as_const() if isinstance(bound, nodes.Const) else -1
            if number is not None and (not isinstance(number, int) or number < 0):
                raise CannotLower("a slice with such bounds")
            bounds.append(number)
        start, stop, step = bounds[0] or 0, bounds[1], bounds[2]
        if step is not None:
            raise CannotLower("a slice with a step")
        length = None if stop is None else max(stop - start, 0)
        result: list[tuple[Mask, Atom]] = []
        for mask, atom in value:
            match atom:
                case Absent():
                    frame.fail(mask, atom.reason)
                case vectors.Sequence(expr=expr):
                    result.append((mask, replace(atom, expr=expr.list.slice(start, length))))
                case Vector(kind="text", safe=False, expr=expr):
                    result.append((mask, replace(atom, expr=expr.str.slice(start, length))))
                case _:
                    raise CannotLower(f"a slice of {named(atom)}")
        return merged(result)

    def _chosen(self, tested: Value, then: nodes.Expr | None, otherwise: nodes.Expr | None, frame: Frame) -> Value:
        """One of two values, by truth; None is the tested value itself, which is then known to be true or false."""
        holds = frame.space.mask(truth(tested))
        result: list[tuple[Mask, Atom]] = []
        for mask, node in ((holds, then), (negated(holds), otherwise)):
            if mask is False:
                continue
            value = tested if node is None else self._value(node, frame.only(mask))
            result.extend((both(mask, here), atom) for here, atom in value)
        return merged(result)

    def _compare(self, node: nodes.Compare, frame: Frame) -> Value:
        left = self._value(node.expr, frame)
        result: Mask = True
        for operand in node.ops:
            here = frame.only(result)
            right = self._value(operand.expr, here)
            holds = pairwise(comparison(operand.op, here), left, right)
            result = frame.space.mask(both(result, any_of(both(mask, each) for mask, each in holds)))
            left = right
        return boolean(result)

    def _filtered(self, node: nodes.Filter, frame: Frame, given: Value | None) -> Value:
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            raise CannotLower(f"the filter '{node.name}' with arguments that are unpacked")
        value = given
        if value is None or node.node is not None:
            value = self._filtered(node.node, frame, given) if given is not None else self._value(node.node, frame)  # type: ignore[arg-type]
        if node.name in {"default", "d"}:
            return self._default(node, value, frame)
        arguments = tuple(self._constant(argument, frame) for argument in node.args)
        keywords = {str(each.key): self._constant(each.value, frame) for each in node.kwargs}
        result: list[tuple[Mask, Atom]] = []
        for mask, atom in value:
            if isinstance(atom, Absent):
                if node.name in PASSING_ABSENCE:
                    raise CannotLower(f"the filter '{node.name}' on a value that may be missing")
                frame.fail(mask, atom.reason)
                continue
            here = frame.only(mask)
            call = self._filter_call(node.name, arguments, keywords, here)
            result.extend((both(mask, each), other) for each, other in self._filtered_atom(call, atom, here))
        return merged(result)

    def _filter_call(
        self, name: str, arguments: tuple[object, ...], keywords: Mapping[str, object], frame: Frame
    ) -> Call:
        context = nodes.EvalContext(self._environment, frame.template)
        key = (name, repr(arguments), repr(sorted(keywords.items())))
        return Call(
            self._environment,
            context,
            name,
            arguments,
            keywords,
            lambda expr, function, growth=0: frame.space.derive(expr, function, key=key, growth=growth),
        )

    def _constant(self, node: nodes.Expr, frame: Frame) -> object:
        value = self._value(node, frame)
        if len(value) == 1 and isinstance(value[0][1], Constant):
            return value[0][1].value
        raise CannotLower("a filter with an argument that differs from profile to profile")

    def _filtered_atom(self, call: Call, atom: Atom, frame: Frame) -> Value:
        if call.name in GUARDS:
            return self._guarded(call, atom, frame)
        match atom:
            case Constant():
                lengths = [len(each) for each in (*call.arguments, *call.named.values()) if isinstance(each, str)]
                size = len(atom.value) if isinstance(atom.value, str | list | tuple) else 1
                if call.name not in SMALL_FILTERS or size * (1 + sum(lengths)) > LONGEST_CONSTANT:
                    raise CannotLower(f"the filter '{call.name}' on a constant")
                try:
                    result = call.one(Markup(atom.value) if atom.safe else atom.value)  # noqa: S704
                except EXPECTED as error:
                    raise CannotLower(f"the filter '{call.name}' on a constant ({error})") from None
                return constant_value(result)
            case vectors.Sequence():
                return self._filtered_list(call, atom, frame)
            case Vector():
                kinds, form = COLUMN_FORMS.get(call.name, ((), None))
                if form is None or atom.kind not in kinds:
                    raise CannotLower(f"the filter '{call.name}' on {named(atom)}")
                if atom.safe and call.name not in MARKUP_FILTERS:
                    raise CannotLower(f"the filter '{call.name}' on markup")
                return ((True, form(atom, call)),)
            case _:
                raise CannotLower(f"the filter '{call.name}' on {named(atom)}")

    def _filtered_list(self, call: Call, atom: vectors.Sequence, frame: Frame) -> Value:
        expr = atom.expr
        if call.name in {"length", "count"}:
            return ((True, small_integer(expr.list.len())),)
        if call.name in {"first", "last"}:
            call.bound()
            chosen = expr.list.first() if call.name == "first" else expr.list.last()
            empty = expr.list.len() == 0
            value = element_value(chosen, atom.element, (*atom.path, ELEMENT), self._facts)
            found: list[tuple[Mask, Atom]] = [(both(~empty, mask), each) for mask, each in value]
            return (*found, (empty, Absent(f"No {call.name} item, sequence was empty.")))
        if call.name == "join":
            separator = call.bound("d").get("d", "")
            if isinstance(separator, str) and not isinstance(separator, Markup):
                return ((True, list_text(atom, separator, True, frame)),)
        raise CannotLower(f"the filter '{call.name}' on a list")

    def _guarded(self, call: Call, atom: Atom, frame: Frame) -> Value:
        if isinstance(atom, Constant):
            try:
                result = call.one(Markup(atom.value) if atom.safe else atom.value)  # noqa: S704
            except UnsafeValue as reason:
                frame.fail(True, str(reason))
                return ()
            return ((True, Constant(result, safe=isinstance(result, Markup))),)
        if call.name == QUOTED:
            return ((True, quotes_escaped(atom) if isinstance(atom, Vector) else atom),)
        if not isinstance(atom, Vector) or atom.kind in {"datetime", "time"}:
            raise CannotLower(f"{named(atom)} inside an attribute")
        match call.name:
            case "_unquoted":
                text = escaped(text_of(atom, True, frame))
                frame.fail(text.expr == "", EMPTY_UNQUOTED)
                return ((True, spaces_escaped(text)),)
            case "_own":
                return ((True, replace(text_of(atom, True, frame), safe=True)),)
            case "_address":
                faults = address_faults(*map(str, call.arguments))
                fault = frame.space.derive(atom.expr, faults, key=("address", call.arguments))
                frame.fail(fault.is_not_null(), fault)
            case _ if atom.kind == "text":
                frame.fail(*refused(call.name, atom, str(call.arguments[0])))
        return ((True, atom),)

    def _default(self, node: nodes.Filter, value: Value, frame: Frame) -> Value:
        given = dict(zip(("default_value", "boolean"), node.args, strict=False)) | {
            e.key: e.value for e in node.kwargs
        }
        boolean = bool(self._constant(given["boolean"], frame)) if "boolean" in given else False
        lacking: Mask = any_of(
            both(mask, True if isinstance(atom, Absent) else boolean and negated(truthy(atom)))
            for mask, atom in value
        )
        lacking = frame.space.mask(lacking)
        # Jinja evaluates the default for every row, also where it is not needed.
        replacement: Value = ((True, Constant("")),)
        if "default_value" in given:
            replacement = self._value(given["default_value"], frame)
        kept = [(both(negated(lacking), mask), atom) for mask, atom in value if not isinstance(atom, Absent)]
        return merged([*kept, *((both(lacking, mask), atom) for mask, atom in replacement)])

    def _test(self, node: nodes.Test, frame: Frame) -> Value:
        value = self._value(node.node, frame)
        arguments = [self._constant(argument, frame) for argument in node.args]
        if node.name in {"defined", "undefined", "none"}:
            absent = any_of(mask for mask, atom in value if isinstance(atom, Absent))
            if node.name == "none":
                absent = any_of([absent, *(m for m, a in value if isinstance(a, Constant) and a.value is None)])
            return boolean(negated(absent) if node.name == "defined" else absent)
        operation = TEST_OPERATORS.get(node.name)
        if operation is not None and len(arguments) == 1:
            other = Constant(arguments[0])
            holds = [(mask, compared(operation, atom, other, frame.only(mask))) for mask, atom in value]
            return boolean(frame.space.mask(any_of(both(mask, each) for mask, each in holds)))
        if node.name in DIVISORS and len(arguments) == (node.name == "divisibleby"):
            divisor, rest = arguments[0] if arguments else 2, DIVISORS[node.name]
            if type(divisor) is not int or divisor == 0:
                raise CannotLower(f"the test '{node.name}' with this argument")
            remainder = self._arithmetic("%", value, ((True, Constant(divisor)),), frame)
            equal = pairwise(comparison("eq", frame), remainder, ((True, Constant(rest)),))
            return boolean(frame.space.mask(any_of(both(mask, each) for mask, each in equal)))
        if node.name in KIND_TESTS and not any(isinstance(atom, Absent) for _, atom in value):
            atoms = [(mask, plain(atom)) for mask, atom in value]
            return boolean(any_of(mask for mask, atom in atoms if atom.kind in KIND_TESTS[node.name]))
        raise CannotLower(f"the test '{node.name}'")

    def _concatenated(self, node: nodes.Concat, frame: Frame) -> Value:
        values = [self._value(operand, frame) for operand in node.nodes]
        markup = frame.autoescape and any(is_markup(atom) for value in values for _, atom in value)
        if markup and any(is_markup(a) != is_markup(value[0][1]) for value in values for _, a in value):
            raise CannotLower("'~' of what is sometimes markup")
        pieces: list[Piece] = []
        for value in values:
            for _, atom in value:
                if isinstance(atom, vectors.Sequence) or (isinstance(atom, Vector) and atom.kind == "decimal"):
                    raise CannotLower(f"'~' of {named(atom)}")
                if isinstance(atom, Constant) and not isinstance(atom.value, str | int | float | date | time):
                    raise CannotLower("'~' of such a constant")
            plain = frame if markup else replace(frame, autoescape=False)
            pieces.extend(printed_pieces(value, plain))
        if all(isinstance(piece, str) for piece in pieces):
            return ((True, Constant(constant_text(pieces), safe=markup)),)
        clean = all(is_clean(atom) for value in values for _, atom in value)
        text = frame.space.derive(joined(pieces), key="joined", growth=1)
        return ((True, Vector("text", text, safe=markup, clean=clean)),)

    def _arithmetic(self, operation: str, left: Value, right: Value, frame: Frame) -> Value:
        results = pairwise(lambda a, b, mask: computed(operation, a, b, frame.only(mask)), left, right)
        return merged(results)

    def _call(self, node: nodes.Call, frame: Frame) -> Value:
        made = self._macro_value(node, frame)
        if made is not None:
            return made
        match node:
            case nodes.Call(node=nodes.Getattr(node=nodes.Name(name=name), attr="cycle")) if isinstance(
                rounds := frame.scope.get(name), Rounds
            ):
                values = [self._constant(argument, frame) for argument in node.args]
                turns = [
                    ((rounds.index % len(values)) == turn, Constant(value)) for turn, value in enumerate(values)
                ]
                return merged(turns)
            case nodes.Call(node=nodes.Name(name="reject" as name), args=[reason]) if name not in frame.scope:
                return self._rejected(self._value(reason, frame), frame)
            case nodes.Call(node=nodes.Name(name=name)) if name in TRANSLATING and name not in frame.scope:
                return self._translated(node, name, frame)
            case nodes.Call(node=nodes.Getattr(attr="strftime"), args=[nodes.Const(value=str(pattern))], kwargs=[]):
                return self._strftime(self._value(node.node.node, frame), pattern, frame)  # type: ignore[attr-defined]
            case _:
                raise CannotLower("a call")

    def _rejected(self, reason: Value, frame: Frame) -> Value:
        for mask, atom in reason:
            if isinstance(atom, Absent):
                frame.fail(mask, atom.reason)
            elif isinstance(atom, Constant):
                frame.fail(mask, str(atom.value))
            else:
                frame.fail(mask, text_of(atom, both(frame.active, mask), frame).expr)
        return ((True, Constant("")),)

    def _translated(self, node: nodes.Call, name: str, frame: Frame) -> Value:
        """The translation with its values, as `environment._filled` makes it."""
        plural, in_context = "n" in name.removesuffix("gettext"), "p" in name.removesuffix("gettext")
        count = in_context + (2 if plural else 1)
        texts = [each.value for each in node.args[:count] if isinstance(each, nodes.Const)]
        if len(texts) < count or len(node.args) != count + plural or node.dyn_args or node.dyn_kwargs:
            raise CannotLower("a translation that is called this way")
        values = {str(each.key): self._value(each.value, frame) for each in node.kwargs}
        if in_context:
            values.setdefault("context", ((True, Constant(texts[0])),))
        translated = getattr(self._environment.translations, "gettext" if name == "_" else name)
        forms: list[tuple[Mask, str]] = [(True, translated(*texts))] if not plural else []
        if plural:
            number = self._value(node.args[count], frame)
            values.setdefault("num", number)
            for mask, atom in number:
                if isinstance(atom, Absent) or (isinstance(atom, Constant) and type(atom.value) is not int):
                    raise CannotLower("a plural of what may be no number")
                forms.extend((both(mask, here), form) for here, form in self._forms(translated, texts, atom, frame))
        branches = [(mask, self._filled(form, values, frame.only(mask))) for mask, form in forms]
        return self._markup(zipped(branches, whole=True), frame)

    def _forms(
        self, form_of: Callable[..., str], texts: list[str], number: Atom, frame: Frame
    ) -> list[tuple[Mask, str]]:
        if isinstance(number, Constant):
            return [(True, form_of(*texts, number.value))]
        if not isinstance(number, Vector) or number.kind != "integer":
            raise CannotLower(f"a plural of {named(number)}")
        # Rules of plurals look at a number's last digits, and at whole millions.
        forms = list(dict.fromkeys(form_of(*texts, each) for each in (*range(1000), 10**6, 10**9)))

        def place(value: int) -> int:
            form = form_of(*texts, value)
            if form not in forms:
                raise CannotLower("a plural of such numbers")
            return forms.index(form)

        chosen = frame.space.derive(number.expr, vectors.distinct(place, pl.Int64()), key=("plural", *texts))
        return [(chosen == index, form) for index, form in enumerate(forms)]

    def _filled(self, text: str, values: Mapping[str, Value], frame: Frame) -> list[Piece]:
        pieces: list[Piece] = []
        start = 0
        for found in PLACEHOLDER.finditer(text):
            pieces.append(text[start : found.start()])
            start = found.end()
            if found[1] is None:
                pieces.append("%")
            elif found[2] == "d" and not all(_is_whole(atom) for _, atom in values.get(found[1], ())):
                raise CannotLower("a placeholder for whole numbers of what may be none")
            elif found[1] in values:
                pieces.extend(printed_pieces(values[found[1]], frame))
            else:
                raise CannotLower(f"a translation without a value for '{found[1]}'")
        return [*pieces, text[start:]]

    @abstractmethod
    def _markup(self, pieces: list[Piece], frame: Frame) -> Value:
        """What pieces of an output are as a value."""

    def _strftime(self, value: Value, pattern: str, frame: Frame) -> Value:
        result: list[tuple[Mask, Atom]] = []
        for mask, atom in value:
            match atom:
                case Absent():
                    frame.fail(mask, atom.reason)
                case Constant(value=date() as day):
                    result.append((mask, Constant(day.strftime(pattern))))
                case Vector(kind="date" | "datetime" | "time", expr=expr):
                    function = vectors.distinct(operator.methodcaller("strftime", pattern), pl.String())
                    text = frame.space.derive(expr, function, key=("strftime", pattern))
                    result.append((mask, Vector("text", text)))
                case _:
                    raise CannotLower(f"'strftime' of {named(atom)}")
        return merged(result)


def constant_text(pieces: Iterable[Piece]) -> str:
    """The template's own texts as one. Errors: `CannotLower`."""
    text = "".join(map(str, pieces))
    if len(text) > LONGEST_CONSTANT:
        raise CannotLower(f"a text of more than {LONGEST_CONSTANT} characters that the template makes of its own")
    return text


def is_small(node: nodes.Node) -> bool:
    """Whether a constant expression may be evaluated here: it is hardly longer than what is written."""
    parts = (node, *node.find_all(nodes.Expr))
    return not any(
        isinstance(each, nodes.Mul | nodes.Pow | nodes.Mod | nodes.Call)
        or (isinstance(each, nodes.Filter) and each.name not in SMALL_FILTERS - {"replace", "round", "join"})
        for each in parts
    )


def constant_value(value: object) -> Value:
    """What a constant expression gives. Errors: `CannotLower` for what the sandbox forbids."""
    if not isinstance(value, Undefined):
        return ((True, Constant(value, safe=isinstance(value, Markup))),)
    try:
        return ((True, Absent(undefined_reason(value))),)
    except TemplateError as error:
        raise CannotLower(f"what is not allowed ({error})") from None


def _attribute_of_binding(bound: Binding, name: str) -> Value:
    if isinstance(bound, Module):
        inner = bound.names.get(name)
        if isinstance(inner, tuple):
            return inner
    elif isinstance(bound, Rounds):
        index, length = bound.index, bound.length
        numbers = {
            "index": index + 1,
            "index0": index,
            "length": length,
            "revindex": length - index,
            "revindex0": length - index - 1,
        }
        if name in numbers:
            return ((True, small_integer(numbers[name])),)
        if name in {"first", "last"}:
            return boolean(index == (0 if name == "first" else length - 1))
    raise CannotLower(f"'{name}' of the loop or module")


def _root_name(node: nodes.Node) -> str | None:
    while isinstance(node, nodes.Getattr | nodes.Getitem):
        node = node.node
    return node.name if isinstance(node, nodes.Name) else None


def _is_whole(atom: Atom) -> bool:
    match atom:
        case Constant(value=value):
            return type(value) is int
        case Vector(kind="integer") | Absent():
            return True
        case _:
            return False
