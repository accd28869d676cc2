"""Operators over columns: comparison, arithmetic and truth as Python has them."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import polars as pl

from tasks.lowering import vectors
from tasks.lowering.frames import Frame
from tasks.lowering.vectors import (
    Absent,
    Atom,
    CannotLower,
    Constant,
    Mask,
    Record,
    Value,
    Vector,
    any_of,
    both,
    negated,
    vector_of,
)
from tasks.templates.fields import ELEMENT, no_value, present

EXACT_BITS = 53
"""Integers that a float holds exactly."""

COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
}


def _zero_division(operation: Callable[[Any, Any], Any], one: float) -> str:
    try:
        operation(one, type(one)(0))
    except ZeroDivisionError as error:
        return f"the template fails on the values: {error}"
    raise AssertionError


DIVISIONS: dict[Any, str] = {
    (sign, whole): _zero_division(operation, 1 if whole else 1.0)
    for sign, operation in (("/", operator.truediv), ("//", operator.floordiv), ("%", operator.mod))
    for whole in (True, False)
}
"""(operator, whether both are integers) to the reason of a division by zero."""


def pairwise(function: Callable[[Atom, Atom, Mask], Any], left: Value, right: Value) -> list[tuple[Mask, Any]]:
    """What a function gives for each pair of alternatives that a row can have at once."""
    return [
        (both(here, there), function(a, b, both(here, there)))
        for here, a in left
        for there, b in right
        if both(here, there) is not False
    ]


def boolean(mask: Mask) -> Value:
    """A mask as a value."""
    if isinstance(mask, bool):
        return ((True, Constant(mask)),)
    return ((True, Vector("boolean", mask, clean=True, ascii=True)),)


def truth(value: Value) -> Mask:
    """Rows whose value is true."""
    return any_of(both(mask, truthy(atom)) for mask, atom in value)


def truthy(atom: Atom) -> Mask:  # noqa: PLR0911  # one row of a table each
    """Rows in which an atom is true."""
    match atom:
        case Absent():
            return False
        case Constant(value=value):
            return bool(value)
        case vectors.Sequence(expr=expr):
            return expr.list.len() > 0
        case Vector(kind="boolean", expr=expr):
            return expr
        case Vector(kind="text", expr=expr):
            return expr != ""
        case Vector(kind="integer" | "number" | "decimal", expr=expr):
            return expr != 0
        case _:
            return True


def plain(atom: Atom) -> Vector:
    """The atom as a column. Errors: `CannotLower`."""
    if isinstance(atom, Vector):
        return atom
    if isinstance(atom, Constant):
        return vector_of(atom)
    raise CannotLower(f"such a use of {named(atom)}")


def comparison(operation: str, frame: Frame) -> Callable[[Atom, Atom, Mask], Mask]:
    """`compared` for the rows of a mask."""
    return lambda left, right, mask: compared(operation, left, right, frame.only(mask))


def compared(operation: str, left: Atom, right: Atom, frame: Frame) -> Mask:
    """Rows for which a comparison holds. Errors: `CannotLower`."""
    inside = operation in {"in", "notin"}
    for operand in (right, left) if inside else (left, right):
        if isinstance(operand, Absent):
            if inside and not isinstance(right, Absent | Constant):
                raise CannotLower("'in' with a value that may be missing")
            if (
                isinstance(right, Constant)
                and inside
                and not (isinstance(right.value, list | tuple) and right.value)
            ):
                raise CannotLower("'in' with a value that may be missing")
            frame.fail(True, operand.reason)
            return False
    if inside:
        found = contained(left, right, frame)
        return found if operation == "in" else negated(found)
    if isinstance(left, Constant) and isinstance(right, Constant):
        try:
            return bool(COMPARISONS[operation](left.value, right.value))
        except TypeError:
            raise CannotLower("a comparison of different types") from None
    with_none = any(isinstance(operand, Constant) and operand.value is None for operand in (left, right))
    if with_none and operation in {"eq", "ne"}:
        return operation == "ne"
    kinds = {operand.kind for operand in (left, right) if isinstance(operand, Vector)}
    if kinds == {"decimal"}:
        return _column_comparison(operation, _decimal(left), _decimal(right))
    return _column_comparison(operation, plain(left), plain(right))


def _decimal(atom: Atom) -> Vector:
    """An operand of a comparison with decimals, which Python compares with the exact value of a float."""
    if isinstance(atom, Constant) and isinstance(atom.value, int | float) and not isinstance(atom.value, bool):
        value = Decimal(atom.value)
        digits = value.as_tuple()
        if isinstance(digits.exponent, int) and digits.exponent >= -12 and len(digits.digits) <= 24:
            return Vector("decimal", pl.lit(value), clean=True, ascii=True)
    return plain(atom)


def contained(left: Atom, right: Atom, frame: Frame) -> Mask:
    """Rows for which `left in right` holds. Errors: `CannotLower`."""
    match left, right:
        case Constant(), Constant():
            try:
                return left.value in right.value  # type: ignore[operator]
            except TypeError:
                raise CannotLower("'in' on such a constant") from None
        case Vector(kind="text", expr=expr), Constant(value=list() | tuple() as choices):
            texts = [str(choice) for choice in choices if isinstance(choice, str)]
            return expr.is_in(texts).fill_null(value=False) if texts else False
        case Vector(kind="integer", expr=expr), Constant(value=list() | tuple() as choices) if all(
            type(choice) is int for choice in choices
        ):
            return any_of(expr == choice for choice in choices)
        case Vector(kind="text", expr=expr), Constant(value=str() as whole):
            return pl.lit(str(whole)).str.contains(expr, literal=True)
        case Constant(value=str() as searched), Vector(kind="text", expr=expr):
            return expr.str.contains(str(searched), literal=True)
        case Constant(value=str() as searched), vectors.Sequence(element=pl.String()):
            element = pl.element()
            state = pl.when(present(element, pl.String()).is_null()).then(2).when(element == str(searched)).then(1)
            met = right.expr.list.eval(state.drop_nulls().first()).list.first()
            frame.fail((met == 2).fill_null(value=False), no_value((*right.path, ELEMENT)))
            return (met == 1).fill_null(value=False)
        case _:
            raise CannotLower(f"'in' of {named(left)} and {named(right)}")


def _column_comparison(operation: str, left: Vector, right: Vector) -> Mask:
    numeric = {"integer", "number", "boolean", "decimal"}
    compare = COMPARISONS[operation]
    if left.kind == right.kind and left.kind in {"text", "integer", "decimal", "date", "time"}:
        return compare(left.expr, right.expr)  # type: ignore[no-any-return]
    if left.kind == right.kind == "boolean" and operation in {"eq", "ne"}:
        return compare(left.expr, right.expr)  # type: ignore[no-any-return]
    if {left.kind, right.kind} <= {"integer", "number"}:
        if any(each.kind == "integer" and each.bits > EXACT_BITS for each in (left, right)):
            raise CannotLower("a comparison of such large numbers with others")
        a, b = left.expr.cast(pl.Float64()), right.expr.cast(pl.Float64())
        if not (left.computed or right.computed):
            return compare(a, b)  # type: ignore[no-any-return]
        number = ~(a.is_nan() | b.is_nan())
        return ~number | (a != b) if operation == "ne" else number & compare(a, b)
    incomparable = left.kind != right.kind and not {left.kind, right.kind} <= numeric
    if incomparable and operation in {"eq", "ne"}:
        return operation == "ne"
    raise CannotLower(f"a comparison of {named(left)} with {named(right)}")


def computed(operation: str, left: Atom, right: Atom, frame: Frame) -> Atom:
    """A number, or the text that `+` makes of two. Errors: `CannotLower`."""
    for operand in (left, right):
        if isinstance(operand, Absent):
            frame.fail(True, operand.reason)
            return operand
    a, b = plain(left), plain(right)
    if a.kind == b.kind == "text" and operation == "+" and not (a.safe or b.safe):
        text = frame.space.derive(pl.concat_str(a.expr, b.expr), key="joined", growth=1)
        return Vector("text", text, clean=a.clean and b.clean, ascii=a.ascii and b.ascii)
    if not {a.kind, b.kind} <= {"integer", "number"}:
        raise CannotLower(f"'{operation}' of {named(a)} and {named(b)}")
    if operation in {"/", "//", "%"}:
        zero = b.expr == 0
        frame.fail(zero, DIVISIONS[operation, a.kind == b.kind == "integer"])
        b = replace(b, expr=pl.when(~zero).then(b.expr))
    if a.kind == b.kind == "integer" and operation != "/":
        return _integer_result(operation, a, b)
    if isinstance(left, Constant):
        a = replace(a, expr=_column_of(a.expr, b.expr))
    elif isinstance(right, Constant):
        b = replace(b, expr=_column_of(b.expr, a.expr))
    return _float_result(operation, a, b)


def _column_of(constant: pl.Expr, beside: pl.Expr) -> pl.Expr:
    """A constant as a column of floating numbers that polars does not take for a literal.

    Of a literal it knows too much: it takes x + 0 for x (which makes -0.0 of 0.0), and multiplies by the reciprocal
    of a divisor (which is another number). What `when` gives where it always holds is a literal to it as well.
    """
    return beside.is_null().cast(pl.Float64()) * 0.0 + constant.cast(pl.Float64())


def negative(atom: Atom, frame: Frame) -> Atom:
    """`-value`. Errors: `CannotLower`."""
    # 0 - 0.0 would be 0.0, where Python says -0.0.
    whole = isinstance(atom, Absent) or plain(atom).kind == "integer"
    return computed("-", Constant(0), atom, frame) if whole else computed("*", atom, Constant(-1.0), frame)


def _integer_result(operation: str, left: Vector, right: Vector) -> Vector:
    bits = left.bits + right.bits if operation == "*" else max(left.bits, right.bits) + 1
    if bits > 120:
        raise CannotLower(f"'{operation}' of such large numbers")
    wide = pl.Int64() if bits <= 62 else pl.Int128()
    a, b = left.expr.cast(wide), right.expr.cast(wide)
    expr = {"+": a + b, "-": a - b, "*": a * b, "//": a // b, "%": a % b}[operation]
    return Vector("integer", expr, clean=True, ascii=True, bits=bits)


def _float_result(operation: str, left: Vector, right: Vector) -> Vector:
    if operation not in {"+", "-", "*", "/"}:
        raise CannotLower(f"'{operation}' of numbers with a fraction")
    if any(each.kind == "integer" and each.bits > EXACT_BITS for each in (left, right)):
        raise CannotLower(f"'{operation}' of such large numbers")
    a, b = left.expr.cast(pl.Float64()), right.expr.cast(pl.Float64())
    expr = {"+": a + b, "-": a - b, "*": a * b, "/": a / b}[operation]
    return Vector("number", expr, clean=True, ascii=True, computed=True)


def small_integer(expr: pl.Expr) -> Vector:
    """A number of at most 31 bits."""
    return Vector("integer", expr.cast(pl.Int64()), clean=True, ascii=True, bits=31)


def is_markup(atom: Atom) -> bool:
    """Whether it is printed as it is."""
    return isinstance(atom, Vector | Constant) and atom.safe


def is_clean(atom: Atom) -> bool:
    """Whether it has no character that means something in HTML."""
    if isinstance(atom, Constant):
        return vector_of(atom).clean
    return isinstance(atom, Absent) or (isinstance(atom, Vector) and atom.clean)


def named(atom: Atom) -> str:
    """What it is called in the reason why a template was not lowered."""
    match atom:
        case Vector(kind=kind):
            return "text" if kind == "text" else f"a value of the kind {kind}"
        case vectors.Sequence():
            return "a list"
        case Record():
            return "a whole row"
        case Constant(value=value):
            return f"the constant {value!r}"
        case Absent():
            return "a missing value"
