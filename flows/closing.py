"""How campaigns begin alike: the moment and the day that they are run for."""

from datetime import date, datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.runtime import flow_run

from tasks.errors import ConfigurationError
from tasks.runs.fate import first_flow_run

BY_SCHEDULE = "SCHEDULE"


def business_date_of(given: date | None, zone: ZoneInfo) -> date:
    """The day that a run is for: the one given, else the day of `moment_of_run`. Errors: as there."""
    return given or moment_of_run(zone).date()


def moment_of_run(zone: ZoneInfo) -> datetime:
    """The moment that a run was scheduled for, however late it is and however often it is tried.

    Its time zone is that of the schedule that started it; `zone` where something else did. A flow run within
    another has the other's moment. Errors: `ConfigurationError` (the schedule is gone, and its zone is not known).
    """
    run = first_flow_run()
    if run is None or run.expected_start_time is None:
        now: datetime = flow_run.scheduled_start_time
        return now.astimezone(zone)
    if run.created_by is not None and run.created_by.type == BY_SCHEDULE and run.deployment_id is not None:
        zone = _zone_of_schedule(run, run.deployment_id, run.created_by.id)
    return run.expected_start_time.astimezone(zone)


def _zone_of_schedule(run: FlowRun, deployment: UUID, schedule: UUID | None) -> ZoneInfo:
    with get_client(sync_client=True) as client:
        zones = {
            known.id: getattr(known.schedule, "timezone", None) or "UTC"
            for known in client.read_deployment_schedules(deployment)
        }
    # Each deploy makes the schedules anew; runs that were on their way by then have the earlier ones' ids.
    found = {zones[schedule]} if schedule in zones else set(zones.values())
    if len(found) != 1:
        reason = f"the schedule that started the run '{run.name}' is gone, and its time zone with it; give the date"
        raise ConfigurationError(setting="business_date", reason=reason)
    return ZoneInfo(found.pop())
