"""Time zones by their names."""

from functools import cache
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator

zone_names = cache(available_timezones)
"""Names of all time zones. Python looks through the machine's folders of them each time it is asked."""


def _known(name: str) -> str:
    if name not in zone_names():
        raise ValueError(f"'{name}' is not a time zone; write one like Europe/Vienna")
    return name


ZoneName = Annotated[str, AfterValidator(_known)]
