"""Who of the made-up profiles is written to."""

import polars as pl

WRITTEN = ~pl.col("first_name").fill_null("").str.contains("{{", literal=True)
"""Who is called {{ 7*7 }} gets no message: it would look like a template that was not filled in."""
