"""How tests wait: on conditions, never on time."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

GIVE_UP_SECONDS = 600
"""Nothing that tests wait for takes so long, beside other load too: what has not come by then hangs."""


def until(found: Callable[[], T], what: str | Path = "what is waited for", *, pause: float = 0.2) -> T:
    """What `found` gives once it gives something. If it does not come: `what`, or the end of that log."""
    give_up = time.monotonic() + GIVE_UP_SECONDS
    while not (result := found()):
        if time.monotonic() > give_up:
            said = f"{what} did not come" if isinstance(what, str) else what.read_text()[-3000:]
            raise AssertionError(said)
        time.sleep(pause)
    return result
