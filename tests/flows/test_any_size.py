"""Every campaign is the same on one part and on seven, on each engine: messages, counts, rejects and manifest."""

import json
import mailbox
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import distributed
import polars as pl
import pytest
import ray
import yaml
from prefect.artifacts import Artifact

from deployments.sandbox.partner import Partner
from flows.birthday_coupons import birthday_coupons
from flows.campaign import campaign
from flows.latest_offers import latest_offers
from flows.match_day import match_day
from flows.regional_weather import regional_weather
from tests.benchmarks.mail_sink import running_sink

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


CAMPAIGNS: dict[str, tuple[Callable[..., Any], dict[str, Any], str]] = {
    "birthday coupons": (birthday_coupons, {}, "birthday-coupons"),
    "match day": (match_day, {}, "match-day"),
    "latest offers": (latest_offers, {}, "latest-offers"),
    "regional weather": (regional_weather, {}, "regional-weather"),
    "the form": (campaign, FORM, "form"),
    "YAML": (campaign, SPORTS_WEEKEND, "sports-weekend"),
}
IN_TURN = [
    pytest.param(*of_it, id=name, marks=[pytest.mark.slow] if number else [])
    for number, (name, of_it) in enumerate(CAMPAIGNS.items())
]
"""The inner loop has one of them, on threads, and one by mail: each takes as long as a hundred other tests."""


@pytest.fixture(scope="module")
def dask_address(prefect_backend: str) -> Iterator[str]:
    """A Dask cluster for all of these tests; gives its address."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def ray_runtime(prefect_backend: str) -> Iterator[str]:
    """A Ray runtime for all of these tests, which every run finds there."""
    ray.init(num_cpus=2, include_dashboard=False)
    yield ""
    ray.shutdown()


ENGINES = [
    "threads",
    pytest.param("dask", marks=pytest.mark.slow),
    pytest.param("ray", marks=pytest.mark.slow),
]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The engine of the settings. Workers know no variable of this test, so that all use the default journal."""
    monkeypatch.delenv("CAMPAIGN_JOURNAL__URL")
    monkeypatch.setenv("CAMPAIGN_ENGINE__KIND", request.param)
    if request.param == "dask":
        monkeypatch.setenv("CAMPAIGN_ENGINE__ADDRESS", request.getfixturevalue("dask_address"))
    elif request.param == "ray":
        request.getfixturevalue("ray_runtime")
    return str(request.param)


@pytest.fixture
def people(
    sample_profiles: pl.DataFrame,
    in_folder: Path,
    start_partner: Callable[..., Partner],
    use_partner: Callable[[Partner], None],
) -> pl.DataFrame:
    """The sample profiles, where the campaigns and their partner are."""
    (in_folder / "flows").symlink_to(ROOT / "flows")
    use_partner(start_partner())
    return sample_profiles


def told(name: str, folder: Path) -> tuple[object, ...]:
    """What a run shows: counts and rejects."""
    counts = sorted(json.dumps(row) for row in json.loads(str(Artifact.get(f"{name}-counts").data)))
    return counts, pl.read_csv(folder / "rejects.csv", infer_schema=False).sort("profile_id").rows()


@pytest.fixture(scope="module")
def on_one_part() -> dict[str, Any]:
    """What each campaign gave on one part. No engine has to do with it: such a run stays in its own process."""
    return {}


@pytest.mark.parametrize(("flow", "parameters", "name"), IN_TURN)
@pytest.mark.usefixtures("engine")
def test_a_campaign_is_the_same_on_one_part_and_on_seven(
    flow: Callable[..., Any],
    parameters: dict[str, Any],
    name: str,
    people: pl.DataFrame,
    on_one_part: dict[str, Any],
    in_folder: Path,
    result_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if flow is not birthday_coupons:
        people.head(PROFILES).write_parquet(in_folder / "samples" / "profiles.parquet")

    def run(size: int, outbox: str) -> tuple[object, ...]:
        monkeypatch.setenv("CAMPAIGN_PARTITIONS__SIZE", str(size))
        monkeypatch.setenv("CAMPAIGN_OUTBOX__FOLDER", str(in_folder / outbox))
        report = flow(business_date=DAY, **parameters)
        folder = in_folder / outbox / name / DAY.isoformat()
        messages = {
            str(message["To"]): (str(message["Subject"]), [part.get_payload() for part in message.get_payload()])
            for message in mailbox.Maildir(folder / "maildir")
        }
        return report, messages, *told(name, folder)

    if name not in on_one_part:
        on_one_part[name] = run(100_000, "one")
    whole = on_one_part[name]
    size = max(1, -(-whole[0].queried // 7))
    divided = run(size, "seven")
    assert divided == whole
    assert whole[0].delivered == len(whole[1]) > 0
    parts = -(-whole[0].queried // size)
    assert 4 <= parts <= 7
    assert list((result_folder / "partitions").glob(f"*/{parts:06}.arrow"))


@pytest.mark.slow
def test_a_campaign_by_mail_is_the_same_on_one_part_and_on_seven(
    engine: str, people: pl.DataFrame, in_folder: Path, result_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people.head(PROFILES).write_parquet(in_folder / "samples" / "profiles.parquet")
    monkeypatch.setenv("CAMPAIGN_EMAIL__FOLDER", str(in_folder / "sent"))

    def run(size: int, name: str) -> tuple[object, ...]:
        monkeypatch.setenv("CAMPAIGN_PARTITIONS__SIZE", str(size))
        with running_sink() as (port, taken):
            server = {"host": "127.0.0.1", "port": port, "security": "none"}
            for key, value in server.items():
                monkeypatch.setenv(f"CAMPAIGN_EMAIL__SERVER__{key.upper()}", str(value))
            report = campaign(business_date=DAY, **{**FORM, "name": name, "channel": {"kind": "email"}})
            messages = taken()
        folder = in_folder / "sent" / name / DAY.isoformat()
        manifest = pl.read_parquet(folder / "email-manifest.parquet").select("profile_id", "outcome", "attempts")
        return report.delivered, messages, manifest.sort("profile_id").rows(), *told(name, folder)

    whole = run(100_000, f"mail-{engine}-one")
    assert run(100, f"mail-{engine}-seven") == whole
    assert whole[1] == (whole[0], whole[0])
    assert whole[0] == len(whole[2]) > 0
    assert list((result_folder / "partitions").glob("*/000004.arrow"))
