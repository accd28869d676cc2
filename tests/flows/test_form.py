"""The form of the configurable campaign: what it asks, in which words, and every channel that it offers."""

import csv
import json
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import polars as pl
import pytest
from prefect.exceptions import ParameterTypeError
from prefect.utilities.schema_tools import validate
from prefect.utilities.schema_tools.validation import ValidationError

from deployments.sandbox.mail_server import MailSandbox, running_mail_server
from flows.campaign import campaign
from flows.plan import Recipients
from tasks.delivery.journal.storage import open_journal
from tasks.delivery.journal.suppressions import Kind, Sighting
from tasks.errors import CampaignError, ConfigurationError, SendNotConfirmed
from tasks.settings import Settings
from tests.tasks.provider_server import Asked, ProviderAnswer, running_provider

DAY = date(2026, 11, 24)
PEOPLE = pl.DataFrame(
    {
        "profile_id": ["1", "2", "3", "4", "5", "6", "7"],
        "first_name": ["Ada", "Grace", "Noor", "Mateo", "Ingrid", "Kofi", "Priya"],
        "email": [f"p{number}@people.test" for number in range(1, 8)],
        "phone": [f"+4315550100{number}" for number in range(1, 8)],
        "push_token": [f"token-{number}" for number in range(1, 8)],
        "street": [f"Main Street {number}" for number in range(1, 7)] + [None],
        "may_contact": [True] * 6 + [False],
        "wants_sms": [True, False, *[True] * 5],
        "is_test": [True, True, *[False] * 5],
    }
)
EVERYONE = {"where": "may_contact"}


@pytest.fixture
def people(in_folder: Path, result_folder: Path) -> pl.DataFrame:
    (in_folder / "samples").mkdir()
    PEOPLE.write_parquet(in_folder / "samples" / "profiles.parquet")
    return PEOPLE


@pytest.fixture(params=[100, 2])
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Whether the audience is one part or several."""
    monkeypatch.setenv("CAMPAIGN_PARTITIONS__SIZE", str(request.param))
    return int(request.param)


def run(**parameters: Any) -> Any:
    return campaign(**{"name": "formed", "audience": EVERYONE, "business_date": DAY, **parameters})


def rejects(folder: Path) -> dict[str, str]:
    table = pl.read_csv(folder / "outbox" / "formed" / str(DAY) / "rejects.csv", infer_schema=False)
    return dict(table.select("profile_id", "reason").iter_rows())


def models() -> dict[str, Any]:
    return campaign.parameters.model_dump_for_openapi()["definitions"]


def test_no_choice_has_the_name_of_a_class() -> None:
    form = campaign.parameters.model_dump_for_openapi()
    assert [name for name, model in models().items() if model.get("title") == name] == []
    chosen = {
        name: [each.get("title") or models()[each["$ref"].rpartition("/")[2]]["title"] for each in field["anyOf"]]
        for name, field in form["properties"].items()
        if "anyOf" in field and "$ref" in json.dumps(field)
    }
    assert chosen == {
        "templates": ["Templates written here", "Files of a folder"],
        "utm": ["UTM parameters", "None"],
        "channel": [
            "Files (outbox)",
            "E-mail",
            "SMS",
            "Push",
            "In-app",
            "Letters (file for the printer)",
            "Nothing (preview only)",
        ],
    }
    source = models()["Recipients"]["properties"]["source"]["anyOf"]
    assert source[-1] == {"title": "The one of the settings", "type": "null"}


TOO_LARGE = 10**30
"""orjson cannot write it: one run with it would break Prefect's lists of runs for everybody."""


@pytest.mark.parametrize(
    "entered",
    [
        {"preparation": {"control_seed": TOO_LARGE}},
        {"preparation": {"control_seed": -TOO_LARGE}},
        {"confirmation": {"hours": TOO_LARGE}},
        {"audience": {"source": {"path": "people.csv", "constants": {"shop": TOO_LARGE}}}},
        {"codes": [{"name": "gift", "pool": "birthday", "days": TOO_LARGE}]},
        {"contents": [{"name": "a", "on": {"a": "b"}, "endpoint": {"name": "a", "timeout_seconds": TOO_LARGE}}]},
        {
            "contents": [
                {
                    "name": "a",
                    "on": {"a": "b"},
                    "endpoint": {"name": "a", "inbound": {"params": {"x": [TOO_LARGE]}}},
                }
            ]
        },
    ],
)
def test_a_number_that_no_list_of_runs_can_show_is_refused_before_there_is_a_run(entered: dict[str, Any]) -> None:
    schema = campaign.parameters.model_dump()
    assert "JoinedContent" in schema["definitions"]
    assert validate(json.loads(json.dumps(entered).replace(str(TOO_LARGE), "7")), schema) == []
    with pytest.raises(ValidationError):
        validate(entered, schema, raise_on_error=True)


def test_of_a_content_the_endpoint_is_asked_first_and_html_has_a_large_box() -> None:
    content = models()["JoinedContent"]["properties"]
    assert next(iter(content)) == "endpoint"
    assert [field["position"] for field in content.values()] == [*range(len(content))]
    written = models()["WrittenTemplates"]["properties"]
    assert [written[part].get("format") for part in ("subject", "html", "text")] == [None, *["json-string"] * 2]


def test_the_help_names_the_columns_of_the_source_where_it_can_be_read(people: pl.DataFrame) -> None:
    def told() -> str:
        return str(Recipients.model_json_schema()["properties"]["where"]["description"])

    assert told().endswith(f"Columns of the settings' source: {', '.join(people.columns)}.")
    Path("samples/profiles.parquet").unlink()
    assert told().endswith("AND may_contact.")


def twilio(asked: Asked) -> ProviderAnswer:
    return 201, {}, {"sid": f"SM{len(asked.body)}", "status": "queued", "error_code": None}


def firebase(_: Asked) -> ProviderAnswer:
    return 200, {}, {"name": "projects/p/messages/1"}


def application(_: Asked) -> ProviderAnswer:
    return 200, {}, {}


def to_of_twilio(asked: Asked) -> str:
    return parse_qs(asked.body.decode())["To"][0]


PROVIDERS = {
    "sms": (twilio, to_of_twilio, "phone", {"ACCOUNT_SID": "AC1", "PASSWORD": "s3cret", "SENDER": "+43155501000"}),
    "push": (
        firebase,
        lambda asked: json.loads(asked.body)["message"]["token"],
        "push_token",
        {"PROJECT": "p", "ACCESS_TOKEN": "t0ken"},
    ),
    "in-app": (application, lambda asked: json.loads(asked.body)["address"], "profile_id", {}),
}


@pytest.mark.parametrize("kind", PROVIDERS)
def test_a_campaign_leaves_over_each_provider_to_whom_it_may(
    people: pl.DataFrame,
    parts: int,
    in_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    answer, recipient, column, account = PROVIDERS[kind]
    prefix = f"CAMPAIGN_{kind.upper().replace('-', '_')}__"
    opt_out = Sighting(Kind.OPT_OUT, kind, "", "test", profile_id="3")
    open_journal(Settings.load().journal).suppressions.add([opt_out])
    with running_provider(tmp_path, answer) as provider:
        of_server = {"URL": provider.url, "CONNECTION__CA_FILE": str(provider.ca_file), **account}
        for name, value in of_server.items():
            monkeypatch.setenv(prefix + name, value)
        monkeypatch.setenv("CAMPAIGN_NETWORK__ALLOWED_HOSTS", '["localhost"]')
        report = run(channel={"kind": kind}, preparation={"consent": "wants_sms"})
    wanted = people.filter(pl.col("profile_id").is_in(["1", "4", "5", "6"]))
    assert sorted(map(recipient, provider.asked)) == sorted(wanted[column])
    assert (report.queried, report.delivered) == (6, 4)
    assert rejects(in_folder) == {"2": "no consent for the channel", "3": "opt-out"}


def test_letters_are_a_file_for_the_printer_without_those_who_may_not_be_written_to(
    people: pl.DataFrame, parts: int, in_folder: Path
) -> None:
    open_journal(Settings.load().journal).suppressions.add(
        [Sighting(Kind.OPT_OUT, "direct-mail", "", "test", profile_id="2")]
    )
    columns = {"first_name": "Name", "street": "Street"}
    report = run(
        audience={"where": "TRUE"}, channel={"kind": "direct-mail", "columns": columns, "required": ["street"]}
    )
    rows = []
    for file in sorted((in_folder / "outbox" / "formed" / str(DAY)).glob("direct-mail-*.csv")):
        with file.open(encoding="utf-8-sig", newline="") as content:
            rows += list(csv.DictReader(content, delimiter=";"))
    assert sorted(row["Name"] for row in rows) == ["Ada", "Ingrid", "Kofi", "Mateo", "Noor"]
    assert [*rows[0]] == ["message_key", "Name", "Street"]
    assert report.delivered == 5
    assert rejects(in_folder) == {"2": "opt-out", "7": "no value for street"}


def test_a_proof_goes_to_test_profiles_and_the_send_to_everybody_after_it(
    people: pl.DataFrame, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_mail_server(MailSandbox()) as server:
        for name, value in {"HOST": "127.0.0.1", "PORT": str(server.port), "SECURITY": "none"}.items():
            monkeypatch.setenv(f"CAMPAIGN_EMAIL__SERVER__{name}", value)
        proof = run(channel={"kind": "email", "proof": "first"}, preparation={"test_profiles": "is_test"})
        assert sorted(one.recipient for one in server.taken) == ["p1@people.test", "p2@people.test"]
        sent = run(channel={"kind": "email"})
    assert (proof.delivered, sent.delivered) == (2, 6)


def test_the_control_group_and_doubled_addresses_are_left_out_alike_in_one_part_and_in_several(
    people: pl.DataFrame, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people.with_columns(email=pl.lit("family@people.test")).write_parquet("samples/profiles.parquet")
    told = []
    for size, folder in ((100, "one"), (1, "many")):
        monkeypatch.setenv("CAMPAIGN_PARTITIONS__SIZE", str(size))
        monkeypatch.setenv("CAMPAIGN_OUTBOX__FOLDER", folder)
        report = run(preparation={"control_share": 0.3})
        table = pl.read_csv(in_folder / folder / "formed" / str(DAY) / "rejects.csv", infer_schema=False)
        told.append((report.delivered, sorted(table.iter_rows())))
    assert told[0] == told[1]
    assert told[0][0] == 1
    assert {reason for *_, reason in told[0][1]} == {"control group", "duplicate address"}


def test_messages_are_shown_before_they_are_delivered(people: pl.DataFrame, in_folder: Path) -> None:
    run(preview={"shown": True, "profiles": ["4"]})
    page = (in_folder / "previews" / f"formed-{DAY}.html").read_text()
    assert "News for Mateo" in page
    assert "p4@" not in page


def test_nobody_who_is_asked_says_yes_and_so_nothing_is_delivered(
    people: pl.DataFrame, parts: int, in_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SendNotConfirmed, match="nobody answered"):
        run(confirmation={"required": True, "hours": 1 / 3600, "poll_seconds": 1})
    assert "press Resume on the page of this run" in caplog.text
    assert not (in_folder / "outbox").exists()


def test_a_channel_without_its_account_says_which_setting_is_empty(people: pl.DataFrame, in_folder: Path) -> None:
    for kind, setting in (("sms", "SMS__ACCOUNT_SID"), ("push", "PUSH__PROJECT"), ("in-app", "IN_APP__URL")):
        with pytest.raises(ConfigurationError, match=rf"CAMPAIGN_{setting} is not usable: it is empty, and the"):
            run(channel={"kind": kind})
    assert not (in_folder / "outbox").exists()


def with_sms(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ACCOUNT_SID": "AC1", "PASSWORD": "s3cret", "SENDER": "+43155501000"}.items():
        monkeypatch.setenv(f"CAMPAIGN_SMS__{name}", value)


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"channel": {"kind": "sms", "address": "fone"}}, "Did you mean 'phone'?"),
    ({"preparation": {"consent": "wants_smss"}}, "Did you mean 'wants_sms'?"),
    ({"preparation": {"control_share": 5}}, "preparation.control_share"),
    ({"preparation": {"consent": "first_name"}}, "the column 'first_name' is String, and not true or false"),
    ({"channel": {"kind": "direct-mail", "columns": {"strasse": "Street"}}}, "'strasse'"),
    ({"channel": {"kind": "mail"}}, "'outbox', 'email', 'sms', 'push', 'in-app', 'direct-mail', 'preview'"),
    ({"templates": {"subject": "Hi {{ first_nam }}", "html": "x", "text": "x"}}, "'first_name'"),
    ({"templates": {"folder": "flows/templates/absent"}}, "absent"),
    ({"audience": {"where": "first_name = Noor"}}, "a text stands in single quotes"),
    ({"audience": {"where": 'first_name = "Ada"'}}, "a text stands in single quotes"),
    ({"contents": [{"name": "offers", "endpoint": "offer", "on": {"city": "category"}}]}, "Did you mean 'offers'?"),
    ({"contents": [{"name": "offers", "endpoint": "offers", "on": {"profile_id": "catgory"}}]}, "'category'"),
    ({"business_date": "28.02.2027"}, "business_date"),
    ({"name": "My Campaign"}, "name"),
]


@pytest.mark.parametrize(("mistake", "says"), MISTAKES, ids=[says for _, says in MISTAKES])
def test_what_a_beginner_gets_wrong_is_one_clear_sentence(
    people: pl.DataFrame, in_folder: Path, monkeypatch: pytest.MonkeyPatch, mistake: dict[str, Any], says: str
) -> None:
    with_sms(monkeypatch)
    with pytest.raises((CampaignError, ParameterTypeError)) as refused:
        run(**mistake)
    assert says in str(refused.value)
    assert sum(line.startswith(" - ") for line in str(refused.value).splitlines()) <= 1
    assert not (in_folder / "outbox").exists()
