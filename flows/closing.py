"""How campaigns begin alike: the day they are run for."""

from datetime import date
from zoneinfo import ZoneInfo

from prefect.runtime import flow_run


def business_date_of(given: date | None, zone: ZoneInfo) -> date:
    """The day that a run is for: the one given, else the day that it was scheduled for, in the time zone."""
    return given or flow_run.scheduled_start_time.astimezone(zone).date()
