"""Answers that are kept as the partner says, over real sockets."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from prefect import flow

from deployments.sandbox.server import Call, Reply, Server
from tasks.data_management.external_api import Content, external_api
from tasks.endpoint.endpoint import Endpoint
from tasks.errors import StatusRefused
from tasks.runs.counts import counts_of
from tests.waiting import until

StartServer = Callable[[Callable[[Call], Reply]], Server]


@flow
def content(endpoint: Endpoint) -> Content:
    return external_api(None, endpoint)


@pytest.fixture(autouse=True)
def _loopback_is_allowed(monkeypatch: pytest.MonkeyPatch, result_folder: Path) -> None:
    monkeypatch.setenv("CAMPAIGN_NETWORK__ALLOWED_HOSTS", '["localhost"]')


class Partner:
    """A partner with one number, which says how long it may be kept, and answers conditions."""

    def __init__(self, start: StartServer, **headers: str) -> None:
        self.number = 1
        self.status = 200
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.server = start(self.respond)

    def respond(self, call: Call) -> Reply:
        tag = f'"{self.number}"'
        if self.status == 200 and call.headers.get("if-none-match") == tag:
            return Reply(b"", 304, self.headers)
        return Reply(b'[{"n": %d}]' % self.number, self.status, {"ETag": tag, **self.headers})

    def endpoint(self, **options: Any) -> Endpoint:
        return Endpoint(
            **{
                "name": "numbers",
                "url": f"{self.server.address}/n",
                "method": "GET",
                "ca_file": self.server.ca_file,
                "retries": 0,
                "cache_by": "partner",
                "outbound": {"columns": {"n": {"key": "n", "type": "integer"}}},
                **options,
            }
        )

    @property
    def conditions(self) -> list[str | None]:
        return [call.headers.get("if-none-match") for call in self.server.calls]


def number(endpoint: Endpoint) -> int:
    return content(endpoint).standard["n"].item()


def test_max_age_counts_and_not_the_expiry(start_server: StartServer) -> None:
    partner = Partner(start_server, Cache_Control="max-age=600")
    endpoint = partner.endpoint(cache_expiry=timedelta(0))
    assert [number(endpoint), number(endpoint)] == [1, 1]
    assert len(partner.server.calls) == 1


def test_a_304_counts_as_fresh_and_a_change_is_fetched(start_server: StartServer) -> None:
    partner = Partner(start_server, Cache_Control="no-cache")
    endpoint = partner.endpoint()
    assert [number(endpoint), number(endpoint)] == [1, 1]
    partner.number = 2
    assert [number(endpoint), number(endpoint)] == [2, 2]
    assert partner.conditions == [None, '"1"', '"1"', '"2"']
    partner.headers = {"Cache-Control": "max-age=600"}
    assert [number(endpoint), number(endpoint), number(endpoint)] == [2, 2, 2]
    assert len(partner.server.calls) == 5


def test_what_is_not_to_be_stored_is_not(start_server: StartServer, result_folder: Path) -> None:
    partner = Partner(start_server, Cache_Control="no-store")
    endpoint = partner.endpoint(stale_if_error=timedelta(hours=1))
    assert number(endpoint) == 1
    assert list(result_folder.glob("external-api-*")) == []
    partner.number = 2
    assert number(endpoint) == 2
    assert partner.conditions == [None, None]


def test_the_expiry_counts_where_the_partner_says_nothing(start_server: StartServer) -> None:
    partner = Partner(start_server)
    assert [number(partner.endpoint()) for _ in range(2)] == [1, 1]
    assert len(partner.server.calls) == 1


@pytest.mark.parametrize(("word", "is_used"), [("max-age=0", True), ("max-age=0, must-revalidate", False)])
def test_stale_content_is_used_unless_the_partner_forbids_it(
    start_server: StartServer, word: str, is_used: bool
) -> None:
    partner = Partner(start_server, Cache_Control=word)
    endpoint = partner.endpoint(stale_if_error=timedelta(hours=1))
    assert number(endpoint) == 1
    partner.status = 503
    if is_used:
        assert number(endpoint) == 1
    else:
        with pytest.raises(StatusRefused):
            number(endpoint)


def test_vary_on_a_header_that_is_not_in_the_key_is_another_answer(start_server: StartServer) -> None:
    partner = Partner(start_server, Cache_Control="max-age=600", Vary="X-Trace")
    trace = {"headers": {"X-Trace": "1"}}
    ignoring = partner.endpoint(**trace, cache_ignores=["X-Trace"])
    number(ignoring)
    number(ignoring)
    assert partner.conditions == [None, None]
    kept = partner.endpoint(**trace)
    number(kept)
    number(kept)
    assert len(partner.server.calls) == 3


def test_an_unasked_304_is_a_failure(start_server: StartServer) -> None:
    partner = Partner(start_server)
    partner.status = 304
    with pytest.raises(StatusRefused):
        number(partner.endpoint())


def test_many_runs_use_what_is_kept_while_one_fetches_it_anew(start_server: StartServer) -> None:
    partner = Partner(start_server)
    endpoint = partner.endpoint(cache_by="expiry", refresh_before=timedelta(minutes=30))
    assert number(endpoint) == 1
    partner.number = 2
    assert number(endpoint) == 1  # half an hour before its end has not come
    assert len(partner.server.calls) == 1
    early = partner.endpoint(cache_by="expiry", refresh_before=timedelta(hours=2))
    assert number(early) == 1
    until(lambda: number(endpoint) == 2)
    assert len(partner.server.calls) >= 2


def test_the_report_does_not_count_how_fresh_it_is(start_server: StartServer) -> None:
    came = content(Partner(start_server).endpoint())
    assert came.freshness["etag"].to_list() == ['"1"']
    assert "freshness" not in counts_of(came, "External API", "content 1")["transition"].to_list()
    assert isinstance(came.freshness, pl.DataFrame)
