"""Arguments of the format filters, checked when templates are read: locale, pattern, currency, zone and names."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping

from babel.dates import get_timezone, parse_pattern
from jinja2 import nodes

from tasks.tables.transitions import nearest
from tasks.templates.filters import FORMATS, currency_code, decimals, known_locale

WIDTHS = ("short", "medium", "long", "full")
TIME_FIELDS = "abBhHkKmsSAzZOvVXx"
DATE_FIELDS = "GyYuUQqMLwWdDFgEec"
MEANT = {"Y": "the year of the week; write yyyy", "D": "the day of the year; write d"}


def argument_problems(name: str, tree: nodes.Template) -> Iterator[str]:
    """What is wrong with the arguments of `date`, `datetime`, `time`, `number`, `percent` and `currency`."""
    for node in tree.find_all(nodes.Filter):
        if node.name not in FORMATS or node.dyn_args is not None or node.dyn_kwargs is not None:
            continue
        for problem in _of_filter(node):
            yield f"{name}, line {node.lineno}: '{node.name}': {problem}"


def _of_filter(node: nodes.Filter) -> Iterator[str]:
    parameters = [each for each in inspect.signature(FORMATS[node.name]).parameters if each not in _GIVEN]
    if len(node.args) > len(parameters):
        yield f"it takes {len(parameters)} arguments, {len(node.args)} are given"
    given: dict[str, nodes.Node] = dict(zip(parameters, node.args, strict=False))
    for key, value in ((str(pair.key), pair.value) for pair in node.kwargs):
        if key not in parameters:
            yield f"there is no argument '{key}'. {nearest([key], parameters)}".rstrip(". ")
        elif key in given:
            yield f"the argument '{key}' is given twice"
        given[key] = value
    if node.name == "currency" and "currency" not in given:
        yield "it needs the code of a currency, as in currency('EUR')"
    for parameter, argument in given.items():
        match argument:
            case nodes.Const(value=constant) | nodes.Neg(node=nodes.Const(value=constant)) if parameter in CHECKS:
                number = -constant if isinstance(argument, nodes.Neg) else constant
                yield from CHECKS[parameter](number, node.name)


_GIVEN = ("environment", "value")


def _raised(check: Callable[..., object], value: object) -> Iterator[str]:
    try:
        check(value)
    except (ValueError, LookupError, TypeError) as error:
        yield str(error)


def _locale(value: object, _filter: str) -> Iterator[str]:
    if value is not None:
        yield from _raised(known_locale, value) if isinstance(value, str) else [f"{value!r} is no known locale"]


def _zone(value: object, _filter: str) -> Iterator[str]:
    if value is not None:
        known = isinstance(value, str) and not list(_raised(get_timezone, value))
        yield from () if known else [f"{value!r} is no time zone; write one like Europe/Vienna"]


def _currency(value: object, _filter: str) -> Iterator[str]:
    yield from _raised(currency_code, value)


def _decimals(value: object, _filter: str) -> Iterator[str]:
    yield from () if value is None else _raised(decimals, value)


def _pattern(value: object, used: str) -> Iterator[str]:
    if not isinstance(value, str) or not value:
        yield f"{value!r} is no pattern; write one like 'd MMMM y', or one of {', '.join(WIDTHS)}"
        return
    if value in WIDTHS:
        return
    if "%" in value:
        yield f"'{value}' is a pattern of strftime; write one like 'd MMMM y'"
        return
    try:
        parse_pattern(value)
    except (ValueError, KeyError, IndexError) as error:
        yield f"'{value}' is no pattern: {error}"
        return
    fields = re.sub(r"'[^']*'", "", value)
    yield from (
        f"in '{value}', {letter} is {meant}"
        for letter, meant in MEANT.items()
        if letter in fields and not (letter == "Y" and "w" in fields)
    )
    foreign = {"date": TIME_FIELDS, "time": DATE_FIELDS}.get(used, "")
    wrong = sorted(set(fields) & set(foreign))
    if wrong:
        yield f"'{value}' has {', '.join(wrong)}, which a {used} has not; use 'datetime'"
    if not set(fields) & set(TIME_FIELDS + DATE_FIELDS):
        yield f"'{value}' has no field; write a pattern like 'd MMMM y', or one of {', '.join(WIDTHS)}"


CHECKS: Mapping[str, Callable[[object, str], Iterator[str]]] = {
    "format": _pattern,
    "locale": _locale,
    "tz": _zone,
    "currency": _currency,
    "decimals": _decimals,
}
