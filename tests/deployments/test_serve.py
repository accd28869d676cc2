"""`make serve` as its user has it: one command, the UI, every campaign, and an end without leftovers."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import date, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
import yaml
from prefect.blocks.notifications import CustomWebhookNotificationBlock as Webhook
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    temporary_settings,
)

from deployments.guard import HEARTBEAT, SERVER, WORKER
from deployments.register import MISSED_HEARTBEATS, main
from deployments.sandbox.profiles import sample_profiles
from deployments.serve import PAGE_AFTER, CannotServe, serve
from deployments.terminal.app import app, told
from flows.settings import CampaignSettings
from tasks.http.accounts import HeaderAccount
from tasks.messages.unsubscribe import unsubscribe_link
from tasks.send import Send
from tasks.settings import UnsubscribeSettings
from tests.browser import choose, field, log_in, new_page, running_browser, submit, write_json
from tests.deployments.serving import Served, serving
from tests.ports import free_port
from tests.shown import send_events_from_here
from tests.waiting import until

ROOT = Path(__file__).parents[2]
DECLARED = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
CAMPAIGNS = [found["name"] for found in DECLARED if "campaign" in found["tags"]]
DELIVERING = {
    **{name: name for name in ("birthday-coupons", "match-day", "latest-offers", "regional-weather")},
    "campaign": "newsletter",
}
"""Campaigns of deployments that write to somebody on every day."""
DAY = "2026-11-24"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`make serve` on a free port, with a Prefect home and an outbox of its own, and few profiles."""
    folder = tmp_path_factory.mktemp("serve")
    sporty = (pl.col("favourite_category") == "sports") & pl.col("may_contact")
    profiles = (
        sample_profiles()
        .head(120)
        .with_columns(
            # One of those whom the form asks for has no address, so that there is a reject to look at.
            email=pl.when(sporty & (sporty.cum_sum() == 1)).then(None).otherwise("email")
        )
    )
    profiles.write_parquet(folder / "profiles.parquet")
    port = free_port()
    environment = {
        **os.environ,
        "PREFECT_HOME": str(folder / "prefect"),
        "CAMPAIGN_PROFILES__PATH": str(folder / "profiles.parquet"),
        "CAMPAIGN_OUTBOX__FOLDER": str(folder / "outbox"),
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
    }
    command = ["make", "-o", ".venv/installed", f"BIN={Path(sys.executable).parent}", "serve", f"PORT={port}"]
    with serving(command, ROOT, folder, environment, port) as running:
        yield running


def test_it_says_where_the_ui_is(served: Served) -> None:
    assert f"Open {served.address}/deployments" in served.output
    page = httpx.get(f"{served.address}/deployments", headers={"Accept": "text/html"}, timeout=600)
    assert "<title>Prefect" in page.text


def test_nobody_without_the_login_is_answered(served: Served) -> None:
    file = served.folder / "prefect" / "login"
    assert (file.stat().st_mode & 0o777, served.output.count(served.login)) == (0o600, 1)
    read, change = f"{served.address}/api/admin/settings", f"{served.address}/api/deployments/filter"
    name, _, password = served.login.partition(":")
    assert httpx.get(f"{served.address}/api/health", timeout=600).status_code == 200
    for auth in (None, (name, "guessed"), (name, ""), ("", password)):
        assert httpx.get(read, auth=auth, timeout=600).status_code == 401, auth
        assert httpx.post(change, json={}, auth=auth, timeout=600).status_code in {401, 403}, auth
    # With the login alone, as a browser would send it for a forged form.
    assert httpx.post(change, json={}, auth=(name, password), timeout=600).status_code == 403
    assert served.post("deployments/filter")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One for all pages: its start takes seconds."""
    with running_browser() as browser:
        yield browser


@pytest.mark.parametrize("ui", ["", "v2/"])
def test_a_browser_is_asked_for_the_login_and_then_shows_the_deployments(
    served: Served, browser: Any, ui: str
) -> None:
    with new_page(browser) as page:
        page.goto(f"{served.address}/{ui}login")
        page.locator("input[type=password]").fill("admin:guessed")
        page.get_by_role("button", name="Login").click()
        page.get_by_text(re.compile("Authentication failed|Invalid", re.IGNORECASE)).first.wait_for()
        log_in(page, served.login)
        page.goto(f"{served.address}/{ui}deployments")
        page.get_by_text("birthday-coupons").first.wait_for()


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost"])
def test_a_page_of_another_origin_gets_nothing(served: Served, origin: str) -> None:
    for method in ("OPTIONS", "GET", "POST"):
        answer = httpx.request(
            method,
            f"{served.address}/api/deployments/count",
            headers={"Origin": origin, "Access-Control-Request-Method": "POST"},
            timeout=600,
        )
        assert not answer.is_success
        assert "access-control-allow-origin" not in answer.headers


@pytest.fixture
def of_its_client(served: Served, prefect_backend: str) -> Iterator[None]:
    """Prefect's settings of another client of this server, in this process; then the tests' own again."""
    with temporary_settings(
        {
            PREFECT_API_URL: served.client["PREFECT_API_URL"],
            PREFECT_API_AUTH_STRING: served.login,
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY: int(*HEARTBEAT.values()),
        }
    ):
        send_events_from_here()
        yield
    send_events_from_here()


@pytest.mark.usefixtures("of_its_client")
def test_the_key_of_accounts_is_not_in_the_database_that_holds_them(served: Served) -> None:
    HeaderAccount.register_type_and_schema(_sync=True)
    HeaderAccount(secret="c4n4ry-of-the-account", hosts=["a.example"]).save("partner", _sync=True)
    account = HeaderAccount.load("partner", _sync=True)
    assert account.secret.get_secret_value() == "c4n4ry-of-the-account"
    home = served.folder / "prefect"
    key = home / "encryption.key"
    assert key.stat().st_mode & 0o777 == 0o600
    for file in home.glob("prefect.db*"):
        assert file.stat().st_mode & 0o077 == 0
        for secret in (b"c4n4ry-of-the-account", key.read_bytes(), b"fernet_key"):
            assert secret not in file.read_bytes(), file


def test_every_deployment_is_there_with_its_schedule_off_and_one_run_at_a_time(served: Served) -> None:
    deployed = served.deployments()
    assert set(deployed) == {declared["name"] for declared in DECLARED}
    for declared in DECLARED:
        found = deployed[declared["name"]]
        assert sorted(found["tags"]) == sorted(declared["tags"])
        assert found["work_pool_name"] == "campaigns"
        assert found["global_concurrency_limit"]["limit"] == 1
        assert found["concurrency_options"]["collision_strategy"] == "ENQUEUE"
        assert [(one["schedule"]["cron"], one["active"]) for one in found["schedules"]] == [
            (one["cron"], False) for one in declared["schedules"]
        ]


def test_task_runs_are_recorded_together_and_waiting_runs_ask_often_here_and_in_the_compose_file(
    served: Served,
) -> None:
    settings = served.call("GET", "admin/settings").json()
    recorder = settings["server"]["services"]["task_run_recorder"]
    assert (recorder["batch_size"], recorder["flush_interval"]) == (100, 1)
    assert settings["server"]["deployments"]["concurrency_slot_wait_seconds"] == 5
    compose = yaml.safe_load((ROOT / "deployments" / "compose.yaml").read_text())
    assert SERVER.items() <= compose["x-server"].items()


def test_the_worker_asks_for_runs_every_few_seconds_here_and_in_the_compose_file(served: Served) -> None:
    (worker,) = [line.split()[0] for line in processes_of(served.folder) if "worker start" in line]
    environment = Path(f"/proc/{worker}/environ").read_text().split("\0")
    assert {f"{name}={value}" for name, value in WORKER.items()} <= set(environment)
    compose = yaml.safe_load((ROOT / "deployments" / "compose.yaml").read_text())
    assert WORKER.items() <= compose["services"]["worker"]["environment"].items()


def test_the_unsubscribe_page_is_there_and_works(served: Served) -> None:
    port = int(served.address.rpartition(":")[2]) + PAGE_AFTER
    assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=600).text == "works"
    secret = served.folder / "prefect" / "unsubscribe.secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    settings = UnsubscribeSettings(url=f"http://127.0.0.1:{port}/unsubscribe", secret=secret.read_text())
    send = Send(campaign="newsletter", label="Newsletter", business_date=date.fromisoformat(DAY))
    link = unsubscribe_link(settings, send, "nobody")
    assert httpx.post(link, data={"List-Unsubscribe": "One-Click"}, timeout=600).status_code == 200


def test_the_kinds_of_external_account_can_be_chosen_in_the_ui(served: Served) -> None:
    kinds = {kind["slug"] for kind in served.post("block_types/filter")}
    assert {"basic-account", "header-account", "oauth2-account"} <= kinds


def test_a_run_by_prefect_s_command_completes_and_delivers(served: Served) -> None:
    by_command = [sys.executable, "-m", "prefect", "deployment", "run", "Match day/match-day", "--watch"]
    subprocess.run([*by_command, "--param", f"business_date={DAY}"], env=served.client, check=True, timeout=600)
    folder = served.folder / "outbox" / "match-day" / DAY
    assert (folder / "preview.html").exists()
    assert len(list((folder / "maildir" / "new").iterdir())) > 50


def test_a_wrong_entry_is_refused_by_the_server_before_there_is_a_run(served: Served) -> None:
    identifier = served.deployments()["campaign"]["id"]
    wrong = {"parameters": {"audience": {"were": "TRUE"}}}
    refused = served.call("POST", f"deployments/{identifier}/create_flow_run", wrong)
    assert refused.status_code == 409
    assert "were" in refused.text


def test_an_event_starts_a_campaign_for_the_day_that_it_names(served: Served) -> None:
    event = {
        "id": "5f3c1fd2-7c0e-4a26-9df1-0f2e56a1d101",
        "occurred": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "event": "campaign.requested",
        "resource": {"prefect.resource.id": "campaign.regional-weather"},
        "payload": {"business_date": "2027-01-15"},
    }
    answer = served.call("POST", "events", [event])
    assert answer.is_success, answer.text
    folder = served.folder / "outbox" / "regional-weather" / "2027-01-15"
    until(folder.exists, "the run that the event asked for")


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A team's webhook: its address, and what it was told."""
    told: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", told
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.usefixtures("of_its_client")
def test_a_failed_campaign_is_told_to_the_team(
    served: Served, webhook: tuple[str, list[dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, messages = webhook
    Webhook.register_type_and_schema(_sync=True)
    said = {"title": "{{subject}}", "text": "{{body}}"}
    team = Webhook(name="team", url=address, json_data=said, allow_private_urls=True)
    team.save("team", overwrite=True, _sync=True)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["register", "--notify", "custom-webhook/team"])
    main()
    served.run("campaign", audience={"where": "no_such_column"}, channel={"kind": "preview"})
    # Where the machine is busy, the team is told of late runs too.
    titled = "Campaign failed: Campaign"
    told_so = until(lambda: [one for one in messages if one["title"] == titled], "the notification")
    assert all("no_such_column" in one["text"] for one in told_so)
    # Registered a second time, nothing is there twice.
    names = [automation["name"] for automation in served.post("automations/filter")]
    assert len(names) == len(set(names)) == len(CAMPAIGNS) + 6


def completed_run(served: Served, name: str) -> str | None:
    runs = served.post("flow_runs/filter", flow_runs={"name": {"any_": [name]}})
    return next((run["id"] for run in runs if run["state_type"] == "COMPLETED"), None)


@pytest.fixture(scope="module")
def logged_in(served: Served, browser: Any) -> Iterator[Any]:
    """A page of headless Chromium, logged in as its user does it: once for all forms."""
    with new_page(browser) as page:
        page.goto(f"{served.address}/login")
        log_in(page, served.login)
        yield page


@pytest.fixture
def page(logged_in: Any) -> Iterator[Any]:
    """The page for one test. Prefect's UI, which asks and draws all the time, does not stay in it."""
    yield logged_in
    logged_in.goto("about:blank")


def runs_of(served: Served, deployment: str) -> dict[str, dict[str, Any]]:
    """The deployment's runs, by their identifiers."""
    runs = served.post("flow_runs/filter", deployments={"id": {"any_": [deployment]}})
    return {run["id"]: run for run in runs}


@pytest.mark.parametrize("name", [declared["name"] for declared in DECLARED])
def test_every_deployment_is_run_from_its_form_in_a_browser_and_campaigns_deliver(
    served: Served, page: Any, name: str
) -> None:
    deployment = served.deployments()[name]["id"]
    before = runs_of(served, deployment)
    page.goto(f"{served.address}/deployments/deployment/{deployment}/run")
    page.get_by_text("Parameters", exact=True).wait_for()
    submit(page)

    def finished() -> dict[str, Any] | None:
        runs = [run for identifier, run in runs_of(served, deployment).items() if identifier not in before]
        return next((run for run in runs if run["state_type"] in {"COMPLETED", "FAILED", "CRASHED"}), None)

    run = until(finished, name)
    assert run["state_type"] == "COMPLETED", served.output
    if name in DELIVERING:
        zone = CampaignSettings.load().zone
        day = datetime.fromisoformat(run["expected_start_time"]).astimezone(zone).date()
        assert (served.folder / "outbox" / DELIVERING[name] / str(day) / "preview.html").exists()


def test_the_form_of_a_campaign_is_filled_and_run_in_a_browser(served: Served, page: Any) -> None:
    page.goto(f"{served.address}/deployments")
    for name in sorted(declared["name"] for declared in DECLARED)[:5]:  # as many as a page shows, at least
        page.get_by_role("link", name=name, exact=True).first.wait_for()

    page.goto(f"{served.address}/deployments/deployment/{served.deployments()['campaign']['id']}/run")
    page.get_by_text("Parameters", exact=True).wait_for()
    name = field(page, "name (Optional)").locator("textarea")
    name.fill("Wrong name!")
    page.get_by_role("button", name="Submit").click()
    page.get_by_text("does not match").first.wait_for()
    assert "/run" in page.url, "the form is still there"
    name.fill("from-the-browser")
    field(page, "label (Optional)").locator("textarea").fill("From the browser")
    where = "favourite_category = 'sports' AND may_contact"
    field(page, "Filter (Optional)").locator("textarea").fill(where)
    page.get_by_text("does not match").first.wait_for(state="hidden")
    page.get_by_role("button", name="Add item").first.click()
    field(page, "Name").locator("textarea").fill("offers")
    write_json(page, field(page, "On"), '{"favourite_category": "category"}')
    choose(page, field(page, "Cardinality (Optional)"), "many")
    choose(page, field(page, "Endpoint"), "offers")
    field(page, "Subject (Optional)").locator("textarea").fill("{{ offers | length }} offers")
    field(page, "Text (Optional)").locator("textarea").fill(
        "For you:{% for offer in offers %} {{ offer.title }}.{% endfor %}"
    )
    submit(page)
    run = until(lambda: completed_run(served, "from-the-browser"), "the run of the form")
    page.goto(f"{served.address}/runs/flow-run/{run}")
    page.get_by_text("Completed", exact=True).first.wait_for()
    for kind, shown in (
        ("outcome", "were left out"),
        ("counts", "Personalization"),
        ("rejects", "no address"),
        ("preview", "8 offers"),
    ):
        page.goto(f"{served.address}/artifacts/key/from-the-browser-{kind}")
        page.locator("a[href*='/artifacts/artifact/']").first.click()
        page.get_by_text(shown).first.wait_for()
    (folder,) = (served.folder / "outbox" / "from-the-browser").iterdir()
    assert len(list((folder / "maildir" / "new").iterdir())) > 5


def test_a_second_one_on_the_same_port_says_so_in_one_sentence(served: Served) -> None:
    port = served.address.rpartition(":")[2]
    done = subprocess.run(
        [sys.executable, "-m", "deployments.serve", "--port", port],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1
    (holder,) = re.findall(r"is taken by process (\d+) \(\S+ -m prefect\): stop that, or choose", done.stderr)
    assert str(served.folder).encode() in Path(f"/proc/{holder}/environ").read_bytes()
    assert (len(done.stderr.splitlines()), str(port) in done.stderr) == (1, True)


def test_a_second_one_on_the_same_home_and_a_run_at_a_terminal_find_the_first(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, port = served.folder / "prefect", served.address.rpartition(":")[2]
    monkeypatch.setenv("PREFECT_HOME", str(home))
    with pytest.raises(CannotServe, match=rf"already, on port {port}\."):
        serve(free_port())
    with temporary_settings({PREFECT_HOME: home}, restore_defaults={PREFECT_API_URL}):
        for command, says in (
            ("status", f"on port {port}, of `make serve`"),
            ("stop", "stop it there, with Ctrl-C"),
        ):
            with pytest.raises(SystemExit):
                told(app, ["server", command])
            assert says in "".join(capsys.readouterr()), command


def process_of_run(run: str) -> int | None:
    """The process that executes a run."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"PREFECT__FLOW_RUN_ID={run}".encode() in (entry / "environ").read_bytes():
                return int(entry.name)
        except OSError:
            continue
    return None


def frozen_while_running(served: Served) -> tuple[str, int]:
    """A run, and its process, which stands still in the middle of it."""
    run = served.run("campaign", name="frozen", business_date=DAY)
    process = until(lambda: process_of_run(run), "the run's process")
    # It goes on in steps, until it is in its flow.
    while True:
        os.kill(process, signal.SIGSTOP)
        state = served.state_of(run)["type"]
        if state == "RUNNING":
            return run, process
        assert state in {"SCHEDULED", "PENDING"}, state
        os.kill(process, signal.SIGCONT)
        time.sleep(0.02)


def test_a_run_whose_process_is_killed_is_crashed_and_the_next_one_runs(served: Served) -> None:
    run, process = frozen_while_running(served)
    waits = served.run("campaign", name="the-next", business_date=DAY)
    os.kill(process, signal.SIGKILL)
    assert until(lambda: (found := served.state_of(run))["type"] == "CRASHED" and found, "the crash")
    assert until(lambda: served.state_of(waits)["type"] == "COMPLETED", "the run after it")


def test_a_run_that_died_with_its_worker_is_crashed_and_the_worker_is_started_again(served: Served) -> None:
    (automation,) = [
        one
        for one in served.post("automations/filter")
        if one["name"] == "A run that has died is crashed (campaign)"
    ]
    assert automation["trigger"]["within"] == MISSED_HEARTBEATS * 30
    changed = {name: automation[name] for name in ("name", "description", "enabled", "trigger", "actions")}
    changed["trigger"]["within"] = 10  # the shortest that Prefect takes
    answer = served.call("PUT", f"automations/{automation['id']}", changed)
    assert answer.is_success, answer.text
    run, process = frozen_while_running(served)
    while not is_heard(served, run):  # it goes on in steps, until its first sign of life has left it
        os.kill(process, signal.SIGCONT)
        time.sleep(0.05)
        os.kill(process, signal.SIGSTOP)
        assert served.state_of(run)["type"] == "RUNNING"
    (worker,) = [int(line.split()[0]) for line in processes_of(served.folder) if "worker start" in line]
    os.kill(worker, signal.SIGKILL)
    os.kill(process, signal.SIGKILL)
    state = until(lambda: (found := served.state_of(run))["type"] == "CRASHED" and found, "the crash")
    assert "process has died" in state["message"]
    until(lambda: "it is started again" in served.output, "the worker's new start")
    after = served.run("campaign", name="afterwards", business_date=DAY)
    assert until(lambda: served.state_of(after)["type"] == "COMPLETED", "the run after it")


def is_heard(served: Served, run: str) -> bool:
    """Whether a run that stands still has given a sign of life; this server notes events every second."""
    wanted = {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": {"id": [f"prefect.flow-run.{run}"]}}
    for _ in range(4):
        if served.post("events/filter", filter=wanted)["total"]:
            return True
        time.sleep(1)
    return False


def processes_of(folder: Path) -> list[str]:
    """Numbers and command lines of processes whose Prefect home is in the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(folder).encode() in (entry / "environ").read_bytes():
                command = (entry / "cmdline").read_text().replace("\0", " ")
                found.append(f"{entry.name} {command}")
        except OSError:
            continue
    return found


@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGKILL])
def test_one_whose_terminal_is_closed_or_that_is_killed_leaves_nothing(tmp_path: Path, how: signal.Signals) -> None:
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "deployments.serve", "--port", str(free_port())]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        while "Starting the Prefect server" not in process.stdout.readline():
            assert process.poll() is None
        until(lambda: any("server start" in line for line in processes_of(tmp_path)), "the server")
        process.send_signal(how)
        process.communicate(timeout=600)
    until(lambda: processes_of(tmp_path) == [], "the end")


def test_ctrl_c_stops_everything_and_leaves_nothing(served: Served) -> None:
    assert processes_of(served.folder)
    os.killpg(served.process.pid, signal.SIGINT)
    served.process.wait(90)
    assert served.output.rstrip().splitlines()[-1].startswith(("Stopped.", "make")), served.output
    assert "Stopped." in served.output
    assert "Traceback" not in served.output.partition("Stopped.")[2]
    assert processes_of(served.folder) == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(served.address)
