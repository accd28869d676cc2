"""Values that have a type already, as Parquet, Delta and databases give them, read as another type.

A value keeps its meaning or is bad: a whole floating number is an integer, 1.5 is none; midnight is a date, noon is
none. What has no rule here is read as its text.
"""

from collections.abc import Callable

import polars as pl

EXACT = 2**53
"""Whole floating numbers up to this one are exact."""
UTC = "UTC"


def value_of(raw: pl.Expr, kind: pl.DataType, wanted: pl.DataType, zone: str | None) -> pl.Expr | None:
    """The value as the wanted type, null where it has none; None where its text is to be read.

    `zone` is that of moments without one, and of the days of moments: UTC where none is given.
    """
    rule = next((rule for fits, rule in RULES if fits(kind)), None)
    return rule(raw, kind, wanted, zone) if rule else None


def _nothing(raw: pl.Expr, wanted: pl.DataType) -> pl.Expr:
    return pl.when(raw.is_null() & raw.is_not_null()).then(pl.lit(None, wanted))


def _of_nested(raw: pl.Expr, kind: pl.DataType, wanted: pl.DataType, zone: str | None) -> pl.Expr:  # noqa: ARG001
    return _nothing(raw, wanted)


def _of_null(raw: pl.Expr, kind: pl.DataType, wanted: pl.DataType, zone: str | None) -> pl.Expr:  # noqa: ARG001
    return raw.cast(wanted)


def _of_integer(raw: pl.Expr, kind: pl.DataType, wanted: pl.DataType, zone: str | None) -> pl.Expr | None:  # noqa: ARG001
    if wanted.is_integer() or wanted.is_float() or wanted == pl.String():
        return raw.cast(wanted, strict=False)
    if wanted == pl.Boolean():
        return pl.when(raw.is_in([0, 1])).then(raw == 1)
    return None if wanted.is_decimal() else _nothing(raw, wanted)


def _of_float(raw: pl.Expr, kind: pl.DataType, wanted: pl.DataType, zone: str | None) -> pl.Expr | None:  # noqa: ARG001
    whole = pl.when(raw.is_finite() & (raw == raw.round(0)) & (raw.abs() <= EXACT)).then(raw)
    if wanted.is_float():
        return pl.when(raw.is_finite()).then(raw.cast(wanted))
    if wanted.is_integer() or wanted == pl.String():
        return whole.cast(pl.Int64(), strict=False).cast(wanted)
    if wanted == pl.Boolean():
        return pl.when(raw.is_in([0.0, 1.0])).then(raw == 1)
    return None if wanted.is_decimal() else _nothing(raw, wanted)


def _of_boolean(raw: pl.Expr, kind: pl.DataType, wanted: pl.DataType, zone: str | None) -> pl.Expr | None:  # noqa: ARG001
    return None if wanted in {kind, pl.String()} else _nothing(raw, wanted)


def _of_date(raw: pl.Expr, kind: pl.DataType, wanted: pl.DataType, zone: str | None) -> pl.Expr | None:
    if isinstance(wanted, pl.Datetime):
        return in_utc(raw.cast(pl.Datetime("us")), zone)
    return None if wanted in {kind, pl.String()} else _nothing(raw, wanted)


def _of_moment(raw: pl.Expr, kind: pl.DataType, wanted: pl.DataType, zone: str | None) -> pl.Expr | None:
    own = kind.time_zone if isinstance(kind, pl.Datetime) else None
    if isinstance(wanted, pl.Datetime):
        moment = raw.dt.cast_time_unit("us")
        return moment.dt.convert_time_zone(UTC).dt.replace_time_zone(None) if own else in_utc(moment, zone)
    if wanted == pl.Date():
        there = raw.dt.convert_time_zone(zone or own) if own else raw
        return pl.when(there.dt.time() == pl.time(0)).then(there.dt.date())
    if wanted == pl.String():
        return raw.dt.strftime("%Y-%m-%dT%H:%M:%S%.f" + ("%:z" if own else ""))
    return _nothing(raw, wanted)


Rule = Callable[[pl.Expr, pl.DataType, pl.DataType, str | None], pl.Expr | None]

RULES: tuple[tuple[Callable[[pl.DataType], bool], Rule], ...] = (
    (lambda kind: kind.is_nested() or kind in {pl.Binary(), pl.Object(), pl.Duration()}, _of_nested),
    (lambda kind: kind == pl.Null(), _of_null),
    (lambda kind: kind.is_float(), _of_float),
    (lambda kind: kind.is_integer(), _of_integer),
    (lambda kind: kind == pl.Boolean(), _of_boolean),
    (lambda kind: isinstance(kind, pl.Datetime), _of_moment),
    (lambda kind: kind == pl.Date(), _of_date),
)
"""What values of a type are read by; decimals, times and categories by their texts."""


def in_utc(moments: pl.Expr, zone: str | None) -> pl.Expr:
    """Moments without a zone, of clocks in `zone`, as moments of UTC without a zone.

    Null in the hour that comes twice in autumn, where it is not known which is meant, and in the one that spring
    leaves out.
    """
    if zone in {None, UTC}:
        return moments
    known = moments.dt.replace_time_zone(zone, ambiguous="null", non_existent="null")
    return known.dt.convert_time_zone(UTC).dt.replace_time_zone(None)


def why_not(kind: pl.DataType, wanted: pl.DataType, zone: str | None) -> str | None:
    """Why a value of one type has none of the other, where that says more than that it has not."""
    if kind.is_nested():
        return "is a list or an object"
    if kind.is_float() and wanted == pl.String():
        return "is a fraction, not a text"
    if isinstance(kind, pl.Datetime) and wanted == pl.Date():
        return f"is a moment that is no midnight in {zone or kind.time_zone or 'its own zone'}, so no date"
    if isinstance(kind, pl.Datetime | pl.Date) and isinstance(wanted, pl.Datetime):
        return f"is a moment that {zone} has twice or not at all"
    return None
