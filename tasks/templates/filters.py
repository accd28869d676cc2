"""Filters of templates: dates, times, numbers and money as a language writes them."""

from collections.abc import Callable
from copy import copy
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Any

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_datetime, format_time, get_timezone
from babel.numbers import format_currency, format_decimal, format_percent
from jinja2 import Environment, TemplateError, Undefined, pass_environment

from tasks.templates.escaping import GUARDS

MOST_DECIMALS = 20
FORMATS_KEPT = 100_000
"""Formatted values that are remembered, per kind of format."""

EXPECTED = (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError)
"""What a filter may raise on a value that it cannot take."""


@pass_environment
def date_text(
    environment: Environment,
    value: object,
    format: str = "medium",  # noqa: A002
    locale: object = None,
    tz: str | None = None,
) -> str:
    """A date in a language: `{{ profile.birth_date|date('d MMMM') }}`, or short, medium, long, full."""
    return _formatted("date", _of(value, date, "date"), format, _locale(environment, locale), tz)


@pass_environment
def datetime_text(
    environment: Environment,
    value: object,
    format: str = "medium",  # noqa: A002
    locale: object = None,
    tz: str | None = None,
) -> str:
    """A date with its time in a language, and in the time zone `tz` if one is given."""
    return _formatted("datetime", _of(value, datetime, "datetime"), format, _locale(environment, locale), tz)


@pass_environment
def time_text(
    environment: Environment,
    value: object,
    format: str = "short",  # noqa: A002
    locale: object = None,
    tz: str | None = None,
) -> str:
    """A time of day in a language, and in the time zone `tz` if one is given."""
    return _formatted("time", _of(value, datetime | time, "time"), format, _locale(environment, locale), tz)


@pass_environment
def number_text(environment: Environment, value: object, decimals: int | None = None, locale: object = None) -> str:
    """A number as a language writes it: `{{ profile.points|number }}` is 1,234 or 1.234."""
    number = _of(value, int | float | Decimal, "number")
    return _formatted("number", number, decimals, _locale(environment, locale))


@pass_environment
def percent_text(
    environment: Environment, value: object, decimals: int | None = None, locale: object = None
) -> str:
    """A share as a percentage: 0.25 is 25%."""
    number = _of(value, int | float | Decimal, "percent")
    return _formatted("percent", number, decimals, _locale(environment, locale))


@pass_environment
def currency_text(environment: Environment, value: object, currency: str, locale: object = None) -> str:
    """An amount of money: `{{ content.offer.price|currency('EUR') }}`."""
    amount = _of(value, int | float | Decimal, "currency")
    return _formatted("currency", amount, currency_code(currency), _locale(environment, locale))


@lru_cache(FORMATS_KEPT, typed=True)
def _formatted(what: str, value: Any, pattern: Any, locale: str, tz: str | None = None) -> str:  # noqa: ANN401
    match what:
        case "date" | "datetime" | "time":
            return _moment(what, value, pattern, locale, tz)
        case "currency":
            return format_currency(value, str(pattern), locale=locale)
        case "number" if pattern is None:
            return format_decimal(value, locale=locale)
        case _ if pattern is None:
            return format_percent(value, locale=locale)
    spoken = Locale.parse(locale)
    # The language's own pattern, with its groups and its percent sign, and as many decimals as are asked for.
    own = copy((spoken.decimal_formats if what == "number" else spoken.percent_formats)[None])
    own.frac_prec = (decimals(pattern), decimals(pattern))
    return str(own.apply(value, spoken))


def _moment(what: str, value: Any, pattern: str, locale: str, tz: str | None) -> str:  # noqa: ANN401
    if tz is not None:
        if not isinstance(value, datetime):
            raise TypeError(f"{what} cannot change the time zone of a value of type {type(value).__name__}")
        aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        value = aware.astimezone(get_timezone(tz))
    match what:
        case "date":
            return format_date(value, pattern or "medium", locale)
        case "datetime":
            return format_datetime(value, pattern or "medium", locale=locale)
        case _:
            return format_time(value, pattern or "short", locale=locale)


def _of(value: object, kinds: Any, name: str) -> object:  # noqa: ANN401
    if isinstance(value, Undefined):
        str(value)  # says which value is missing
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise TypeError(f"{name} cannot format a value of type {type(value).__name__}")
    # -0.0 is written 0; it would also be the same as 0.0 for what remembers the formatted.
    return 0.0 if isinstance(value, float) and value == 0 else value


def _locale(environment: Environment, locale: object) -> str:
    if locale is None:
        return str(environment.locale)  # type: ignore[attr-defined]
    return known_locale(str(locale))  # str says which value is missing


@lru_cache(FORMATS_KEPT)
def known_locale(name: str) -> str:
    """The name as Babel writes it, if it is a locale's, with hyphens or underscores. Errors: `ValueError`."""
    try:
        return str(Locale.parse(name.strip().replace("-", "_")))
    except (UnknownLocaleError, ValueError, TypeError) as error:
        raise ValueError(f"'{name[:40]}' is no known locale; write one like de or pt_BR") from error


@lru_cache(FORMATS_KEPT)
def currency_code(code: str) -> str:
    """The code, if it is a currency's. Errors: `ValueError`."""
    if not isinstance(code, str) or code not in Locale("en").currencies:
        raise ValueError(f"'{code}' is no code of a currency; write one like EUR")
    return code


def decimals(number: object) -> int:
    """How many decimals to write. Errors: `ValueError`."""
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= MOST_DECIMALS:
        raise ValueError(f"{number!r} is no number of decimals from 0 to {MOST_DECIMALS}")
    return number


FORMATS: dict[str, Callable[..., str]] = {
    "date": date_text,
    "datetime": datetime_text,
    "time": time_text,
    "number": number_text,
    "percent": percent_text,
    "currency": currency_text,
}
OWN_FILTERS: dict[str, Callable[..., Any]] = GUARDS | FORMATS
