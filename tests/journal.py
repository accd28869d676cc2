"""The journal as tests look at it."""

import polars as pl

from tasks.delivery.journal.storage import Journal
from tasks.send import Send


def entries_of(journal: Journal, send: Send, channel: str = "email") -> pl.DataFrame:
    """Every message of a send, as `Journal.entries` tells it."""
    with journal.entries(send, channel) as entries:
        return entries.collect()
