"""Many calls of one endpoint in flows, each kept by itself between runs, over real sockets."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from prefect import flow

from deployments.sandbox.server import Call, Reply, Server
from tasks.data_management.external_api import external_api
from tasks.endpoint.endpoint import Endpoint
from tasks.errors import StatusRefused

StartServer = Callable[[Callable[[Call], Reply]], Server]


@flow
def rows(inbound: pl.DataFrame, endpoint: Endpoint) -> pl.DataFrame:
    return external_api(inbound, endpoint).standard


def keys(first: int, last: int) -> pl.DataFrame:
    return pl.DataFrame({"key": [f"k{number}" for number in range(first, last)]})


def respond(call: Call) -> Reply:
    return Reply(json.dumps([{"for": call.path}]).encode())


def endpoint_of(server: Server, **options: Any) -> Endpoint:
    given = {
        "name": "lookups",
        "url": f"{server.address}/${{row.key}}",
        "method": "GET",
        "ca_file": server.ca_file,
        "retries": 0,
        "inbound": {"columns": {"key": "key"}},
        "outbound": {"columns": {"for": "for"}},
        "calls": {},
    }
    return Endpoint(**{**given, **options})


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch, result_folder: Path) -> None:
    monkeypatch.setenv("CAMPAIGN_NETWORK__ALLOWED_HOSTS", '["localhost"]')


def test_a_changed_audience_asks_only_for_its_new_keys(start_server: StartServer) -> None:
    server = start_server(respond)
    endpoint = endpoint_of(server)
    assert rows(keys(0, 20), endpoint).height == 20
    assert len(server.calls) == 20
    assert rows(keys(0, 25), endpoint).rows() == [(f"k{number}", f"/k{number}") for number in range(25)]
    assert sorted(call.path for call in server.calls[20:]) == [f"/k{number}" for number in range(20, 25)]
    assert rows(keys(3, 8), endpoint)["key"].to_list() == [f"k{number}" for number in range(3, 8)]
    assert len(server.calls) == 25


@pytest.mark.parametrize(
    "changed",
    [
        {"headers": {"Accept-Language": "fr"}},
        {"inbound": {"columns": {"key": "key"}, "query": {"since": "today"}}},
        {"outbound": {"columns": {"for": "for", "more": {"key": "for"}}}},
    ],
)
def test_another_request_or_reading_is_another_answer(start_server: StartServer, changed: dict[str, Any]) -> None:
    server = start_server(respond)
    rows(keys(0, 3), endpoint_of(server))
    rows(keys(0, 4), endpoint_of(server, **changed))
    assert len(server.calls) == 7


def test_a_run_that_failed_keeps_the_answers_that_came(start_server: StartServer) -> None:
    failing = {"/k3"}
    server = start_server(lambda call: Reply(b"{}", 500) if call.path in failing else respond(call))
    endpoint = endpoint_of(server, calls={"parallel": 1})
    with pytest.raises(StatusRefused):
        rows(keys(0, 5), endpoint)
    failing.clear()
    assert rows(keys(0, 5), endpoint).height == 5
    assert [call.path for call in server.calls] == ["/k0", "/k1", "/k2", "/k3", "/k3", "/k4"]


def test_an_answer_that_cannot_be_read_is_not_kept(start_server: StartServer) -> None:
    broken = {"/k1"}
    server = start_server(lambda call: Reply(b"[7]") if call.path in broken else respond(call))
    with pytest.raises(Exception, match="not objects"):
        rows(keys(0, 3), endpoint_of(server))
    broken.clear()
    assert rows(keys(0, 3), endpoint_of(server)).height == 3


def test_no_expiry_keeps_no_call(start_server: StartServer) -> None:
    server = start_server(respond)
    endpoint = endpoint_of(server, cache_expiry=timedelta(0))
    rows(keys(0, 2), endpoint)
    rows(keys(0, 3), endpoint)
    assert len(server.calls) == 5


def test_a_partner_says_of_each_call_whether_it_may_be_kept(start_server: StartServer) -> None:
    def of_each(call: Call) -> Reply:
        control = "no-store" if call.path == "/k0" else "max-age=600"
        return Reply(respond(call).body, headers={"Cache-Control": control})

    server = start_server(of_each)
    endpoint = endpoint_of(server, cache_by="partner")
    rows(keys(0, 3), endpoint)
    rows(keys(0, 4), endpoint)
    assert sorted(call.path for call in server.calls[3:]) == ["/k0", "/k3"]


def test_kept_parts_keep_their_age(start_server: StartServer) -> None:
    server = start_server(respond)
    endpoint = endpoint_of(server, stale_if_error=timedelta(hours=1))
    rows(keys(0, 2), endpoint)
    between = datetime.now(UTC)
    assert rows(keys(0, 3), endpoint)["fetched_at"].max() < between
    assert len(server.calls) == 3
