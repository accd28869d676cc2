"""Conditions and expressions that people type: a subset of SQL with PostgreSQL's meaning (README.md).

A text is read once into a tree of allowed nodes, typed against the table's columns, and compiled to polars; what a
database runs of it is made from the same tree.
"""

from tasks.tables.conditions.conditions import (
    EVERYTHING,
    Condition,
    aggregates,
    condition,
    expression,
    expressions,
    first_line,
    read_condition,
)
from tasks.tables.conditions.pushdown import Pushdown, pushed_down

__all__ = [
    "EVERYTHING",
    "Condition",
    "Pushdown",
    "aggregates",
    "condition",
    "expression",
    "expressions",
    "first_line",
    "pushed_down",
    "read_condition",
]
