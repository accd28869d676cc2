"""The functions of the language. Each is a rule; a function that is not here cannot be said."""

from collections.abc import Callable, Mapping

import polars as pl

from tasks.tables.conditions.kinds import as_kind, common
from tasks.tables.conditions.operators import OPERATORS, Args, each_of, lowered, meeting, of
from tasks.tables.conditions.tree import NUMBERS, Kind, Node, Refused, Rule, Typed

FIELDS: Mapping[str, Callable[[pl.Expr], pl.Expr]] = {
    "YEAR": lambda a: a.dt.year(),
    "QUARTER": lambda a: a.dt.quarter(),
    "MONTH": lambda a: a.dt.month(),
    "WEEK": lambda a: a.dt.week(),
    "ISOYEAR": lambda a: a.dt.iso_year(),
    "DAY": lambda a: a.dt.day(),
    "DOY": lambda a: a.dt.ordinal_day(),
    "DOW": lambda a: a.dt.weekday() % 7,
    "ISODOW": lambda a: a.dt.weekday(),
    "HOUR": lambda a: a.dt.hour(),
    "MINUTE": lambda a: a.dt.minute(),
}
"""What EXTRACT takes out of a date or moment; hours and minutes only of a moment."""


def _written(node: Node, what: str) -> int:
    """The whole number that is written in the text. Errors: `Refused`."""
    if node.is_constant and node.kind is Kind.INTEGER and node.value is not None:
        return int(node.value)
    raise Refused(f"{what} must be a written whole number", node.at)


def _cut(args: Args) -> Typed | None:
    if len(args) != 2 or not (text := as_kind(args[0], Kind.TEXT)):
        return None
    _written(args[1], "the number of characters")
    return Typed((text, args[1]), Kind.TEXT)


def _substring(args: Args) -> Typed | None:
    if len(args) not in {2, 3} or not (text := as_kind(args[0], Kind.TEXT)):
        return None
    numbers = [_written(node, "a place in a text") for node in args[1:]]
    if numbers[1:] and numbers[1] < 0:
        raise Refused("a length is not negative", args[2].at)
    return Typed((text, *args[1:]), Kind.TEXT)


def _sliced(node: Node, text: pl.Expr, *_: pl.Expr) -> pl.Expr:
    start = node.args[1].value - 1
    end = None if len(node.args) == 2 else max(0, start + node.args[2].value)
    start = max(0, start)
    return text.str.slice(start, None if end is None else max(0, end - start))


def _trimmable(args: Args) -> Typed | None:
    text = as_kind(args[0], Kind.TEXT) if args else None
    if len(args) not in {1, 2} or text is None:
        return None
    if len(args) == 2 and not (args[1].is_constant and args[1].kind is Kind.TEXT):
        raise Refused("the characters to trim must be a written text", args[1].at)
    return Typed((text, *args[1:]), Kind.TEXT)


def _trimmed(side: str) -> Callable[..., pl.Expr]:
    def trimmed(node: Node, text: pl.Expr, *_: pl.Expr) -> pl.Expr:
        characters = node.args[1].value if len(node.args) == 2 else " "
        return getattr(text.str, side)(characters) if characters else text

    return trimmed


def _call(name: str) -> Callable[[Node, list[str]], str]:
    return lambda _, texts: f"{name}({', '.join(texts)})"


def _whole_of(args: Args) -> Typed | None:
    """ROUND, CEIL, FLOOR: an integer becomes a double, as in PostgreSQL."""
    if len(args) == 2 and args[0].kind is Kind.NUMERIC:
        decimals = _written(args[1], "the number of decimals")
        if decimals < 0:
            raise Refused("the number of decimals is not negative", args[1].at)
        return Typed(args, Kind.NUMERIC, min(decimals, args[0].scale))
    if len(args) != 1 or args[0].kind not in NUMBERS:
        return None
    (number,) = args
    if number.kind is Kind.INTEGER:
        number = as_kind(number, Kind.DOUBLE) or number
    return Typed((number,), number.kind)


def _rounded(node: Node, value: pl.Expr, *_: pl.Expr) -> pl.Expr:
    if node.kind is Kind.NUMERIC:
        decimals = node.args[1].value if len(node.args) == 2 else 0
        rounded = value.round(min(decimals, node.args[0].scale), mode="half_away_from_zero")
        return rounded.cast(pl.Decimal(38, node.scale))
    return value if node.kind is Kind.WHOLE else value.round(0, mode="half_to_even")


def _floored(node: Node, value: pl.Expr) -> pl.Expr:
    floored = value if node.kind is Kind.WHOLE else value.floor()
    return floored.cast(pl.Decimal(38, 0)) if node.kind is Kind.NUMERIC else floored


def _ceiled(node: Node, value: pl.Expr) -> pl.Expr:
    ceiled = value if node.kind is Kind.WHOLE else value.ceil()
    return ceiled.cast(pl.Decimal(38, 0)) if node.kind is Kind.NUMERIC else ceiled


def _number(args: Args) -> Typed | None:
    return Typed(args, args[0].kind, args[0].scale) if len(args) == 1 and args[0].kind in NUMBERS else None


def _absolute(node: Node, value: pl.Expr) -> pl.Expr:
    if node.kind in {Kind.INTEGER, Kind.WHOLE}:
        return value.cast(pl.Int128()).abs().cast(pl.Int64(), strict=False)
    return value.abs()


def _case(args: Args) -> Typed | None:
    """Conditions and their values by turns, and last the default."""
    conditions = [as_kind(node, Kind.BOOLEAN) for node in args[:-1:2]]
    met = common([*args[1::2], args[-1]])
    if not all(conditions) or met is None:
        return None
    values = iter(met.args)
    pairs = [node for test in conditions if test for node in (test, next(values))]
    return Typed((*pairs, next(values)), met.kind, met.scale)


def _cases(_: Node, *args: pl.Expr) -> pl.Expr:
    *pairs, default = args
    result = default
    for test, value in reversed(list(zip(pairs[::2], pairs[1::2], strict=True))):
        result = pl.when(test).then(value).otherwise(result)
    return result


def _case_sql(_: Node, texts: list[str]) -> str:
    *pairs, default = texts
    whens = " ".join(f"WHEN {test} THEN {value}" for test, value in zip(pairs[::2], pairs[1::2], strict=True))
    return f"(CASE {whens} ELSE {default} END)"


def _extractable(args: Args) -> Typed | None:
    (moment,) = args
    if moment.kind is Kind.INSTANT:
        raise Refused(
            "what the clock shows depends on the zone: EXTRACT(... FROM moment AT TIME ZONE 'Europe/Berlin')",
            moment.at,
        )
    return Typed(args, Kind.WHOLE) if moment.kind in {Kind.DATE, Kind.MOMENT} else None


def _nullif(node: Node, value: pl.Expr, other: pl.Expr) -> pl.Expr:
    del node
    return pl.when(value == other).then(None).otherwise(value)


def _total(node: Node, value: pl.Expr) -> pl.Expr:
    total = value.cast(pl.Int128()).sum().cast(pl.Int64(), strict=False) if node.kind is Kind.WHOLE else value.sum()
    return pl.when(value.count() > 0).then(total)


def _summable(args: Args) -> Typed | None:
    found = _number(args)
    return Typed(args, Kind.WHOLE) if found and found.kind is Kind.INTEGER else found


def _any(args: Args) -> Typed | None:
    return Typed(args, args[0].kind, args[0].scale) if len(args) == 1 else None


def _orderable(args: Args) -> Typed | None:
    return _any(args) if args and args[0].kind not in {Kind.BOOLEAN, Kind.OTHER, Kind.INTERVAL} else None


def _aggregate(
    name: str, meaning: str, typed: Callable[[Args], Typed | None], polars: Callable[..., pl.Expr], uses: int = 1
) -> Rule:
    usage = "COUNT(*)" if name == "COUNT(*)" else f"{name}(a)".replace("DISTINCT(a)", "(DISTINCT a)")
    return Rule(name, usage, meaning, typed, polars, uses=uses, aggregate=True)


_RULES = [
    Rule(
        "LOWER",
        "LOWER(text)",
        "Unicode's small letters, whatever the database's locale",
        of(Kind.TEXT, gives=Kind.TEXT),
        lambda _, a: lowered(a),
    ),
    Rule(
        "UPPER",
        "UPPER(text)",
        "Unicode's capital letters, whatever the database's locale",
        of(Kind.TEXT, gives=Kind.TEXT),
        lambda _, a: a.str.to_uppercase(),
    ),
    Rule(
        "LENGTH",
        "LENGTH(text)",
        "characters; also CHAR_LENGTH",
        of(Kind.TEXT, gives=Kind.INTEGER),
        lambda _, a: a.str.len_chars().cast(pl.Int64()),
        _call("LENGTH"),
        _call("LENGTH"),
    ),
    Rule(
        "TRIM",
        "TRIM(text), TRIM(BOTH 'x' FROM text)",
        "without spaces, or the characters of a written text, at both ends; also BTRIM(text, 'x')",
        _trimmable,
        _trimmed("strip_chars"),
        _call("BTRIM"),
        _call("TRIM"),
    ),
    Rule(
        "LTRIM",
        "LTRIM(text), TRIM(LEADING 'x' FROM text)",
        "TRIM at the beginning",
        _trimmable,
        _trimmed("strip_chars_start"),
        _call("LTRIM"),
        _call("LTRIM"),
    ),
    Rule(
        "RTRIM",
        "RTRIM(text), TRIM(TRAILING 'x' FROM text)",
        "TRIM at the end",
        _trimmable,
        _trimmed("strip_chars_end"),
        _call("RTRIM"),
        _call("RTRIM"),
    ),
    Rule(
        "LEFT",
        "LEFT(text, 2)",
        "the first characters; a negative number leaves out so many at the end",
        _cut,
        lambda node, a, _: a.str.head(node.args[1].value),
        _call("LEFT"),
    ),
    Rule(
        "RIGHT",
        "RIGHT(text, 2)",
        "the last characters; a negative number leaves out so many at the beginning",
        _cut,
        lambda node, a, _: a.str.tail(node.args[1].value),
        _call("RIGHT"),
    ),
    Rule(
        "SUBSTRING",
        "SUBSTRING(text FROM 2 FOR 3)",
        "from a place, counted from 1, so many characters; also SUBSTRING(text, 2, 3) and SUBSTR",
        _substring,
        _sliced,
        _call("SUBSTRING"),
    ),
    Rule(
        "STARTS_WITH",
        "STARTS_WITH(text, 'x')",
        "whether the text begins so",
        of(Kind.TEXT, Kind.TEXT, gives=Kind.BOOLEAN),
        lambda _, a, b: a.str.starts_with(b),
        _call("STARTS_WITH"),
    ),
    Rule(
        "CONCAT",
        "CONCAT(a, b)",
        "texts one after the other; NULL is an empty text",
        each_of(Kind.TEXT, Kind.TEXT),
        lambda _, *args: pl.concat_str(args, ignore_nulls=True),
        _call("CONCAT"),
    ),
    Rule(
        "ROUND",
        "ROUND(number), ROUND(numeric, 2)",
        "a numeric: half away from zero, ROUND(2.5) = 3; a double: half to even, as PostgreSQL",
        _whole_of,
        _rounded,
    ),
    Rule("FLOOR", "FLOOR(number)", "the whole number below", _whole_of, _floored),
    Rule("CEIL", "CEIL(number)", "the whole number above; also CEILING", _whole_of, _ceiled),
    Rule("ABS", "ABS(number)", "without its sign", _number, _absolute),
    Rule(
        "MOD",
        "MOD(a, b)",
        "a % b",
        of(Kind.INTEGER, Kind.INTEGER, gives=Kind.INTEGER),
        OPERATORS["%"].polars,
        uses=2,
    ),
    Rule(
        "COALESCE",
        "COALESCE(a, b)",
        "the first that is not NULL",
        meeting(),
        lambda _, *args: pl.coalesce(args),
        _call("COALESCE"),
        None,
    ),
    Rule("NULLIF", "NULLIF(a, b)", "a, or NULL where a = b", meeting(), _nullif, _call("NULLIF"), None, uses=2),
    Rule(
        "GREATEST",
        "GREATEST(a, b)",
        "the largest that is not NULL",
        meeting(ordered=True),
        lambda _, *args: pl.max_horizontal(args),
        _call("GREATEST"),
        None,
    ),
    Rule(
        "LEAST",
        "LEAST(a, b)",
        "the smallest that is not NULL",
        meeting(ordered=True),
        lambda _, *args: pl.min_horizontal(args),
        _call("LEAST"),
        None,
    ),
    Rule(
        "CASE",
        "CASE WHEN a THEN b ELSE c END",
        "the value of the first condition that holds; without ELSE NULL; also CASE a WHEN 1 THEN b END",
        _case,
        _cases,
        _case_sql,
        None,
    ),
    Rule(
        "EXTRACT",
        "EXTRACT(YEAR FROM a)",
        f"{', '.join(FIELDS)} of a date or moment; a numeric",
        _extractable,
        lambda node, a: FIELDS[node.value](a).cast(pl.Int64()),
        lambda node, texts: f"EXTRACT({node.value} FROM {texts[0]})",
    ),
    Rule(
        "AT TIME ZONE",
        "a AT TIME ZONE 'Europe/Berlin'",
        "what the clock shows there: a moment with a zone becomes one without",
        of(Kind.INSTANT, gives=Kind.MOMENT),
        lambda node, a: a.dt.convert_time_zone(node.value).dt.replace_time_zone(None),
    ),
]
_AGGREGATES = [
    _aggregate(
        "COUNT(*)",
        "how many rows",
        lambda args: Typed(args, Kind.INTEGER) if not args else None,
        lambda _: pl.len().cast(pl.Int64()),
    ),
    _aggregate(
        "COUNT",
        "how many are not NULL",
        lambda args: Typed(args, Kind.INTEGER) if len(args) == 1 else None,
        lambda _, a: a.count().cast(pl.Int64()),
    ),
    _aggregate(
        "COUNT DISTINCT",
        "how many different values that are not NULL",
        lambda args: Typed(args, Kind.INTEGER) if len(args) == 1 else None,
        lambda _, a: a.drop_nulls().n_unique().cast(pl.Int64()),
    ),
    _aggregate("SUM", "NULL of no value", _summable, _total, 2),
    _aggregate(
        "AVG",
        "a double; NULL of no value",
        lambda args: Typed(args, Kind.DOUBLE) if _number(args) else None,
        lambda _, a: a.cast(pl.Float64()).mean(),
    ),
    _aggregate("MIN", "the smallest", _orderable, lambda _, a: a.min()),
    _aggregate("MAX", "the largest", _orderable, lambda _, a: a.max()),
    _aggregate("FIRST", "the first row's; PostgreSQL has none", _any, lambda _, a: a.first()),
    _aggregate("LAST", "the last row's; PostgreSQL has none", _any, lambda _, a: a.last()),
]

FUNCTIONS: Mapping[str, Rule] = {rule.name: rule for rule in _RULES}
"""Every function of a row's values, by its name."""
AGGREGATES: Mapping[str, Rule] = {rule.name: rule for rule in _AGGREGATES}
"""Every function of all rows, by its name; only where an aggregate is asked for."""
