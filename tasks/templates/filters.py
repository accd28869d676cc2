"""Filters of templates: dates, times, numbers and money as a language writes them."""

from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Any

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_datetime, format_time
from babel.numbers import format_currency, format_decimal, format_percent
from jinja2 import Environment, TemplateError, Undefined, pass_environment

from tasks.templates.escaping import GUARDS

FORMATS_KEPT = 100_000
"""Formatted values that are remembered, per kind of format."""

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
