"""The operators of the language: logic, comparison, patterns, arithmetic. Each is a rule."""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import polars as pl

from tasks.tables.conditions.kinds import LARGEST_SCALE, as_kind, common, in_polars
from tasks.tables.conditions.tree import NUMBERS, Kind, Node, Refused, Rule, Typed

Args = tuple[Node, ...]
LONGEST_PATTERN = 500
"""Characters of a LIKE pattern, which each text is tried with at every place."""
MOST_DAYS = 3_660_000
"""Days that PostgreSQL can add to any date that people have."""


def of(*kinds: Kind, gives: Kind) -> Callable[[Args], Typed | None]:
    """A rule's typing: arguments of these types, one for each."""

    def typed(args: Args) -> Typed | None:
        found = [as_kind(node, kind) for node, kind in zip(args, kinds, strict=False)]
        fit = len(args) == len(kinds) and all(found)
        return Typed(tuple(node for node in found if node), gives) if fit else None

    return typed


def each_of(kind: Kind, gives: Kind) -> Callable[[Args], Typed | None]:
    """A rule's typing: any number of arguments of one type."""
    return lambda args: of(*(kind for _ in args), gives=gives)(args)


def meeting(gives: Kind | None = None, *, ordered: bool = False) -> Callable[[Args], Typed | None]:
    """A rule's typing: arguments that meet in one type, which it gives unless it gives another."""

    def typed(args: Args) -> Typed | None:
        met = common(args)
        if met is None or (ordered and met.kind is Kind.BOOLEAN) or met.kind is Kind.INTERVAL:
            return None
        return Typed(met.args, gives or met.kind, 0 if gives else met.scale)

    return typed


def _halves(both: Callable[[pl.Expr, pl.Expr], pl.Expr], values: Sequence[pl.Expr]) -> pl.Expr:
    """The values brought together in a tree that stays flat, however many they are."""
    if len(values) == 1:
        return values[0]
    middle = len(values) // 2
    return both(_halves(both, values[:middle]), _halves(both, values[middle:]))


def _in(node: Node, value: pl.Expr, *options: pl.Expr) -> pl.Expr:
    kind = in_polars(node.args[0].kind, node.args[0].scale)
    given = list(zip(node.args[1:], options, strict=True))
    written = [option.value for option, _ in given if option.is_constant]
    values = [constant for constant in written if constant is not None]
    tried = [value == compiled for option, compiled in given if not option.is_constant]
    if values:
        tried.append(value.is_in(pl.Series(values, dtype=kind).implode()))
    if len(values) < len(written):
        tried.append(pl.lit(None, pl.Boolean()))
    return _halves(lambda left, right: left | right, tried)


def like_pattern(pattern: str, escape: str, node: Node) -> list[str | None]:
    """The characters of a LIKE pattern: `%` as None, `_` as an empty text. Errors: `Refused`."""
    if len(pattern) > LONGEST_PATTERN:
        raise Refused(f"a pattern has at most {LONGEST_PATTERN} characters", node.at)
    parts: list[str | None] = []
    characters = iter(pattern)
    for character in characters:
        if escape and character == escape:
            literal = next(characters, None)
            if literal is None:
                raise Refused("the pattern ends with its escape character", node.at)
            parts.append(literal)
        else:
            parts.append({"%": None, "_": ""}.get(character, character))
    return [part for place, part in enumerate(parts) if part is not None or parts[place - 1 : place] != [None]]


def lowered(text: pl.Expr) -> pl.Expr:
    """Small letters, one for each letter, as in PostgreSQL: no final sigma, no dot apart."""
    return text.str.replace_many(["Σ", "İ"], ["σ", "i"]).str.to_lowercase()


def _like(node: Node, value: pl.Expr) -> pl.Expr:
    parts: list[str | None] = node.value
    if node.rule.name == "ILIKE":
        value = lowered(value)
        parts = [part and str(pl.select(lowered(pl.lit(part))).item()) for part in parts]
    marks: dict[str | None, str] = {None: ".*", "": "."}
    regex = "".join(marks[part] if part in marks else pl.escape_regex(str(part)) for part in parts)
    return value.str.contains(f"(?s)^{regex}$")


def _like_sql(node: Node, texts: list[str]) -> str:
    marks = {None: "%", "": "_", "!": "!!", "%": "!%", "_": "!_", "'": "''"}
    pattern = "".join(marks.get(part, part or "") for part in node.value)
    return f"{texts[0]} LIKE '{pattern}' ESCAPE '!'"


def _sum(args: Args) -> Typed | None:
    """Types of + and -."""
    left, right = args
    days = {left.kind, right.kind}
    if Kind.INTERVAL in days:
        moment, interval = (right, left) if left.kind is Kind.INTERVAL else (left, right)
        if moment.kind is Kind.INSTANT and (interval.value[0] or interval.value[1]):
            raise Refused(
                "days and months of a moment with a zone need the zone: (moment AT TIME ZONE 'Europe/Berlin')",
                interval.at,
            )
        if moment.kind in {Kind.DATE, Kind.MOMENT, Kind.INSTANT}:
            return Typed((moment, interval), Kind.INSTANT if moment.kind is Kind.INSTANT else Kind.MOMENT)
        return None
    if left.kind is Kind.DATE and right.kind is Kind.INTEGER:
        return Typed(args, Kind.DATE)
    return _arithmetic(args)


def _plus(args: Args) -> Typed | None:
    left, right = args
    return _sum((right, left)) if left.kind is Kind.INTEGER and right.kind is Kind.DATE else _sum(args)


def _minus(args: Args) -> Typed | None:
    left, right = args
    if left.kind is Kind.INTERVAL:
        return None
    if left.kind is Kind.DATE and right.kind is Kind.DATE:
        return Typed(args, Kind.INTEGER)
    if {left.kind, right.kind} <= {Kind.DATE, Kind.MOMENT, Kind.INSTANT}:
        raise Refused(
            "moments are compared, as a >= b - INTERVAL '2 hours', or their dates are subtracted", left.at
        )
    return _sum(args)


def _arithmetic(args: Args) -> Typed | None:
    met = common(args)
    return met if met and met.kind in NUMBERS else None


def _product(args: Args) -> Typed | None:
    met = common(args)
    if met is None or met.kind not in NUMBERS:
        return None
    if met.kind is not Kind.NUMERIC:
        return met
    scale = sum(node.scale for node in args)
    if scale > LARGEST_SCALE:
        raise Refused(f"the product would have {scale} decimals, at most {LARGEST_SCALE} are possible", args[0].at)
    coerced = [as_kind(node, Kind.NUMERIC, scale) for node in args]
    return Typed(tuple(node for node in coerced if node), Kind.NUMERIC, scale)


def _quotient(args: Args) -> Typed | None:
    met = common(args)
    if met and met.kind in {Kind.WHOLE, Kind.NUMERIC}:
        raise Refused(
            "a numeric is not divided, because its decimals would have no end: CAST(x AS DOUBLE PRECISION) / y, or"
            " CAST(x AS BIGINT) / y for whole numbers",
            args[0].at,
        )
    return met if met and met.kind in NUMBERS else None


def _computed(node: Node, op: Callable[[pl.Expr, pl.Expr], pl.Expr], left: pl.Expr, right: pl.Expr) -> pl.Expr:
    """Arithmetic of numbers; what has no answer in the type is NULL."""
    if node.kind in {Kind.INTEGER, Kind.WHOLE}:
        return op(left.cast(pl.Int128()), right.cast(pl.Int128())).cast(pl.Int64(), strict=False)
    result = op(left, right)
    return pl.when(result.is_finite()).then(result) if node.kind is Kind.DOUBLE else result


def _add(node: Node, left: pl.Expr, right: pl.Expr, sign: int = 1) -> pl.Expr:
    first, second = node.args
    if second.kind is Kind.INTERVAL:
        return moved(left if first.kind is not Kind.DATE else left.cast(pl.Datetime("us")), second.value, sign)
    if first.kind is Kind.DATE:
        days = left.cast(pl.Int32()).cast(pl.Int128())
        if second.kind is Kind.DATE:
            return (days - right.cast(pl.Int32()).cast(pl.Int128())).cast(pl.Int64())
        moved_days = days + right.cast(pl.Int128()) * sign
        return moved_days.cast(pl.Int32(), strict=False).cast(pl.Date())
    return _computed(node, (lambda a, b: a + b) if sign > 0 else (lambda a, b: a - b), left, right)


def _of_dates(node: Node, sign: str, texts: list[str]) -> str | None:
    """Arithmetic of dates in PostgreSQL's SQL. That of numbers fails there where it is NULL here."""
    first, second = node.args
    if first.kind not in {Kind.DATE, Kind.MOMENT, Kind.INSTANT}:
        return None
    if second.kind is Kind.INTEGER and not (second.is_constant and abs(second.value or 0) < MOST_DAYS):
        return None
    return f"({texts[0]} {sign} {texts[1]})"


def moved(moment: pl.Expr, interval: tuple[int, int, int], sign: int) -> pl.Expr:
    """The moment moved: months first, to the last day of a shorter month; then days; then the time."""
    for amount, unit in zip(interval, ("mo", "d", "us"), strict=True):
        if amount:
            moment = moment.dt.offset_by(f"{amount * sign}{unit}")
    return moment


def _divide(node: Node, left: pl.Expr, right: pl.Expr) -> pl.Expr:
    if node.kind is Kind.DOUBLE:
        return _computed(node, lambda a, b: a / pl.when(b != 0).then(b), left, right)
    return _computed(node, _truncated, left, right)


def _truncated(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    """Integer division toward zero; polars' own goes down."""
    return a.abs() // b.abs() * a.sign() * b.sign()


def _remainder(node: Node, left: pl.Expr, right: pl.Expr) -> pl.Expr:
    return _computed(node, lambda a, b: a.abs() % b.abs() * a.sign(), left, right)


def _negated(node: Node, value: pl.Expr) -> pl.Expr:
    return _computed(node, lambda a, zero: zero - a, value, pl.lit(0)) if node.kind is not Kind.NUMERIC else -value


def _negatable(args: Args) -> Typed | None:
    (value,) = args
    return Typed(args, value.kind, value.scale) if value.kind in NUMBERS else None


def _binary(op: str) -> str:
    return f"({{0}} {op} {{1}})"


def _comparison(
    name: str, meaning: str, compare: Callable[[pl.Expr, pl.Expr], pl.Expr], *, ordered: bool = False
) -> Rule:
    sql = _binary(name)
    return Rule(
        name,
        f"a {name} b",
        meaning,
        meeting(Kind.BOOLEAN, ordered=ordered),
        lambda _, a, b: compare(a, b),
        sql,
        sql,
    )


def _test(
    name: str, meaning: str, kind: Kind | None, test: Callable[[pl.Expr], pl.Expr], *, sqlite: bool = True
) -> Rule:
    sql = f"({{0}} {name})"
    typed = of(kind, gives=Kind.BOOLEAN) if kind else lambda args: Typed(args, Kind.BOOLEAN)
    return Rule(name, f"a {name}", meaning, typed, lambda _, a: test(a), sql, sql if sqlite else None)


_RULES = [
    Rule(
        "AND",
        "a AND b",
        "FALSE if one is FALSE, else NULL if one is NULL",
        each_of(Kind.BOOLEAN, Kind.BOOLEAN),
        lambda _, *args: _halves(lambda a, b: a & b, args),
        lambda _, texts: f"({' AND '.join(texts)})",
        lambda _, texts: f"({' AND '.join(texts)})",
    ),
    Rule(
        "OR",
        "a OR b",
        "TRUE if one is TRUE, else NULL if one is NULL",
        each_of(Kind.BOOLEAN, Kind.BOOLEAN),
        lambda _, *args: _halves(lambda a, b: a | b, args),
        lambda _, texts: f"({' OR '.join(texts)})",
        lambda _, texts: f"({' OR '.join(texts)})",
    ),
    Rule(
        "NOT",
        "NOT a",
        "NULL stays NULL",
        of(Kind.BOOLEAN, gives=Kind.BOOLEAN),
        lambda _, a: ~a,
        "(NOT {0})",
        "(NOT {0})",
    ),
    _comparison("=", "NULL if one is NULL", lambda a, b: a == b),
    _comparison("<>", "NULL if one is NULL; also !=", lambda a, b: a != b),
    _comparison("<", "texts in the order of their code points", lambda a, b: a < b, ordered=True),
    _comparison("<=", "texts in the order of their code points", lambda a, b: a <= b, ordered=True),
    _comparison(">", "texts in the order of their code points", lambda a, b: a > b, ordered=True),
    _comparison(">=", "texts in the order of their code points", lambda a, b: a >= b, ordered=True),
    _test("IS NULL", "TRUE or FALSE", None, lambda a: a.is_null()),
    _test("IS NOT NULL", "TRUE or FALSE", None, lambda a: a.is_not_null()),
    _test("IS TRUE", "FALSE for NULL", Kind.BOOLEAN, lambda a: a.fill_null(value=False)),
    _test("IS NOT TRUE", "TRUE for NULL", Kind.BOOLEAN, lambda a: ~a.fill_null(value=False)),
    _test("IS FALSE", "FALSE for NULL", Kind.BOOLEAN, lambda a: ~a.fill_null(value=True)),
    _test("IS NOT FALSE", "TRUE for NULL", Kind.BOOLEAN, lambda a: a.fill_null(value=True)),
    Rule(
        "IS DISTINCT FROM",
        "a IS DISTINCT FROM b",
        "as <>, with NULL as a value",
        meeting(Kind.BOOLEAN),
        lambda _, a, b: a.ne_missing(b),
        _binary("IS DISTINCT FROM"),
    ),
    Rule(
        "IS NOT DISTINCT FROM",
        "a IS NOT DISTINCT FROM b",
        "as =, with NULL as a value",
        meeting(Kind.BOOLEAN),
        lambda _, a, b: a.eq_missing(b),
        _binary("IS NOT DISTINCT FROM"),
    ),
    Rule(
        "IN",
        "a IN (b, c)",
        "a = b OR a = c; also NOT IN",
        meeting(Kind.BOOLEAN),
        _in,
        lambda _, texts: f"({texts[0]} IN ({', '.join(texts[1:])}))",
        lambda _, texts: f"({texts[0]} IN ({', '.join(texts[1:])}))",
    ),
    Rule(
        "BETWEEN",
        "a BETWEEN b AND c",
        "a >= b AND a <= c; also NOT BETWEEN",
        meeting(Kind.BOOLEAN, ordered=True),
        lambda _, a, low, high: (a >= low) & (a <= high),
        "({0} BETWEEN {1} AND {2})",
        "({0} BETWEEN {1} AND {2})",
        uses=2,
    ),
    Rule(
        "LIKE",
        "a LIKE 'k%' ESCAPE '\\'",
        "the whole text, in its case; % is any text, _ one character; the pattern is written; also NOT LIKE",
        of(Kind.TEXT, gives=Kind.BOOLEAN),
        _like,
        _like_sql,
    ),
    Rule(
        "ILIKE",
        "a ILIKE 'k%' ESCAPE '\\'",
        "LOWER(a) LIKE LOWER('k%'); also NOT ILIKE",
        of(Kind.TEXT, gives=Kind.BOOLEAN),
        _like,
    ),
    Rule(
        "||",
        "a || b",
        "texts one after the other; NULL if one is NULL",
        each_of(Kind.TEXT, Kind.TEXT),
        lambda _, *args: reduce(lambda a, b: a + b, args),
        _binary("||"),
    ),
    Rule(
        "+",
        "a + b",
        "numbers; a date and whole days give a date; a date or moment and an interval give a moment",
        _plus,
        _add,
        lambda node, texts: _of_dates(node, "+", texts),
        uses=2,
    ),
    Rule(
        "-",
        "a - b",
        "as +; two dates give the days between them",
        _minus,
        lambda node, a, b: _add(node, a, b, -1),
        lambda node, texts: _of_dates(node, "-", texts),
        uses=2,
    ),
    Rule("*", "a * b", "numbers", _product, lambda node, a, b: _computed(node, lambda x, y: x * y, a, b), uses=2),
    Rule("/", "a / b", "integers: 5 / 2 = 2 and -5 / 2 = -2; by zero NULL", _quotient, _divide, uses=3),
    Rule(
        "%",
        "a % b",
        "the rest of integer division, with the sign of a; by zero NULL",
        of(Kind.INTEGER, Kind.INTEGER, gives=Kind.INTEGER),
        _remainder,
        uses=2,
    ),
    Rule("negative", "-a", "numbers", _negatable, _negated, uses=2),
]

OPERATORS: Mapping[str, Rule] = {rule.name: rule for rule in _RULES}
"""Every operator, by its name."""
