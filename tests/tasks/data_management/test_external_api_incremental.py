"""Endpoints that are asked only for what is new, over real sockets."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from prefect import flow
from pydantic import ValidationError

from deployments.sandbox.server import Call, Reply, Server
from tasks.data_management.external_api import external_api
from tasks.endpoint.endpoint import Endpoint
from tasks.errors import ResponseShapeInvalid, StatusRefused

StartServer = Callable[[Callable[[Call], Reply]], Server]


@flow
def rows(endpoint: Endpoint) -> pl.DataFrame:
    return external_api(None, endpoint).standard


class Partner:
    """Rows with the moment of their last change, of which it gives those at or after `since`."""

    def __init__(self, start: StartServer) -> None:
        self.rows = [{"id": 1, "at": "2026-11-24T07:00:00Z"}, {"id": 2, "at": "2026-11-24T08:00:00Z"}]
        self.status = 200
        self.server = start(self.respond)

    def respond(self, call: Call) -> Reply:
        found = [row for row in self.rows if row["at"] >= call.query["since"]]
        return Reply(json.dumps(found).encode(), self.status)

    def endpoint(self, incremental: dict[str, Any], **options: Any) -> Endpoint:
        columns = {"id": {"key": "id", "type": "integer"}, "at": {"key": "at", "type": "datetime"}}
        return Endpoint(
            **{
                "name": "changes",
                "url": f"{self.server.address}/changes",
                "method": "GET",
                "ca_file": self.server.ca_file,
                "retries": 0,
                "cache_expiry": timedelta(0),
                "inbound": {"query": {"since": "${since}"}},
                "outbound": {"columns": columns},
                "incremental": {"column": "at", "start": "2026-01-01", **incremental},
                **options,
            }
        )

    @property
    def asked(self) -> list[str]:
        return [call.query["since"] for call in self.server.calls]


def test_only_what_is_new_is_asked_for_and_takes_the_place_of_what_was(
    start_server: StartServer, result_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMPAIGN_NETWORK__ALLOWED_HOSTS", '["localhost"]')
    partner = Partner(start_server)
    endpoint = partner.endpoint({"merge_on": ["id"]}, stale_if_error=timedelta(hours=1))
    assert rows(endpoint)["id"].to_list() == [1, 2]
    partner.rows += [{"id": 1, "at": "2026-11-24T09:00:00Z"}, {"id": 3, "at": "2026-11-24T08:30:00Z"}]
    partner.status = 503  # changes nothing of what is kept
    assert rows(endpoint)["id"].to_list() == [1, 2]
    partner.status = 200
    assert sorted(rows(endpoint)["id"]) == [1, 2, 3]
    table = rows(endpoint)
    assert {row["id"]: row["at"].hour for row in table.iter_rows(named=True)} == {1: 9, 2: 8, 3: 8}
    first = "2026-11-24T08:00:00Z"
    assert partner.asked == ["2026-01-01", first, first, "2026-11-24T09:00:00Z"]
    partner.status = 403
    with pytest.raises(StatusRefused):
        rows(partner.endpoint({"merge_on": ["id"], "format": "%Y-%m-%d"}))
    appended = partner.endpoint({"format": "%Y-%m-%d", "max_rows": 7})
    partner.status = 200
    assert rows(appended).height == 4
    with pytest.raises(ResponseShapeInvalid, match="8 rows would be kept, more than 7"):
        rows(appended)
    assert partner.asked[-1] == "2026-11-24"


@pytest.mark.parametrize(
    "options",
    [
        {"inbound": {}},
        {"incremental": None},
        {"incremental": {"column": "moment", "start": ""}},
        {"cache_by": "partner"},
    ],
)
def test_what_does_not_fit_together_is_refused(options: dict[str, Any]) -> None:
    given = {
        "name": "changes",
        "url": "https://partner.example/changes",
        "method": "GET",
        "inbound": {"query": {"since": "${since}"}},
        "outbound": {"columns": {"at": "at"}},
        "incremental": {"column": "at", "start": "0"},
    }
    Endpoint(**given)
    with pytest.raises(ValidationError):
        Endpoint(**{**given, **options})
