"""Filters of templates: what each does to one value and, beside it, to a whole column.

Jinja's own filters keep their Python form. The forms over columns give the same, character by character; where
polars and Python differ, the Python form is called once for each different value.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Any

import polars as pl
from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_datetime, format_time
from babel.numbers import format_currency, format_decimal, format_percent
from jinja2 import Environment, TemplateError, Undefined, pass_environment
from jinja2.nodes import EvalContext
from jinja2.utils import url_quote

from tasks.content._escaping import GUARDS
from tasks.content._fields import WHITE_SPACE
from tasks.content._vectors import ENTITIES, SPECIAL, CannotLower, Derive, Kind, Vector, distinct

FORMATS_KEPT = 100_000
"""Formatted values that are remembered, per kind of format."""

URL_ENCODED = {chr(point): url_quote(chr(point)) for point in range(128) if url_quote(chr(point)) != chr(point)}
"""ASCII characters that `urlencode` changes."""

EXPECTED = (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError)
"""What a filter may raise on a value that it cannot take."""


@pass_environment
def date_text(
    environment: Environment,
    value: object,
    format: str = "medium",  # noqa: A002
    locale: str | None = None,
) -> str:
    """A date in a language: `{{ profile.birth_date|date('d MMMM') }}`, or short, medium, long, full."""
    return _formatted("date", _of(value, date, "date"), format, _locale(environment, locale))


@pass_environment
def datetime_text(
    environment: Environment,
    value: object,
    format: str = "medium",  # noqa: A002
    locale: str | None = None,
) -> str:
    """A date with its time in a language."""
    return _formatted("datetime", _of(value, datetime, "datetime"), format, _locale(environment, locale))


@pass_environment
def time_text(
    environment: Environment,
    value: object,
    format: str = "short",  # noqa: A002
    locale: str | None = None,
) -> str:
    """A time of day in a language."""
    return _formatted("time", _of(value, datetime | time, "time"), format, _locale(environment, locale))


@pass_environment
def number_text(
    environment: Environment, value: object, decimals: int | None = None, locale: str | None = None
) -> str:
    """A number as a language writes it: `{{ profile.points|number }}` is 1,234 or 1.234."""
    number = _of(value, int | float | Decimal, "number")
    return _formatted(
        "number", number, None if decimals is None else f"#,##0.{'0' * decimals}", _locale(environment, locale)
    )


@pass_environment
def percent_text(
    environment: Environment, value: object, decimals: int | None = None, locale: str | None = None
) -> str:
    """A share as a percentage: 0.25 is 25%."""
    number = _of(value, int | float | Decimal, "percent")
    pattern = None if decimals is None else f"#,##0.{'0' * decimals}%"
    return _formatted("percent", number, pattern, _locale(environment, locale))


@pass_environment
def currency_text(environment: Environment, value: object, currency: str, locale: str | None = None) -> str:
    """An amount of money: `{{ content.offer.price|currency('EUR') }}`."""
    return _formatted(
        "currency", _of(value, int | float | Decimal, "currency"), currency, _locale(environment, locale)
    )


@lru_cache(FORMATS_KEPT, typed=True)
def _formatted(what: str, value: Any, pattern: str | None, locale: str) -> str:  # noqa: ANN401
    match what:
        case "date":
            return format_date(value, pattern or "medium", locale)
        case "datetime":
            return format_datetime(value, pattern or "medium", locale=locale)
        case "time":
            return format_time(value, pattern or "short", locale=locale)
        case "percent":
            return format_percent(value, pattern, locale)
        case "currency":
            return format_currency(value, str(pattern), locale=locale)
        case _:
            return format_decimal(value, pattern, locale)


def _of(value: object, kinds: Any, name: str) -> object:  # noqa: ANN401
    if isinstance(value, Undefined):
        str(value)  # says which value is missing
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise TypeError(f"{name} cannot format a value of type {type(value).__name__}")
    # -0.0 is written 0; it would also be the same as 0.0 for what remembers the formatted.
    return 0.0 if isinstance(value, float) and value == 0 else value


def _locale(environment: Environment, locale: str | None) -> str:
    return locale or str(environment.locale)  # type: ignore[attr-defined]


def known_locale(name: str) -> str:
    """The name, if it is a locale's. Errors: `ValueError`."""
    try:
        Locale.parse(name, sep="-" if "-" in name else "_")
    except (UnknownLocaleError, ValueError) as error:
        raise ValueError(f"'{name}' is no known locale; write one like de or pt_BR") from error
    return name.replace("-", "_")


OWN_FILTERS: dict[str, Callable[..., Any]] = GUARDS | {
    "date": date_text,
    "datetime": datetime_text,
    "time": time_text,
    "number": number_text,
    "percent": percent_text,
    "currency": currency_text,
}


@dataclass(frozen=True)
class Call:
    """A filter as a template calls it, its arguments constant."""

    environment: Environment
    context: EvalContext
    name: str
    arguments: tuple[object, ...]
    named: Mapping[str, object]
    derive: Derive

    def one(self, value: object) -> object:
        """What the Python form gives for one value."""
        return self.environment.call_filter(
            self.name, value, self.arguments, dict(self.named), eval_ctx=self.context
        )

    def bound(self, *parameters: str) -> dict[str, object]:
        """Arguments by parameter. Errors: `CannotLower` for others than `parameters`."""
        values = {**dict(zip(parameters, self.arguments, strict=False)), **self.named}
        if len(self.arguments) > len(parameters) or not set(values) <= set(parameters):
            raise CannotLower(f"the filter '{self.name}' with these arguments")
        return values

    def by_value(self, expr: pl.Expr, dtype: pl.DataType) -> pl.Expr:
        """The column of what the Python form gives, called once for each different value."""

        def function(value: object) -> object:
            try:
                return self.one(value)
            except EXPECTED as error:
                raise CannotLower(f"the filter '{self.name}' on some values ({error})") from None

        return self.derive(expr, distinct(function, dtype))


ColumnForm = Callable[[Vector, Call], Vector]


def _cased(value: Vector, call: Call) -> Vector:
    call.bound()
    if not value.ascii:
        # Python and polars differ on 55 characters.
        return replace(value, expr=call.by_value(value.expr, pl.String()))
    text = value.expr.str
    return replace(value, expr=text.to_uppercase() if call.name == "upper" else text.to_lowercase())


def _worded(value: Vector, call: Call) -> Vector:
    return replace(value, expr=call.by_value(value.expr, pl.String()))


def _trim(value: Vector, call: Call) -> Vector:
    characters = call.bound("chars").get("chars")
    if characters == "":
        return value
    return replace(value, expr=value.expr.str.strip_chars(WHITE_SPACE if characters is None else str(characters)))


def _replace(value: Vector, call: Call) -> Vector:
    bound = call.bound("old", "new", "count")
    old, new = bound.get("old"), bound.get("new")
    if not isinstance(old, str) or not isinstance(new, str):
        raise CannotLower("the filter 'replace' with arguments that are no texts")
    if old == "" or bound.get("count") is not None:
        expr = call.by_value(value.expr, pl.String())
    else:
        expr = value.expr.str.replace_all(old, new, literal=True)
    return Vector("text", expr, ascii=value.ascii and new.isascii())


def _truncate(value: Vector, call: Call) -> Vector:
    return Vector("text", call.by_value(value.expr, pl.String()))


def _urlencode(value: Vector, call: Call) -> Vector:
    call.bound()
    if value.ascii:
        # Addresses and keys differ from profile to profile, so the Python form would be called for each.
        expr = value.expr.str.replace_many(list(URL_ENCODED), list(URL_ENCODED.values()))
    else:
        expr = call.by_value(value.expr, pl.String())
    return Vector("text", expr, clean=True, ascii=True)


def _length(value: Vector, call: Call) -> Vector:
    call.bound()
    return Vector("integer", value.expr.str.len_chars().cast(pl.Int64()), clean=True, bits=31)


def _escape(value: Vector, call: Call) -> Vector:
    call.bound()
    return escaped(value)


def _safe(value: Vector, call: Call) -> Vector:
    call.bound()
    return replace(value, safe=True)


def _absolute(value: Vector, call: Call) -> Vector:
    call.bound()
    if value.kind == "integer" and value.bits > 120:
        raise CannotLower("the filter 'abs' on such large numbers")
    # The smallest integer of 64 bits has no counterpart of 64 bits.
    wide = value.expr.cast(pl.Int128()) if value.kind == "integer" and value.bits > 62 else value.expr
    return replace(value, expr=wide.abs())


def _round(value: Vector, call: Call) -> Vector:
    return Vector("number", call.by_value(value.expr, pl.Float64()), clean=True, computed=True)


def _integer(value: Vector, call: Call) -> Vector:
    if value.kind == "integer":
        return value
    return Vector("integer", call.by_value(value.expr, pl.Int64()), clean=True, ascii=True)


def _number(value: Vector, call: Call) -> Vector:
    return Vector("number", call.by_value(value.expr, pl.Float64()), clean=True, ascii=True, computed=True)


def _format(value: Vector, call: Call) -> Vector:
    return Vector("text", call.by_value(value.expr, pl.String()))


def escaped(value: Vector) -> Vector:
    """A text as HTML shows it."""
    if value.safe or value.clean:
        return replace(value, safe=True)
    return replace(value, safe=True, expr=value.expr.str.replace_many(list(SPECIAL), list(ENTITIES)))


AMOUNTS: tuple[Kind, ...] = ("integer", "number", "decimal")

COLUMN_FORMS: Mapping[str, tuple[tuple[Kind, ...], ColumnForm]] = {
    "upper": (("text",), _cased),
    "lower": (("text",), _cased),
    "title": (("text",), _worded),
    "capitalize": (("text",), _worded),
    "trim": (("text",), _trim),
    "replace": (("text",), _replace),
    "truncate": (("text",), _truncate),
    "urlencode": (("text",), _urlencode),
    "length": (("text",), _length),
    "count": (("text",), _length),
    "escape": (("text",), _escape),
    "e": (("text",), _escape),
    "safe": (("text",), _safe),
    "abs": (("integer", "number"), _absolute),
    "round": (("number",), _round),
    "int": (("integer", "number", "text"), _integer),
    "float": (("integer", "number", "text"), _number),
    "date": (("date", "datetime"), _format),
    "datetime": (("datetime",), _format),
    "time": (("time", "datetime"), _format),
    "number": (AMOUNTS, _format),
    "percent": (AMOUNTS, _format),
    "currency": (AMOUNTS, _format),
}
"""Filter to the kinds that it takes over columns, and its form."""

MARKUP_FILTERS = frozenset({"escape", "e", "safe", "length", "count", "upper", "lower", "trim"})
"""Filters whose column form also holds for markup."""
