"""The tree of a condition: nodes with a rule, a type and a place in the text; and why a text is refused."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import polars as pl

MOST_NODES = 20_000
"""Size of a compiled expression."""


class Kind(Enum):
    """Types of the language; the value is PostgreSQL's name."""

    BOOLEAN = "boolean"
    INTEGER = "bigint"
    WHOLE = "numeric without decimals"
    NUMERIC = "numeric"
    DOUBLE = "double precision"
    TEXT = "text"
    DATE = "date"
    MOMENT = "timestamp without time zone"
    INSTANT = "timestamp with time zone"
    TIME = "time"
    INTERVAL = "interval"
    NULL = "NULL"
    OTHER = "a type that conditions only test for NULL"


NUMBERS = (Kind.INTEGER, Kind.WHOLE, Kind.NUMERIC, Kind.DOUBLE)
"""The numbers, each of which becomes one of the next where both meet."""


class Place(NamedTuple):
    """Line and column in the text, from 1."""

    line: int
    column: int


class Refused(Exception):
    """Why a text is not of the language, and where."""

    def __init__(self, reason: str, at: Place | None = None) -> None:
        super().__init__(f"line {at.line}, column {at.column}: {reason}" if at else reason)


@dataclass(frozen=True)
class Node:
    """A typed node: a column or a constant (`value`), or a rule over its arguments.

    Errors: `Refused`, where the compiled expression would be too large.
    """

    rule: "Rule"
    kind: Kind
    args: tuple["Node", ...] = ()
    value: Any = None
    at: Place | None = None
    scale: int = 0
    """Decimals of a numeric."""
    cost: int = field(init=False)
    """Size of the compiled expression, in which a rule may repeat its arguments."""

    def __post_init__(self) -> None:
        cost = 1 + self.rule.uses * sum(argument.cost for argument in self.args)
        object.__setattr__(self, "cost", cost)
        if cost > MOST_NODES:
            raise Refused("it is too large; divide it into smaller expressions", self.at)

    @property
    def is_constant(self) -> bool:
        """Whether it is a literal."""
        return self.rule.name == "constant"

    @property
    def is_column(self) -> bool:
        """Whether it is a column."""
        return self.rule.name == "column"

    @property
    def columns(self) -> set[str]:
        """The columns in it."""
        own = {str(self.value[0])} if self.is_column else set()
        return own.union(*(argument.columns for argument in self.args))

    @property
    def aggregates(self) -> bool:
        """Whether an aggregate is in it."""
        return self.rule.aggregate or any(argument.aggregates for argument in self.args)


class Typed(NamedTuple):
    """What a rule makes of its arguments: them, coerced to the types that it takes, and its own type."""

    args: tuple[Node, ...]
    kind: Kind
    scale: int = 0


@dataclass(frozen=True)
class Rule:
    """What a function or operator takes, gives and means: in polars, and in the databases that mean the same.

    `typed` returns nothing where the arguments do not fit. A database's SQL is a template ({0}, {1}, {all}); a
    database without one does not run it.
    """

    name: str
    usage: str
    meaning: str
    typed: Callable[[tuple[Node, ...]], Typed | None]
    polars: Callable[..., pl.Expr]
    postgresql: "Template" = None
    sqlite: "Template" = None
    uses: int = 1
    """How often the compiled expression repeats an argument."""
    aggregate: bool = False


Template = str | Callable[[Node, list[str]], str | None] | None
"""SQL of a node made from that of its arguments; nothing where the database means something else."""
