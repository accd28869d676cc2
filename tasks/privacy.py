"""Personal data as it may be shown in logs and artifacts."""

import polars as pl


def masked_email(column: str) -> pl.Expr:
    """Addresses that keep their first letter and domain: `j…@example.com`.

    In: a text column. Out: a text column of the same name; null stays null, and a text that is not an address
    becomes `…`.
    """
    address = pl.col(column)
    first = address.str.slice(0, 1)
    domain = address.str.split("@").list.last()
    return (
        pl.when(address.is_null())
        .then(None)
        .when(address.str.contains("@", literal=True))
        .then(pl.concat_str(first, pl.lit("…@"), domain))
        .otherwise(pl.lit("…"))
        .alias(column)
    )
