"""Which message of ours a report is about: by the name that its bounce address and its Message-ID carry."""

import re
from collections.abc import Iterable

NAME = re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{32}(?![0-9A-Za-z])", re.IGNORECASE)
"""A message's name as the world knows it (`tasks.delivery.journal.keys.MessageNames`)."""
MOST_NAMES = 20


def names_in(clues: Iterable[str]) -> tuple[str, ...]:
    """Every name that the clues may hold, once each and in their order."""
    found = dict.fromkeys(name.lower() for clue in clues for name in NAME.findall(clue))
    return tuple(found)[:MOST_NAMES]
