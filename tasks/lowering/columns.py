"""Fields as the lowering sees them: columns of a slice, with the rows that have no value apart."""

from collections.abc import Mapping

import polars as pl

from tasks.lowering.vectors import Absent, Constant, Record, Sequence, Value, Vector, kind_of
from tasks.templates.fields import Fact, Fields, Path, instance, is_missing, no_value, present


def field_value(fields: Fields, path: Path, facts: Mapping[Path, Fact]) -> Value:
    """A field of a slice's rows, or the constant that it is."""
    if path in fields.constants:
        constant = fields.constants[path]
        return ((True, Absent(no_value(path)) if is_missing(constant) else Constant(constant)),)
    return column_value(pl.col(".".join(path)), fields.types[path], path, facts)


def element_value(expr: pl.Expr, kind: pl.DataType, path: Path, facts: Mapping[Path, Fact]) -> Value:
    """`column_value` for what is inside a list, where missing values may still be other than null."""
    nullable = facts.get(path, Fact()).nullable
    return column_value(present(expr, kind) if nullable else expr, kind, path, facts)


def column_value(expr: pl.Expr, kind: pl.DataType, path: Path, facts: Mapping[Path, Fact]) -> Value:
    """A column's values, with the rows that have none apart. Errors: `CannotLower`."""
    fact = facts.get(path, Fact())
    atom: Vector | Sequence | Record
    if isinstance(kind, pl.List):
        atom = Sequence(expr, instance(kind.inner), path)
    elif isinstance(kind, pl.Struct):
        atom = Record(expr, kind, path)
    else:
        clean = fact.clean or not isinstance(kind, pl.String)
        atom = Vector(kind_of(kind), expr, clean=clean, ascii=fact.ascii, bits=fact.bits)
    if not fact.nullable:
        return ((True, atom),)
    return ((expr.is_not_null(), atom), (expr.is_null(), Absent(no_value(path))))
