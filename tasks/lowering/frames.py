"""Frames: where the walk over a template's syntax tree is, and what it has gathered there."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import polars as pl
from jinja2 import nodes

from tasks.lowering.plan import Derived, Stage
from tasks.lowering.vectors import Atom, CannotLower, Mask, Value, both, merged, where

Piece: TypeAlias = str | pl.Expr
"""Part of an output: the template's own text, or a column of texts."""


@dataclass
class Space:
    """The rows that expressions are over: profiles, or the rounds of a loop."""

    new_name: Callable[[], str]
    stages: list[Stage] = field(default_factory=list)
    failures: list[tuple[Mask, str | pl.Expr]] = field(default_factory=list)
    derived: dict[object, pl.Expr] = field(default_factory=dict)

    def derive(
        self,
        expr: pl.Expr,
        function: Callable[[pl.Series], pl.Series] | None = None,
        key: object = None,
        growth: float = 0,
    ) -> pl.Expr:
        """The column of an expression, made once however often it is asked for by the same key.

        `growth` says how many times as long as its columns a text may be, so that there is room for it.
        """
        known = (expr.meta.serialize(), key)
        if key is None or known not in self.derived:
            name = self.new_name()
            self.stages.append(Derived(name, expr, function, growth))
            self.derived[known] = pl.col(name)
        return self.derived[known]

    def mask(self, mask: Mask) -> Mask:
        """The mask as a column, so that it is computed once."""
        return mask if isinstance(mask, bool) else self.derive(mask, key="mask")

    def reason(self) -> pl.Expr | None:
        """The first failure's reason, null where there is none."""
        failures = [(mask, reason) for mask, reason in self.failures if mask is not False]
        reasons = [(mask, pl.lit(reason) if isinstance(reason, str) else reason) for mask, reason in failures]
        return where(reasons, pl.lit(None, pl.String())) if reasons else None


@dataclass(frozen=True)
class Macro:
    """A macro or a call block, and where it was defined."""

    node: nodes.Macro | nodes.CallBlock
    frame: "Frame"


@dataclass(frozen=True)
class Rounds:
    """The variable `loop`."""

    index: pl.Expr
    length: pl.Expr


@dataclass(frozen=True)
class Module:
    """What an imported template defines."""

    names: dict[str, "Binding"]


@dataclass(frozen=True)
class Super:
    """The block that a block replaces."""

    block: str
    depth: int


Binding: TypeAlias = Value | Macro | Rounds | Module | Super


@dataclass
class Frame:
    """Where the walk is: what names mean, which rows come by, and which template's text it is."""

    template: str
    space: Space
    autoescape: bool
    """Whether what is printed is escaped."""
    scope: dict[str, Binding] = field(default_factory=dict)
    active: Mask = True
    blocks: dict[str, list[tuple[nodes.Block, str]]] = field(default_factory=dict)
    isolated: bool = False
    """Imported without context: fields are unknown."""
    nested: bool = False
    """Inside a loop, a macro or another statement whose names a block does not see."""
    depth: int = 0

    def inner(self, **changes: Any) -> "Frame":  # noqa: ANN401
        """A frame with the same names, which what is set in it does not change."""
        return replace(self, **{"scope": dict(self.scope), **changes})

    def only(self, mask: Mask) -> "Frame":
        """The same, for the rows of a mask; names that are set stay in it."""
        return self.inner(active=both(self.active, mask))

    def fail(self, mask: Mask, reason: str | pl.Expr) -> None:
        """Rows that get no message."""
        failing = both(self.active, mask)
        if failing is not False:
            self.space.failures.append((failing, reason))


def located(node: nodes.Node, frame: Frame, construct: str, known: CannotLower | None = None) -> CannotLower:
    """The reason with its file and line, unless it has one already."""
    if known is not None and known.where:
        return known
    reason = CannotLower(construct)
    reason.where = f"{frame.template}, line {node.lineno}"
    return reason


def extend(pieces: list[Piece], more: Iterable[Piece]) -> None:
    """Add pieces, neighbouring texts of the template made one."""
    for piece in more:
        if isinstance(piece, str) and pieces and isinstance(pieces[-1], str):
            pieces[-1] += piece
        elif not isinstance(piece, str) or piece:
            pieces.append(piece)


def joined(pieces: Sequence[Piece]) -> pl.Expr:
    """The pieces as one column of texts."""
    exprs = [pl.lit(piece) if isinstance(piece, str) else piece for piece in pieces]
    if not exprs:
        return pl.lit("")
    return exprs[0] if len(exprs) == 1 else pl.concat_str(exprs)


def zipped(branches: list[tuple[Mask, list[Piece]]], *, whole: bool = False) -> list[Piece]:
    """The pieces of whichever branch a row takes: the first of each as one column, the second, and so on.

    With `whole`, the branches are all that there is: a row that takes none has failed.
    """
    if not branches:
        return []
    if branches[0][0] is True:
        return branches[0][1]
    longest = max(len(pieces) for _, pieces in branches)
    result: list[Piece] = []
    for place in range(longest):
        choices: list[tuple[Mask, pl.Expr]] = [
            (mask, pl.lit(pieces[place]) if isinstance(pieces[place], str) else pieces[place])  # type: ignore[misc]
            for mask, pieces in branches
            if place < len(pieces)
        ]
        if whole and len(branches) == 1:
            result.append(choices[0][1])
        else:
            result.append(where(choices, pl.lit("")))
    return result


def merge_scopes(
    frame: Frame, scopes: list[tuple[Mask, dict[str, Binding]]], unset: Callable[[str], Value]
) -> None:
    """After an if: what each name is depends on the branch that was taken."""
    before = dict(frame.scope)
    changed = {name for _, scope in scopes for name in scope if scope[name] is not before.get(name)}
    for name in changed:
        alternatives: list[tuple[Mask, Atom]] = []
        for mask, scope in scopes:
            bound = scope.get(name) or unset(name)
            if not isinstance(bound, tuple):
                # A macro or module of one branch: it means nothing that could be lowered after the if.
                frame.scope[name] = bound if len(scopes) == 1 else Module({})
                break
            alternatives.extend((both(mask, here), atom) for here, atom in bound)
        else:
            frame.scope[name] = merged(alternatives)
