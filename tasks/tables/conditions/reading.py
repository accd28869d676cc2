"""Reading a text: sqlglot parses it, and each of its nodes becomes one of ours or is refused by name."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import polars as pl
from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import SqlglotError

from tasks.tables.conditions.bounds import DEEPEST, checked_words, place_of
from tasks.tables.conditions.casts import cast
from tasks.tables.conditions.functions import AGGREGATES, FIELDS, FUNCTIONS
from tasks.tables.conditions.intervals import interval
from tasks.tables.conditions.kinds import CONSTANT, LARGEST_SCALE, kind_of, scale_of
from tasks.tables.conditions.kinds import column as column_in_polars
from tasks.tables.conditions.operators import OPERATORS, like_pattern
from tasks.tables.conditions.tree import NUMBERS, Kind, Node, Place, Refused, Rule, Typed
from tasks.tables.zones import zone_names

LARGEST_INTEGER = 2**63 - 1
COMPARISONS: Mapping[type[exp.Expression], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
BINARY: Mapping[type[exp.Expression], str] = {
    **COMPARISONS,
    exp.NullSafeEQ: "IS NOT DISTINCT FROM",
    exp.NullSafeNEQ: "IS DISTINCT FROM",
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.Mod: "%",
    exp.DPipe: "||",
}
CALLS: Mapping[type[exp.Expression], tuple[str, tuple[str, ...]]] = {
    exp.Lower: ("LOWER", ("this",)),
    exp.Upper: ("UPPER", ("this",)),
    exp.Length: ("LENGTH", ("this",)),
    exp.Left: ("LEFT", ("this", "expression")),
    exp.Right: ("RIGHT", ("this", "expression")),
    exp.Substring: ("SUBSTRING", ("this", "start", "length")),
    exp.StartsWith: ("STARTS_WITH", ("this", "expression")),
    exp.Concat: ("CONCAT", ("expressions",)),
    exp.Round: ("ROUND", ("this", "decimals")),
    exp.Floor: ("FLOOR", ("this",)),
    exp.Ceil: ("CEIL", ("this",)),
    exp.Abs: ("ABS", ("this",)),
    exp.Coalesce: ("COALESCE", ("this", "expressions")),
    exp.Nullif: ("NULLIF", ("this", "expression")),
    exp.Greatest: ("GREATEST", ("this", "expressions")),
    exp.Least: ("LEAST", ("this", "expressions")),
    exp.Sum: ("SUM", ("this",)),
    exp.Avg: ("AVG", ("this",)),
    exp.Min: ("MIN", ("this", "expressions")),
    exp.Max: ("MAX", ("this", "expressions")),
    exp.First: ("FIRST", ("this",)),
    exp.Last: ("LAST", ("this",)),
}
"""Functions as sqlglot parses them: their name here, and where it puts their arguments."""
HARMLESS = {"safe", "typed", "coalesce", "big_int", "ignore_nulls", "_type", "negate", "zone_type"}
"""What sqlglot notes of a node without a meaning of its own here, or with one that is looked at."""

COLUMN = Rule("column", "", "", lambda args: Typed(args, Kind.OTHER), lambda node: column_in_polars(*node.value))


class Reading:
    """One text, read against the types of a table's columns."""

    def __init__(self, text: str, schema: pl.Schema) -> None:
        """Parse the text. Errors: `Refused`."""
        self.schema = schema
        words = checked_words(text)
        self.begin = place_of(words[0])
        try:
            found = Postgres().parser(error_message_context=0).parse(words, text)
        except SqlglotError as error:
            raise Refused(*_said(error)) from None
        except RecursionError:
            raise Refused(f"it is nested more than {DEEPEST} deep") from None
        if len(found) != 1 or found[0] is None:
            raise Refused("it is not one condition or expression")
        self.parsed: Any = found[0]

    def missing(self) -> dict[str, Place]:
        """Columns that the table does not have, and where."""
        found: dict[str, Place] = {}
        for column in self.parsed.find_all(exp.Column):
            if isinstance(column.this, exp.Identifier) and column.name not in self.schema and not column.table:
                found.setdefault(column.name, _place(column) or self.begin)
        return found

    def tree(self) -> Node:
        """The typed tree. Errors: `Refused`."""
        return self._node(self.parsed, 0)

    def _node(self, parsed: Any, depth: int) -> Node:  # noqa: ANN401  # sqlglot's classes are its own
        if depth > 5 * DEEPEST:
            raise Refused(f"it is nested more than {5 * DEEPEST} deep", _place(parsed))
        read = READERS.get(type(parsed))
        if read is None:
            raise Refused(f"{_named(parsed)} is not possible in conditions", _place(parsed))
        return read(self, parsed, depth + 1)

    def nodes(self, parsed: list[Any], depth: int) -> tuple[Node, ...]:
        """Several nodes."""
        return tuple(self._node(each, depth) for each in parsed)


def made(rule: Rule, args: tuple[Node, ...], at: Place | None, value: object = None) -> Node:
    """A node of a rule, if the arguments' types fit. Errors: `Refused`."""
    typed = rule.typed(args)
    if typed is None:
        kinds = ", ".join(argument.kind.value for argument in args) or "nothing"
        raise Refused(f"{rule.usage or rule.name} does not go with {kinds}{_hint(rule, args)}", at)
    return Node(rule, typed.kind, typed.args, value=value, at=at, scale=typed.scale)


def _hint(rule: Rule, args: tuple[Node, ...]) -> str:
    kinds = {argument.kind for argument in args}
    if rule.name in OPERATORS and Kind.INSTANT in kinds and kinds & {Kind.DATE, Kind.MOMENT, Kind.TEXT}:
        return "; say the zone: moment AT TIME ZONE 'Europe/Berlin'"
    if rule.name in {"CONCAT", "||"}:
        return "; CAST(a AS TEXT) makes a text of a number or date"
    return ""


def _place(parsed: Any) -> Place | None:  # noqa: ANN401
    """Where the node's first word is, as far as sqlglot says."""
    for node in parsed.walk():
        meta = node.meta
        if "line" in meta:
            return Place(meta["line"], max(1, meta["col"] - (meta["end"] - meta["start"])))
    return None


def _named(parsed: Any) -> str:  # noqa: ANN401
    if isinstance(parsed, exp.Query):
        return "a query (SELECT)"
    if isinstance(parsed, exp.Alias):
        return f"'{parsed.alias[:40]}' after the end of an expression"
    return str(parsed.key).upper()


def _said(error: SqlglotError) -> tuple[str, Place | None]:
    """What sqlglot says is wrong, in our words, and where."""
    details = (getattr(error, "errors", None) or [{}])[0]
    highlight = str(details.get("highlight") or "")[:40]
    description = str(details.get("description") or "")
    reason = f"something is missing or too much near '{highlight}'" if highlight else "it is not SQL"
    if description.startswith("Expecting ") and len(description) < 20:
        reason = f"a {description.removeprefix('Expecting ')} is missing near '{highlight}'"
    line, column = details.get("line"), details.get("col")
    return reason, Place(line, max(1, column - len(highlight) + 1)) if line and column else None


def _only(parsed: Any, *names: str) -> None:  # noqa: ANN401
    """Refuse what stands at a node and is not looked at."""
    for name, value in parsed.args.items():
        if value and name not in {*names, *HARMLESS}:
            raise Refused(f"{name.replace('_', ' ').upper()} is not possible at {_named(parsed)}", _place(parsed))


def _chain(kind: type[exp.Expression], name: str) -> Callable[[Reading, Any, int], Node]:
    """AND and OR, of which sqlglot makes a chain."""

    def read(reading: Reading, parsed: Any, depth: int) -> Node:  # noqa: ANN401
        links = []
        while isinstance(parsed, kind):
            _only(parsed, "this", "expression")
            links.append(parsed.args["expression"])
            parsed = parsed.this
        links.append(parsed)
        args = reading.nodes(links[::-1], depth)
        return made(OPERATORS[name], args, args[0].at)

    return read


def _binary(reading: Reading, parsed: Any, depth: int) -> Node:  # noqa: ANN401
    _only(parsed, "this", "expression")
    unclear = (*COMPARISONS, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Is)
    sides = [parsed.this, parsed.expression]
    if isinstance(parsed, unclear) and any(isinstance(side, unclear) for side in sides):
        raise Refused("comparisons follow each other; put one of them in parentheses", _place(parsed))
    args = reading.nodes(sides, depth)
    return made(OPERATORS[BINARY[type(parsed)]], args, args[0].at)


def _not(reading: Reading, parsed: Any, depth: int) -> Node:  # noqa: ANN401
    _only(parsed, "this")
    args = reading.nodes([parsed.this], depth)
    return made(OPERATORS["NOT"], args, args[0].at)


def _is(reading: Reading, parsed: Any, depth: int) -> Node:  # noqa: ANN401
    _only(parsed, "this", "expression")
    match parsed.expression:
        case exp.Null():
            state = "NULL"
        case exp.Boolean():
            state = str(parsed.expression.this).upper()
        case _:
            raise Refused("IS goes with NULL, TRUE, FALSE and DISTINCT FROM", _place(parsed))
    args = reading.nodes([parsed.this], depth)
    return made(OPERATORS[f"IS {'NOT ' if parsed.args.get('negate') else ''}{state}"], args, args[0].at)


def _like(reading: Reading, parsed: Any, depth: int, escape: str = "\\") -> Node:  # noqa: ANN401
    _only(parsed, "this", "expression")
    (text,) = reading.nodes([parsed.this], depth)
    pattern = parsed.expression
    if not (isinstance(pattern, exp.Literal) and pattern.is_string):
        raise Refused("the pattern must be a written text", _place(pattern) or text.at)
    name = "LIKE" if isinstance(parsed, exp.Like) else "ILIKE"
    node = made(OPERATORS[name], (text,), text.at, like_pattern(pattern.name, escape, text))
    return made(OPERATORS["NOT"], (node,), text.at) if parsed.args.get("negate") else node


def _escape(reading: Reading, parsed: Any, depth: int) -> Node:  # noqa: ANN401
    _only(parsed, "this", "expression")
    mark = parsed.expression
    if not isinstance(parsed.this, exp.Like | exp.ILike) or not (isinstance(mark, exp.Literal) and mark.is_string):
        raise Refused("ESCAPE goes with LIKE and a written character", _place(parsed))
    if len(mark.name) > 1:
        raise Refused("the escape is one character", _place(mark))
    return _like(reading, parsed.this, depth, mark.name)


def _in(reading: Reading, parsed: Any, depth: int) -> Node:  # noqa: ANN401
    if parsed.args.get("query"):
        raise Refused("a query (SELECT) is not possible in conditions", _place(parsed))
    _only(parsed, "this", "expressions")
    if not parsed.expressions:
        raise Refused("the list of IN is empty", _place(parsed))
    args = reading.nodes([parsed.this, *parsed.expressions], depth)
    return made(OPERATORS["IN"], args, args[0].at)


def _between(reading: Reading, parsed: Any, depth: int) -> Node:  # noqa: ANN401
    _only(parsed, "this", "low", "high")
    args = reading.nodes([parsed.this, parsed.args["low"], parsed.args["high"]], depth)
    return made(OPERATORS["BETWEEN"], args, args[0].at)


def _negative(reading: Reading, parsed: Any, depth: int) -> Node:  # noqa: ANN401
    _only(parsed, "this")
    (value,) = reading.nodes([parsed.this], depth)
    if value.is_constant and value.kind in NUMBERS and value.value is not None:
        return replace(value, value=-value.value)
    return made(OPERATORS["negative"], (value,), value.at)


def _literal(_: Reading, parsed: Any, __: int) -> Node:  # noqa: ANN401
    at = _place(parsed)
    if parsed.is_string:
        return Node(CONSTANT, Kind.TEXT, value=parsed.name, at=at)
    if parsed.name.isascii() and parsed.name.isdigit() and len(parsed.name) < 25:
        if int(parsed.name) > LARGEST_INTEGER:
            raise Refused(f"{parsed.name} is too large for an integer of 64 bits", at)
        return Node(CONSTANT, Kind.INTEGER, value=int(parsed.name), at=at)
    number = Decimal(parsed.name) if len(parsed.name) < 25 else None
    if number is None or number.adjusted() > LARGEST_SCALE or scale_of(number) > LARGEST_SCALE:
        raise Refused(f"the number {parsed.name[:30]} has too many digits", at)
    number = number.quantize(Decimal(1)) if scale_of(number) == 0 else number
    return Node(CONSTANT, Kind.NUMERIC, value=number, at=at, scale=scale_of(number))


def _boolean(_: Reading, parsed: Any, __: int) -> Node:  # noqa: ANN401
    return Node(CONSTANT, Kind.BOOLEAN, value=bool(parsed.this))


def _null(_: Reading, __: Any, ___: int) -> Node:  # noqa: ANN401
    return Node(CONSTANT, Kind.NULL)


def _column(reading: Reading, parsed: Any, _: int) -> Node:  # noqa: ANN401
    _only(parsed, "this")
    name, at = parsed.name, _place(parsed)
    if not isinstance(parsed.this, exp.Identifier):
        raise Refused(f"{_named(parsed.this)} is not possible in conditions", at)
    kind = reading.schema[name]
    scale = kind.scale if isinstance(kind, pl.Decimal) else 0
    return Node(COLUMN, kind_of(kind), value=(name, kind), at=at, scale=scale)


def _call(reading: Reading, parsed: Any, depth: int) -> Node:  # noqa: ANN401
    name, places = CALLS[type(parsed)]
    _only(parsed, *places)
    given = [parsed.args.get(place) for place in places]
    args = [
        each for value in given if value is not None for each in (value if isinstance(value, list) else [value])
    ]
    rules = {"MIN": AGGREGATES, "MAX": AGGREGATES, "SUM": AGGREGATES, "AVG": AGGREGATES, "FIRST": AGGREGATES}
    rule = rules.get(name, FUNCTIONS).get(name) or AGGREGATES[name]
    return made(rule, reading.nodes(args, depth), _place(parsed) or reading.begin)


def _count(reading: Reading, parsed: Any, depth: int) -> Node:  # noqa: ANN401
    _only(parsed, "this")
    at = _place(parsed) or reading.begin
    match parsed.this:
        case exp.Star():
            _only(parsed.this)
            return made(AGGREGATES["COUNT(*)"], (), at)
        case exp.Distinct(expressions=[value]):
            _only(parsed.this, "expressions")
            return made(AGGREGATES["COUNT DISTINCT"], reading.nodes([value], depth), at)
    return made(AGGREGATES["COUNT"], reading.nodes([parsed.this], depth), at)


def _trim(reading: Reading, parsed: Any, depth: int) -> Node:  # noqa: ANN401
    _only(parsed, "this", "expression", "position")
    name = {"LEADING": "LTRIM", "TRAILING": "RTRIM"}.get(str(parsed.args.get("position") or ""), "TRIM")
    args = [parsed.this, *([parsed.expression] if parsed.args.get("expression") else [])]
    return made(FUNCTIONS[name], reading.nodes(args, depth), _place(parsed))


def _extract(reading: Reading, parsed: Any, depth: int) -> Node:  # noqa: ANN401
    _only(parsed, "this", "expression")
    (moment,) = reading.nodes([parsed.expression], depth)
    part = parsed.name.upper()
    if part not in FIELDS:
        raise Refused(f"EXTRACT takes {', '.join(FIELDS)}, not {part[:40]}", moment.at)
    if part in {"HOUR", "MINUTE"} and moment.kind is Kind.DATE:
        raise Refused(f"a date has no {part}", moment.at)
    return made(FUNCTIONS["EXTRACT"], (moment,), moment.at, part)


def _at_time_zone(reading: Reading, parsed: Any, depth: int) -> Node:  # noqa: ANN401
    _only(parsed, "this", "zone")
    (moment,) = reading.nodes([parsed.this], depth)
    zone = parsed.args["zone"]
    if not isinstance(zone, exp.Literal) or zone.name not in zone_names():
        raise Refused("the zone must be written by its name, as 'Europe/Berlin'", _place(zone) or moment.at)
    return made(FUNCTIONS["AT TIME ZONE"], (moment,), moment.at, zone.name)


def _case(reading: Reading, parsed: Any, depth: int) -> Node:  # noqa: ANN401
    _only(parsed, "this", "ifs", "default")
    args = []
    for branch in parsed.args["ifs"]:
        _only(branch, "this", "true")
        test, value = reading.nodes([branch.this, branch.args["true"]], depth)
        if parsed.args.get("this"):
            (subject,) = reading.nodes([parsed.this], depth)
            test = made(OPERATORS["="], (subject, test), test.at)
        args += [test, value]
    default = parsed.args.get("default")
    args.append(reading.nodes([default], depth)[0] if default else Node(CONSTANT, Kind.NULL))
    return made(FUNCTIONS["CASE"], tuple(args), args[0].at)


def _cast(reading: Reading, parsed: Any, depth: int) -> Node:  # noqa: ANN401
    _only(parsed, "this", "to")
    (value,) = reading.nodes([parsed.this], depth)
    return cast(value, parsed.args["to"])


def _interval(_: Reading, parsed: Any, __: int) -> Node:  # noqa: ANN401
    return Node(CONSTANT, Kind.INTERVAL, value=interval(parsed, _place(parsed)), at=_place(parsed))


READERS: Mapping[type[exp.Expression], Callable[[Reading, Any, int], Node]] = {
    exp.And: _chain(exp.And, "AND"),
    exp.Or: _chain(exp.Or, "OR"),
    **dict.fromkeys(BINARY, _binary),
    **dict.fromkeys(CALLS, _call),
    exp.Paren: lambda reading, parsed, depth: reading.nodes([parsed.this], depth)[0],
    exp.Not: _not,
    exp.Is: _is,
    exp.Like: _like,
    exp.ILike: _like,
    exp.Escape: _escape,
    exp.In: _in,
    exp.Between: _between,
    exp.Neg: _negative,
    exp.Literal: _literal,
    exp.Boolean: _boolean,
    exp.Null: _null,
    exp.Column: _column,
    exp.Count: _count,
    exp.Trim: _trim,
    exp.Extract: _extract,
    exp.AtTimeZone: _at_time_zone,
    exp.Case: _case,
    exp.Cast: _cast,
    exp.Interval: _interval,
}
"""How each node of sqlglot's that is allowed is read; any other is refused."""
