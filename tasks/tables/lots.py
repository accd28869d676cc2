"""Lots: who is in a sample, a control group or a variant, decided by the member's key alone."""

import polars as pl
from polars_hash import NonCryptographicHashingNameSpace as StableHash

DIGITS = 53
"""Binary digits of a lot: as many as a floating number holds exactly."""


def lot(key: pl.Expr, purpose: str, *salt: object) -> pl.Expr:
    """A number from 0 to below 1 for each key; null for a missing key.

    The same key, purpose and salt (seed, campaign, segment code) give the same lot on every machine, in every
    version, whoever else is in the table. Lots of different purposes are independent of each other.
    """
    start = "\x1f".join((purpose, *map(str, salt), ""))
    hashed = StableHash(pl.concat_str(pl.lit(start), key.cast(pl.String()))).xxhash64()
    return hashed // 2 ** (64 - DIGITS) / 2**DIGITS
