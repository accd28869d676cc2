"""One call for each key or chunk of rows, over real sockets."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from deployments.sandbox.server import Call, Reply, Server
from tasks.endpoint.call import EndpointCall
from tasks.endpoint.endpoint import Endpoint
from tasks.endpoint.fetch import Fetched
from tasks.endpoint.many import fetch_many
from tasks.errors import ApiError, ColumnTaken, ProfileLevelCall, StatusRefused, TooManyCalls

ALLOWED = frozenset({"localhost"})
StartServer = Callable[[Callable[[Call], Reply]], Server]
ZIPS = pl.DataFrame({"zip_code": ["95124", "02134", "95124", "a/b"], "city": ["S", "B", "S", "x"]})


def fetched(server: Server, zips: pl.DataFrame = ZIPS, **options: Any) -> Fetched:
    given = {
        "name": "weather",
        "method": "GET",
        "url": f"{server.address}/zip/${{row.zip}}",
        "ca_file": server.ca_file,
        "backoff_seconds": 0,
        "inbound": {"columns": {"zip_code": "zip"}},
        "outbound": {"path": "days", "columns": {"day": {"key": "day", "type": "integer"}}},
        "calls": {},
    }
    endpoint = Endpoint(**{**given, **options})
    return fetch_many(EndpointCall(zips, endpoint), endpoint.calls, ALLOWED, call_id="c")


def days(call: Call) -> Reply:
    """Two days for each zip code but one, which has none."""
    zip_code = call.path.removeprefix("/zip/")
    return Reply(json.dumps({"days": [] if zip_code == "02134" else [{"day": 1}, {"day": 2}]}).encode())


def test_each_distinct_key_is_one_call_and_its_rows_have_the_key(start_server: StartServer) -> None:
    server = start_server(days)
    came = fetched(server)
    assert came.answer.standard.rows() == [("95124", 1), ("95124", 2), ("a/b", 1), ("a/b", 2)]
    assert came.answer.standard.columns == ["zip_code", "day"]
    assert sorted(call.path for call in server.calls) == ["/zip/02134", "/zip/95124", "/zip/a%2Fb"]
    assert "4 rows, 3 pages" in came.answer.findings["detail"][-1]


def test_only_the_call_that_failed_is_made_again(start_server: StartServer) -> None:
    failures = {"/zip/02134": 2}

    def respond(call: Call) -> Reply:
        left = failures.get(call.path, 0)
        failures[call.path] = left - 1
        return Reply(b"{}", 503) if left > 0 else days(call)

    server = start_server(respond)
    assert fetched(server, calls={"parallel": 3}).answer.standard.height == 4
    assert Counter(call.path for call in server.calls) == {"/zip/02134": 3, "/zip/95124": 1, "/zip/a%2Fb": 1}


def test_rows_can_be_sent_in_chunks(start_server: StartServer) -> None:
    def respond(call: Call) -> Reply:
        return Reply(json.dumps({"days": [{"day": len(json.loads(call.body)["data"])}]}).encode())

    server = start_server(respond)
    options = {
        "method": "POST",
        "url": f"{server.address}/days",
        "calls": {"per": "chunk", "size": 2, "parallel": 1},
    }
    assert fetched(server, **options).answer.standard["day"].to_list() == [2, 1]
    assert [call.headers.get("idempotency-key") for call in server.calls] == ["c-call-1", "c-call-2"]


def test_rejected_rows_do_not_move_the_keys_of_others(start_server: StartServer) -> None:
    def respond(call: Call) -> Reply:
        good = {"day": 1}
        return Reply(json.dumps({"days": [{"day": None}, good] if "95124" in call.path else [good]}).encode())

    column = {"key": "day", "type": "integer", "on_empty": "bad_value", "on_bad_value": "reject"}
    came = fetched(start_server(respond), outbound={"path": "days", "columns": {"day": column}})
    assert came.answer.standard.rows() == [("95124", 1), ("02134", 1), ("a/b", 1)]
    assert came.answer.rejects.height == 1


@pytest.mark.parametrize(
    ("reply", "options", "error"),
    [
        (Reply(b"{}", 404), {}, StatusRefused),
        (Reply(b"{}", 503), {"retries": 1}, StatusRefused),
        (Reply(b'{"days": []}'), {"calls": {"max_calls": 2}}, TooManyCalls),
        (Reply(b'{"days": []}'), {"inbound": {"columns": {"zip_code": "zip"}, "max_rows": 3}}, ProfileLevelCall),
        (
            Reply(b'{"days": [{"day": "x"}]}'),
            {"outbound": {"path": "days", "columns": {"zip_code": "day"}}},
            ColumnTaken,
        ),
        (Reply(b'{"days": []}'), {"calls": {"max_bytes": 5}}, ApiError),
    ],
)
def test_many_calls_keep_the_limits_of_one(
    start_server: StartServer, reply: Reply, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        fetched(start_server(lambda call: reply), **options)


def test_a_key_that_leads_elsewhere_is_refused(start_server: StartServer) -> None:
    server = start_server(days)
    with pytest.raises(ApiError, match="no segment of a path"):
        fetched(server, pl.DataFrame({"zip_code": [".."]}))
    assert server.calls == []


def test_nothing_found_for_a_key_is_no_rows(start_server: StartServer) -> None:
    server = start_server(lambda call: Reply(b"{}", 404) if "02134" in call.path else days(call))
    assert fetched(server, empty_statuses=[404]).answer.standard.height == 4
