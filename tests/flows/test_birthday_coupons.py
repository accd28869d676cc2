"""The first campaign as its user sees it: a real Prefect backend, a real TLS socket, a real Maildir."""

import json
import mailbox
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path

import polars as pl
import pytest
from prefect import State
from prefect.artifacts import Artifact

from deployments.sandbox.partner import Behaviour, Partner, coupon_of, has_coupon
from deployments.terminal.running import run_from_terminal
from flows.birthday_coupons import birthday_coupons
from tasks.errors import CardinalityViolated, HostNotAllowed
from tasks.execution.report import CampaignReport
from tests.shown import task_runs_of

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT.parent / "shared" / "samples"
DAY = date(2026, 11, 24)

Use = Callable[[Partner], None]
Start = Callable[..., Partner]


def messages_of(folder: Path, day: date = DAY) -> dict[str, EmailMessage]:
    box = mailbox.Maildir(
        folder / "outbox" / "birthday-coupons" / day.isoformat() / "maildir",
        factory=lambda file: BytesParser(policy=policy.default).parse(file),
        create=False,
    )
    return {str(message["To"]): message for message in box}


def birthday_profiles(profiles: pl.DataFrame, day: date) -> pl.DataFrame:
    """Who should be queried, worked out the plain way."""
    born = pl.col("birth_date")
    return profiles.filter(
        born.dt.month() == day.month,
        born.dt.day() == day.day,
        pl.col("zip_code").is_not_null(),
        pl.col("email").is_not_null(),
        pl.col("may_contact"),
    )


def test_everyone_whose_birthday_it_is_gets_the_coupon_of_their_zip_code(
    sample_profiles: pl.DataFrame, in_folder: Path, result_folder: Path, start_partner: Start, use_partner: Use
) -> None:
    partner = start_partner()
    use_partner(partner)
    report = birthday_coupons(business_date=DAY)

    expected = birthday_profiles(sample_profiles, DAY)
    named = expected.filter(pl.col("first_name").str.strip_chars() != "")
    served = {row["email"]: row for row in named.iter_rows(named=True) if has_coupon(row["zip_code"])}
    messages = messages_of(in_folder)
    assert set(messages) == set(served)
    assert len(served) >= 5
    for address, message in messages.items():
        code = coupon_of(served[address]["zip_code"])["code"]
        assert code in message.get_body(("plain",)).get_content()
        assert code in message.get_body(("html",)).get_content()
        assert served[address]["first_name"] in str(message["Subject"])

    (request,) = partner.requests
    body = json.loads(request.body)
    assert body["params"] == {"count": len(body["data"])}
    assert sorted(row["zipCode"] for row in body["data"]) == sorted(set(expected["zip_code"]))
    assert report.queried == expected.height
    assert report.personalized == report.delivered == len(served)
    assert report.rejected == expected.height - len(served)
    rejects = pl.read_csv(in_folder / "outbox" / "birthday-coupons" / str(DAY) / "rejects.csv")
    assert rejects.height == report.rejected
    assert set(rejects["reason"]) <= {"no value for profile.first_name", "no value for content.coupons.code"}


def names_in(state: State[CampaignReport]) -> set[str]:
    return {run.name for run in task_runs_of(state.state_details.flow_run_id)}


@pytest.mark.parametrize("form", ["maildir", "parquet"])
def test_divided_into_partitions_the_day_is_the_same(
    sample_profiles: pl.DataFrame,
    in_folder: Path,
    result_folder: Path,
    start_partner: Start,
    use_partner: Use,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
) -> None:
    partner = start_partner()
    use_partner(partner)
    whole = birthday_coupons(business_date=DAY)
    monkeypatch.setenv("CAMPAIGN_PARTITIONS__SIZE", "3")
    monkeypatch.setenv("CAMPAIGN_OUTBOX__FOLDER", "another")
    monkeypatch.setenv("CAMPAIGN_OUTBOX__FORMAT", form)
    state = birthday_coupons(business_date=DAY, return_state=True)
    divided = state.result()
    again = birthday_coupons(business_date=DAY)
    assert divided == whole
    names = names_in(state)
    assert {
        "Query",
        "Deduplication",
        "External API coupons",
        "Preparation email",
        "Enrichment coupons",
        "Personalization",
        "Outbox part 1",
        "Outbox part 2",
        "Outbox",
    } <= names
    assert (again.delivered, again.delivered_before) == (0, whole.delivered)
    assert len(partner.requests) == 1
    send = in_folder / "another" / "birthday-coupons" / str(DAY)
    assert (send / "rejects.csv").read_text() == (
        in_folder / "outbox" / "birthday-coupons" / str(DAY) / "rejects.csv"
    ).read_text()
    if form == "parquet":
        kept = pl.read_parquet(sorted((send / "messages").glob("*.parquet")))
        assert sorted(kept["email"]) == sorted(messages_of(in_folder))


def test_a_day_that_is_run_twice_is_one_call_and_one_message_each(
    sample_profiles: pl.DataFrame, in_folder: Path, result_folder: Path, start_partner: Start, use_partner: Use
) -> None:
    partner = start_partner()
    use_partner(partner)
    first = birthday_coupons(business_date=DAY)
    again = birthday_coupons(business_date=DAY)
    assert len(partner.requests) == 1
    assert first.delivered > 0
    assert (again.delivered, again.delivered_before) == (0, first.delivered)
    assert len(messages_of(in_folder)) == first.delivered


def test_a_partner_that_fails_twice_is_a_completed_run_whose_retries_can_be_seen(
    sample_profiles: pl.DataFrame,
    in_folder: Path,
    result_folder: Path,
    start_partner: Start,
    use_partner: Use,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partner = start_partner(Behaviour.FLAKY)
    use_partner(partner)
    monkeypatch.setenv("CAMPAIGN_COUPONS__RETRY_AFTER_LIMIT_SECONDS", "0.1")
    state = birthday_coupons(business_date=DAY, return_state=True)
    assert state.is_completed()
    assert len(partner.requests) == 3
    runs = task_runs_of(state.state_details.flow_run_id)
    assert [run.run_count for run in runs if run.name == "External API coupons"] == [3]


def test_the_run_can_be_read_in_the_prefect_ui(
    sample_profiles: pl.DataFrame,
    in_folder: Path,
    result_folder: Path,
    start_partner: Start,
    use_partner: Use,
    caplog: pytest.LogCaptureFixture,
) -> None:
    use_partner(start_partner())
    state = birthday_coupons(business_date=DAY, return_state=True)
    assert names_in(state) == {
        "Query",
        "Deduplication",
        "External API coupons",
        "Preparation email",
        "Enrichment coupons",
        "Personalization",
        "Outbox",
        "Report",
    }
    report: CampaignReport = state.result()
    assert f"Query: standard: {report.queried}, rejects: 0." in caplog.text
    assert f"{report.delivered} messages delivered" in caplog.text
    assert "profile.first_name has no value for" in caplog.text
    counts, rejects, preview, outcome = (
        str(Artifact.get(f"birthday-coupons-{kind}").data) for kind in ("counts", "rejects", "preview", "outcome")
    )
    assert f"| got the message | {report.delivered} |" in outcome
    assert f"| were left out | {report.rejected} |" in outcome
    assert (in_folder / "outbox" / "birthday-coupons" / str(DAY) / "rejects.csv").as_uri() in outcome
    assert f'"activity": "Query", "transition": "standard", "rows": {report.queried}' in counts
    assert "no value for profile.first_name" in rejects.replace("\\", "")
    assert "p…@profiles.example" in preview
    for address in sample_profiles["email"].drop_nulls():
        assert address not in preview
        assert address not in caplog.text


def test_who_was_born_on_february_29_is_congratulated_in_every_year(
    sample_profiles: pl.DataFrame, in_folder: Path, result_folder: Path, start_partner: Start, use_partner: Use
) -> None:
    use_partner(start_partner())
    february = sample_profiles.filter(pl.col("birth_date").dt.month() == 2, pl.col("birth_date").dt.day() == 29)
    for day, served in ((date(2027, 2, 28), True), (date(2028, 2, 28), False), (date(2028, 2, 29), True)):
        birthday_coupons(business_date=day)
        assert bool(set(messages_of(in_folder, day)) & set(february["email"])) is served


def test_the_same_flow_runs_on_profiles_of_other_shape_through_settings_alone(
    in_folder: Path,
    result_folder: Path,
    start_partner: Start,
    use_partner: Use,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    profiles = SAMPLES / "profiles-dummyjson-users.csv"
    (in_folder / ".env").write_text(
        f"CAMPAIGN_PROFILES__PATH={profiles}\n"
        'CAMPAIGN_PROFILES__COLUMNS={"profile_id": "id"}\n'
        'CAMPAIGN_PROFILES__CONSTANTS={"may_contact": true}\n'
    )
    use_partner(start_partner())
    born = pl.read_csv(profiles, infer_schema=False).with_columns(pl.col("birth_date").str.to_date())
    day = born["birth_date"][0].replace(year=2026)
    served = [
        row["email"]
        for row in born.iter_rows(named=True)
        if (row["birth_date"].month, row["birth_date"].day) == (day.month, day.day) and has_coupon(row["zip_code"])
    ]
    assert served
    report = birthday_coupons(business_date=day)
    assert report.delivered == len(served)
    assert set(messages_of(in_folder, day)) == set(served)


def test_two_coupons_for_one_zip_code_are_an_error_and_no_doubled_mail(
    sample_profiles: pl.DataFrame, in_folder: Path, result_folder: Path, start_partner: Start, use_partner: Use
) -> None:
    use_partner(start_partner(Behaviour.DOUBLE))
    with pytest.raises(CardinalityViolated, match="2 rows for zip_code '"):
        birthday_coupons(business_date=DAY)
    assert not (in_folder / "outbox").exists()


def test_loopback_is_not_called_unless_it_is_allowed(
    sample_profiles: pl.DataFrame,
    in_folder: Path,
    result_folder: Path,
    start_partner: Start,
    use_partner: Use,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partner = start_partner()
    use_partner(partner)
    monkeypatch.delenv("CAMPAIGN_NETWORK__ALLOWED_HOSTS")
    with pytest.raises(HostNotAllowed, match="WKF-560244"):
        birthday_coupons(business_date=DAY)
    assert partner.requests == []


def test_nobody_s_birthday_is_a_completed_run_without_a_call(
    sample_profiles: pl.DataFrame, in_folder: Path, result_folder: Path, start_partner: Start, use_partner: Use
) -> None:
    sample_profiles.clear().write_parquet(in_folder / "samples" / "profiles.parquet")
    partner = start_partner()
    use_partner(partner)
    report = birthday_coupons(business_date=DAY)
    assert (report.queried, report.delivered, partner.requests) == (0, 0, [])


def test_left_out_the_business_date_is_today_in_the_time_zone_of_the_settings(
    sample_profiles: pl.DataFrame,
    in_folder: Path,
    result_folder: Path,
    start_partner: Start,
    use_partner: Use,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_partner(start_partner())
    days = []
    for zone in ("Pacific/Kiritimati", "Etc/GMT+12"):
        monkeypatch.setenv("CAMPAIGN_TIME_ZONE", zone)
        days.append(birthday_coupons().send.business_date)
    # 26 hours lie between the two zones.
    assert (days[0] - days[1]).days in {1, 2}


def write_noise(folder: Path) -> dict[str, str]:
    (folder / "noise.parquet").write_bytes(b"no parquet")
    return {"CAMPAIGN_PROFILES__PATH": "noise.parquet"}


def write_wrong_columns(folder: Path) -> dict[str, str]:
    (folder / "people.csv").write_text("profile_id,mail,birth_date,zip\n1,a@x.example,1990-11-24,95124\n")
    return {"CAMPAIGN_PROFILES__PATH": "people.csv"}


def write_broken_template(folder: Path) -> dict[str, str]:
    templates = folder / "templates"
    templates.mkdir()
    (templates / "subject.txt").write_text("Hi")
    (templates / "body.html").write_text("\n{% if %}")
    (templates / "body.txt").write_text("{{ profile.first_nam }}")
    return {"CAMPAIGN_TEMPLATES__FOLDER": "templates"}


def closed_port(folder: Path) -> dict[str, str]:
    return {"CAMPAIGN_COUPONS__URL": "https://localhost:9/", "CAMPAIGN_NETWORK__ALLOWED_HOSTS": '["localhost"]'}


def settings(**variables: str) -> Callable[[Path], dict[str, str]]:
    return lambda folder: {f"CAMPAIGN_{name}": value for name, value in variables.items()}


@pytest.mark.parametrize(
    ("prepare", "behaviour", "says"),
    [
        (
            settings(PROFILES__PATH="none.parquet"),
            "normal",
            "'none.parquet' does not exist. Set CAMPAIGN_PROFILES__PATH",
        ),
        (write_noise, "normal", "'noise.parquet' cannot be read"),
        (write_wrong_columns, "normal", "Map columns of other names in CAMPAIGN_PROFILES__COLUMNS"),
        (write_broken_template, "normal", "body.html, line 2"),
        (settings(TEMPLATES__FOLDER="nowhere"), "normal", "The template 'nowhere/subject.txt' cannot be read"),
        (closed_port, "normal", "Check the address and that the partner is up."),
        (settings(), "html", "Content-Type is 'text/html', not application/json"),
        (settings(), "nonsense", "WKF-560241"),
        (settings(COUPONS__CA_FILE=""), "elsewhere", "its certificate does not verify"),
        (settings(COUPONS__URL="http://partner.example/"), "normal", "does not begin with https://"),
        (settings(COUPONS__RETRIES="many"), "normal", "The setting CAMPAIGN_COUPONS__RETRIES is not usable"),
        (settings(COUPONS__INBOUND="{"), "normal", "The setting CAMPAIGN_"),
        (settings(TIME_ZONE="Vienna"), "normal", "'Vienna' is not a time zone"),
    ],
)
def test_bad_input_ends_with_one_sentence_and_nothing_in_the_outbox(
    in_folder: Path,
    result_folder: Path,
    start_partner: Start,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    prepare: Callable[[Path], dict[str, str]],
    behaviour: str,
    says: str,
) -> None:
    environment = {"CAMPAIGN_COUPONS__BACKOFF_SECONDS": "0", **prepare(in_folder)}
    if behaviour == "elsewhere":
        partner = start_partner()
        environment |= {"CAMPAIGN_COUPONS__URL": partner.url, "CAMPAIGN_NETWORK__ALLOWED_HOSTS": '["localhost"]'}
        behaviour = "normal"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        run_from_terminal(birthday_coupons, calls="coupons", arguments=["--date", str(DAY), "--sandbox", behaviour])
    printed = capfd.readouterr()
    assert ended.value.code == 1
    ends_in_one_sentence(printed.out, printed.err, says)
    assert not (in_folder / "outbox").exists()


def ends_in_one_sentence(out: str, err: str, says: str) -> None:
    closing = [line for line in err.splitlines() if line and " | " not in line]
    assert says in closing[-1]
    assert "Traceback" not in out + err


@pytest.mark.slow
def test_the_program_itself_ends_so_too(in_folder: Path, prefect_backend: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.birthday_coupons", "--date", str(DAY), "--sandbox", "html"],
        env={**os.environ, "PREFECT_API_URL": prefect_backend, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1
    ends_in_one_sentence(done.stdout, done.stderr, "Content-Type is 'text/html', not applicat")
    assert not (in_folder / "outbox").exists()
