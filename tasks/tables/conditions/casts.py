"""CAST: the conversions that are possible, each of one meaning."""

from typing import Any

from sqlglot import exp

from tasks.tables.conditions.kinds import CAST, LARGEST_SCALE, as_kind
from tasks.tables.conditions.tree import NUMBERS, Kind, Node, Refused

TARGETS = {
    exp.DType.BOOLEAN: Kind.BOOLEAN,
    exp.DType.INT: Kind.INTEGER,
    exp.DType.BIGINT: Kind.INTEGER,
    exp.DType.DECIMAL: Kind.NUMERIC,
    exp.DType.DOUBLE: Kind.DOUBLE,
    exp.DType.TEXT: Kind.TEXT,
    exp.DType.VARCHAR: Kind.TEXT,
    exp.DType.DATE: Kind.DATE,
    exp.DType.TIMESTAMP: Kind.MOMENT,
    exp.DType.TIMESTAMPTZ: Kind.INSTANT,
}
NAMES = "BOOLEAN, BIGINT, NUMERIC(10, 2), DOUBLE PRECISION, TEXT, DATE, TIMESTAMP, TIMESTAMPTZ"
CASTS = {
    Kind.BOOLEAN: {Kind.BOOLEAN},
    Kind.INTEGER: {Kind.INTEGER, Kind.WHOLE, Kind.NUMERIC, Kind.DOUBLE, Kind.BOOLEAN},
    Kind.NUMERIC: {Kind.INTEGER, Kind.WHOLE, Kind.NUMERIC},
    Kind.DOUBLE: set(NUMBERS),
    Kind.TEXT: {Kind.TEXT, Kind.INTEGER, Kind.WHOLE, Kind.BOOLEAN, Kind.DATE},
    Kind.DATE: {Kind.DATE, Kind.MOMENT},
    Kind.MOMENT: {Kind.DATE, Kind.MOMENT},
    Kind.INSTANT: {Kind.INSTANT},
}
"""What each type can be made of, {type: types}. Texts are made other types by the source, not by a condition."""


def cast(value: Node, to: Any) -> Node:  # noqa: ANN401  # sqlglot's node
    """The value as a type. Errors: `Refused`."""
    target = TARGETS.get(to.this)
    if target is None:
        raise Refused(f"the type {str(to.this.value)[:40]} is not known, only {NAMES}", value.at)
    sizes = (
        [int(size.name) for size in to.expressions] if all(size.name.isdigit() for size in to.expressions) else []
    )
    if target is not Kind.NUMERIC and to.expressions:
        raise Refused("a type with a length is not possible: write LEFT", value.at)
    if target is Kind.NUMERIC:
        return _numeric(value, sizes)
    found = as_kind(value, target)
    if found is not None:
        return found
    _check(value, target)
    return Node(CAST, target, (value,), at=value.at)


def _check(value: Node, target: Kind) -> None:
    if value.kind in CASTS[target]:
        return
    reason = f"{value.kind.value} cannot be made {target.value}"
    if value.kind is Kind.TEXT:
        reason += "; say the column's type in the source's types"
    if Kind.INSTANT in {value.kind, target}:
        reason += "; say the zone: moment AT TIME ZONE 'Europe/Berlin'"
    raise Refused(reason, value.at)


def _numeric(value: Node, sizes: list[int]) -> Node:
    _check(value, Kind.NUMERIC) if value.kind is not Kind.NULL else None
    if not sizes:
        return value if value.kind in {Kind.NUMERIC, Kind.WHOLE} else Node(CAST, Kind.WHOLE, (value,), at=value.at)
    precision, scale = sizes[0], (sizes[1] if len(sizes) > 1 else 0)
    if not 0 < precision <= 38 or scale > min(precision, LARGEST_SCALE):
        raise Refused(f"NUMERIC has at most 38 digits, {LARGEST_SCALE} of them decimals", value.at)
    return Node(CAST, Kind.NUMERIC, (value,), value=precision, at=value.at, scale=scale)
