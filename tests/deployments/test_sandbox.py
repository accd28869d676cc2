import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import httpx
import polars as pl
import pytest

from deployments.sandbox.forecast import forecast_answer
from deployments.sandbox.partner import Partner, coupon_answer, has_coupon
from deployments.sandbox.products import products_answer
from deployments.sandbox.profiles import sample_profiles, write_sample_profiles
from deployments.sandbox.schedule import schedule_answer
from deployments.sandbox.substitute import substitute
from flows.settings import CampaignSettings

ROOT = Path(__file__).parents[2]


def test_profiles_have_birthdays_on_every_day_of_the_year_and_every_trap() -> None:
    profiles = sample_profiles()
    assert profiles.height == 3660
    days = profiles["birth_date"].drop_nulls()
    assert {(day.month, day.day) for day in days} == {
        (day.month, day.day) for day in pl.date_range(date(2024, 1, 1), date(2024, 12, 31), eager=True)
    }
    assert profiles["profile_id"].is_unique().all()
    for column in set(profiles.columns) - {"profile_id", "last_name"}:
        assert profiles[column].null_count() > 0, column
    names = "".join(profiles["first_name"].drop_nulls())
    for character in "<&\"'{שأ健ส":
        assert character in names, character
    assert profiles["zip_code"].drop_nulls().str.contains(r"^\d{5}$").all()
    assert profiles["zip_code"].drop_nulls().str.starts_with("0").any()
    assert profiles["email"].drop_nulls().str.ends_with(".example").all(), "no address of a real person"


def test_the_profiles_of_a_seed_are_always_the_same(tmp_path: Path) -> None:
    write_sample_profiles(tmp_path / "made" / "profiles.parquet")
    assert pl.read_parquet(tmp_path / "made" / "profiles.parquet").equals(sample_profiles())
    assert not sample_profiles(seed=1).equals(sample_profiles())


def test_most_zip_codes_have_a_coupon_and_some_have_none() -> None:
    found = [has_coupon(f"{number:05d}") for number in range(1000)]
    assert 900 < sum(found) < 980
    answer = coupon_answer({"data": [{"zipCode": "95124"}]})
    shared = json.loads((ROOT.parent / "shared" / "samples" / "coupons-sample-response.json").read_text())
    assert answer["codeData"].keys() == shared["codeData"].keys()
    assert answer["codeData"]["codes"][0].keys() == shared["codeData"]["codes"][0].keys()


def posted(body: bytes, url: str, ca_file: Path) -> httpx.Response:
    """The sandbox's answer to a JSON body."""
    trusted = ssl.create_default_context(cafile=str(ca_file))
    return httpx.post(url, content=body, headers={"Content-Type": "application/json"}, verify=trusted)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [("/elsewhere", b'{"data": []}', "404"), ("", b"no json", "400"), ("", b'{"rows": []}', "400")],
)
def test_a_wrong_call_is_told_so(
    start_partner: Callable[..., Partner], path: str, body: bytes, status: str
) -> None:
    partner = start_partner()
    url = partner.url.replace("/api/v1/web-coupon", path) if path else partner.url
    assert str(posted(body, url, partner.ca_file).status_code) == status


def test_it_can_be_served_by_itself(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deployments.sandbox", "--port", "0", "--folder", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as serving:
        try:
            url = serving.stdout.readline().partition("='")[2].rstrip("'\n")
            answer = posted(b'{"data": [{"zipCode": "95124"}]}', url, tmp_path / "ca.pem").content
        finally:
            serving.terminate()
    assert b"95124" in answer


@pytest.mark.parametrize(
    ("answer", "sample"),
    [
        (schedule_answer({"dates": "20261118-20261124"}), "schedule-espn-team.json"),
        (products_answer({"skip": "0", "limit": "30"}), "offers-dummyjson-products.json"),
        (
            forecast_answer(
                {"latitude": "1,2", "longitude": "3,4", "start_date": "2026-11-24", "end_date": "2026-11-30"}
            ),
            "weather-open-meteo-locations.json",
        ),
    ],
)
def test_its_answers_have_the_shape_of_the_public_services(answer: object, sample: str) -> None:
    def names(value: object, path: str = "") -> set[str]:
        match value:
            case dict():
                return {
                    found
                    for name, inner in value.items()
                    for found in {f"{path}.{name}", *names(inner, f"{path}.{name}")}
                }
            case list():
                return {found for inner in value for found in names(inner, f"{path}[]")}
            case _:
                return set()

    made_up, real = names(answer), names(json.loads((ROOT.parent / "shared" / "samples" / sample).read_text()))
    assert made_up
    assert made_up <= real


@pytest.mark.parametrize(
    ("service", "query"),
    [
        ("schedule", ""),
        ("schedule", "?dates=today"),
        ("offers", "?skip=many"),
        ("weather", "?latitude=1,2&longitude=3&start_date=2026-11-24&end_date=2026-11-24"),
    ],
)
def test_a_service_that_is_asked_wrongly_says_so(
    start_partner: Callable[..., Partner], service: str, query: str
) -> None:
    partner = start_partner()
    context = ssl.create_default_context(cafile=partner.ca_file)
    assert httpx.get(f"{partner.url_of(service)}{query}", verify=context).status_code == 400


def test_several_that_start_at_one_moment_each_have_a_partner_of_their_own(in_folder: Path) -> None:
    settings, start, all_up = CampaignSettings.load(), threading.Barrier(4), threading.Barrier(4)

    def served(_: int) -> tuple[str, int]:
        start.wait()
        with substitute(settings, ["coupons"]) as variables:
            all_up.wait(10)
            with httpx.Client(
                verify=ssl.create_default_context(cafile=variables["CAMPAIGN_COUPONS__CA_FILE"])
            ) as web:
                return variables["CAMPAIGN_COUPONS__URL"], web.get(variables["CAMPAIGN_COUPONS__URL"]).status_code

    with ThreadPoolExecutor(4) as pool:
        found = dict(pool.map(served, range(4)))
    assert len(found) == 4
    assert set(found.values()) == {400}, "each answers with the certificate of its own authority"
