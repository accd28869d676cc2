import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
    TaskRunFilter,
    TaskRunFilterName,
)
from prefect.client.schemas.objects import TaskRun
from prefect.concurrency.sync import concurrency
from pydantic import SecretStr

from deployments.sandbox.partner import Behaviour, Partner, coupon_of
from deployments.sandbox.server import Call, Reply, Server
from tasks.data_management.external_api import Content, external_api
from tasks.endpoint.answer.mapping import OutboundMapping
from tasks.endpoint.endpoint import Endpoint
from tasks.errors import (
    AccountDisabled,
    AccountMissing,
    AccountNotForHost,
    AccountOfWrongKind,
    CampaignError,
    ConfigurationError,
    ContentTypeRefused,
    CredentialsRefused,
    HostNotAllowed,
    LimitNotFree,
    ProfileLevelCall,
    ResponseMalformed,
    StatusRefused,
)
from tasks.http.accounts import BasicAccount, HeaderAccount, OAuth2Account
from tasks.runs.results import ArrowSerializer
from tests.waiting import until

ROOT = Path(__file__).parents[3]
Respond = Callable[[Call], Reply]
StartServer = Callable[[Respond], Server]
CODES = OutboundMapping(path="codes", columns={"code": "code"})
ANSWER = Reply(b'{"codes": [{"code": "A1"}]}')


@flow
def fetch(rows: pl.DataFrame | None, partner: Endpoint) -> pl.DataFrame:
    return external_api(rows, partner).standard


@flow
def content(rows: pl.DataFrame | None, partner: Endpoint) -> Content:
    return external_api(rows, partner)


@pytest.fixture(autouse=True)
def _loopback_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGN_NETWORK__ALLOWED_HOSTS", '["localhost"]')


def ended(runs: list[TaskRun]) -> list[TaskRun]:
    return [run for run in runs if run.state is not None and run.state.is_final()]


def task_run_named(name: str) -> TaskRun:
    """The newest task run of that name, which one test alone uses, as the Prefect UI shows it."""
    named = TaskRunFilter(name=TaskRunFilterName(any_=[name]))
    with get_client(sync_client=True) as client:
        for _ in range(100):
            runs = ended(client.read_task_runs(task_run_filter=named))
            if runs:
                return max(runs, key=lambda run: run.created)
            time.sleep(0.1)
    raise AssertionError(f"no task run {name}")


def test_the_task_runs_alone_and_gives_a_table(
    start_partner: Callable[..., Partner],
    endpoint_of: Callable[..., Endpoint],
    zip_codes: pl.DataFrame,
    result_folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    partner = start_partner()
    table = external_api(zip_codes, endpoint_of(partner)).standard
    wanted = [{"code": coupon_of(zip_code)["code"], "zip_code": zip_code} for zip_code in zip_codes["zip_code"]]
    assert_frame_equal(table, pl.DataFrame(wanted))
    assert f"Invoking API URL '{partner.url}'." in caplog.text
    assert "2 rows sent, 2 rows of 'coupons' received, 0 rejected." in caplog.text


def test_equal_calls_are_one_request_until_the_expiry_of_the_endpoint(
    start_partner: Callable[..., Partner],
    endpoint_of: Callable[..., Endpoint],
    zip_codes: pl.DataFrame,
    result_folder: Path,
) -> None:
    partner = start_partner()
    lasting, short = endpoint_of(partner), endpoint_of(partner, name="short", cache_expiry=timedelta(seconds=1))
    assert_frame_equal(fetch(zip_codes, lasting), fetch(zip_codes.with_columns(city=pl.lit("?")), lasting))
    assert len(partner.requests) == 1
    assert fetch(zip_codes.head(1), lasting).height == 1
    assert len(partner.requests) == 2
    fetch(zip_codes, short)
    time.sleep(1.1)
    fetch(zip_codes, short)
    assert len(partner.requests) == 4
    stored = [path.read_bytes()[:6] for path in result_folder.glob("external-api-*") if path.suffix != ".json"]
    assert stored == [b"ARROW1"] * 3


def test_two_failures_and_an_answer_are_a_completed_run_whose_retries_can_be_seen(
    start_partner: Callable[..., Partner],
    endpoint_of: Callable[..., Endpoint],
    zip_codes: pl.DataFrame,
    result_folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    partner = start_partner(Behaviour.FLAKY)
    endpoint = endpoint_of(partner, name="flaky", retry_after_limit_seconds=0.2)
    assert fetch(zip_codes, endpoint).height == 2
    assert len(partner.requests) == 3
    run = task_run_named("External API flaky")
    assert (run.state.is_completed(), run.run_count) == (True, 3)
    assert "attempt 2" in caplog.text
    assert "attempt 3" in caplog.text


def test_retry_after_is_obeyed(
    start_partner: Callable[..., Partner],
    endpoint_of: Callable[..., Endpoint],
    zip_codes: pl.DataFrame,
    result_folder: Path,
) -> None:
    partner = start_partner(Behaviour.BUSY)
    begun = time.monotonic()
    assert fetch(zip_codes, endpoint_of(partner, backoff_seconds=0)).height == 2
    assert time.monotonic() - begun >= 1.0
    assert len(partner.requests) == 2


@pytest.mark.parametrize(
    ("behaviour", "error", "requests"),
    [
        (Behaviour.DOWN, StatusRefused, 3),
        (Behaviour.FORBIDDEN, StatusRefused, 1),
        (Behaviour.HTML, ContentTypeRefused, 1),
        (Behaviour.NONSENSE, ResponseMalformed, 1),
    ],
)
def test_only_failures_that_pass_are_tried_again(
    start_partner: Callable[..., Partner],
    endpoint_of: Callable[..., Endpoint],
    zip_codes: pl.DataFrame,
    result_folder: Path,
    behaviour: Behaviour,
    error: type[CampaignError],
    requests: int,
) -> None:
    partner = start_partner(behaviour)
    with pytest.raises(error):
        fetch(zip_codes, endpoint_of(partner, retries=2, retry_after_limit_seconds=0.05))
    assert len(partner.requests) == requests


def test_a_failure_is_not_cached(
    start_partner: Callable[..., Partner],
    endpoint_of: Callable[..., Endpoint],
    zip_codes: pl.DataFrame,
    result_folder: Path,
) -> None:
    partner = start_partner(Behaviour.FORBIDDEN)
    with pytest.raises(StatusRefused):
        fetch(zip_codes, endpoint_of(partner))
    partner.behaviour = Behaviour.NORMAL
    assert fetch(zip_codes, endpoint_of(partner)).height == 2


def test_an_allow_list_that_does_not_name_the_host_refuses_it(
    start_partner: Callable[..., Partner],
    endpoint_of: Callable[..., Endpoint],
    zip_codes: pl.DataFrame,
    result_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CAMPAIGN_NETWORK__ALLOWED_HOSTS")
    partner = start_partner()
    with pytest.raises(HostNotAllowed):
        fetch(zip_codes, endpoint_of(partner))
    assert partner.requests == []


def test_no_rows_need_no_call(
    start_partner: Callable[..., Partner],
    endpoint_of: Callable[..., Endpoint],
    zip_codes: pl.DataFrame,
    result_folder: Path,
) -> None:
    partner = start_partner()
    table = fetch(zip_codes.clear(), endpoint_of(partner))
    assert table.schema == {"code": pl.String(), "zip_code": pl.String()}
    assert table.is_empty()
    assert partner.requests == []


def test_calls_can_be_submitted_side_by_side(
    start_partner: Callable[..., Partner],
    endpoint_of: Callable[..., Endpoint],
    zip_codes: pl.DataFrame,
    result_folder: Path,
) -> None:
    partner = start_partner(Behaviour.FLAKY)

    @flow
    def fork() -> list[int]:
        calls = [
            external_api.submit(zip_codes.slice(start, 1), endpoint_of(partner, retry_after_limit_seconds=0.1))
            for start in range(2)
        ]
        return [call.result().standard.height for call in calls]

    assert fork() == [1, 1]
    assert len(partner.requests) == 4


def test_a_secret_header_reaches_the_partner_and_nothing_else(
    start_partner: Callable[..., Partner],
    endpoint_of: Callable[..., Endpoint],
    zip_codes: pl.DataFrame,
    result_folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    canary = "canary-7f3a9c"
    partner = start_partner(Behaviour.BUSY)
    endpoint = endpoint_of(
        partner, name="canary", headers={"X-Key": SecretStr(canary)}, url=f"{partner.url}?t={canary}"
    )
    caplog.set_level("DEBUG")
    external_api(zip_codes, endpoint)
    partner.behaviour = Behaviour.FORBIDDEN
    with pytest.raises(StatusRefused) as failed:
        external_api(zip_codes.head(1), endpoint)
    assert partner.requests[0].headers["x-key"] == canary
    run = task_run_named("External API canary")
    stored = b"".join(path.read_bytes() + path.name.encode() for path in result_folder.rglob("*") if path.is_file())
    for shown in (caplog.text, repr(failed.value), repr(endpoint.headers), run.model_dump_json(), repr(stored)):
        assert canary not in shown
    assert datetime.now(UTC) > run.created


def endpoint_at(server: Server, **options: object) -> Endpoint:
    return Endpoint(
        **{
            "name": "codes",
            "url": f"{server.address}/codes",
            "ca_file": server.ca_file,
            "outbound": CODES,
            "backoff_seconds": 0,
            **options,
        }
    )


def in_turn(*replies: Reply) -> Respond:
    """The replies one after the other, the last again and again."""
    left = list(replies)
    return lambda call: left.pop(0) if len(left) > 1 else left[0]


def failing(status: int, **headers: str) -> Reply:
    return Reply(b"{}", status, {name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("failure", "mended"),
    [
        (failing(400), False),
        (failing(401), False),
        (failing(403), False),
        (failing(404), False),
        (failing(408), True),
        (failing(409), False),
        (failing(422), False),
        (failing(425), True),
        (failing(429), True),
        (failing(500), True),
        (failing(502), True),
        (failing(503, Retry_After="0"), True),
        (failing(503, Retry_After="Tue, 24 Nov 2026 00:00:00 GMT"), True),
        (failing(301, Location="/"), False),
        (Reply(b'{"codes": [', sends_all=False), True),
        (Reply(b"{}", wait_seconds=5), True),
        (Reply(b'{"codes": ['), False),
        (Reply(b"<html>", headers={"Content-Type": "text/html"}), False),
        (Reply(b'{"other": []}'), False),
    ],
)
def test_what_a_retry_can_mend_is_tried_again_and_nothing_else(
    start_server: StartServer, result_folder: Path, failure: Reply, mended: bool
) -> None:
    server = start_server(in_turn(failure, ANSWER))
    endpoint = endpoint_at(server, timeout_seconds=0.5)
    if mended:
        assert fetch(None, endpoint)["code"].to_list() == ["A1"]
        assert len(server.calls) == 2
    else:
        with pytest.raises(CampaignError):
            fetch(None, endpoint)
        assert len(server.calls) == 1


def test_every_attempt_of_a_call_carries_the_same_idempotency_key_and_another_call_another(
    start_server: StartServer, result_folder: Path
) -> None:
    server = start_server(in_turn(failing(503), failing(503), ANSWER))
    fetch(None, endpoint_at(server))
    fetch(None, endpoint_at(server, name="other"))
    keys = [call.headers["idempotency-key"] for call in server.calls]
    assert len(keys) == 4
    assert len(set(keys[:3])) == 1
    assert keys[3] != keys[0]
    fetch(None, endpoint_at(server, name="without", idempotency_key=False))
    fetch(None, endpoint_at(server, name="get", method="GET"))
    fetch(None, endpoint_at(server, name="own", headers={"idempotency-key": SecretStr("mine")}))
    assert [call.headers.get("idempotency-key") for call in server.calls[4:]] == [None, None, "mine"]


def test_a_failure_can_leave_through_its_own_transition(
    start_server: StartServer, result_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server(lambda call: failing(503))
    own = {"name": "branch", "on_failure": "transition", "retries": 1, "retry_after_limit_seconds": 0}
    outbound = content(None, endpoint_at(server, **own))
    assert outbound.standard.is_empty()
    assert outbound.standard.schema == {"code": pl.String()}
    (row,) = outbound.failure.to_dicts()
    assert (row["endpoint"], row["code"], row["error"], row["attempts"]) == (
        "branch",
        "WKF-560246",
        "StatusRefused",
        2,
    )
    assert row["url"] == f"{server.address}/codes"
    assert "HTTP - 503" in row["reason"]
    assert row["failed_at"] <= datetime.now(UTC)
    assert "the run goes on" in caplog.text
    assert task_run_named("External API branch").state.is_failed(), "the failure stays to be seen"


def test_a_failing_bug_never_leaves_through_the_transition(result_folder: Path) -> None:
    with pytest.raises(ConfigurationError):
        content(None, Endpoint(name="codes", on_failure="transition"))


def test_a_failed_call_may_be_served_by_the_last_good_answer_and_says_so_loudly(
    start_server: StartServer, result_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server(in_turn(ANSWER, failing(503)))
    endpoint = endpoint_at(
        server, stale_if_error=timedelta(hours=1), cache_expiry=timedelta(milliseconds=1), retries=0
    )
    fresh = content(None, endpoint)
    begun = fresh.standard["fetched_at"].item()
    assert datetime.now(UTC) - begun < timedelta(minutes=1)
    time.sleep(0.01)
    stale = content(None, endpoint)
    assert_frame_equal(stale.standard, fresh.standard)
    assert stale.failure.height == 1
    assert stale.findings.select("kind", "action").rows() == [("received", "info"), ("stale", "warn")]
    assert "STALE CONTENT: the call of 'codes' failed; the last good answer is used, 0:00:0" in caplog.text
    content(None, endpoint)
    assert len(server.calls) == 3, "a stale answer is no fresh one: the partner is asked again"
    with pytest.raises(StatusRefused):
        content(None, endpoint.model_copy(update={"stale_if_error": timedelta(milliseconds=1)}))
    assert content(
        None, endpoint.model_copy(update={"url": "http://x.example/", "on_failure": "transition"})
    ).failure["code"].to_list() == ["WKF-560238"], "a wrong setting is not the partner's failure"


@pytest.mark.slow
def test_two_processes_that_need_one_answer_at_one_moment_make_one_call(
    start_server: StartServer, result_folder: Path, prefect_backend: str, tmp_path: Path
) -> None:
    server = start_server(lambda call: Reply(ANSWER.body, wait_seconds=1.5))
    endpoint = endpoint_at(server)
    program = (
        "import sys\n"
        "from prefect import flow\n"
        "from tasks.data_management.external_api import external_api\n"
        "from tasks.endpoint.endpoint import Endpoint\n"
        "@flow\n"
        "def fetch():\n"
        "    return external_api(None, Endpoint.model_validate_json(sys.argv[1])).standard.height\n"
        "print(fetch())\n"
    )
    environment = {
        **os.environ,
        "PREFECT_API_URL": prefect_backend,
        "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(result_folder),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", program, endpoint.model_dump_json()]
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=600)[0].split()[-1] for process in running] == ["1", "1", "1"]
    assert len(server.calls) == 1


def test_calls_of_a_host_take_places_of_prefect_s_own_limits(
    start_server: StartServer, result_folder: Path, prefect_backend: str
) -> None:
    server = start_server(lambda call: ANSWER)
    with get_client(sync_client=True) as client:
        for name in ("one-place", "taken"):
            client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1, active=True))
        client.create_global_concurrency_limit(
            GlobalConcurrencyLimitCreate(name="per-second", limit=1, active=True, slot_decay_per_second=10)
        )
    limits = {"concurrency_limit": "one-place", "rate_limit": "per-second", "limit_wait_seconds": 30}
    assert fetch(None, endpoint_at(server, **limits)).height == 1
    full = endpoint_at(server, concurrency_limit="taken", limit_wait_seconds=0.5, retries=0, name="b")
    with concurrency("taken"), pytest.raises(LimitNotFree, match=r"'taken' had no place for 0\.5 seconds.*CMP-181"):
        fetch(None, full)
    with pytest.raises(LimitNotFree, match="'none' does not exist"):
        fetch(None, endpoint_at(server, concurrency_limit="none", name="c"))
    assert len(server.calls) == 1


def test_an_endpoint_that_raises_its_own_limits_says_so(
    start_server: StartServer, result_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server(lambda call: ANSWER)
    fetch(None, endpoint_at(server, max_response_bytes=6_000_000, timeout_seconds=30))
    assert "Endpoint 'codes' raises its own limit: max_response_bytes 6000000, not 5242880." in caplog.text
    assert "timeout_seconds" not in caplog.text
    assert f"Transferring content from '{server.address}/codes' (27 / 6000000)." in caplog.text


def test_rows_about_single_profiles_are_not_sent(start_server: StartServer, result_folder: Path) -> None:
    server = start_server(lambda call: ANSWER)
    audience = pl.DataFrame({"profile_id": ["1", "2"]})
    with pytest.raises(ProfileLevelCall, match="Transfer file and Load file"):
        fetch(audience, endpoint_at(server, inbound={"columns": {"profile_id": "id"}}))
    assert server.calls == []


def test_rejected_lines_and_a_changed_answer_can_be_seen(
    start_server: StartServer, result_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mapping = OutboundMapping(sample={"rows": [{"n": 1, "day": "2026-11-24"}]})
    server = start_server(
        lambda call: Reply(b'{"rows": [{"n": 1, "day": "soon", "new": 1}, {"n": 2, "day": null}]}')
    )
    outbound = content(None, endpoint_at(server, outbound=mapping))
    assert outbound.standard["n"].to_list() == [2]
    assert outbound.rejects.select("row", "column", "value").rows() == [(1, "day", "soon")]
    assert "1 rejected" in caplog.text
    assert "The answer of 'codes' has changed: " in caplog.text
    assert outbound.findings["kind"].to_list() == ["new", "unreadable", "received"]
    assert "1 of 2 rows of 'codes' were rejected; the first: row 1, column 'day' " in caplog.text


TOKEN = Reply(b'{"access_token": "canary-token", "token_type": "Bearer", "expires_in": 3600}')


def test_basic_and_header_accounts_let_a_call_in(
    start_server: StartServer, result_folder: Path, prefect_backend: str
) -> None:
    BasicAccount(user="us", password=SecretStr("pw"), hosts=["localhost"]).save("basic", overwrite=True)
    HeaderAccount(secret=SecretStr("t"), hosts=["localhost"]).save("bearer", overwrite=True)
    HeaderAccount(header="X-Api-Key", prefix="", secret=SecretStr("k"), hosts=["localhost"]).save(
        "key", overwrite=True
    )
    server = start_server(lambda call: ANSWER)
    for account in ("basic-account/basic", "header-account/bearer", "header-account/key"):
        fetch(None, endpoint_at(server, account=account))
    assert server.calls[0].headers["authorization"] == "Basic dXM6cHc="
    assert server.calls[1].headers["authorization"] == "Bearer t"
    assert server.calls[2].headers["x-api-key"] == "k"


def protected(tokens: list[str]) -> Respond:
    """An API that takes only the newest of the tokens that its authorization server gave."""

    def respond(call: Call) -> Reply:
        if call.path == "/token":
            tokens.append(f"canary-{len(tokens) + 1}")
            return Reply(
                json.dumps({"access_token": tokens[-1], "token_type": "Bearer", "expires_in": 3600}).encode()
            )
        fresh = bool(tokens) and call.headers.get("authorization") == f"Bearer {tokens[-1]}"
        return ANSWER if fresh else failing(401)

    return respond


def oauth_account(server: Server, name: str, **options: object) -> str:
    account = OAuth2Account(
        token_url=f"{server.address}/token",
        client_id="us",
        client_secret=SecretStr("canary-secret"),
        ca_file=server.ca_file,
        hosts=["localhost"],
        **options,
    )
    account.save(name, overwrite=True)
    return f"oauth2-account/{name}"


def test_a_token_is_fetched_once_for_many_runs_and_fetched_anew_after_a_401(
    start_server: StartServer, result_folder: Path, prefect_backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    tokens: list[str] = []
    server = start_server(protected(tokens))
    account = oauth_account(server, "renewed")
    for name in ("a", "b"):
        fetch(None, endpoint_at(server, account=account, name=name))
    assert tokens == ["canary-1"]
    assert "Using cached access token for provider ID 'oauth2-account/renewed'." in caplog.text
    tokens.append("revoked-by-the-partner")
    fetch(None, endpoint_at(server, account=account, name="c"))
    assert tokens == ["canary-1", "revoked-by-the-partner", "canary-3"]
    assert [call.path for call in server.calls].count("/token") == 2
    assert "Refreshing OAuth access token due to error (HTTP: '401')." in caplog.text
    assert "canary" not in caplog.text


def test_a_401_for_a_fresh_token_is_retried_and_a_401_without_account_is_not(
    start_server: StartServer, result_folder: Path, prefect_backend: str
) -> None:
    turns = in_turn(failing(401), failing(401), ANSWER)
    server = start_server(lambda call: TOKEN if call.path == "/token" else turns(call))
    assert fetch(None, endpoint_at(server, account=oauth_account(server, "stubborn"))).height == 1
    assert [call.path for call in server.calls].count("/codes") == 3


@pytest.mark.parametrize(
    ("reply", "error", "calls", "logged"),
    [
        (Reply(b'{"error": "invalid_client"}', 401), CredentialsRefused, 1, ""),
        (
            failing(503),
            CampaignError,
            3,
            "Failed to fetch the OAuth access token using the specified external account",
        ),
    ],
)
def test_a_token_that_cannot_be_fetched_is_retried_where_that_can_mend_it(
    start_server: StartServer,
    result_folder: Path,
    prefect_backend: str,
    caplog: pytest.LogCaptureFixture,
    reply: Reply,
    error: type[CampaignError],
    calls: int,
    logged: str,
) -> None:
    server = start_server(lambda call: reply)
    with pytest.raises(error):
        fetch(None, endpoint_at(server, account=oauth_account(server, "refused"), retries=2))
    assert [call.path for call in server.calls] == ["/token"] * calls
    assert logged in caplog.text


def test_an_account_that_cannot_be_used_is_told_with_its_code(
    start_server: StartServer, result_folder: Path, prefect_backend: str
) -> None:
    from prefect.blocks.system import Secret

    server = start_server(lambda call: ANSWER)
    Secret(value="x").save("no-account", overwrite=True)
    BasicAccount(user="us", enabled=False).save("off", overwrite=True)
    for account, error, code in (
        ("basic-account/none", AccountMissing, "WKF-560280"),
        ("nothing/none", AccountMissing, "WKF-560280"),
        ("only-a-name", AccountMissing, "WKF-560280"),
        ("basic-account/off", AccountDisabled, "WKF-560281"),
        ("secret/no-account", AccountOfWrongKind, "WKF-560282"),
    ):
        with pytest.raises(error, match=code):
            fetch(None, endpoint_at(server, account=account))
    assert server.calls == []


def test_no_secret_is_anywhere_but_in_the_request(
    start_server: StartServer,
    result_folder: Path,
    prefect_backend: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Logs at every level, task and flow runs with their parameters, artifacts, stored results, keys, errors."""
    caplog.set_level("DEBUG")
    tokens: list[str] = []
    server = start_server(protected(tokens))
    account = oauth_account(server, "quiet")
    options = {
        "headers": {"X-Key": SecretStr("canary-header")},
        "url": f"{server.address}/codes?key=query-of-the-address",
    }
    endpoint = endpoint_at(server, account=account, name="quiet", **options)
    called = content(None, endpoint, return_state=True)
    outbound = called.result()
    assert server.calls[-1].headers["x-key"] == "canary-header"
    tokens[:] = ["another"]
    without = endpoint.model_copy(update={"account": "", "on_failure": "transition", "retries": 0})
    refused = content(None, without, return_state=True)
    failed = refused.result().failure
    ids = [state.state_details.flow_run_id for state in (called, refused)]
    of_runs = FlowRunFilter(id=FlowRunFilterId(any_=ids))
    with get_client(sync_client=True) as client:
        # What task runs did, and said, is written down a little later than what they do.
        until(lambda: len(ended(client.read_task_runs(flow_run_filter=of_runs))) == 2)
        until(lambda: client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=ids))))
        account_shown = client.read_block_document_by_name("quiet", "oauth2-account", include_secrets=False)
        kept = [
            client.read_flow_runs(flow_run_filter=of_runs),
            client.read_task_runs(flow_run_filter=of_runs),
            client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=ids))),
        ]
        artifacts = client.read_artifacts(flow_run_filter=of_runs)
    assert all(kept), "nothing is kept of it: the search would find nothing"
    shown = [caplog.text, str(account_shown.data), *(one.model_dump_json() for some in kept for one in some)]
    shown += [artifact.model_dump_json() for artifact in artifacts]
    stored = [repr(path.read_bytes()) + path.name for path in result_folder.rglob("*") if path.is_file()]
    tables = [
        repr(ArrowSerializer().dumps(outbound)),
        str(failed.to_dicts()),
        repr(endpoint),
        endpoint.model_dump_json(),
    ]
    assert len(stored) >= 2
    # The query is no secret's field, but partners have their keys there all the same: logs and errors leave it out.
    assert "query-of-the-address" not in caplog.text + str(failed.to_dicts())
    for text in (*shown, *stored, *tables[:2]):
        assert "canary-" not in text
    for text in tables:
        assert "canary-header" not in text


def by_language(call: Call) -> Reply:
    return Reply(b'{"codes": [{"code": "%s"}]}' % call.headers.get("accept-language", "none").encode())


def test_another_header_or_credential_is_never_served_the_first_one_s_answer(
    start_server: StartServer, result_folder: Path, prefect_backend: str
) -> None:
    server = start_server(by_language)
    for language in ("de", "fr", "de"):
        endpoint = endpoint_at(server, headers={"Accept-Language": SecretStr(language)})
        assert fetch(None, endpoint)["code"].to_list() == [language]
    assert len(server.calls) == 2
    for secret in ("tenant-a", "tenant-b"):
        HeaderAccount(secret=SecretStr(secret), hosts=["localhost"]).save("tenant", overwrite=True)
        fetch(None, endpoint_at(server, account="header-account/tenant"))
        fetch(None, endpoint_at(server, account="header-account/tenant", name="shared", cache_ignores=["account"]))
    assert len(server.calls) == 5
    assert [call.headers["authorization"] for call in server.calls[2:]] == [
        "Bearer tenant-a",
        "Bearer tenant-a",
        "Bearer tenant-b",
    ]


def test_rows_that_are_not_a_table_yet_are_collected(start_server: StartServer, result_folder: Path) -> None:
    server = start_server(lambda call: ANSWER)
    endpoint = endpoint_at(server, inbound={"columns": {"zip_code": "zip"}})
    assert external_api(pl.LazyFrame({"zip_code": ["95124"]}), endpoint).standard.height == 1
    assert json.loads(server.calls[0].body)["data"] == [{"zip": "95124"}]


def test_a_retried_run_asks_only_for_the_page_that_failed_and_no_sooner_than_it_may(
    start_server: StartServer, result_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    turns = {"1": [ANSWER], "2": [failing(403, Retry_After="1"), Reply(b'{"codes": [{"code": "B"}]}')]}

    def respond(call: Call) -> Reply:
        left = turns.get(call.query["page"], [Reply(b'{"codes": []}')])
        return left.pop(0)

    server = start_server(respond)
    endpoint = endpoint_at(server, method="GET", pagination={"kind": "page"}, name="paged")
    begun = time.monotonic()
    assert fetch(None, endpoint)["code"].to_list() == ["A1", "B"]
    assert [call.query["page"] for call in server.calls] == ["1", "2", "2", "3"]
    assert time.monotonic() - begun >= 1.0
    assert "in 1000 ms, attempt 2." in caplog.text


def test_the_partner_s_own_words_are_in_the_error_and_no_secret_is(
    start_server: StartServer, result_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    problem = Reply(
        b'{"title": "No", "detail": "unknown list for key canary-key-1"}',
        422,
        {"Content-Type": "application/problem+json"},
    )
    server = start_server(lambda call: problem)
    with pytest.raises(StatusRefused, match=r"'HTTP - 422'; the partner says: unknown list for key …\).*mapping"):
        fetch(None, endpoint_at(server, headers={"X-Key": SecretStr("canary-key-1")}))
    assert "canary" not in caplog.text


def test_an_expired_token_that_is_answered_by_403_is_renewed_once(
    start_server: StartServer, result_folder: Path, prefect_backend: str
) -> None:
    tokens: list[str] = []
    serve = protected(tokens)

    def respond(call: Call) -> Reply:
        reply = serve(call)
        return (
            Reply(b'{"error": "invalid_token", "error_description": "expired"}', 403)
            if reply.status == 401
            else reply
        )

    server = start_server(respond)
    account = oauth_account(server, "expired")
    fetch(None, endpoint_at(server, account=account, name="a"))
    tokens.append("revoked")
    fetch(None, endpoint_at(server, account=account, name="b"))
    assert [call.path for call in server.calls].count("/token") == 2


@pytest.mark.parametrize("hosts", [[], ["api.example.com"], ["localhost:1"], ["localhost/v1"], ["notlocalhost"]])
def test_an_account_lends_itself_only_to_its_hosts(
    start_server: StartServer, result_folder: Path, prefect_backend: str, hosts: list[str]
) -> None:
    HeaderAccount(secret=SecretStr("canary"), hosts=hosts).save("lent", overwrite=True)
    server = start_server(lambda call: ANSWER)
    with pytest.raises(AccountNotForHost, match=r"'header-account/lent' is not for 'localhost:\d+'.*CMP-182"):
        external_api(None, endpoint_at(server, account="header-account/lent"))
    assert server.calls == []


def test_a_call_for_each_key_is_one_cached_activity(start_server: StartServer, result_folder: Path) -> None:
    server = start_server(lambda call: Reply(b'{"codes": [{"code": "%s"}]}' % call.path[-1:].encode()))
    endpoint = endpoint_at(
        server,
        url=f"{server.address}/codes/${{row.zip}}",
        method="GET",
        inbound={"columns": {"zip_code": "zip"}},
        calls={"parallel": 2},
    )
    for _ in range(2):
        table = external_api(pl.DataFrame({"zip_code": ["1", "2"]}), endpoint).standard
        assert table.rows() == [("1", "1"), ("2", "2")]
    assert len(server.calls) == 2
    assert external_api(pl.DataFrame({"zip_code": ["3"]}), endpoint).standard.rows() == [("3", "3")]
