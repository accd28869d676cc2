"""INTERVAL '1 year 2 months': calendar months, days and a time."""

import re
from typing import Any

from tasks.tables.conditions.tree import Place, Refused

UNITS = {
    "year": (12, 0, 0),
    "month": (1, 0, 0),
    "week": (0, 7, 0),
    "day": (0, 1, 0),
    "hour": (0, 0, 3_600_000_000),
    "minute": (0, 0, 60_000_000),
    "second": (0, 0, 1_000_000),
}
PARTS = re.compile(r"\s*([+-]?\d{1,6})\s*([a-z]+)", re.IGNORECASE)
LONGEST = 10_000
"""Years of an interval, so that no date leaves the calendar."""


def interval(parsed: Any, at: Place | None) -> tuple[int, int, int]:  # noqa: ANN401  # sqlglot's node
    """Its months, days and microseconds. Errors: `Refused`."""
    text = f"{parsed.name} {parsed.text('unit')}".strip()
    unread = PARTS.sub("", text).strip()
    amounts = [
        [int(number) * each for each in UNITS.get(unit.lower().removesuffix("s"), ())]
        for number, unit in PARTS.findall(text)
    ]
    if unread or not amounts or not all(amounts):
        raise Refused("an interval is written as INTERVAL '1 year 2 months 3 days'", at)
    months, days, micros = (sum(part) for part in zip(*amounts, strict=True))
    if abs(months) > 12 * LONGEST or abs(days) > 366 * LONGEST:
        raise Refused(f"an interval is at most {LONGEST} years", at)
    return months, days, micros
