"""Every campaign is the same on one part and on seven: messages, counts and rejects."""

import json
import mailbox
from collections.abc import Callable
from datetime import date
from html import unescape
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from prefect.artifacts import Artifact

from deployments.sandbox.partner import Partner
from flows.birthday_coupons import birthday_coupons
from flows.campaign import campaign
from flows.latest_offers import latest_offers
from flows.match_day import match_day
from flows.regional_weather import regional_weather

ROOT = Path(__file__).parents[2]
DAY = date(2026, 11, 24)
PROFILES = 700
SPORTS_WEEKEND = next(
    one["parameters"]
    for one in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    if one["name"] == "sports-weekend"
)
FORM = {
    "name": "form",
    "audience": {"where": "TRIM(email) <> '' AND may_contact", "fields": {"initial": "LEFT(first_name, 1)"}},
    "contents": [
        {"name": "coupons", "endpoint": "coupons", "on": {"zip_code": "zip_code"}},
        {"name": "offers", "endpoint": "offers", "on": {"favourite_category": "category"}, "cardinality": "many"},
    ],
    "templates": {
        "subject": "{{ profile.initial | default('-') }}: {{ content.coupons.code }}",
        "html": "<p>{% for offer in content.offers %}{{ offer.title }} {% endfor %}</p>",
        "text": "{{ content.coupons.code }} {{ profile.city | default('nowhere') }}",
    },
}


@pytest.mark.parametrize(
    ("flow", "parameters", "name"),
    [
        (birthday_coupons, {}, "birthday-coupons"),
        (match_day, {}, "match-day"),
        (latest_offers, {}, "latest-offers"),
        (regional_weather, {}, "regional-weather"),
        (campaign, FORM, "form"),
        (campaign, SPORTS_WEEKEND, "sports-weekend"),
    ],
    ids=["birthday coupons", "match day", "latest offers", "regional weather", "the form", "YAML"],
)
def test_a_campaign_is_the_same_on_one_part_and_on_seven(
    flow: Callable[..., Any],
    parameters: dict[str, Any],
    name: str,
    sample_profiles: pl.DataFrame,
    in_folder: Path,
    result_folder: Path,
    start_partner: Callable[..., Partner],
    use_partner: Callable[[Partner], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    people = sample_profiles if flow is birthday_coupons else sample_profiles.head(PROFILES)
    people.write_parquet(in_folder / "samples" / "profiles.parquet")
    (in_folder / "flows").symlink_to(ROOT / "flows")
    use_partner(start_partner())

    def run(size: int, outbox: str) -> tuple[object, ...]:
        monkeypatch.setenv("CAMPAIGN_PARTITIONS__SIZE", str(size))
        monkeypatch.setenv("CAMPAIGN_OUTBOX__FOLDER", outbox)
        report = flow(business_date=DAY, **parameters)
        folder = in_folder / outbox / name / DAY.isoformat()
        messages = {
            str(message["To"]): (str(message["Subject"]), [part.get_payload() for part in message.get_payload()])
            for message in mailbox.Maildir(folder / "maildir")
        }
        counts = sorted(json.dumps(row) for row in json.loads(unescape(str(Artifact.get(f"{name}-counts").data))))
        rejects = pl.read_csv(folder / "rejects.csv", infer_schema=False).sort("profile_id").rows()
        return report, messages, counts, rejects

    whole = run(100_000, "one")
    size = max(1, -(-whole[0].queried // 7))
    divided = run(size, "seven")
    assert divided == whole
    assert whole[0].delivered == len(whole[1]) > 0
    parts = -(-whole[0].queried // size)
    assert 4 <= parts <= 7
    assert list((result_folder / "partitions").glob(f"*/{parts:06}.arrow"))
