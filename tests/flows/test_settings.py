import re
from datetime import date
from pathlib import Path

import pytest
from pydantic import SecretStr

from flows.settings import CampaignSettings, documented_environment
from tasks.errors import ConfigurationError, ResponseMalformed, SampleInvalid

ROOT = Path(__file__).parents[2]


def test_the_documented_environment_is_the_one_that_is_read(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CAMPAIGN_KEPT__FOLDER")
    assert (ROOT / ".env.example").read_text() == documented_environment(), "run `campaign settings > .env.example`"
    defaults = CampaignSettings(_env_file=None)
    uncommented = "\n".join(
        line.removeprefix("#") for line in documented_environment().splitlines() if line.startswith("#CAMPAIGN_")
    )
    (in_folder / ".env").write_text(uncommented.replace("=flows/templates", f"={ROOT}/flows/templates"))
    assert CampaignSettings.load() == defaults


def test_the_environment_comes_before_the_file_and_one_field_leaves_the_others(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (in_folder / ".env").write_text(
        "CAMPAIGN_COUPONS__URL=https://file.example/\nCAMPAIGN_COUPONS__RETRIES=7\nOTHER=1\n"
    )
    monkeypatch.setenv("CAMPAIGN_COUPONS__URL", "https://environment.example/")
    coupons = CampaignSettings.load().coupons
    assert (coupons.url, coupons.retries) == ("https://environment.example/", 7)
    assert coupons.outbound == CampaignSettings(_env_file=None).coupons.outbound


def test_nothing_is_allowed_by_default() -> None:
    assert CampaignSettings(_env_file=None).network.allowed_hosts == frozenset()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CAMPAIGN_COUPONS__TIMEOUT_SECONDS", "soon"),
        ("CAMPAIGN_COUPONS__MAX_RESPONSE_BYTES", "0"),
        ("CAMPAIGN_COUPONS__HEADERS", '{"X-Key": {"a": "canary"}}'),
        ("CAMPAIGN_COUPONS__HEADERS", "canary"),
        ("CAMPAIGN_COUPONS__UNKNOWN", "canary"),
        ("CAMPAIGN_NETWORK__ALLOWED_HOSTS", "localhost"),
        ("CAMPAIGN_TIME_ZONE", "Vienna"),
    ],
)
def test_a_wrong_setting_is_named_and_its_value_is_not_shown(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match="CAMPAIGN_") as wrong:
        CampaignSettings.load()
    assert "canary" not in str(wrong.value)
    assert wrong.value.__cause__ is None
    assert wrong.value.__suppress_context__


@pytest.mark.parametrize("value", ["canary.", "{canary", "-1e400", '{"canary": []}'])
def test_each_setting_that_is_wrong_is_named_in_one_whole_sentence(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    documented = re.findall(r"^#(CAMPAIGN_[A-Z0-9_]+)=", documented_environment(), re.MULTILINE)
    told = 0
    for variable in documented:
        monkeypatch.setenv(variable, value)
        for fault in CampaignSettings.faults():
            told += 1
            if isinstance(fault, (SampleInvalid, ResponseMalformed)):
                continue  # of the sample itself
            assert re.fullmatch(
                r"The setting CAMPAIGN_[A-Z0-9_]+ is not usable: (?!Value error)[^\s.].*[^.?! ]\. Set it in the"
                r" environment or in \.env; `campaign settings` describes every setting\. \(CMP-100\)",
                str(fault),
            ), fault
            named = str(fault).split()[2]
            assert named.startswith(variable) or variable.startswith(named), fault
        monkeypatch.delenv(variable)
    assert told > 40


def test_what_is_not_json_is_named_wherever_it_stands(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (in_folder / ".env").write_text("CAMPAIGN_NETWORK__ALLOWED_HOSTS=localhost\nCAMPAIGN_SENDERS=canary\n")
    monkeypatch.setenv("CAMPAIGN_ENDPOINTS__VOUCHERS__OUTBOUND", "{canary")
    monkeypatch.setenv("CAMPAIGN_NETWORK__NO_PROXY", '["localhost"]')
    said = [str(fault) for fault in CampaignSettings.faults()]
    assert sorted(one.split()[2] for one in said) == [
        "CAMPAIGN_ENDPOINTS__VOUCHERS__OUTBOUND",
        "CAMPAIGN_NETWORK__ALLOWED_HOSTS",
        "CAMPAIGN_SENDERS",
    ]
    assert all("it is not JSON; write a list as" in one and "canary" not in one for one in said)


def test_a_header_is_a_secret_from_the_moment_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGN_COUPONS__HEADERS", '{"X-Key": "canary"}')
    settings = CampaignSettings.load()
    assert settings.coupons.headers == {"X-Key": SecretStr("canary")}
    assert "canary" not in repr(settings)
    assert "canary" not in settings.model_dump_json()


def test_an_endpoint_is_added_without_code(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGN_ENDPOINTS__NEWS__URL", "https://news.example/api")
    monkeypatch.setenv("CAMPAIGN_ENDPOINTS__NEWS__METHOD", "GET")
    monkeypatch.setenv("CAMPAIGN_ENDPOINTS__NEWS__OUTBOUND", '{"sample": {"items": [{"title": "x"}]}}')
    settings = CampaignSettings.load()
    news = settings.endpoint_on("news", date(2026, 11, 24))
    assert (news.name, news.url, list(news.outbound.columns)) == ("news", "https://news.example/api", ["title"])
    with pytest.raises(ConfigurationError, match=r"no endpoint 'newz', only 'coupons'.*Did you mean 'news'"):
        settings.endpoint_on("newz", date(2026, 11, 24))
    monkeypatch.setenv("CAMPAIGN_ENDPOINTS__OFFERS__URL", "https://news.example/api")
    with pytest.raises(ConfigurationError, match="CAMPAIGN_OFFERS__"):
        CampaignSettings.load()
