"""Values that have a type already, as Parquet, Delta and databases give them, read as another type.

A value keeps its meaning or is bad: a whole floating number is an integer, 1.5 is none; midnight is a date, noon is
none. What has no rule here is read as its text.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Literal, NamedTuple

import polars as pl

RepeatedHour = Literal["bad_value", "first", "second"]
"""What a moment is that a zone's clock shows twice."""


class Zone(NamedTuple):
    """The zone of moments without one: UTC where it has no name."""

    name: str | None
    repeated_hour: RepeatedHour = "bad_value"


EXACT = 2**53
"""Whole floating numbers up to this one are exact."""
UTC = "UTC"
AMBIGUOUS: Mapping[RepeatedHour, Literal["null", "earliest", "latest"]] = {
    "bad_value": "null",
    "first": "earliest",
    "second": "latest",
}
BEYOND = "is beyond the years 1 to 9999"
FINER = "is finer than a microsecond"
NANOSECONDS = 1000
"""Of a microsecond."""
FIRST_MOMENT = datetime(1, 1, 1)  # noqa: DTZ001  # moments of a column have no time zone
LAST_MOMENT = datetime(9999, 12, 31, 23, 59, 59, 999_999)  # noqa: DTZ001


def text_of(raw: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """The value as a text: the one that it is read by where it has no rule, and that reports show.

    What is not a number is a missing value, as pandas writes it; what has no text is three dots.
    """
    dots = pl.when(raw.is_not_null()).then(pl.lit("..."))
    if kind.is_nested() or kind in {pl.Object(), pl.Binary()}:
        return dots
    if kind.is_float():
        return pl.coalesce(_whole(raw).cast(pl.Int64()).cast(pl.String()), raw.fill_nan(None).cast(pl.String()))
    if isinstance(kind, pl.Datetime | pl.Date):
        clock = "T%H:%M:%S%.f" if isinstance(kind, pl.Datetime) else ""
        offset = "%:z" if isinstance(kind, pl.Datetime) and kind.time_zone else ""
        known = pl.when(~beyond(raw, kind)).then(raw).dt.strftime("%Y-%m-%d" + clock + offset)
        return pl.coalesce(known, dots)
    if kind == pl.Time():
        return raw.dt.strftime("%H:%M:%S%.f")
    return raw.dt.to_string("iso") if kind == pl.Duration() else raw.cast(pl.String(), strict=False)


def beyond(moment: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Whether a date or moment is none of Python's calendar: of the years 1 to 9999."""
    if isinstance(kind, pl.Datetime) and kind.time_unit == "ns":
        return moment.is_null() & moment.is_not_null()  # of the years 1677 to 2262
    # By the numbers behind them: a day that is compared with a moment becomes one, which has not room for it.
    bounds = pl.Series([FIRST_MOMENT, LAST_MOMENT]).cast(pl.Datetime("us"))
    zone = kind.time_zone if isinstance(kind, pl.Datetime) else None
    first, last = bounds.dt.replace_time_zone(zone and UTC).cast(kind).to_physical()
    return ~moment.to_physical().is_between(first, last)


def _whole(raw: pl.Expr) -> pl.Expr:
    """Floating numbers that are exact whole numbers; null for others."""
    return pl.when(raw.is_finite() & (raw == raw.round(0)) & (raw.abs() <= EXACT)).then(raw)


def value_of(raw: pl.Expr, kind: pl.DataType, wanted: pl.DataType, zone: Zone) -> pl.Expr | None:
    """The value as the wanted type, null where it has none; None where its text is to be read.

    `zone` is that of moments without one, and of the days of moments: UTC where none is given.
    """
    rule = next((rule for fits, rule in RULES if fits(kind)), None)
    return rule(raw, kind, wanted, zone) if rule else None


def _nothing(raw: pl.Expr, wanted: pl.DataType) -> pl.Expr:
    return pl.when(raw.is_null() & raw.is_not_null()).then(pl.lit(None, wanted))


def _of_nested(raw: pl.Expr, kind: pl.DataType, wanted: pl.DataType, zone: Zone) -> pl.Expr:  # noqa: ARG001
    return _nothing(raw, wanted)


def _of_null(raw: pl.Expr, kind: pl.DataType, wanted: pl.DataType, zone: Zone) -> pl.Expr:  # noqa: ARG001
    return raw.cast(wanted)


def _of_integer(raw: pl.Expr, kind: pl.DataType, wanted: pl.DataType, zone: Zone) -> pl.Expr | None:  # noqa: ARG001
    if wanted.is_integer() or wanted.is_float() or wanted == pl.String():
        return raw.cast(wanted, strict=False)
    if wanted == pl.Boolean():
        return pl.when(raw.is_in([0, 1])).then(raw == 1)
    return None if wanted.is_decimal() else _nothing(raw, wanted)


def _of_float(raw: pl.Expr, kind: pl.DataType, wanted: pl.DataType, zone: Zone) -> pl.Expr | None:  # noqa: ARG001
    if wanted.is_float():
        return pl.when(raw.is_finite()).then(raw.cast(wanted))
    if wanted.is_integer() or wanted == pl.String():
        return _whole(raw).cast(pl.Int64(), strict=False).cast(wanted)
    if wanted == pl.Boolean():
        return pl.when(raw.is_in([0.0, 1.0])).then(raw == 1)
    return None if wanted.is_decimal() else _nothing(raw, wanted)


def _of_decimal(raw: pl.Expr, kind: pl.DataType, wanted: pl.DataType, zone: Zone) -> pl.Expr | None:  # noqa: ARG001
    return pl.when((raw == 0) | (raw == 1)).then(raw == 1) if wanted == pl.Boolean() else None


def _of_boolean(raw: pl.Expr, kind: pl.DataType, wanted: pl.DataType, zone: Zone) -> pl.Expr | None:  # noqa: ARG001
    return None if wanted in {kind, pl.String()} else _nothing(raw, wanted)


def _of_date(raw: pl.Expr, kind: pl.DataType, wanted: pl.DataType, zone: Zone) -> pl.Expr | None:
    if isinstance(wanted, pl.Datetime):
        return in_utc(raw.cast(pl.Datetime("us")), zone)
    if wanted == pl.String():
        return pl.when(~beyond(raw, kind)).then(text_of(raw, kind))
    return None if wanted == kind else _nothing(raw, wanted)


def _of_moment(raw: pl.Expr, kind: pl.DataType, wanted: pl.DataType, zone: Zone) -> pl.Expr | None:
    own = kind.time_zone if isinstance(kind, pl.Datetime) else None
    if isinstance(wanted, pl.Datetime):
        whole = raw
        if isinstance(kind, pl.Datetime) and kind.time_unit == "ns":
            whole = pl.when(raw.to_physical() % NANOSECONDS == 0).then(raw)
        moment = whole.dt.cast_time_unit("us")
        return moment.dt.convert_time_zone(UTC).dt.replace_time_zone(None) if own else in_utc(moment, zone)
    if wanted == pl.Date():
        there = raw.dt.convert_time_zone(zone.name or own) if own else raw
        return pl.when(there.dt.time() == pl.time(0)).then(there.dt.date())
    return pl.when(~beyond(raw, kind)).then(text_of(raw, kind)) if wanted == pl.String() else _nothing(raw, wanted)


def _of_time(raw: pl.Expr, kind: pl.DataType, wanted: pl.DataType, zone: Zone) -> pl.Expr | None:  # noqa: ARG001
    return pl.when(raw.to_physical() % NANOSECONDS == 0).then(raw) if wanted == kind else None


Rule = Callable[[pl.Expr, pl.DataType, pl.DataType, Zone], pl.Expr | None]

RULES: tuple[tuple[Callable[[pl.DataType], bool], Rule], ...] = (
    (lambda kind: kind.is_nested() or kind in {pl.Binary(), pl.Object(), pl.Duration()}, _of_nested),
    (lambda kind: kind == pl.Null(), _of_null),
    (lambda kind: kind.is_float(), _of_float),
    (lambda kind: kind.is_integer(), _of_integer),
    (lambda kind: isinstance(kind, pl.Decimal), _of_decimal),
    (lambda kind: kind == pl.Boolean(), _of_boolean),
    (lambda kind: isinstance(kind, pl.Datetime), _of_moment),
    (lambda kind: kind == pl.Date(), _of_date),
    (lambda kind: kind == pl.Time(), _of_time),
)
"""What values of a type are read by; where there is no rule, or it has no answer, by their texts."""


def in_utc(moments: pl.Expr, zone: Zone) -> pl.Expr:
    """Moments without a zone, of clocks in `zone`, as moments of UTC without a zone.

    Null in the hour that comes twice in autumn, where it is not said which is meant, and in the one that spring
    leaves out.
    """
    if zone.name in {None, UTC}:
        return moments
    known = moments.dt.replace_time_zone(zone.name, ambiguous=AMBIGUOUS[zone.repeated_hour], non_existent="null")
    return known.dt.convert_time_zone(UTC).dt.replace_time_zone(None)


def why_not(kind: pl.DataType, wanted: pl.DataType, zone: Zone) -> str | None:
    """Why a value of one type has none of the other, where that says more than that it has not."""
    is_moment = isinstance(kind, pl.Datetime)
    there = zone.name or getattr(kind, "time_zone", None) or "its own zone"
    is_fine = isinstance(kind, pl.Datetime) and kind.time_unit == "ns"
    twice = f", or is a moment that {zone.name} has twice or not at all" if zone.name not in {None, UTC} else ""
    reasons = (
        (is_fine and isinstance(wanted, pl.Datetime), FINER + twice),
        (kind == pl.Time() and wanted == kind, FINER),
        (kind.is_nested() or kind == pl.Object(), "is a list or an object"),
        (kind == pl.Duration(), "is a length of time"),
        (kind == pl.Binary(), "is bytes, not a text"),
        (kind.is_float() and wanted == pl.String(), "is a fraction, not a text"),
        (is_moment and wanted == pl.Date(), f"is a moment that is no midnight in {there}, so no date"),
        (
            (is_moment or kind == pl.Date()) and isinstance(wanted, pl.Datetime) and zone.name not in {None, UTC},
            f"{BEYOND}, or is a moment that {zone.name} has twice or not at all",
        ),
        ((is_moment or kind == pl.Date()) and (wanted == pl.String() or wanted.is_temporal()), BEYOND),
    )
    return next((reason for holds, reason in reasons if holds), None)
