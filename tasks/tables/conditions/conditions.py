"""Conditions and expressions as activities use them: checked against a table's columns, compiled to polars."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from tasks.errors import ColumnsMissing, ExpressionInvalid, FilterInvalid
from tasks.tables.conditions.reading import Reading
from tasks.tables.conditions.tree import Kind, Node, Refused
from tasks.tables.transitions import nearest, quoted

EVERYTHING = "TRUE"
"""The condition that holds for every row."""
LONGEST_SHOWN = 200
NO_SUCH_NAME = "Correct the name; a text stands in single quotes, as in city = 'Paris'."
"""Characters of a text that an error shows."""


@dataclass(frozen=True)
class Condition:
    """A condition that was read: its text, its tree, and itself in polars."""

    text: str
    tree: Node
    expr: pl.Expr


def read_condition(text: str, schema: pl.Schema, *, activity: str, where: str, cure: str = "") -> Condition:
    """The condition, checked against the types of a table's columns.

    In: the condition, the types, and who asks (`activity`) of which table (`where`).
    Errors: `FilterInvalid` (not of the language, no condition, types that do not fit); `ColumnsMissing`, with
    `cure`.
    """
    try:
        tree = _read(text, schema, activity=activity, where=where, cure=cure)
        _require_boolean(tree)
        _refuse_aggregates(tree)
    except Refused as refused:
        raise FilterInvalid(filter=_shown(text), reason=str(refused), present=quoted(schema.names())) from None
    return Condition(text, tree, compiled(tree))


def condition(text: str, schema: pl.Schema, *, activity: str, where: str, cure: str = "") -> pl.Expr:
    """`read_condition`, in polars. Errors: as there."""
    return read_condition(text, schema, activity=activity, where=where, cure=cure).expr


def expression(text: str, schema: pl.Schema, *, activity: str, where: str, cure: str = "") -> pl.Expr:
    """The expression over a row's values (`LOWER(email)`), in polars.

    Errors: `ExpressionInvalid` (not of the language, an aggregate, types that do not fit); `ColumnsMissing`, with
    `cure`.
    """
    try:
        tree = _read(text, schema, activity=activity, where=where, cure=cure)
        _refuse_aggregates(tree)
        return _value(tree)
    except Refused as refused:
        raise _invalid(text, refused, schema, activity) from None


def expressions(texts: Mapping[str, str], schema: pl.Schema, *, activity: str, where: str) -> list[pl.Expr]:
    """Several expressions, {name: expression}, each with its name. Errors: those of `expression`."""
    return [expression(text, schema, activity=activity, where=where).alias(name) for name, text in texts.items()]


def aggregates(texts: Mapping[str, str], schema: pl.Schema, *, activity: str, where: str) -> list[pl.Expr]:
    """Several aggregates (`SUM(amount)`), {name: aggregate}, each one value for all rows, with its name.

    Errors: `ExpressionInvalid` (also where it is not one value for all rows), `ColumnsMissing`.
    """
    found = []
    for name, text in texts.items():
        try:
            tree = _read(text, schema, activity=activity, where=where, cure="")
            _require_aggregates(tree)
            found.append(_value(tree).alias(name))
        except Refused as refused:
            raise _invalid(text, refused, schema, activity) from None
    return found


def first_line(error: Exception) -> str:
    """What an error of polars says, without its explanations and the values that it may quote."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line.partition(" values: ")[0].rstrip(". ")


def compiled(node: Node) -> pl.Expr:
    """The node in polars."""
    return node.rule.polars(node, *(compiled(argument) for argument in node.args))


def _value(tree: Node) -> pl.Expr:
    """The node's value for a table: a column keeps its own type."""
    if tree.is_column:
        name, kind = tree.value
        return pl.col(name).fill_nan(None) if kind.is_float() else pl.col(name)
    if tree.kind is Kind.INTERVAL:
        raise Refused("an interval alone is no value")
    return compiled(tree)


def _read(text: str, schema: pl.Schema, *, activity: str, where: str, cure: str) -> Node:
    reading = Reading(text, schema)
    missing = reading.missing()
    if missing:
        places = "; ".join(f"line {at.line}, column {at.column}" for at in missing.values())
        present = schema.names()
        raise ColumnsMissing(
            activity=activity,
            missing=quoted(missing),
            where=where,
            present=quoted(present),
            cure=" ".join(filter(None, [f"({places})", nearest(missing, present) or NO_SUCH_NAME, cure])),
        )
    return reading.tree()


def _require_boolean(tree: Node) -> None:
    if tree.kind is not Kind.BOOLEAN:
        raise Refused(f"it gives {tree.kind.value}, and a condition gives TRUE or FALSE")


def _refuse_aggregates(tree: Node) -> None:
    if tree.rule.aggregate:
        raise Refused(f"{tree.rule.usage} is an aggregate of many rows, which is not possible here", tree.at)
    for argument in tree.args:
        _refuse_aggregates(argument)


def _require_aggregates(tree: Node, *, inside: bool = False) -> None:
    if tree.is_column and not inside:
        raise Refused("it does not give one value for all linked rows, as SUM(amount) does", tree.at)
    if tree.rule.aggregate and inside:
        raise Refused("an aggregate is not possible in another", tree.at)
    for argument in tree.args:
        _require_aggregates(argument, inside=inside or tree.rule.aggregate)


def _invalid(text: str, refused: Refused, schema: pl.Schema, activity: str) -> ExpressionInvalid:
    return ExpressionInvalid(
        activity=activity, expression=_shown(text), reason=str(refused), present=quoted(schema.names())
    )


def _shown(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
