"""The day that a run is for, of schedules on a real server."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.flow_engine import run_flow

from flows.closing import business_date_of, moment_of_run

SETTING = ZoneInfo("Asia/Tokyo")
Schedule = CronSchedule | IntervalSchedule | RRuleSchedule


@flow
def dated(business_date: date | None = None) -> date:
    return business_date_of(business_date, SETTING)


@flow
def within() -> date:
    return dated()


@pytest.fixture
def scheduled(result_folder: object) -> Iterator[Callable[..., list[FlowRun]]]:
    """Deploys a flow with a schedule, and lets the server schedule its runs between two moments."""
    made: list[UUID] = []

    def schedule(schedule: Schedule, first: datetime, last: datetime) -> list[FlowRun]:
        with get_client(sync_client=True) as client:
            deployment = client.create_deployment(
                client.create_flow(dated),
                f"dated-{len(made)}-{first:%Y%m%d%H%M}",
                schedules=[DeploymentScheduleCreate(schedule=schedule)],
            )
            made.append(deployment)
            between = {"start_time": first.isoformat(), "end_time": last.isoformat()}
            client.request("POST", "/deployments/{id}/schedule", path_params={"id": deployment}, json=between)
            where = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
            found = client.read_flow_runs(flow_run_filter=where, limit=200)
        inside = [run for run in found if run.expected_start_time and first <= run.expected_start_time <= last]
        return sorted(inside, key=lambda run: run.expected_start_time or first)

    yield schedule
    with get_client(sync_client=True) as client:
        for deployment in made:
            client.delete_deployment(deployment)


def daily(hour: int, minute: int, zone: str) -> list[tuple[str, Schedule]]:
    start = datetime(2025, 1, 1, hour, minute, tzinfo=ZoneInfo(zone))
    rule = f"DTSTART:{start:%Y%m%dT%H%M%S}\nRRULE:FREQ=DAILY"
    return [
        ("cron", CronSchedule(cron=f"{minute} {hour} * * *", timezone=zone)),
        ("interval", IntervalSchedule(interval=timedelta(days=1), anchor_date=start, timezone=zone)),
        ("rrule", RRuleSchedule(rrule=rule, timezone=zone)),
    ]


PLACES = [
    # Zone, hour and minute, a day around which the clock may be changed
    ("Europe/Berlin", 0, 30, date(2025, 10, 26)),
    ("Europe/Berlin", 0, 30, date(2025, 3, 30)),
    ("Pacific/Auckland", 0, 30, date(2025, 4, 6)),
    ("Pacific/Honolulu", 23, 30, date(2025, 11, 24)),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("zone", "hour", "minute", "day"), PLACES, ids=[f"{p[0]} {p[1]}:{p[2]} {p[3]}" for p in PLACES]
)
def test_a_scheduled_run_is_for_its_schedules_day(
    scheduled: Callable, zone: str, hour: int, minute: int, day: date
) -> None:
    there = ZoneInfo(zone)
    days = [day + timedelta(days=after) for after in (-1, 0, 1)]
    first, last = (
        datetime(one.year, one.month, one.day, tzinfo=there) for one in (days[0], days[2] + timedelta(1))
    )
    for kind, schedule in daily(hour, minute, zone):
        runs = scheduled(schedule, first.astimezone(UTC), last.astimezone(UTC) - timedelta(seconds=1))
        # Run now, which is long after their moments: a late run keeps its day.
        assert [run_flow(dated, flow_run=run) for run in runs] == days, kind


def test_a_day_that_is_given_is_the_day(scheduled: Callable) -> None:
    (run,) = scheduled(
        CronSchedule(cron="30 0 24 11 *"), datetime(2025, 11, 24, tzinfo=UTC), datetime(2025, 11, 25, tzinfo=UTC)
    )
    assert run_flow(dated, flow_run=run, parameters={"business_date": date(2020, 1, 1)}) == date(2020, 1, 1)
    assert run_flow(dated, flow_run=run) == date(2025, 11, 24)


def test_a_run_by_hand_is_for_the_day_in_the_zone_of_the_setting(result_folder: object) -> None:
    @flow
    def by_hand() -> datetime:
        return moment_of_run(SETTING)

    before = datetime.now(SETTING)
    moment = by_hand()
    assert moment.tzinfo == SETTING
    assert before - timedelta(seconds=1) <= moment <= datetime.now(SETTING)
    assert moment_of_run(SETTING).tzinfo == SETTING, "outside a run, too"


def test_a_flow_within_a_scheduled_one_has_its_day(scheduled: Callable) -> None:
    schedule = CronSchedule(cron="30 0 * * *", timezone="Europe/Berlin")
    (run,) = scheduled(schedule, datetime(2025, 11, 23, 12, tzinfo=UTC), datetime(2025, 11, 24, 12, tzinfo=UTC))
    assert run_flow(within, flow_run=run) == date(2025, 11, 24)
