"""Conditions and expressions that people type: polars SQL over a table's columns, tried before a table is read."""

from collections.abc import Mapping

import polars as pl
from polars.exceptions import PolarsError

from tasks.errors import ColumnsMissing, ExpressionInvalid, FilterInvalid
from tasks.tables.transitions import nearest, quoted

EVERYTHING = "TRUE"
"""The condition that holds for every row."""


def condition(text: str, schema: pl.Schema, *, activity: str, where: str, cure: str = "") -> pl.Expr:
    """The SQL condition as an expression that was tried on no rows.

    In: the condition, the types of the table's columns, and who asks (`activity`) of which table (`where`).
    Errors: `FilterInvalid` (not SQL, not a condition, types that do not fit), `ColumnsMissing`, with `cure`.
    """
    present = schema.names()
    try:
        parsed = pl.sql_expr(text)
        _require(parsed, present, activity=activity, where=where, cure=cure)
        pl.DataFrame(schema=schema).filter(parsed)
    except PolarsError as error:
        raise FilterInvalid(filter=text, reason=first_line(error), present=quoted(present)) from None
    return parsed


def expression(text: str, schema: pl.Schema, *, activity: str, where: str, cure: str = "") -> pl.Expr:
    """The SQL expression (`LOWER(email)`, `SUM(amount)`), tried on no rows.

    Errors: `ExpressionInvalid` (not SQL, types that do not fit), `ColumnsMissing`, with `cure`.
    """
    present = schema.names()
    try:
        parsed = pl.sql_expr(text)
        _require(parsed, present, activity=activity, where=where, cure=cure)
        pl.DataFrame(schema=schema).select(parsed)
    except PolarsError as error:
        raise ExpressionInvalid(
            activity=activity, expression=text, reason=first_line(error), present=quoted(present)
        ) from None
    return parsed


def expressions(texts: Mapping[str, str], schema: pl.Schema, *, activity: str, where: str) -> list[pl.Expr]:
    """Several expressions, {name: expression}, each with its name. Errors: those of `expression`."""
    return [expression(text, schema, activity=activity, where=where).alias(name) for name, text in texts.items()]


def first_line(error: Exception) -> str:
    """What an error of polars says, without its explanations and the values that it may quote."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line.partition(" values: ")[0].rstrip(". ")


def _require(parsed: pl.Expr, present: list[str], *, activity: str, where: str, cure: str) -> None:
    missing = [name for name in dict.fromkeys(parsed.meta.root_names()) if name not in present]
    if missing:
        raise ColumnsMissing(
            activity=activity,
            missing=quoted(missing),
            where=where,
            present=quoted(present),
            cure=f"{nearest(missing, present)} {cure}".strip() or "Correct the name.",
        )
