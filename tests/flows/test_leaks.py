"""Secrets and people in failing runs: nothing that the server or a terminal shows has any of them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterTags,
    LogFilter,
    LogFilterFlowRunId,
)

from deployments.sandbox.mail_server import At, Fault, MailSandbox, running_mail_server
from deployments.sandbox.server import Call, Reply, Server
from tasks.http.accounts import HeaderAccount
from tests.postgresql import new_database
from tests.shown import task_runs_of

ROOT = Path(__file__).parents[2]
CANARY = "c4n4ry"
"""In every secret, and in every person's id and address before the @."""
PHONE = "+15557654321"
BIRTH = "1987-05-06"
HIDDEN = (CANARY, "5557654321", BIRTH, "YzRuNHJ5")
"""The last is the canary in Base64, as a login has it."""

Changed = dict[str, Any]

PEOPLE = pl.DataFrame(
    {
        "profile_id": [f"{CANARY}-{number}" for number in range(12)],
        "email": [f"{CANARY}.{number}@people.example" for number in range(12)],
        "phone": [PHONE] * 12,
        "birth_date": [BIRTH] * 12,
        "zip_code": [f"9512{number}" for number in range(10)] * 1 + ["95130", "95131"],
        "may_contact": [True] * 12,
    }
)
EVERY_SECRET = {
    "CAMPAIGN_NETWORK__PROXY": f"http://user:{CANARY}-proxy@proxy.example:3128",
    "CAMPAIGN_NETWORK__NO_PROXY": '["localhost"]',
    "CAMPAIGN_NETWORK__ALLOWED_HOSTS": '["localhost"]',
    "CAMPAIGN_JOURNAL__KEY": f"{CANARY}-key-of-the-journal-of-32-characters",
    "CAMPAIGN_UNSUBSCRIBE__URL": "https://unsubscribe.example/u",
    "CAMPAIGN_UNSUBSCRIBE__SECRET": f"{CANARY}-unsubscribe-secret",
    "CAMPAIGN_EMAIL__SERVER__USERNAME": f"{CANARY}-user",
    "CAMPAIGN_EMAIL__SERVER__PASSWORD": f"{CANARY}-password",
    "CAMPAIGN_FEEDBACK__MAILBOX__PASSWORD": f"{CANARY}-mailbox",
    "CAMPAIGN_COUPONS__HEADERS": json.dumps({"X-Key": f"{CANARY}-header", "Cookie": f"s={CANARY}"}),
    "CAMPAIGN_COUPONS__ACCOUNT": "header-account/leaks",
    "CAMPAIGN_COUPONS__RETRIES": "1",
    "CAMPAIGN_COUPONS__BACKOFF_SECONDS": "0.05",
}

COUPONS = {"contents": [{"name": "coupons", "endpoint": "coupons", "on": {"zip_code": "zip_code"}}]}


def text(template: str) -> Changed:
    return {"templates": {"subject": "News", "html": "x", "text": template}}


def described(**changed: Any) -> Changed:
    endpoint = {
        "name": "own",
        "url": "https://partner.example/",
        "outbound": {"path": "@", "columns": {"zip": {"key": "zip"}}},
        **changed,
    }
    return {"contents": [{"name": "own", "endpoint": endpoint, "on": {"zip_code": "zip"}}]}


FAILURES: dict[str, tuple[str, Changed, dict[str, str]]] = {
    # name: the flow, what differs in its parameters, what differs in its settings
    "setting: proxy": ("campaign", {}, {"CAMPAIGN_NETWORK__PROXY": f"ftp://user:{CANARY}@proxy.example"}),
    "setting: journal of another kind": ("campaign", {}, {"CAMPAIGN_JOURNAL__URL": f"mysql://u:{CANARY}@db/x"}),
    "setting: journal away": (
        "campaign",
        {},
        {
            "CAMPAIGN_JOURNAL__URL": f"postgresql://u:{CANARY}@127.0.0.1:1/x?sslkey={CANARY}",
            "CAMPAIGN_JOURNAL__PATIENCE_SECONDS": "1",
        },
    ),
    "setting: no URL": ("campaign", {}, {"CAMPAIGN_JOURNAL__URL": f"postgresql//u:{CANARY}@[db/x"}),
    "setting: journal unencrypted": (
        "campaign",
        {},
        {"CAMPAIGN_JOURNAL__URL": f"postgresql://u:{CANARY}@db.example/x"},
    ),
    "setting: no JSON": ("campaign", {}, {"CAMPAIGN_COUPONS__HEADERS": f'{{"X": "{CANARY}'}),
    "setting: header": ("campaign", {}, {"CAMPAIGN_COUPONS__HEADERS": f'{{"X": ["{CANARY}"]}}'}),
    "setting: control character": ("campaign", COUPONS, {"CAMPAIGN_COUPONS__HEADERS": f'{{"X": "{CANARY}\\n"}}'}),
    "setting: unsubscribe": ("campaign", {}, {"CAMPAIGN_UNSUBSCRIBE__SECRET": CANARY}),
    "setting: login": (
        "campaign",
        {},
        {"CAMPAIGN_EMAIL__SERVER__HOST": "mail.example", "CAMPAIGN_EMAIL__SERVER__SECURITY": "none"},
    ),
    "setting: userinfo": (
        "campaign",
        COUPONS,
        {"CAMPAIGN_COUPONS__URL": f"https://user:{CANARY}@localhost/?key={CANARY}"},
    ),
    "setting: not https": ("campaign", COUPONS, {"CAMPAIGN_COUPONS__URL": f"http://localhost/?key={CANARY}"}),
    "setting: no URL of an endpoint": (
        "campaign",
        COUPONS,
        {"CAMPAIGN_COUPONS__URL": f"https://user:{CANARY}@[localhost/?key={CANARY}"},
    ),
    "setting: foreign host": ("campaign", COUPONS, {"CAMPAIGN_COUPONS__URL": f"https://10.0.0.1/?key={CANARY}"}),
    "HTTP: refused": ("campaign", COUPONS, {}),
    "HTTP: nobody there": ("campaign", COUPONS, {"CAMPAIGN_COUPONS__URL": f"https://localhost:1/?key={CANARY}"}),
    "HTTP: not JSON": ("campaign", COUPONS, {"CAMPAIGN_COUPONS__INBOUND__QUERY": '{"mode": "malformed"}'}),
    "HTTP: other columns": ("campaign", COUPONS, {"CAMPAIGN_COUPONS__INBOUND__QUERY": '{"mode": "columns"}'}),
    "SMTP: recipients": ("campaign", {"channel": {"kind": "email"}}, {}),
    "SMTP: login": (
        "campaign",
        {"channel": {"kind": "email"}},
        {"CAMPAIGN_EMAIL__SERVER__PASSWORD": f"{CANARY}-wrong"},
    ),
    "template: division": ("campaign", text("{{ 1 / (profile.email | length - profile.email | length) }}"), {}),
    "template: value": ("campaign", text("{{ profile.email + 1 }}"), {}),
    "template: key": ("campaign", text("{{ {}[profile.email] }}"), {}),
    "template: reject": ("campaign", text("{{ reject(profile.email ~ ' ' ~ profile.phone) }}"), {}),
    "file: date": ("campaign", {}, {"CAMPAIGN_PROFILES__FORMATS": '{"birth_date": "%d.%m.%Y"}'}),
    "file: type": ("campaign", {}, {"CAMPAIGN_PROFILES__TYPES": '{"profile_id": "integer"}'}),
    "file: boolean": ("campaign", {}, {"CAMPAIGN_PROFILES__TYPES": '{"email": "boolean"}'}),
    "file: row": ("campaign", {}, {"CAMPAIGN_PROFILES__PATH": "samples/ragged.csv"}),
    "file: no Parquet": ("campaign", {}, {"CAMPAIGN_PROFILES__PATH": "samples/not.parquet"}),
    "parameter: header": ("campaign", described(headers={"X-Key": CANARY}), {}),
    "parameter: userinfo": ("campaign", described(url=f"https://user:{CANARY}@partner.example/?k={CANARY}"), {}),
    "parameter: person": ("erasure", {"address": f"{CANARY}@people.example", "dry_run": False}, {}),
    "parameter: type": ("erasure", {"address": [f"{CANARY}@people.example"], "dry_run": CANARY}, {}),
    "database: away": ("reading", {"url": "away"}, {}),
    "database: value": ("reading", {"url": "file"}, {}),
    "database: table": ("reading", {"url": "server", "table": "nobody"}, {}),
    "database: login": ("reading", {"url": "login"}, {}),
    "database: refused rows": ("writing", {"url": "server", "rows": "samples/rows.parquet"}, {}),
    "database: no database": ("reading", {"url": "other"}, {}),
}
KEPT_PARAMETERS = {"parameter: header", "parameter: userinfo", "parameter: type"}
"""What an author writes into parameters, Prefect keeps as it was written: SECURITY.md says so."""


def answer(call: Call) -> Reply:
    """A partner that repeats what it was sent."""
    if "malformed" in call.target:
        return Reply(f'{{"codes": "{call.headers}'.encode())
    if "columns" in call.target:
        return Reply(json.dumps({"codeData": {"codes": [call.headers]}}).encode())
    said = {"message": f"{call.target} {call.headers} {call.body.decode()}", "headers": call.headers}
    return Reply(json.dumps({"error": said}).encode(), status=422)


@pytest.fixture
def partner(start_server: Callable[..., Server], prefect_backend: str) -> Server:
    server = start_server(answer)
    account = HeaderAccount(hosts=[server.address.removeprefix("https://")], secret=f"{CANARY}-account")
    account.save("leaks", overwrite=True, _sync=True)
    return server


@pytest.fixture
def mail() -> Iterator[MailSandbox]:
    says = f"550 5.1.1 <{CANARY}.1@people.example> {CANARY} unknown, {PHONE}"
    faults = (Fault(At.RCPT, says),)
    with running_mail_server(MailSandbox(faults=faults, login=(f"{CANARY}-user", f"{CANARY}-password"))) as sandbox:
        yield sandbox


@pytest.fixture
def places(in_folder: Path) -> Iterator[None]:
    """Profiles, broken files, and databases whose addresses are in files."""
    (in_folder / "samples").mkdir()
    PEOPLE.write_csv("samples/people.csv")
    Path("samples/ragged.csv").write_text(
        PEOPLE.write_csv() + f"{CANARY},{CANARY}@x.example,,,,true,{CANARY},1,2\n"
    )
    Path("samples/not.parquet").write_text(CANARY * 10)
    PEOPLE.select(id="profile_id", born=pl.lit(CANARY), email="email").write_parquet("samples/rows.parquet")
    Path("away").write_text(f"postgresql://u:{CANARY}@127.0.0.1:1/x")
    Path("other").write_text(f"mysql://u:{CANARY}@127.0.0.1:1/{CANARY}")
    Path("file").write_text(f"sqlite:///{in_folder}/people.db")
    with sa.create_engine(f"sqlite:///{in_folder}/people.db").begin() as connection:
        connection.execute(sa.text("CREATE TABLE people (profile_id TEXT, born INTEGER)"))
        connection.execute(sa.text(f"INSERT INTO people VALUES ('{CANARY}', 1), ('{CANARY}', '{CANARY}')"))
    with new_database("leaks") as url:
        with sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:")).begin() as connection:
            connection.execute(sa.text("CREATE TABLE people (id TEXT PRIMARY KEY, born TEXT, email TEXT UNIQUE)"))
            connection.execute(
                sa.text(
                    f"INSERT INTO people SELECT 'x' || n, 'x', '{CANARY}.' || n || '@people.example'"
                    " FROM generate_series(1, 5) n"
                )
            )
        Path("server").write_text(url.replace("postgres@", f"postgres:{CANARY}@"))
        Path("login").write_text(url.replace("postgres@", f"nobody:{CANARY}@"))
        yield


def shown_by_the_server(kinds: list[str]) -> dict[str, dict[str, str]]:
    """What the server has of the run of each kind."""
    shown = {}
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(any_=kinds)))
        assert len(found) == len(kinds)
        runs = {kind: run for run in found for kind in run.tags}
        tasks = task_runs_of(*(run.id for run in found))
        for kind, run in runs.items():
            logs = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])), limit=200)
            artifacts = client.read_artifacts(
                artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
            )
            shown[kind] = {
                "states": "\n".join(state.model_dump_json() for state in client.read_flow_run_states(run.id)),
                "run": run.model_dump_json(exclude={"parameters"}),
                "parameters": json.dumps(run.parameters),
                "logs": "\n".join(log.message for log in logs),
                "tasks": "\n".join(task.model_dump_json() for task in tasks if task.flow_run_id == run.id),
                "artifacts": "\n".join(f"{one.key} {one.description} {one.data}" for one in artifacts),
            }
    return shown


def test_a_run_that_fails_shows_neither_a_secret_nor_a_person(
    places: None, partner: Server, mail: MailSandbox, in_folder: Path, tmp_path: Path, prefect_backend: str
) -> None:
    environment = {
        **os.environ,
        **EVERY_SECRET,
        "CAMPAIGN_PROFILES__PATH": "samples/people.csv",
        "CAMPAIGN_COUPONS__URL": f"{partner.address}/codes?key={CANARY}-query",
        "CAMPAIGN_COUPONS__CA_FILE": str(partner.ca_file),
        "CAMPAIGN_EMAIL__SERVER__HOST": "127.0.0.1",
        "CAMPAIGN_EMAIL__SERVER__PORT": str(mail.port),
        "CAMPAIGN_EMAIL__SERVER__SECURITY": "none",
        "PYTHONPATH": str(ROOT),
        "PREFECT_API_URL": prefect_backend,
        "PREFECT_LOCAL_STORAGE_PATH": str(tmp_path / "results"),
    }
    jobs = []
    for kind, (flow, parameters, settings) in FAILURES.items():
        name = re.sub("[^a-z]+", "-", f"leaks-{kind}".lower())
        given = {"name": name, "business_date": "2026-11-24"} if flow == "campaign" else {}
        jobs.append((kind, flow, {**given, **parameters}, settings))
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "flows" / "failing_flow.py")],
        cwd=in_folder,
        env=environment,
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    leaks = {}
    _, *printed = re.split("^=== ", done.stderr, flags=re.MULTILINE)
    by_the_server = shown_by_the_server(list(FAILURES))
    for (kind, *_), words in zip(jobs, printed, strict=True):
        assert len(words.splitlines()) > 3, f"{kind}: nothing was said, the search would find nothing"
        shown = {"stderr": words, **by_the_server[kind]}
        if kind in KEPT_PARAMETERS:
            del shown["parameters"]
        for place, told in shown.items():
            if found := [line for line in told.splitlines() if any(one in line for one in HIDDEN)]:
                leaks[kind, place] = found[:3]
    assert not leaks, "\n".join(f"{where}: {str(lines)[:900]}" for where, lines in leaks.items())
