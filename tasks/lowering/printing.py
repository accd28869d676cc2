"""Printing over columns: what `{{ value }}` shows, as `tasks.templates.fields.printed` says it for one value."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import polars as pl
from markupsafe import escape

from tasks.lowering import vectors
from tasks.lowering.filters import escaped
from tasks.lowering.frames import Frame, Piece, zipped
from tasks.lowering.operators import named
from tasks.lowering.vectors import Absent, Atom, CannotLower, Constant, Mask, Value, Vector, both, vector_of
from tasks.templates.fields import ELEMENT, no_value, present, printed


def printed_pieces(value: Value, frame: Frame) -> list[Piece]:
    """What `{{ value }}` adds to the output."""
    choices: list[tuple[Mask, Piece]] = []
    for mask, atom in value:
        if isinstance(atom, Absent):
            frame.fail(mask, atom.reason)
        elif isinstance(atom, Constant):
            text = _constant_text(atom)
            safe = atom.safe or not frame.autoescape
            choices.append((mask, str(text) if safe else str(escape(text))))
        else:
            text_vector = text_of(atom, both(frame.active, mask), frame)
            choices.append((mask, _shown(text_vector, frame)))
    return zipped([(mask, [piece]) for mask, piece in choices], whole=True)


def _constant_text(atom: Constant) -> object:
    try:
        return printed(atom.value)
    except TypeError as error:
        raise CannotLower(f"what has no form in a message ({error})") from None


def _shown(text: Vector, frame: Frame) -> pl.Expr:
    if not frame.autoescape or text.safe or text.clean:
        return text.expr
    # A column of its own: what is printed twice is escaped once.
    return frame.space.derive(escaped(text).expr, key="escaped")


def text_of(atom: Atom, mask: Mask, frame: Frame) -> Vector:  # noqa: PLR0911
    """A value as it is printed. Errors: `CannotLower`."""
    match atom:
        case Constant():
            return vector_of(replace(atom, value=str(_constant_text(atom))))
        case vectors.Sequence():
            return list_text(atom, ", ", mask, frame)
        case Vector(kind="text"):
            return atom
        case Vector(kind="integer" | "decimal", expr=expr):
            return Vector("text", expr.cast(pl.String()), clean=True, ascii=True)
        case Vector(kind="boolean", expr=expr):
            shown = pl.when(expr).then(pl.lit("True")).otherwise(pl.lit("False"))
            return Vector("text", pl.when(expr.is_not_null()).then(shown), clean=True, ascii=True)
        case Vector(kind="number", expr=expr):
            return Vector("text", frame.space.derive(expr, _number_texts, key="text"), clean=True, ascii=True)
        case Vector(kind="date" | "datetime" | "time", expr=expr):
            return Vector("text", frame.space.derive(expr, _moment_texts, key="text"), clean=True, ascii=True)
        case _:
            raise CannotLower(f"printing {named(atom)}")


def list_text(atom: vectors.Sequence, separator: str, mask: Mask, frame: Frame) -> Vector:
    """The elements of a list with a separator between. Errors: `CannotLower`."""
    if not isinstance(atom.element, pl.String):
        raise CannotLower(f"printing a list of {atom.element}")
    missing = atom.expr.list.eval(present(pl.element(), atom.element).is_null()).list.any()
    frame.fail(both(mask, missing), no_value((*atom.path, ELEMENT)))
    return Vector("text", atom.expr.list.join(separator))


def _number_texts(values: pl.Series) -> pl.Series:
    """Floats as Python writes them; polars writes very small ones differently."""
    texts = values.cast(pl.String())
    size = values.abs()
    odd = ((size < 1e-4) & (size != 0)) | (size >= 1e15) | values.is_nan()
    return _with_python(values, texts, odd, str)


def _moment_texts(values: pl.Series) -> pl.Series:
    """Dates and times as ISO 8601, with a space between, as Python writes them."""
    return vectors.distinct(str, pl.String())(values)


def _with_python(values: pl.Series, texts: pl.Series, odd: pl.Series, function: Callable[[Any], str]) -> pl.Series:
    rows = odd.fill_null(value=False).arg_true()
    if not len(rows):
        return texts
    return texts.scatter(rows, [function(value) for value in values.gather(rows).to_list()])
