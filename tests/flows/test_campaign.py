"""The configurable campaign as the form and YAML fill it: what it delivers, and how wrong entries are refused."""

import json
import os
import re
from collections.abc import Callable
from datetime import date
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import polars as pl
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.exceptions import ParameterTypeError
from prefect.utilities.schema_tools.validation import ValidationError, validate

from deployments.sandbox.mail_server import MailSandbox, running_mail_server
from deployments.sandbox.partner import Partner, coupon_of, has_coupon
from flows.campaign import campaign
from flows.plan import CAMPAIGNS_HERE, JoinedContent
from flows.settings import CampaignSettings
from tasks.channels.outbox import OutboxOptions
from tasks.endpoint.block import EndpointBlock
from tasks.errors import (
    CampaignError,
    CampaignNameTaken,
    ConfigurationError,
    EndpointNotAllowed,
    ParameterInvalid,
)
from tasks.runs.ownership import check_name
from tasks.settings import merged
from tests.made_up import WRITTEN

ROOT = Path(__file__).parents[2]
DAY = date(2026, 11, 24)
COUPON_SAMPLE = json.loads((ROOT.parent / "shared" / "samples" / "coupons-sample-response.json").read_text())

TEMPLATES = {
    "subject": "A coupon for {{ profile.first_name | default('you') }}",
    "html": "<b>{{ content.coupons.code }}</b>",
    "text": "{{ content.coupons.code }} until the end of {{ campaign.business_date }}",
}


@pytest.fixture
def allow_partner(
    use_partner: Callable[[Partner], None], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Partner], None]:
    """Lets endpoints that are described in parameters call the partner, and be sent zip codes."""

    def allow(partner: Partner) -> None:
        use_partner(partner)
        monkeypatch.setenv("CAMPAIGN_NETWORK__AUTHOR_HOSTS", json.dumps([httpx.URL(partner.url).host]))
        monkeypatch.setenv("CAMPAIGN_NETWORK__AUTHOR_COLUMNS", '["zip_code"]')

    return allow


def coupons(partner: Partner, **options: Any) -> dict[str, Any]:
    """Content from an endpoint that is described in the parameters, its answer by a pasted sample."""
    return {
        "name": "coupons",
        "endpoint": {
            "name": "coupons",
            "url": partner.url,
            "ca_file": str(partner.ca_file),
            "inbound": {"columns": {"zip_code": "zipCode"}, "params": {"day": "{business_date}"}},
            "outbound": {"sample": COUPON_SAMPLE},
        },
        "on": {"zip_code": "zipCode"},
        **options,
    }


def parameters(partner: Partner, **changed: Any) -> dict[str, Any]:
    return {
        "name": "spring",
        "label": "Spring",
        "audience": {"where": "EXTRACT(DAY FROM birth_date) = EXTRACT(DAY FROM DATE '{business_date}')"},
        "contents": [coupons(partner)],
        "templates": TEMPLATES,
        "business_date": DAY,
        **changed,
    }


def refused(**asked: Any) -> None:
    """The campaign with parameters that Prefect has read, without a run: it is refused before any activity."""
    campaign.fn(**campaign.validate_parameters(asked))


def test_a_campaign_is_what_its_parameters_say(
    sample_profiles: pl.DataFrame,
    result_folder: Path,
    start_partner: Callable[..., Partner],
    allow_partner: Callable[[Partner], None],
    mailed: Callable[..., dict],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partner = start_partner()
    allow_partner(partner)
    monkeypatch.setenv("CAMPAIGN_SENDERS", '["spring.example"]')
    report = campaign(**parameters(partner, channel={"kind": "outbox", "sender_address": "us@spring.example"}))

    wanted = sample_profiles.filter(
        pl.col("birth_date").dt.day() == DAY.day,
        pl.col("zip_code").is_not_null(),
        pl.col("email").is_not_null(),
        WRITTEN,
    )
    served = {row["email"]: row["zip_code"] for row in wanted.iter_rows(named=True) if has_coupon(row["zip_code"])}
    messages = mailed("spring", DAY)
    assert set(messages) == set(served)
    assert len(served) > 50
    for address, message in messages.items():
        text = message.get_body(("plain",)).get_content()
        assert text.strip() == f"{coupon_of(served[address])['code']} until the end of 2026-11-24"
        assert message["From"].addresses[0].addr_spec == "us@spring.example"
    (call,) = partner.requests
    assert json.loads(call.body)["params"] == {"day": "2026-11-24"}
    assert report.delivered == len(served)


def test_without_content_everyone_gets_the_greeting(
    sample_profiles: pl.DataFrame, result_folder: Path, mailed: Callable[..., dict]
) -> None:
    sample_profiles.head(30).write_parquet("samples/profiles.parquet")
    report = campaign(business_date=DAY)
    texts = [message.get_body(("plain",)).get_content() for message in mailed("newsletter", DAY).values()]
    assert report.delivered == len(texts) > 10
    assert all(text.startswith("Hello ") for text in texts)


def test_styles_are_inlined_and_links_counted_where_the_parameters_say_so(
    sample_profiles: pl.DataFrame, result_folder: Path, mailed: Callable[..., dict]
) -> None:
    sample_profiles.head(30).write_parquet("samples/profiles.parquet")
    html = "<style>p{color:red}</style><p><a href='https://x.example/{{ profile.city|urlencode }}'>x</a></p>"
    templates = {**TEMPLATES, "subject": "s", "html": html, "text": "See https://x.example/"}
    campaign(business_date=DAY, templates=templates, inline_css=True, utm={"source": "news"})
    messages = list(mailed("newsletter", DAY).values())
    assert messages
    for message in messages:
        shown = message.get_body(("html",)).get_content()
        assert shown.startswith('<p style="color:red"><a href=\'https://x.example/')
        assert "?utm_source=news&amp;utm_medium=email&amp;utm_campaign=newsletter'>" in shown
        assert "utm_campaign=newsletter" in message.get_body(("plain",)).get_content()


def test_preview_only_delivers_nothing_and_reports_the_same(
    sample_profiles: pl.DataFrame,
    in_folder: Path,
    result_folder: Path,
    start_partner: Callable[..., Partner],
    allow_partner: Callable[[Partner], None],
) -> None:
    partner = start_partner()
    allow_partner(partner)
    report = campaign(**parameters(partner, channel={"kind": "preview"}))
    assert report.personalized > 50
    assert report.delivered == 0
    assert not (in_folder / "outbox").exists()


def test_a_campaign_is_added_in_yaml_alone(
    sample_profiles: pl.DataFrame,
    result_folder: Path,
    start_partner: Callable[..., Partner],
    use_partner: Callable[[Partner], None],
    mailed: Callable[..., dict],
) -> None:
    use_partner(start_partner())
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    (described,) = [found["parameters"] for found in declared if found["name"] == "sports-weekend"]
    described["templates"]["folder"] = str(ROOT / described["templates"]["folder"])
    report = campaign(**described, business_date=DAY)
    sporty = sample_profiles.filter(
        pl.col("favourite_category") == "sports", pl.col("email").is_not_null(), pl.col("may_contact"), WRITTEN
    )
    messages = mailed("sports-weekend", DAY)
    assert set(messages) == set(sporty["email"])
    assert {str(message["Subject"]) for message in messages.values()} == {"5 sports offers for the weekend"}
    assert report.enriched == sporty.height + report.rejected > 100


@pytest.mark.parametrize("endpoint", ["schedule", "weather"])
def test_every_endpoint_of_the_settings_can_be_named(
    sample_profiles: pl.DataFrame,
    result_folder: Path,
    start_partner: Callable[..., Partner],
    use_partner: Callable[[Partner], None],
    endpoint: str,
) -> None:
    use_partner(start_partner())
    on = {"schedule": {"favourite_team": "team"}, "weather": {"region": "region"}}[endpoint]
    report = campaign(
        name="named",
        audience={"where": "profile_id < 'P000030' AND TRIM(email) <> ''"},
        contents=[{"name": "match", "endpoint": endpoint, "on": on, "cardinality": "many"}],
        templates={"subject": "News", "html": "x", "text": "{% for row in match %}{{ loop.index }}{% endfor %}"},
        channel={"kind": "preview"},
        business_date=DAY,
    )
    assert report.enriched > 10


@pytest.mark.parametrize("trusted", [False, True])
def test_an_endpoint_is_a_block_made_in_the_ui(
    sample_profiles: pl.DataFrame,
    result_folder: Path,
    start_partner: Callable[..., Partner],
    use_partner: Callable[[Partner], None],
    monkeypatch: pytest.MonkeyPatch,
    trusted: bool,
) -> None:
    partner = start_partner()
    use_partner(partner)
    monkeypatch.setenv("CAMPAIGN_NETWORK__ENDPOINT_BLOCKS", str(trusted))
    described = coupons(partner)["endpoint"]
    EndpointBlock(
        url=partner.url,
        method="POST",
        sample=json.dumps(COUPON_SAMPLE),
        options={"inbound": described["inbound"], "ca_file": described["ca_file"]},
    ).save(f"shop-{str(trusted).lower()}", overwrite=True)
    content = {**coupons(partner), "endpoint": f"endpoint/shop-{str(trusted).lower()}"}
    changed = parameters(partner, contents=[content], channel={"kind": "preview"})
    validate(
        changed | {"business_date": "2026-11-24"}, campaign.parameters.model_dump_for_openapi(), raise_on_error=True
    )
    if not trusted:
        with pytest.raises(EndpointNotAllowed, match="not among the hosts"):
            campaign(**changed)
        return
    assert campaign(**changed).enriched > 50
    (call,) = partner.requests
    assert json.loads(call.body)["params"] == {"day": "2026-11-24"}


def test_a_block_that_is_absent_or_wrong_is_named(prefect_backend: str) -> None:
    EndpointBlock(url="https://partner.example", options={"retries": "many"}).save("wrong", overwrite=True)
    for name, says in (("absent", "there is no such block"), ("wrong", "retries")):
        with pytest.raises(ConfigurationError, match=says):
            CampaignSettings.load().endpoint_on(f"endpoint/{name}", DAY)


def test_the_form_offers_the_endpoints_that_are_there_and_their_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGN_ENDPOINTS__NEWS__URL", "https://news.example/api")
    monkeypatch.setenv("CAMPAIGN_ENDPOINTS__NEWS__OUTBOUND", '{"sample": {"items": [{"headline": "x"}]}}')
    named = JoinedContent.model_json_schema()["properties"]["endpoint"]["anyOf"][0]
    assert named["enum"] == ["coupons", "codes", "schedule", "offers", "weather", "news"]
    assert "news: headline" in named["description"]
    assert JoinedContent(name="news", endpoint="news", on={"profile_id": "headline"}).endpoint == "news"


WRONG = [
    ({"name": "Spring!"}, "name"),
    ({"audience": {"were": "TRUE"}}, "audience.were"),
    ({"channel": {"kind": "pigeon"}}, "channel"),
    ({"channel": {"kind": "outbox", "sender_address": "nobody"}}, "channel.outbox.sender_address"),
    ({"contents": [{"name": "coupons", "endpoint": "cupons", "on": {"zip_code": "zipCode"}}]}, "endpoint"),
    ({"contents": [{"name": "coupons", "endpoint": "coupons"}]}, "contents.0.on"),
    ({"templates": {"subject": "", "html": "x", "text": "x"}}, "subject"),
    ({"business_date": "soon"}, "business_date"),
]


@pytest.mark.parametrize(("changed", "field"), WRONG, ids=[field for _, field in WRONG])
def test_a_wrong_entry_is_refused_before_the_run_with_the_field_named(
    in_folder: Path, prefect_backend: str, changed: dict[str, Any], field: str
) -> None:
    with pytest.raises(ParameterTypeError) as refused:
        campaign(**changed)
    assert field in str(refused.value)
    assert not (in_folder / "outbox").exists()


@pytest.mark.parametrize(("changed", "field"), WRONG[:-1], ids=[field for _, field in WRONG[:-1]])
def test_the_form_refuses_the_same_entries(changed: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError):
        validate(changed, campaign.parameters.model_dump_for_openapi(), raise_on_error=True)


def test_the_form_has_a_label_a_help_and_a_default_for_every_field() -> None:
    form = campaign.parameters.model_dump()
    for name, parameter in form["properties"].items():
        assert parameter["title"] == name
        assert "default" in parameter, name
    for model in (
        "Recipients",
        "JoinedContent",
        "WrittenTemplates",
        "OutboxChannel",
        "EmailChannel",
        "SmsChannel",
        "PushChannel",
        "InAppChannel",
        "DirectMailChannel",
        "PreviewOnly",
        "PreparationRules",
        "PreviewRules",
        "ConfirmationOptions",
        "OwnEndpoint",
    ):
        for name, field in form["definitions"][model]["properties"].items():
            assert field["title"] != name, f"{model}.{name}"
            assert field["description"], f"{model}.{name}"
    assert "oneOf" not in json.dumps(form), "the UI draws anyOf alone"


def test_the_form_offers_every_kind_of_pages_and_formats_as_a_choice() -> None:
    models = campaign.parameters.model_dump()["definitions"]

    def choices(model: str, field: str) -> list[str]:
        offered = models[model]["properties"][field]["anyOf"]
        return [each.get("$ref", each.get("type")).rpartition("/")[2] for each in offered]

    pages = ["PageNumber", "Offset", "Cursor", "LinkHeader", "NextAddress", "null"]
    assert choices("OwnEndpoint", "pagination") == pages
    assert choices("OutboundMapping", "format") == ["JsonFormat", "NdjsonFormat", "CsvFormat", "XmlFormat"]


def changed_content(**options: Any) -> Callable[[Partner], dict[str, Any]]:
    return lambda partner: {"contents": [coupons(partner, **options)]}


def with_header(partner: Partner) -> dict[str, Any]:
    content = coupons(partner)
    return {"contents": [{**content, "endpoint": {**content["endpoint"], "headers": {"X-Key": "canary"}}}]}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (changed_content(on={"zip_code": "zip"}), "'zip' is no outbound column"),
        (changed_content(on={"zipcode": "zipCode"}), "Did you mean 'zip_code'?"),
        (changed_content(endpoint="coupons"), "Did you mean 'zip_code'?"),
        (
            lambda partner: {"contents": [coupons(partner), coupons(partner)]},
            "several contents are named 'coupons'",
        ),
        (with_header, "headers"),
        (lambda _: {"audience": {"where": "may_contct"}}, "Did you mean 'may_contact'?"),
        (lambda _: {"audience": {"where": "1 +"}}, "is not an SQL condition"),
        (lambda _: {"templates": {**TEMPLATES, "html": "{% if %}"}}, "html.html, line 1"),
        (lambda _: {"templates": {**TEMPLATES, "text": "{{ content.coupons.cod }}"}}, "content.coupons.cod"),
    ],
)
def test_what_does_not_fit_together_is_said_in_a_sentence_and_nothing_is_delivered(
    sample_profiles: pl.DataFrame,
    in_folder: Path,
    result_folder: Path,
    start_partner: Callable[..., Partner],
    allow_partner: Callable[[Partner], None],
    change: Callable[[Partner], dict[str, Any]],
    says: str,
) -> None:
    partner = start_partner()
    allow_partner(partner)
    with pytest.raises((CampaignError, ParameterTypeError)) as refused:
        campaign(**parameters(partner, **change(partner)))
    assert says in str(refused.value)
    assert "canary" not in str(refused.value)
    assert not (in_folder / "outbox").exists()


ASK = r" may do so \(CAMPAIGN_ENDPOINTS\), and one of a block where CAMPAIGN_NETWORK__ENDPOINT_BLOCKS says so\."
HOSTS = "ask the operator to name the host in CAMPAIGN_NETWORK__AUTHOR_HOSTS"
COLUMNS = "ask the operator to name it in CAMPAIGN_NETWORK__AUTHOR_COLUMNS"
MADE = "would be sent 'zip_code', which the parameters make of other columns.*CAMPAIGN_PROFILES"
SENT = {"params": {}, "columns": {"zip_code": "zipCode"}}

ENDPOINT_ATTACKS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"url": "https://evil.example/collect"}, {}, f"calls 'evil.example', which is not among .*{HOSTS}"),
    ({"url": "https://localhost.evil.example/"}, {}, f"calls 'localhost.evil.example'.*{HOSTS}"),
    ({"url": "https://evil.example/", "account": "header-account/coupon-system"}, {}, HOSTS),
    ({"inbound": {**SENT, "allow_profile_level": True}}, {}, f"allows profile-level data.*{ASK}"),
    ({"inbound": {**SENT, "profile_keys": []}}, {}, f"leaves 'profile_id', 'email' out of the profile keys.*{ASK}"),
    ({"inbound": {"columns": {"email": "e"}}}, {}, f"would be sent 'email', which tells profiles apart.*{ASK}"),
    ({"inbound": {"columns": {"birth_date": "b"}}}, {}, f"would be sent 'birth_date' of the audience.*{COLUMNS}"),
    ({}, {"audience": {"fields": {"zip_code": "email"}}}, MADE),
    ({}, {"audience": {"source": {"path": "samples/profiles.parquet", "columns": {"zip_code": "email"}}}}, MADE),
    ({"inbound": {**SENT, "max_rows": 10**6}}, {}, f"raises the limit inbound.max_rows to 1000000.*{ASK}"),
    ({"max_response_bytes": 10**9}, {}, f"raises the limit max_response_bytes.*{ASK}"),
    ({"timeout_seconds": 3600}, {}, f"raises the limit timeout_seconds.*{ASK}"),
    ({"limit_wait_seconds": 10**6}, {}, f"raises the limit limit_wait_seconds.*{ASK}"),
    ({"calls": {"per": "key", "max_calls": 10**6}}, {}, f"raises the limit calls.max_calls.*{ASK}"),
    ({"ca_file": "/etc/passwd"}, {}, f"the ca_file '/etc/passwd', which no endpoint of the settings has.*{ASK}"),
    ({"ca_file": "samples/own.pem"}, {}, f"the ca_file 'samples/own.pem', which no endpoint of the .*{ASK}"),
]


@pytest.mark.parametrize(
    ("described", "others", "says"), ENDPOINT_ATTACKS, ids=[says[:60] for *_, says in ENDPOINT_ATTACKS]
)
def test_an_endpoint_of_parameters_does_only_what_the_operator_allows(
    sample_profiles: pl.DataFrame,
    in_folder: Path,
    result_folder: Path,
    start_partner: Callable[..., Partner],
    allow_partner: Callable[[Partner], None],
    described: dict[str, Any],
    others: dict[str, Any],
    says: str,
) -> None:
    partner = start_partner()
    allow_partner(partner)
    content = coupons(partner)
    content["endpoint"] |= described
    with pytest.raises(EndpointNotAllowed, match=says):
        refused(**parameters(partner, contents=[content], **others))
    assert not partner.requests
    assert not (in_folder / "outbox").exists()


@pytest.mark.parametrize(
    ("setting", "says"),
    [("AUTHOR_HOSTS", f"calls 'localhost', .*{HOSTS}"), ("AUTHOR_COLUMNS", f"be sent 'zip_code'.*{COLUMNS}")],
)
def test_without_the_operator_s_word_an_endpoint_of_parameters_calls_and_is_sent_nothing(
    sample_profiles: pl.DataFrame,
    result_folder: Path,
    start_partner: Callable[..., Partner],
    allow_partner: Callable[[Partner], None],
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    says: str,
) -> None:
    partner = start_partner()
    allow_partner(partner)
    monkeypatch.delenv(f"CAMPAIGN_NETWORK__{setting}")
    with pytest.raises(EndpointNotAllowed, match=says):
        campaign(**parameters(partner))
    assert not partner.requests


@pytest.mark.parametrize(("proof", "subject"), [("", "A coupon for"), ("first", "[Proof] A coupon for")])
def test_a_campaign_is_sent_by_mail_and_never_twice(
    sample_profiles: pl.DataFrame,
    in_folder: Path,
    result_folder: Path,
    start_partner: Callable[..., Partner],
    allow_partner: Callable[[Partner], None],
    monkeypatch: pytest.MonkeyPatch,
    proof: str,
    subject: str,
) -> None:
    partner = start_partner()
    allow_partner(partner)
    monkeypatch.setenv("CAMPAIGN_SENDERS", '["us@spring.example"]')
    with running_mail_server(MailSandbox()) as server:
        for name, value in {"HOST": "127.0.0.1", "PORT": str(server.port), "SECURITY": "none"}.items():
            monkeypatch.setenv(f"CAMPAIGN_EMAIL__SERVER__{name}", value)
        by_mail = {"kind": "email", "sender_address": "us@spring.example", "proof": proof}
        first = campaign(**parameters(partner, channel=by_mail))
        again = campaign(**parameters(partner, channel=by_mail))
    assert first.delivered == len(server.taken) > 50
    assert (again.delivered, again.delivered_before) == (0, first.delivered)
    assert set(server.message_ids.values()) == {1}
    sent = message_from_bytes(server.taken[0].content, policy=policy.default)
    assert str(sent["Subject"]).startswith(subject)
    assert sent["From"].addresses[0].addr_spec == "us@spring.example"


def test_a_campaign_of_parameters_takes_no_name_of_a_campaign_in_code() -> None:
    flows = [path.read_text() for path in (ROOT / "flows").glob("*.py")]
    assert {name for flow in flows for name in re.findall(r'Send\(campaign="([^"]+)"', flow)} == CAMPAIGNS_HERE
    with pytest.raises(CampaignNameTaken, match="'birthday-coupons' belongs to the campaign 'birthday-coupons'"):
        check_name("birthday-coupons", CAMPAIGNS_HERE)


def test_a_name_belongs_to_the_deployment_that_has_it(
    sample_profiles: pl.DataFrame, result_folder: Path, in_folder: Path
) -> None:
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow_from_name("Campaign")
        weekly = client.create_deployment(flow_id, "weekly", parameters={"name": "our-weekly"})
        by_name = client.create_deployment(flow_id, "in-code")
        form = client.create_deployment(flow_id, "the-form", parameters={"name": "newsletter-of-form"})
        try:
            for name, owner in (("our-weekly", "weekly"), ("in-code", "in-code")):
                with pytest.raises(CampaignNameTaken, match=f"'{name}' belongs to the deployment '{owner}'"):
                    campaign(name=name, business_date=DAY)
            for name in ("weekly", "free"):
                check_name(name)
            with patch.dict(os.environ, {"PREFECT__RUNTIME__DEPLOYMENT__ID": str(weekly)}):
                check_name("our-weekly")
                with pytest.raises(CampaignNameTaken):
                    check_name("in-code")
        finally:
            for deployed in (weekly, by_name, form):
                client.delete_deployment(deployed)
    assert not (in_folder / "outbox").exists()


@pytest.mark.parametrize("changes", [{"folder": 7}, {"sender_address": "canary"}, {"foldr": "x"}])
def test_what_is_merged_is_validated_again_and_never_shown(changes: dict[str, Any]) -> None:
    with pytest.raises(ParameterInvalid) as refused:
        merged(OutboxOptions(), **changes)
    assert next(iter(changes)) in str(refused.value)
    assert "canary" not in str(refused.value)


SENDERS = "may not send from '.*ask the operator to name the address or its domain in CAMPAIGN_SENDERS"


def mail(**options: str) -> dict[str, Any]:
    return {"channel": {"kind": "email", **options}}


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (mail(sender_address="ceo@bank.com"), SENDERS),
        (mail(sender_address="x@campaign.example.evil.com"), SENDERS),
        (mail(sender_address="x@sub.campaign.example"), SENDERS),
        (mail(sender_address="x@evilcampaign.example"), SENDERS),
        (mail(sender_address="x@c\u0430mpaign.example"), SENDERS),
        (mail(reply_to="x@evil.com"), SENDERS),
        ({"channel": {"kind": "outbox", "sender_address": "ceo@bank.com"}}, SENDERS),
        (mail(sender_name="Us\r\nBcc: canary@x.example"), r"'channel\.sender_name' is not usable: .*U\+000D"),
        (mail(sender_name="Us\x00"), r"'channel\.sender_name' is not usable: .*U\+0000"),
        (mail(sender_name="Us \u202eknab"), r"'channel\.sender_name' is not usable: .*U\+202E"),
        (
            mail(reply_to="x@campaign.example\nBcc: canary"),
            r"'channel\.reply_to' is not usable: .*U\+000A",
        ),
        ({"label": "Spring\r\nBcc: canary@x.example"}, r"'label' is not usable: .*U\+000D"),
        ({"audience": {"where": "email = 'canary\x00'"}}, r"'audience\.where' is not usable: .*U\+0000"),
        ({"audience": {"fields": {"x\n": "email"}}}, r"'audience\.fields' is not usable: .*U\+000A"),
        ({"templates": {**TEMPLATES, "subject": "News\nBcc: x"}}, r"'templates\.subject' is not usable: .*U\+000A"),
        ({"templates": {**TEMPLATES, "text": "x\x00"}}, r"'templates\.text' is not usable: .*U\+0000"),
    ],
    ids=lambda value: ascii(value)[:70],
)
def test_senders_are_the_operator_s_and_no_text_has_a_control_character(
    sample_profiles: pl.DataFrame, in_folder: Path, result_folder: Path, asked: dict[str, Any], says: str
) -> None:
    with pytest.raises(CampaignError, match=says) as refusal:
        refused(**{"name": "spring", "business_date": DAY, **asked})
    assert "canary" not in str(refusal.value)
    assert not (in_folder / "outbox").exists()


def test_a_sender_left_empty_is_the_one_of_the_settings(
    sample_profiles: pl.DataFrame,
    result_folder: Path,
    mailed: Callable[..., dict],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sample_profiles.head(20).write_parquet("samples/profiles.parquet")
    monkeypatch.setenv("CAMPAIGN_OUTBOX__SENDER_ADDRESS", "news@shop.example")
    monkeypatch.setenv("CAMPAIGN_OUTBOX__SENDER_NAME", "The shop")
    campaign(name="spring", business_date=DAY, channel={"kind": "outbox", "sender_name": ""})
    assert {str(message["From"]) for message in mailed("spring", DAY).values()} == {"The shop <news@shop.example>"}


def test_a_domain_for_examples_never_leaves_over_a_real_mail_server(
    sample_profiles: pl.DataFrame, in_folder: Path, result_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMPAIGN_EMAIL__SERVER__HOST", "mail.partner.net")
    with pytest.raises(CampaignError, match=r"'offers@campaign\.example' is of a domain for examples") as refused:
        campaign(name="spring", business_date=DAY, channel={"kind": "email"})
    assert "CAMPAIGN_EMAIL__SENDER_ADDRESS" in str(refused.value)
    assert not (in_folder / "outbox").exists()
