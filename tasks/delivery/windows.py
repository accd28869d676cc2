"""Windows of messages: how many are claimed, carried and written down together, and in which order."""

from dataclasses import dataclass, field

import polars as pl

OVERLAPPING = 4
"""Windows on their way at one time: while one is claimed or written down, the others are carried."""
WINDOW_SECONDS = 0.5
LARGEST_WINDOW = 2_000
WINDOW_BYTES = 8_000_000
"""Texts of one window, unless it is one message."""


SHARES = 2**32


def wave_of(waves: int) -> pl.Expr:
    """In which wave a message is sent, from 1 on, by its `message_key`: the same in every run of the send."""
    return pl.col("message_key").str.head(8).str.to_integer(base=16, dtype=pl.Int64) * waves // SHARES + 1


class WindowSize:
    """How many messages a window has: as many as are carried in `WINDOW_SECONDS`, found by trying."""

    def __init__(self, smallest: int) -> None:
        self._smallest = min(smallest, LARGEST_WINDOW)
        self.now = self._smallest

    def adapt(self, size: int, seconds: float) -> None:
        """Take into account that a window of `size` was carried in `seconds`."""
        fitting = size * WINDOW_SECONDS / max(seconds, 1e-9)
        bounded = min(max(fitting, self.now / 2), self.now * 2)
        self.now = int(min(max(bounded, self._smallest), LARGEST_WINDOW))


@dataclass
class Lane:
    """Messages that are sent one after the other, beside those of other lanes."""

    messages: pl.DataFrame
    sizes: WindowSize
    on_way: int = 0
    """Its windows that are open."""
    begin: int = 0
    _bytes: pl.Series = field(init=False)
    """What the texts come to, up to each message."""

    def __post_init__(self) -> None:
        """Add up the texts."""
        lengths = pl.sum_horizontal(pl.col("html", "text").str.len_bytes().cast(pl.Int64()))
        self._bytes = self.messages.select(lengths.cum_sum()).to_series()

    @property
    def has_more(self) -> bool:
        """Whether there are messages that no window has."""
        return self.begin < self.messages.height

    def next_window(self) -> pl.DataFrame:
        """The next messages, which are then on their way."""
        self.on_way += 1
        before = self._bytes[self.begin - 1] if self.begin else 0
        fitting = int(self._bytes.search_sorted(before + WINDOW_BYTES, side="right")) - self.begin
        return self._taken(max(1, min(self.sizes.now, fitting)))

    def rest(self) -> pl.DataFrame:
        """All messages that no window has."""
        return self._taken(self.messages.height)

    def _taken(self, count: int) -> pl.DataFrame:
        taken = self.messages.slice(self.begin, count)
        self.begin += taken.height
        return taken
