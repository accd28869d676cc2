"""Guards of values in HTML, over whole columns."""

import polars as pl

from tasks.lowering.vectors import CannotLower, Mask, Vector
from tasks.templates.escaping import (
    OTHER_SCHEME,
    PLAIN_STYLE,
    RUNS_CODE,
    STYLE,
    STYLE_FUNCTION,
    unsafe_address,
    unsafe_style,
)


def guarded(name: str, value: Vector, text: pl.Expr, arguments: tuple[object, ...]) -> tuple[Mask, str]:
    """The rows that a guard refuses, and the reason. Errors: `CannotLower`."""
    if value.safe:
        raise CannotLower("markup inside an attribute")
    attribute = str(arguments[0])
    if name == STYLE:
        plain = text.str.contains(f"^(?:{PLAIN_STYLE.pattern})$") & ~text.str.contains(
            f"(?i){STYLE_FUNCTION.pattern}"
        )
        return ~plain, unsafe_style(attribute)
    runs = text.str.contains(f"(?i)^(?:{RUNS_CODE.pattern})")
    if arguments[1:] == (True,):
        runs |= text.str.contains(f"^{OTHER_SCHEME.pattern}")
    return runs, unsafe_address(attribute)
