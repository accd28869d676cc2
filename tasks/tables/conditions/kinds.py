"""Types of the language: those of a table's columns, those of constants, and which becomes which where two meet."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl

from tasks.tables.conditions.tree import NUMBERS, Kind, Node, Refused, Rule, Typed

LARGEST_SCALE = 18
"""Decimals of a numeric beyond which products do not fit into the 38 digits that polars has."""
TEXT_OF_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
TEXT_OF_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?)?")
TEXT_OF_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}(:?\d{2})?)")
POLARS: dict[Kind, pl.DataType] = {
    Kind.BOOLEAN: pl.Boolean(),
    Kind.INTEGER: pl.Int64(),
    Kind.WHOLE: pl.Int64(),
    Kind.DOUBLE: pl.Float64(),
    Kind.TEXT: pl.String(),
    Kind.DATE: pl.Date(),
    Kind.MOMENT: pl.Datetime("us"),
    Kind.INSTANT: pl.Datetime("us", "UTC"),
    Kind.TIME: pl.Time(),
    Kind.NULL: pl.Null(),
}


def kind_of(kind: pl.DataType) -> Kind:
    """The type that a column of a polars type has in conditions."""
    if isinstance(kind, pl.Datetime):
        return Kind.INSTANT if kind.time_zone else Kind.MOMENT
    if isinstance(kind, pl.Decimal):
        return Kind.NUMERIC
    if kind.is_integer():
        return Kind.INTEGER
    if kind.is_float():
        return Kind.DOUBLE
    if isinstance(kind, pl.String | pl.Categorical | pl.Enum):
        return Kind.TEXT
    simple = {pl.Boolean(): Kind.BOOLEAN, pl.Date(): Kind.DATE, pl.Time(): Kind.TIME, pl.Null(): Kind.NULL}
    return simple.get(kind, Kind.OTHER)


def column(name: str, kind: pl.DataType) -> pl.Expr:
    """The column as conditions see it: NaN is NULL, moments with a zone are UTC, categories are texts."""
    expr = pl.col(name)
    if kind.is_float():
        return expr.cast(pl.Float64()).fill_nan(None)
    if isinstance(kind, pl.Categorical | pl.Enum):
        return expr.cast(pl.String())
    if kind in {pl.UInt64(), pl.Int128()}:
        return expr.cast(pl.Int64(), strict=False)
    if isinstance(kind, pl.Datetime):
        expr = expr if kind.time_unit == "us" else expr.dt.cast_time_unit("us")
        return expr if kind.time_zone in {None, "UTC"} else expr.dt.convert_time_zone("UTC")
    return expr


def in_polars(kind: Kind, scale: int) -> pl.DataType:
    """The polars type of values of a type."""
    return pl.Decimal(38, scale) if kind is Kind.NUMERIC else POLARS[kind]


def _constant(node: Node) -> pl.Expr:
    if node.value is None or node.kind is Kind.INTERVAL:
        return pl.lit(
            None,
            pl.Null()
            if node.kind not in POLARS and node.kind is not Kind.NUMERIC
            else in_polars(node.kind, node.scale),
        )
    return pl.lit(node.value, in_polars(node.kind, node.scale))


CONSTANT = Rule("constant", "", "", lambda args: Typed(args, Kind.NULL), _constant)


def scale_of(value: Decimal) -> int:
    """How many decimals a number is written with."""
    exponent = value.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _cast(node: Node, value: pl.Expr) -> pl.Expr:
    """The conversions that lose nothing, and CAST's own."""
    source, target = node.args[0].kind, node.kind
    wanted = in_polars(target, node.scale)
    if source is Kind.DATE and target is Kind.TEXT:
        return value.dt.strftime("%Y-%m-%d")
    if source is Kind.BOOLEAN and target is Kind.INTEGER:
        return value.cast(wanted)
    if source is Kind.DOUBLE and target is Kind.INTEGER:
        return value.round(0, mode="half_to_even").cast(wanted, strict=False)
    if source is Kind.NUMERIC and target is Kind.INTEGER:
        return value.round(0, mode="half_away_from_zero").cast(wanted, strict=False)
    if source is Kind.NUMERIC and target is Kind.NUMERIC and node.scale < node.args[0].scale:
        value = value.round(node.scale, mode="half_away_from_zero")
    if target is Kind.NUMERIC and node.value:  # a precision
        value = value.cast(pl.Decimal(node.value, node.scale), strict=False)
    if source is Kind.MOMENT and target is Kind.DATE:
        return value.dt.date()
    return value.cast(wanted, strict=False)


CAST = Rule("CAST", "", "", lambda args: Typed(args, Kind.NULL), _cast)


def as_kind(node: Node, kind: Kind, scale: int = 0) -> Node | None:
    """The node as another type, where that is without question; else nothing. Errors: `Refused` (a bad literal)."""
    if node.kind is kind and (kind is not Kind.NUMERIC or node.scale == scale):
        return node
    wider = node.kind in NUMBERS and kind in NUMBERS and NUMBERS.index(kind) >= NUMBERS.index(node.kind)
    if node.is_constant and node.value is None and (node.kind is Kind.NULL or wider):
        return Node(CONSTANT, kind, at=node.at, scale=scale)
    if node.is_constant and node.kind is Kind.TEXT and kind in {Kind.DATE, Kind.MOMENT, Kind.INSTANT}:
        return Node(CONSTANT, kind, value=moment_of(str(node.value), kind, node), at=node.at)
    if node.is_constant and wider:
        return Node(CONSTANT, kind, value=_number(node.value, kind), at=node.at, scale=scale)
    if wider or node.kind is Kind.NULL or (node.kind is Kind.DATE and kind is Kind.MOMENT):
        return _wrapped(node, kind, scale)
    return None


def _wrapped(node: Node, kind: Kind, scale: int) -> Node:
    return Node(CAST, kind, (node,), at=node.at, scale=scale)


def _number(value: object, kind: Kind) -> object:
    number = Decimal(str(value))
    return float(number) if kind is Kind.DOUBLE else number if kind is Kind.NUMERIC else int(number)


def common(nodes: Sequence[Node]) -> Typed | None:
    """The nodes as the one type in which they meet, and it. Nothing where they do not meet."""
    kinds = [node.kind for node in nodes if node.kind is not Kind.NULL]
    if not kinds:
        return Typed(tuple(nodes), Kind.NULL)
    if all(kind in NUMBERS for kind in kinds):
        kind = max(kinds, key=NUMBERS.index)
    else:
        typed = [node.kind for node in nodes if not (node.is_constant and node.kind is Kind.TEXT)]
        kinds = [kind for kind in typed if kind is not Kind.NULL] or kinds
        kind = Kind.MOMENT if set(kinds) == {Kind.DATE, Kind.MOMENT} else kinds[0]
    if kind is Kind.OTHER:
        return None
    scale = max((node.scale for node in nodes), default=0) if kind is Kind.NUMERIC else 0
    found = [as_kind(node, kind, scale) for node in nodes]
    return Typed(tuple(node for node in found if node), kind, scale) if all(found) else None


def moment_of(text: str, kind: Kind, node: Node) -> date | datetime:
    """The date or moment that a literal says. Errors: `Refused` (another way of writing, no such day)."""
    forms = {
        Kind.DATE: (TEXT_OF_DATE, "a date, as DATE '2026-11-25'"),
        Kind.MOMENT: (TEXT_OF_MOMENT, "a moment without a zone, as TIMESTAMP '2026-11-25 07:30:00'"),
        Kind.INSTANT: (TEXT_OF_INSTANT, "a moment with its offset, as TIMESTAMPTZ '2026-11-25 07:30:00+01:00'"),
    }
    form, example = forms[kind]
    refused = Refused(f"'{text[:40]}' is not {example}", node.at)
    if not form.fullmatch(text):
        raise refused
    try:
        if kind is Kind.DATE:
            return date.fromisoformat(text)
        read = datetime.fromisoformat(text)
        return read.astimezone(UTC) if kind is Kind.INSTANT else read
    except (ValueError, OverflowError):
        raise refused from None
