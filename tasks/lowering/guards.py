"""Guards of values in HTML, over whole columns."""

from collections.abc import Callable

import polars as pl

from tasks.lowering.vectors import CannotLower, Mask, Vector
from tasks.templates.escaping import (
    ONE,
    PLAIN_STYLE,
    QUOTES,
    SEPARATOR,
    STYLE_FUNCTION,
    UNQUOTED_CHARACTERS,
    address_fault,
    has_own_host,
    more_than_one,
    unsafe_style,
)

REST = r"(?:[^\x00-\x1f\x7f&]|&(?:amp|lt|gt|#39|#34);|&[A-Za-z0-9_.-]*=)*"
PLAIN_ADDRESS = rf"(?i)^(?:https?://[a-z0-9.-]+(?::[0-9]+)?(?:[/?#]{REST})?|(?:mailto|tel|sms|cid):{REST})$"
"""Addresses of which a look at the column is enough."""


def refused(name: str, value: Vector, attribute: str) -> tuple[Mask, str]:
    """The rows whose value a guard refuses, and the reason. Errors: `CannotLower`."""
    if value.safe:
        raise CannotLower("markup inside an attribute")
    if name == ONE:
        return value.expr.str.contains(SEPARATOR.pattern), more_than_one(attribute)
    plain = value.expr.str.contains(f"^(?:{PLAIN_STYLE.pattern})$")
    return ~plain | value.expr.str.contains(f"(?i){STYLE_FUNCTION.pattern}"), unsafe_style(attribute)


def address_faults(attribute: str, region: str, prefix: str, suffix: str) -> Callable[[pl.Series], pl.Series]:
    """What is wrong with each address of a column of markup, null where nothing is."""
    looked_at = region == "address" and not has_own_host(prefix, suffix)

    def faults(addresses: pl.Series) -> pl.Series:
        plain = addresses.str.contains(PLAIN_ADDRESS) if looked_at else pl.repeat(False, len(addresses), eager=True)
        others = addresses.filter(~plain.fill_null(value=True)).unique()
        if not len(others):
            return pl.repeat(None, len(addresses), dtype=pl.String(), eager=True)
        found = [address_fault(each, attribute, region, prefix, suffix) for each in others.to_list()]
        told = pl.Series(found, dtype=pl.String())
        return addresses.replace_strict(others, told, default=None, return_dtype=pl.String())

    return faults


def quotes_escaped(value: Vector) -> Vector:
    """Markup whose quotes do not end the attribute that it stands in."""
    if not value.safe:
        return value
    return Vector("text", value.expr.str.replace_many(list(QUOTES), list(QUOTES.values())), safe=True)


def spaces_escaped(value: Vector) -> Vector:
    """Markup for an attribute without quotes."""
    escaped = quotes_escaped(value).expr.str.replace_many(
        list(UNQUOTED_CHARACTERS), list(UNQUOTED_CHARACTERS.values())
    )
    return Vector("text", escaped, safe=True)
