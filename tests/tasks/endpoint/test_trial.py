"""A trial of an endpoint: what it shows, and what it hides, over real sockets."""

import json
import logging
from collections.abc import Callable

import polars as pl

from deployments.sandbox.server import Call, Reply, Server
from tasks.endpoint.endpoint import Endpoint
from tasks.endpoint.trial import Trial, try_endpoint

StartServer = Callable[[Callable[[Call], Reply]], Server]
LOG = logging.getLogger(__name__)


def pages(call: Call) -> Reply:
    page = int(call.query.get("page", 1))
    rows = [{"id": page, "mail": "x"}] if page < 3 else []
    return Reply(json.dumps({"rows": rows, "total": 2, "more": page < 3, "next": None}).encode())


def tried(server: Server, rows: pl.DataFrame | None = None, **options: object) -> Trial:
    given = {
        "name": "offers",
        "method": "GET",
        "url": f"{server.address}/offers",
        "ca_file": server.ca_file,
        "headers": {"X-Api-Key": "hidden-header-secret"},
        "inbound": {"query": {"region": "north", "api_key": "hidden-query-secret"}},
        "outbound": {"path": "rows", "columns": {"id": {"key": "id", "type": "integer"}}},
        "pagination": {"kind": "page"},
    }
    return try_endpoint(Endpoint(**{**given, **options}), rows, frozenset({"localhost"}), LOG)


def test_it_shows_the_call_and_hides_secrets(start_server: StartServer) -> None:
    server = start_server(pages)
    trial = tried(server)
    assert trial.error is None
    assert len(server.calls) == 3
    for shown in (
        f"GET {server.address}/offers?region=north&api_key=…&page=1",
        "x-api-key: …",
        "HTTP 200, application/json",
        "Pages      3, 2 rows",
        "id: Int64, from id",
        "Finding    received",
    ):
        assert shown in trial.text
    assert "hidden" not in trial.text


def test_a_call_that_fails_says_so_with_the_partner_s_words(start_server: StartServer) -> None:
    trial = tried(start_server(lambda call: Reply(b'{"message": "No right to this"}', 403)))
    assert trial.error is not None
    assert "HTTP 403" in trial.text
    assert "No right to this" in trial.text


def test_what_is_sent_must_be_given_and_is_shown(start_server: StartServer) -> None:
    server = start_server(lambda call: Reply(b'{"rows": [{"id": 1}]}'))
    options = {"method": "POST", "inbound": {"columns": {"zip": "zip"}}, "pagination": None}
    assert "give values" in tried(server, **options).text
    assert not server.calls
    trial = tried(server, pl.DataFrame({"zip": ["95124", "02134"]}), **options)
    assert '"data":[{"zip":"95124"},{"zip":"02134"}]' in trial.text
    one = tried(server, pl.DataFrame({"zip": ["95124", "02134"]}), **options, calls={"per": "key"})
    assert "2 would be made; this is the first" in one.text
