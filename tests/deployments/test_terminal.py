"""The command `campaign`, as people type it: its words, what it writes, its status."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest
import yaml

from deployments.declared import declared_campaign
from deployments.sandbox.partner import Partner
from deployments.sandbox.server import Reply, Server
from deployments.terminal.app import app, told
from deployments.terminal.previewing import preview
from deployments.terminal.running import closing_lines
from flows.settings import CampaignSettings
from tasks.endpoint.answer.definitions import pasted
from tasks.endpoint.answer.mapping import OutboundMapping
from tasks.execution.report import CampaignReport
from tasks.send import Send

ROOT = Path(__file__).parents[2]
SAMPLE = '{"a": [{"x": 1}], "b": [{"y": "2026-11-24"}]}'

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Typed:
    """Runs a command line: its status, and what it said on both ways out."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            told(app, [str(one) for one in arguments])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def people(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> pl.DataFrame:
    """Three people, of whom one may not be contacted, in an ordinary CSV."""
    table = pl.DataFrame(
        {
            "profile_id": ["1", "2", "3"],
            "first_name": ["Ada", "Grace", None],
            "email": ["ada@people.test", "grace@people.test", "noor@people.test"],
            "may_contact": [True, False, True],
        }
    )
    table.write_csv(in_folder / "people.csv")
    monkeypatch.setenv("CAMPAIGN_PROFILES__PATH", "people.csv")
    return table


@pytest.mark.parametrize("kind", ["flow", "yaml"])
def test_a_new_campaign_runs_as_it_is_and_never_twice(
    typed: Typed,
    people: pl.DataFrame,
    in_folder: Path,
    result_folder: Path,
    use_partner: Callable[[Partner], None],
    start_partner: Callable[..., Partner],
    kind: str,
) -> None:
    use_partner(start_partner())
    Path(".env").write_text("CAMPAIGN_TIME_ZONE=Europe/Paris")
    status, said, _ = typed("new", "spring-offers", "--kind", kind)
    assert status == 0
    assert "campaign run spring-offers" in said
    assert "spring-offers" in typed("list")[1]
    status, said, wrong = typed("run", "spring-offers", "--date", "2026-11-24")
    assert (status, wrong) == (0, "")
    assert "delivered            2" in said
    status, said, _ = typed("run", "spring-offers", "--date", "2026-11-24")
    assert "2  were delivered before, and not again" in said
    declared = yaml.safe_load(Path("prefect.yaml").read_text())["deployments"]
    assert [one["name"] for one in declared] == ["spring-offers"]


@pytest.mark.parametrize(("sent_by", "named"), [("Outbox", True), ("Email", False)])
def test_the_outbox_of_an_earlier_run_is_not_where_mails_went(in_folder: Path, sent_by: str, named: bool) -> None:
    send = Send(campaign="spring-offers", label="Spring offers", business_date=date(2026, 11, 24))
    settings = CampaignSettings.load()
    settings.outbox.messages_folder(send).mkdir(parents=True)
    (settings.outbox.send_folder(send) / "preview.html").touch()
    counts = dict.fromkeys(("queried", "enriched", "personalized", "delivered"), 2)
    report = CampaignReport(send=send, **counts, rejected=0, delivered_before=0, sent_by=sent_by)
    said = "\n".join(closing_lines(report, settings))
    assert ("maildir" in said) is named
    assert ("preview.html" in said) is named


def test_the_test_that_a_new_campaign_brings_passes(typed: Typed, in_folder: Path) -> None:
    typed("new", "spring-offers")
    # The server that the test starts finds its database migrated.
    (in_folder / "conftest.py").write_text(
        "from tests.prefect_database import database_of_prefect\n\n"
        "migrated = database_of_prefect()\nmigrated.__enter__()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_what_is_there_is_not_written_over(typed: Typed, in_folder: Path) -> None:
    assert typed("new", "spring")[0] == 0
    flow = Path("flows/spring.py")
    flow.write_text("# mine\n")
    status, _, wrong = typed("new", "spring", "--kind", "yaml")
    assert status == 1
    assert "has it already" in wrong
    assert flow.read_text() == "# mine\n"


@pytest.mark.parametrize("name", ["Spring", "../x", "a b", "-x", "x-", "", "é", "a" * 101])
def test_a_name_that_is_none_is_refused(typed: Typed, in_folder: Path, name: str) -> None:
    status, _, _ = typed("new", name)
    assert status == 1
    assert not list(in_folder.iterdir())


def test_a_wrong_name_and_a_wrong_day_are_told_in_a_sentence(typed: Typed, in_folder: Path) -> None:
    typed("new", "spring-offers")
    status, _, wrong = typed("run", "spring-ofers")
    assert status == 1
    assert "Did you mean 'spring-offers'?" in wrong
    status, _, wrong = typed("run", "spring-offers", "--date", "28.02.2027")
    assert status == 1
    assert "write it as year-month-day, like 2027-02-28" in wrong


def test_a_preview_sends_nothing_and_follows_the_templates(
    typed: Typed,
    people: pl.DataFrame,
    in_folder: Path,
    result_folder: Path,
    use_partner: Callable[[Partner], None],
    start_partner: Callable[..., Partner],
) -> None:
    use_partner(start_partner())
    typed("new", "spring-offers")
    status, said, wrong = typed("preview", "spring-offers", "--date", "2026-11-24", "--profile", "1")
    assert (status, wrong) == (0, "")
    assert "Hello Ada" in (in_folder / "previews" / "spring-offers-2026-11-24.html").read_text()
    assert not (in_folder / "outbox").exists()

    lines = preview(declared_campaign("spring-offers").flow(), {}, watch=True)
    while "Open" not in next(lines):
        pass
    body = in_folder / "flows" / "templates" / "spring_offers" / "body.html"
    before = body.read_text()
    body.write_text(before.replace("Hello", "Good day"))
    page = Path(said.rpartition("Open ")[2].strip()).parent
    while "Open" not in next(lines):
        pass
    assert any("Good day Ada" in path.read_text() for path in page.iterdir())
    body.write_text(before.replace("{{", "{%", 1))
    assert "body.html" in next(lines)
    assert not (in_folder / "outbox").exists()


def test_a_flow_that_would_deliver_is_not_previewed(
    typed: Typed, people: pl.DataFrame, in_folder: Path, result_folder: Path
) -> None:
    typed("new", "spring-offers")
    flow = Path("flows/spring_offers.py")
    text = flow.read_text()
    first = "    sent = outbox(audience, settings.outbox, send)\n"
    flow.write_text(text.replace("    messages = ", first + "    messages = "))
    status, _, wrong = typed("preview", "spring-offers")
    assert status == 1
    assert "it delivers before its personalization" in wrong
    flow.write_text(text.replace("messages = personalization(", "messages = elsewhere(") + "\nelsewhere = None\n")
    status, _, wrong = typed("preview", "spring-offers")
    assert status == 1
    assert "does not call `personalization` itself" in wrong
    assert not (in_folder / "outbox").exists()


@pytest.mark.parametrize("kind", ["flow", "yaml"])
def test_check_reads_the_templates_of_the_folder_s_campaigns(
    typed: Typed, people: pl.DataFrame, in_folder: Path, kind: str
) -> None:
    typed("new", "spring-offers", "--kind", kind)
    assert typed("check")[:2] == (0, "Nothing is wrong.\n")
    body = in_folder / "flows" / "templates" / "spring_offers" / "body.html"
    body.write_text(body.read_text() + "{{ profile.first_name|uper }}")
    status, said, _ = typed("check")
    assert status == 1
    assert said.startswith("campaign spring-offers: The templates in ")
    assert "there is no filter 'uper'. Did you mean 'upper'?" in said
    assert len(said.splitlines()) == 1


def test_check_lists_all_that_is_wrong(
    typed: Typed, people: pl.DataFrame, in_folder: Path, prefect_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert typed("check")[:2] == (0, "Nothing is wrong.\n")
    monkeypatch.setenv("CAMPAIGN_PROFILES__PATH", "nobody.csv")
    monkeypatch.setenv("CAMPAIGN_OFFERS__ACCOUNT", "header-account/nobody")
    (in_folder / "wrong").mkdir()
    monkeypatch.setenv("CAMPAIGN_TEMPLATES__FOLDER", "wrong")
    status, said, _ = typed("check")
    assert status == 1
    assert [line.partition(":")[0] for line in said.splitlines()] == [
        "profiles",
        "templates in wrong",
        "account of endpoint offers",
    ]
    monkeypatch.setenv("CAMPAIGN_TIME_ZONE", "Mars")
    monkeypatch.setenv("CAMPAIGN_PARTITIONS__SIZE", "0")
    monkeypatch.setenv("CAMPAIGN_JOURNAL_URL", "sqlite:////tmp/x.db")
    status, said, _ = typed("check")
    assert status == 1
    assert (
        "CAMPAIGN_JOURNAL_URL is not usable: there is no such setting; did you mean CAMPAIGN_JOURNAL__URL" in said
    )
    assert "CAMPAIGN_TIME_ZONE" in said
    assert "CAMPAIGN_PARTITIONS__SIZE" in said


@pytest.mark.parametrize(
    ("kind", "file", "right", "wrong", "said_of_it"),
    [
        (
            "flow",
            "flows/templates/spring_offers/body.html",
            "first_name",
            "first_name | curency",
            "filter 'curency'",
        ),
        (
            "yaml",
            "flows/templates/spring_offers/body.html",
            "first_name",
            "first_name | curency",
            "filter 'curency'",
        ),
        ("yaml", "prefect.yaml", "kind: outbox", "kind: emial", "The parameter 'channel' is not usable"),
        ("yaml", "prefect.yaml", "      channel:", "     channel:", "list of deployments 'prefect.yaml'"),
    ],
)
def test_check_finds_what_is_wrong_in_a_campaign(
    typed: Typed,
    people: pl.DataFrame,
    in_folder: Path,
    kind: str,
    file: str,
    right: str,
    wrong: str,
    said_of_it: str,
) -> None:
    typed("new", "spring-offers", "--kind", kind)
    assert typed("check")[:2] == (0, "Nothing is wrong.\n")
    path = Path(file)
    assert right in path.read_text()
    path.write_text(path.read_text().replace(right, wrong))
    status, said, told_before = typed("check")
    assert status == 1
    assert said_of_it in said
    assert len(said.splitlines()) == 1
    assert told_before == ""


def test_an_unknown_setting_ends_a_run_with_the_nearest_name(
    typed: Typed, people: pl.DataFrame, in_folder: Path, result_folder: Path
) -> None:
    typed("new", "spring-offers")
    (in_folder / ".env").write_text("CAMPAIGN_PROFILE__PATH=people.csv\n")
    status, _, wrong = typed("run", "spring-offers")
    assert status == 1
    assert "did you mean CAMPAIGN_PROFILES__PATH" in wrong
    assert "Traceback" not in wrong


def test_every_setting_is_printed_with_its_default_where_there_is_no_checkout(
    typed: Typed, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMPAIGN_TIME_ZONE", "Mars")
    monkeypatch.setenv("CAMPAIGN_OUTBOX__FOLDER", "elsewhere")
    status, said, _ = typed("settings")
    assert status == 0
    assert "#CAMPAIGN_EMAIL__SERVER__SECURITY=starttls" in said
    assert (ROOT / ".env.example").read_text() == said, "run `campaign settings > .env.example`"


def test_explain_says_what_a_code_means(typed: Typed) -> None:
    status, said, _ = typed("explain", "cmp-112")
    assert status == 0
    assert "A table lacks columns that an activity needs." in said
    assert "{cure}" not in said
    status, _, wrong = typed("explain", "CMP-1112")
    assert status == 1
    assert "No error has the code" in wrong


def test_the_console_script_is_the_same_command() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("campaign"), "explain", "CMP-100"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ConfigurationError" in done.stdout


def write(folder: Path, content: bytes) -> str:
    path = folder / "answer.json"
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize("form", [[], ["--yaml"]])
@pytest.mark.parametrize(
    ("arguments", "options"), [(["--path", "b"], {"path": "b"}), (["--flatten"], {"flatten": True})]
)
def test_what_is_printed_can_be_pasted_back(
    tmp_path: Path, typed: Typed, form: list[str], arguments: list[str], options: dict[str, object]
) -> None:
    status, said, _ = typed("endpoint", "sample", write(tmp_path, SAMPLE.encode()), *arguments, *form)
    assert status == 0
    assert pasted(said) == OutboundMapping(sample=SAMPLE, **options)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (SAMPLE.encode(), "give path as one of 'a', 'b'"),
        (b"[" * 11 + b"]" * 11, "deeper than 10 levels"),
        (b"<html>", "sent no JSON"),
        (b"\xff", "it is not UTF-8 text"),
    ],
)
def test_a_sample_without_a_mapping_ends_with_one_sentence(
    tmp_path: Path, typed: Typed, content: bytes, says: str
) -> None:
    status, said, wrong = typed("endpoint", "sample", write(tmp_path, content))
    assert (status, said) == (1, "")
    assert says in wrong


def test_a_file_that_is_not_there_is_named(tmp_path: Path, typed: Typed) -> None:
    status, _, wrong = typed("endpoint", "sample", tmp_path / "none.json")
    assert status == 1
    assert "none.json' cannot be read: No such file" in wrong


def test_a_deep_sample_is_read_with_a_raised_limit(tmp_path: Path, typed: Typed) -> None:
    sample = write(tmp_path, b'[{"a": 1, "v": ' + b"[" * 9 + b"]" * 9 + b"}]")
    assert typed("endpoint", "sample", sample)[0] == 1
    assert typed("endpoint", "sample", sample, "--max-depth", "11")[0] == 0


def test_the_command_tries_an_endpoint_of_the_settings(
    start_server: Callable[..., Server], typed: Typed, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_server(lambda call: Reply(b'{"rows": [{"id": 1}]}'))
    monkeypatch.setenv("CAMPAIGN_NETWORK__ALLOWED_HOSTS", '["localhost"]')
    monkeypatch.setenv("CAMPAIGN_ENDPOINTS__NEWS__URL", f"{server.address}/{{business_date}}")
    monkeypatch.setenv("CAMPAIGN_ENDPOINTS__NEWS__METHOD", "GET")
    monkeypatch.setenv("CAMPAIGN_ENDPOINTS__NEWS__CA_FILE", str(server.ca_file))
    monkeypatch.setenv("CAMPAIGN_ENDPOINTS__NEWS__OUTBOUND", '{"path": "rows", "columns": {"id": "id"}}')
    status, said, _ = typed("endpoint", "try", "news", "--date", "2026-11-24")
    assert status == 0
    assert "/2026-11-24" in said
    status, _, wrong = typed("endpoint", "try", "newz")
    assert status == 1
    assert "Did you mean 'news'" in wrong
    status, _, wrong = typed("endpoint", "try", "news", "--row", "zip")
    assert status == 1
    assert "write column=value" in wrong
