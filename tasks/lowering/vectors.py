"""Values of a template over a whole slice of profiles: what they are made of, and masks that say where they hold.

A value is a list of alternatives, each with the mask of the rows that have it; the masks exclude each other. So
a first name that some profiles lack is text where it is there, and `Absent` where it is not.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Literal, Protocol, TypeAlias

import polars as pl

from tasks.templates.fields import SPECIAL

Kind = Literal["text", "integer", "number", "boolean", "date", "datetime", "time", "decimal", "list", "record"]

MOST_ALTERNATIVES = 50
"""Alternatives of a value: without a bound, each `if` in a template could double them."""

Mask: TypeAlias = pl.Expr | bool
"""Rows for which something holds; a bool holds for all or none of them."""

ENTITIES = ("&amp;", "&lt;", "&gt;", "&#39;", "&#34;")
"""What MarkupSafe writes for `SPECIAL`."""


class CannotLower(Exception):  # not a failure: the row path takes over
    """A construct that has no form over whole columns."""

    def __init__(self, construct: str) -> None:
        self.construct = construct
        self.where = ""
        """File and line."""
        super().__init__(construct)


@dataclass(frozen=True)
class Vector:
    """A value in every row: an expression, and what is known of it."""

    kind: Kind
    expr: pl.Expr
    safe: bool = False
    """Markup: printed as it is."""
    clean: bool = False
    """Known to have no character of `SPECIAL`."""
    ascii: bool = False
    """Known to be ASCII."""
    bits: int = 64
    """Integers: how many bits the largest may have."""
    computed: bool = False
    """Numbers: an operation's result, which may be NaN; a field's value never is."""


@dataclass(frozen=True)
class Constant:
    """The same value in every row."""

    value: object
    safe: bool = False


@dataclass(frozen=True)
class Absent:
    """No value: false in a condition, replaced by `default`; whatever else uses it rejects the profile."""

    reason: str


@dataclass(frozen=True)
class Sequence:
    """A list in every row."""

    expr: pl.Expr
    element: pl.DataType
    path: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """A row of a table: an expression of a struct."""

    expr: pl.Expr
    kind: pl.Struct
    path: tuple[str, ...]


Atom: TypeAlias = Vector | Constant | Absent | Sequence | Record
Value: TypeAlias = tuple[tuple[Mask, Atom], ...]


class Derive(Protocol):
    """Makes a column of what a function of a whole Series gives, in which a text has `growth` times its length."""

    def __call__(
        self, expr: pl.Expr, function: Callable[[pl.Series], pl.Series] | None, growth: float = 0
    ) -> pl.Expr:
        """The column; its rows are given as a Series to `function`, if there is one."""


def both(left: Mask, right: Mask) -> Mask:
    """Rows of the one that are also rows of the other."""
    if left is True:
        return right
    if right is True:
        return left
    return False if left is False or right is False else left & right


def either(left: Mask, right: Mask) -> Mask:
    """Rows of the one or of the other."""
    if left is False:
        return right
    if right is False:
        return left
    return True if left is True or right is True else left | right


def negated(mask: Mask) -> Mask:
    """All other rows."""
    return not mask if isinstance(mask, bool) else ~mask


def any_of(masks: Iterable[Mask]) -> Mask:
    """Rows of at least one of the masks."""
    result: Mask = False
    for mask in masks:
        result = either(result, mask)
    return result


def where(choices: Iterable[tuple[Mask, pl.Expr]], otherwise: pl.Expr) -> pl.Expr:
    """The expression of the first mask that a row is in."""
    result = otherwise
    for mask, expr in reversed(list(choices)):
        if mask is True:
            result = expr
        elif mask is not False:
            result = pl.when(mask).then(expr).otherwise(result)
    return result


def kind_of(dtype: pl.DataType) -> Kind:
    """Kind of the values of a column. Errors: `CannotLower`."""
    for known, kind in KINDS:
        if isinstance(dtype, known):
            return kind
    if dtype.is_integer():
        return "integer"
    if dtype.is_float():
        return "number"
    raise CannotLower(f"a value of type {dtype}")


KINDS: tuple[tuple[type[pl.DataType], Kind], ...] = (
    (pl.String, "text"),
    (pl.Boolean, "boolean"),
    (pl.Date, "date"),
    (pl.Datetime, "datetime"),
    (pl.Time, "time"),
    (pl.Decimal, "decimal"),
    (pl.List, "list"),
    (pl.Struct, "record"),
)


def vector_of(constant: Constant) -> Vector:
    """A constant as a vector. Errors: `CannotLower` for what is no plain value."""
    value, safe = constant.value, constant.safe
    match value:
        case bool():
            return Vector("boolean", pl.lit(value), clean=True, ascii=True)
        case int():
            if value.bit_length() > 63:
                raise CannotLower("a number of more than 63 bits")
            return Vector("integer", pl.lit(value, pl.Int64()), clean=True, ascii=True, bits=value.bit_length())
        case float():
            return Vector("number", pl.lit(value), clean=True, ascii=True, computed=True)
        case str():
            clean = not any(character in value for character in SPECIAL)
            return Vector("text", pl.lit(str(value)), safe=safe, clean=clean, ascii=value.isascii())
        case datetime():
            raise CannotLower("a date with a time")
        case date():
            return Vector("date", pl.lit(value), clean=True, ascii=True)
        case time():
            return Vector("time", pl.lit(value), clean=True, ascii=True)
        case _:
            raise CannotLower(f"a constant of type {type(value).__name__}")


def merged(alternatives: Iterable[tuple[Mask, Atom]]) -> Value:
    """The value with alternatives of the same kind made one."""
    groups: dict[object, list[tuple[Mask, Atom]]] = {}
    for mask, atom in alternatives:
        if mask is False:
            continue
        key: object = (atom.kind, atom.safe) if isinstance(atom, Vector) else ("is", id(atom))
        if isinstance(atom, Constant | Absent):
            key = atom if isinstance(atom, Absent) else ("constant", type(atom.value), repr(atom.value), atom.safe)
        groups.setdefault(key, []).append((mask, atom))
    if len(groups) > MOST_ALTERNATIVES:
        raise CannotLower("a value with so many alternatives")
    return tuple(_one(group) for group in groups.values())


def _one(group: list[tuple[Mask, Atom]]) -> tuple[Mask, Atom]:
    mask = any_of(mask for mask, _ in group)
    first = group[0][1]
    if len(group) == 1 or not isinstance(first, Vector):
        return mask, first
    vectors = [(mask, atom) for mask, atom in group if isinstance(atom, Vector)]
    return mask, Vector(
        first.kind,
        where([(mask, atom.expr) for mask, atom in vectors[:-1]], vectors[-1][1].expr),
        safe=first.safe,
        clean=all(atom.clean for _, atom in vectors),
        ascii=all(atom.ascii for _, atom in vectors),
        bits=max(atom.bits for _, atom in vectors),
        computed=any(atom.computed for _, atom in vectors),
    )


def distinct(function: Callable[..., object], dtype: pl.DataType) -> Callable[[pl.Series], pl.Series]:
    """A function of one value as a function of a Series, called once for each different value."""

    def applied(series: pl.Series) -> pl.Series:
        if series.dtype.is_float():
            # 0.0 and -0.0 are equal, but not the same.
            made = [None if value is None else function(value) for value in series.to_list()]
            return pl.Series(made, dtype=dtype, strict=True)
        values = series.unique().drop_nulls()
        results = pl.Series([function(value) for value in values.to_list()], dtype=dtype, strict=True)
        return series.replace_strict(values, results, default=None, return_dtype=dtype)

    return applied
