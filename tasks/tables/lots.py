"""Lots: who is in a sample, a control group or a variant, decided by the member's key alone."""

import polars as pl
from polars_hash import NonCryptographicHashingNameSpace as StableHash

LOTS = 1 << 53
"""How many lots there are: as many as a floating number tells apart between 0 and 1."""
HASHES = 1 << 64


def lot(key: pl.Expr, purpose: str, *salt: object) -> pl.Expr:
    """A number from 0 to below 1 for each key; null for a missing key.

    The same key, purpose and salt (seed, campaign, segment code) give the same lot on every machine, in every
    version, whoever else is in the table. Lots of different purposes are independent of each other.
    """
    start = "\x1f".join((purpose, *map(str, salt), ""))
    hashed = StableHash(pl.concat_str(pl.lit(start), key.cast(pl.String()))).xxhash64()
    return hashed // (HASHES // LOTS) / LOTS
