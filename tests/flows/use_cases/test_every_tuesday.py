"""Use case: a delivery every Tuesday, from a schedule.

scheduler (every Tuesday, 7:00) -> query -> email
"""

from collections.abc import Callable
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import anyio
import pytest
from prefect import flow
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

from tasks.sources.files import ProfileFile
from tasks.targeting.query import QueryOptions, has_text, query

START = datetime(2026, 11, 20, tzinfo=UTC)


def dates(schedule: CronSchedule | IntervalSchedule | RRuleSchedule, count: int) -> list[datetime]:
    from prefect.server.schemas.schedules import CronSchedule as ServerCron
    from prefect.server.schemas.schedules import IntervalSchedule as ServerInterval
    from prefect.server.schemas.schedules import RRuleSchedule as ServerRule

    served = {CronSchedule: ServerCron, IntervalSchedule: ServerInterval, RRuleSchedule: ServerRule}[type(schedule)]
    return anyio.run(served(**schedule.model_dump()).get_dates, count, START)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (CronSchedule(cron="0 7 * * 2", timezone="UTC"), ["11-24 07:00", "12-01 07:00"]),
        (CronSchedule(cron="0 7 * * 2", timezone="America/New_York"), ["11-24 12:00", "12-01 12:00"]),
        (CronSchedule(cron="0 7,19 * * *", timezone="UTC"), ["11-20 07:00", "11-20 19:00"]),
        (RRuleSchedule(rrule="DTSTART:20261101T070000Z\nFREQ=MONTHLY;BYDAY=2TU"), ["12-08 07:00", "01-12 07:00"]),
        (RRuleSchedule(rrule="DTSTART:20261101T070000Z\nFREQ=YEARLY;BYMONTH=12;BYMONTHDAY=24"), ["12-24 07:00"]),
        (
            RRuleSchedule(rrule="DTSTART:20261101T070000Z\nFREQ=WEEKLY;BYDAY=TU;UNTIL=20261125T000000Z"),
            ["11-24 07:00"],
        ),
        (RRuleSchedule(rrule="DTSTART:20261201T070000Z\nFREQ=DAILY;COUNT=1"), ["12-01 07:00"]),
    ],
    ids=["weekly", "in a time zone", "twice a day", "second Tuesday", "yearly", "until it expires", "once"],
)
def test_every_kind_of_schedule_is_one_that_a_deployment_has(
    schedule: CronSchedule | RRuleSchedule, expected: list[str]
) -> None:
    found = [f"{moment.astimezone(UTC):%m-%d %H:%M}" for moment in dates(schedule, 2)]
    assert found[: len(expected)] == expected
    if "UNTIL" in str(schedule) or "COUNT" in str(schedule):
        assert len(found) == len(expected)


def test_each_tuesday_has_its_delivery(people: ProfileFile, deliver: Callable, mails: Callable) -> None:
    @flow
    def tuesday_news(business_date: date) -> None:
        audience = query(QueryOptions(source=people, where=f"{has_text('email')} AND may_contact AND state = 'NY'"))
        deliver(audience, "tuesday", "News for {{ profile.first_name }}", business_date)

    tuesdays = [moment.astimezone(ZoneInfo("UTC")).date() for moment in dates(CronSchedule(cron="0 7 * * 2"), 2)]
    for tuesday in tuesdays:
        tuesday_news(tuesday)
    assert [mails("tuesday", tuesday) for tuesday in tuesdays] == [{"dee@x.example": "News for Dee"}] * 2
