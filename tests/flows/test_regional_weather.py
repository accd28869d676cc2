"""Regional weather as its readers see it, against the sandbox and against an answer of Open-Meteo's shape."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from deployments.sandbox.forecast import forecast_answer
from deployments.sandbox.partner import Partner
from deployments.sandbox.server import Server
from flows.regional_weather import regional_weather
from flows.settings import REGIONS
from tests.made_up import WRITTEN

DAY = date(2026, 11, 24)


def subject_for(region: str, code: int, highest: float) -> str:
    """What the mail should be about, worked out the plain way."""
    if code in {71, 73, 75, 77}:
        return f"Snow in {region}: warm boots today"
    if code >= 51:
        return f"Rain in {region}: umbrellas today"
    return f"Sun in {region}: ice cream today" if highest >= 20 else f"{region} today: a walk and a coffee"


def subjects_of(day: date) -> dict[str, str]:
    query = {
        "latitude": ",".join(str(place.latitude) for place in REGIONS.values()),
        "longitude": ",".join(str(place.longitude) for place in REGIONS.values()),
        "start_date": str(day),
        "end_date": str(day),
    }
    return {
        region: subject_for(region, found["daily"]["weather_code"][0], found["daily"]["temperature_2m_max"][0])
        for region, found in zip(REGIONS, forecast_answer(query), strict=True)
    }


def test_the_weather_of_the_region_chooses_the_content(
    sample_profiles: pl.DataFrame,
    result_folder: Path,
    start_partner: Callable[..., Partner],
    use_partner: Callable[[Partner], None],
    mailed: Callable[..., dict],
) -> None:
    few = sample_profiles.head(60)
    few.write_parquet("samples/profiles.parquet")
    use_partner(start_partner())
    people = few.filter(
        pl.col("region").is_not_null(), pl.col("email").is_not_null(), pl.col("may_contact"), WRITTEN
    )
    seen: set[str] = set()
    for day in (DAY, date(2026, 12, 3), date(2026, 7, 1)):
        regional_weather(business_date=day)
        expected = subjects_of(day)
        messages = mailed("regional-weather", day)
        assert {to: str(message["Subject"]) for to, message in messages.items()} == {
            person["email"]: expected[person["region"]] for person in people.iter_rows(named=True)
        }
        seen |= {subject.split()[0] for subject in expected.values()}
    assert len(seen) > 2, "the days chosen show more than one weather"


@pytest.mark.parametrize(
    ("region", "day", "subject"),
    [
        ("Berlin", date(2026, 11, 24), "Berlin today: a walk and a coffee"),
        ("Berlin", date(2026, 11, 25), "Rain in Berlin: umbrellas today"),
        ("Paris", date(2026, 11, 24), "Rain in Paris: umbrellas today"),
        ("Lyon", date(2026, 11, 25), "Snow in Lyon: warm boots today"),
        ("Lyon", date(2027, 1, 1), None),
        ("Atlantis", date(2026, 11, 25), None),
    ],
)
def test_one_address_makes_it_a_real_forecast(
    profiles_of_the_world: Callable[..., pl.DataFrame],
    public_service: Callable[[str, str], Server],
    result_folder: Path,
    mailed: Callable[..., dict],
    region: str,
    day: date,
    subject: str | None,
) -> None:
    profiles_of_the_world(rows=2, region=region)
    service = public_service("WEATHER", "weather-open-meteo-locations.json")
    report = regional_weather(business_date=day)
    subjects = {str(message["Subject"]) for message in mailed("regional-weather", day).values()}
    assert subjects == ({subject} if subject else set())
    assert report.rejected == (0 if subject else 2)
    assert service.calls[0].query == {
        "daily": "weather_code,temperature_2m_max",
        "timezone": "GMT",
        "latitude": "52.52,48.85,45.76",
        "longitude": "13.41,2.35,4.84",
        "start_date": str(day),
        "end_date": str(day),
    }


def test_a_campaign_of_one_region_works_too(
    profiles_of_the_world: Callable[..., pl.DataFrame],
    start_partner: Callable[..., Partner],
    use_partner: Callable[[Partner], None],
    result_folder: Path,
    mailed: Callable[..., dict],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    users = profiles_of_the_world(rows=2, region="Wien")
    monkeypatch.setenv("CAMPAIGN_OUTBOX__RECIPIENT_NAME", "first_name")
    monkeypatch.setenv("CAMPAIGN_REGIONS", json.dumps({"Wien": {"latitude": 48.21, "longitude": 16.37}}))
    use_partner(start_partner())
    assert regional_weather(business_date=DAY).delivered == 2
    messages = mailed("regional-weather", DAY)
    assert all("Wien" in str(message["Subject"]) for message in messages.values())
    assert set(messages) == {f"{name} <{email}>" for name, email in users.select("first_name", "email").iter_rows()}
