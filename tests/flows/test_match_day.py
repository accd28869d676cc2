"""Match day as its readers see it, against the sandbox and against ESPN's real answer."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from deployments.sandbox.partner import Partner
from deployments.sandbox.schedule import schedule_answer
from deployments.sandbox.server import Server
from flows.match_day import match_day
from tests.made_up import WRITTEN

DAY = date(2026, 11, 24)


def latest_matches(day: date) -> dict[str, dict[str, str]]:
    """The match of each team on a day, worked out the plain way."""
    answer = schedule_answer({"dates": f"{day:%Y%m%d}-{day:%Y%m%d}"})
    return {
        side["team"]["displayName"]: {"name": match["name"], "score": side["score"]["displayValue"]}
        for match in answer["events"]
        for side in match["competitions"][0]["competitors"]
    }


def test_everyone_who_has_a_team_gets_its_latest_match(
    sample_profiles: pl.DataFrame,
    result_folder: Path,
    start_partner: Callable[..., Partner],
    use_partner: Callable[[Partner], None],
    mailed: Callable[..., dict],
) -> None:
    few = sample_profiles.head(300)
    few.write_parquet("samples/profiles.parquet")
    partner = start_partner()
    use_partner(partner)
    report = match_day(business_date=DAY)

    matches = latest_matches(DAY)
    fans = few.filter(
        pl.col("favourite_team").is_not_null(), pl.col("email").is_not_null(), pl.col("may_contact"), WRITTEN
    )
    messages = mailed("match-day", DAY)
    assert set(messages) == set(fans["email"])
    for fan in fans.iter_rows(named=True):
        match = matches[fan["favourite_team"]]
        assert match["name"] in str(messages[fan["email"]]["Subject"])
        text = messages[fan["email"]].get_body(("plain",)).get_content()
        assert f"{fan['favourite_team']} scored {match['score']}" in text
    assert [call.query["dates"] for call in partner.requests] == ["20261118-20261124"]
    assert report.queried == report.enriched == report.delivered + report.rejected
    assert report.delivered == fans.height > 100


@pytest.mark.parametrize(
    ("day", "match"),
    [
        (date(2026, 3, 21), "Columbus Crew at Toronto FC"),
        (date(2026, 3, 20), "Nashville SC at Columbus Crew"),
        (date(2026, 4, 1), None),
    ],
)
def test_one_address_makes_it_a_real_team_s_schedule(
    profiles_of_the_world: Callable[..., pl.DataFrame],
    public_service: Callable[[str, str], Server],
    result_folder: Path,
    mailed: Callable[..., dict],
    day: date,
    match: str | None,
) -> None:
    users = profiles_of_the_world(favourite_team="Columbus Crew")
    public_service("SCHEDULE", "schedule-espn-team.json")
    report = match_day(business_date=day)
    messages = mailed("match-day", day)
    assert {str(message["Subject"]) for message in messages.values()} == (
        {f"{match}: your team on match day"} if match else set()
    )
    assert set(messages) == (set(users["email"]) if match else set())
    assert (report.delivered, report.rejected) == ((users.height, 0) if match else (0, users.height))
