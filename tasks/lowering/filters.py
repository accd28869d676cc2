"""Filters over whole columns: each gives the same as its Python form, character by character.

Where polars and Python differ, the Python form is called once for each different value.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import polars as pl
from jinja2 import Environment
from jinja2.nodes import EvalContext
from jinja2.utils import url_quote

from tasks.lowering.vectors import ENTITIES, CannotLower, Derive, Kind, Vector, distinct
from tasks.templates.fields import SPECIAL, WHITE_SPACE
from tasks.templates.filters import EXPECTED, MOST_DECIMALS

URL_ENCODED = {chr(point): url_quote(chr(point)) for point in range(128) if url_quote(chr(point)) != chr(point)}
"""ASCII characters that `urlencode` changes."""


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
        """What the Python form gives for one value. Errors: `CannotLower` for places that have no end."""
        if self.name == "round" and any(
            isinstance(each, int) and abs(each) > MOST_DECIMALS for each in (*self.arguments, *self.named.values())
        ):
            raise CannotLower(f"the filter 'round' with more than {MOST_DECIMALS} places")
        return self.environment.call_filter(
            self.name, value, self.arguments, dict(self.named), eval_ctx=self.context
        )

    def bound(self, *parameters: str) -> dict[str, object]:
        """Arguments by parameter. Errors: `CannotLower` for others than `parameters`."""
        values = {**dict(zip(parameters, self.arguments, strict=False)), **self.named}
        if len(self.arguments) > len(parameters) or not set(values) <= set(parameters):
            raise CannotLower(f"the filter '{self.name}' with these arguments")
        return values

    def by_value(self, expr: pl.Expr, dtype: pl.DataType, growth: float = 0) -> pl.Expr:
        """The column of what the Python form gives, called once for each different value."""

        def function(value: object) -> object:
            try:
                return self.one(value)
            except EXPECTED as error:
                raise CannotLower(f"the filter '{self.name}' on some values ({error})") from None

        return self.derive(expr, distinct(function, dtype), growth)


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
    growth = len(new.encode()) / len(old.encode()) if old else len(new.encode()) + 1
    if old == "" or bound.get("count") is not None:
        expr = call.by_value(value.expr, pl.String(), growth)
    else:
        expr = value.expr.str.replace_all(old, new, literal=True)
        expr = call.derive(expr, None, growth) if growth > 1 else expr
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
