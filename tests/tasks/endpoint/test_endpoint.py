"""Whole calls over real sockets, page after page, without Prefect."""

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256

import polars as pl
import pytest
from pydantic import SecretStr, ValidationError

from deployments.sandbox.server import Call, Reply, Server
from tasks.endpoint.answer.mapping import OutboundMapping
from tasks.endpoint.call import EndpointCall
from tasks.endpoint.endpoint import Endpoint
from tasks.endpoint.fetch import fetch
from tasks.endpoint.inbound import InboundMapping
from tasks.endpoint.pagination import PageNumber
from tasks.errors import (
    ApiError,
    DeadlineExceeded,
    ResponseShapeInvalid,
    ResponseTooLarge,
    StatusRefused,
    TooManyPages,
)

ALLOWED = frozenset({"localhost"})
ROWS = pl.DataFrame({"zip_code": ["95124", None], "since": [date(2026, 11, 24), None], "city": ["San José", "x"]})
NUMBERS = OutboundMapping(path="rows", columns={"n": {"key": "n", "type": "integer"}})
StartServer = Callable[[Callable[[Call], Reply]], Server]


def endpoint_at(server: Server, **options: object) -> Endpoint:
    return Endpoint(
        **{
            "name": "numbers",
            "url": f"{server.address}/rows",
            "ca_file": server.ca_file,
            "outbound": NUMBERS,
            **options,
        }
    )


def parameters_of(call: Call) -> dict[str, object]:
    sent = json.loads(call.body)["params"] if call.body else {}
    return {**call.query, **sent}


def numbers(first: int, count: int, **more: object) -> bytes:
    return json.dumps({"rows": [{"n": n} for n in range(first, first + count)], **more}).encode()


def by_offset(call: Call) -> Reply:
    offset, limit = (int(parameters_of(call)[name]) for name in ("skip", "limit"))
    return Reply(numbers(offset, max(0, min(limit, 25 - offset)), total=25))


def by_number(call: Call) -> Reply:
    page = int(parameters_of(call)["page"])
    return Reply(numbers((page - 1) * 10, {1: 10, 2: 10, 3: 5}.get(page, 0)))


def by_cursor(call: Call) -> Reply:
    start = int(parameters_of(call).get("after", 0))
    return Reply(numbers(start, min(10, 25 - start), meta={"next": start + 10 if start + 10 < 25 else None}))


def by_link(call: Call) -> Reply:
    start = int(call.query.get("start", 0))
    link = {"Link": f'</rows?start={start + 10}>; rel="next"'} if start + 10 < 25 else {}
    return Reply(numbers(start, min(10, 25 - start)), headers=link)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("respond", "pagination", "calls"),
    [
        (by_offset, {"kind": "offset", "parameter": "skip", "limit": 10}, 3),
        (by_offset, {"kind": "offset", "parameter": "skip", "limit": 5, "total": "total"}, 5),
        (by_number, {"kind": "page"}, 4),
        (by_number, {"kind": "page", "size": 10, "size_parameter": "size"}, 3),
        (by_cursor, {"kind": "cursor", "path": "meta.next", "parameter": "after"}, 3),
        (by_link, {"kind": "link"}, 3),
    ],
)
def test_every_page_is_fetched_once_and_all_rows_are_one_table(
    start_server: StartServer,
    method: str,
    respond: Callable[[Call], Reply],
    pagination: dict[str, object],
    calls: int,
) -> None:
    server = start_server(respond)
    fetched = fetch(EndpointCall(None, endpoint_at(server, method=method, pagination=pagination)), ALLOWED)
    assert fetched.answer.standard["n"].to_list() == list(range(25))
    assert (len(server.calls), fetched.pages) == (calls, calls)
    assert {call.method for call in server.calls} == {method}


def test_page_parameters_of_a_post_can_go_into_the_url(start_server: StartServer) -> None:
    server = start_server(by_number)
    fetch(
        EndpointCall(None, endpoint_at(server, pagination={"kind": "page", "size": 10}, paged_in="query")), ALLOWED
    )
    assert [call.query for call in server.calls] == [{"page": "1"}, {"page": "2"}, {"page": "3"}]


def test_each_page_of_a_post_has_an_idempotency_key_of_its_own(start_server: StartServer) -> None:
    server = start_server(by_number)
    fetch(EndpointCall(None, endpoint_at(server, pagination={"kind": "page", "size": 10})), ALLOWED, call_id="c")
    assert [call.headers["idempotency-key"] for call in server.calls] == ["c", "c-2", "c-3"]


@pytest.mark.parametrize(
    ("respond", "options", "error", "says"),
    [
        (by_number, {"pagination": {"kind": "page", "max_pages": 2}}, TooManyPages, "more than 2 pages"),
        (by_number, {"pagination": {"kind": "page"}, "max_response_bytes": 250}, ResponseTooLarge, "250 bytes"),
        (
            lambda call: Reply(numbers(int(parameters_of(call)["page"]), 1), wait_seconds=0.3),
            {"pagination": {"kind": "page"}, "timeout_seconds": 1},
            DeadlineExceeded,
            "within 1 seconds",
        ),
        (
            lambda call: Reply(numbers(0, 1), headers={"Link": '<https://elsewhere.example/>; rel="next"'}),
            {"pagination": {"kind": "link"}},
            ResponseShapeInvalid,
            "another host",
        ),
        (
            lambda call: Reply(numbers(0, 1, meta={"next": "same"})),
            {"pagination": {"kind": "cursor", "path": "meta.next"}},
            ResponseShapeInvalid,
            "page 2 has the same rows as page 1",
        ),
        (
            lambda call: Reply(b"{}", 500) if int(parameters_of(call)["page"]) == 2 else Reply(numbers(0, 1)),
            {"pagination": {"kind": "page"}},
            StatusRefused,
            "HTTP - 500",
        ),
    ],
)
def test_pages_stay_within_the_limits_of_one_call(
    start_server: StartServer,
    respond: Callable[[Call], Reply],
    options: dict[str, object],
    error: type[ApiError],
    says: str,
) -> None:
    server = start_server(respond)
    with pytest.raises(error, match=says):
        fetch(EndpointCall(None, endpoint_at(server, **options)), ALLOWED)
    assert len(server.calls) <= 5


def test_a_get_sends_params_and_query_and_no_body(start_server: StartServer) -> None:
    server = start_server(lambda call: Reply(numbers(0, 1)))
    inbound = InboundMapping(params={"state": "CA"}, query={"lang": "de"}, add_count=True)
    fetch(EndpointCall(ROWS, endpoint_at(server, method="GET", inbound=inbound)), ALLOWED)
    (call,) = server.calls
    assert (call.method, call.query, call.body) == ("GET", {"state": "CA", "lang": "de", "count": "2"}, b"")


def test_no_content_is_no_rows(start_server: StartServer) -> None:
    server = start_server(lambda call: Reply(b"", 204))
    standard = fetch(EndpointCall(None, endpoint_at(server)), ALLOWED).answer.standard
    assert standard.schema == {"n": pl.Int64()}
    assert standard.is_empty()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "WKF-560241"),
        (b"\xef\xbb\xbf", "WKF-560241"),
        (b'{"rows": [{"n": NaN}]}', "WKF-560241"),
        (b'{"rows": [{"n": 1e999}]}', "WKF-560240"),
        (b'{"rows": [{"n": "\xff"}]}', "WKF-560241"),
        (b'{"rows": [{"n": "\\ud800"}]}', "WKF-560240"),
        (b'{"rows": []} x', "WKF-560241"),
        (b'{"rows": [{"n": ' + b"[" * 9 + b"]" * 9 + b"}]}", "WKF-560240"),
        (b'{"rows": [{"n": 1, "' + b"k" * 256 + b'": 1}]}', "WKF-560240"),
        (b'{"rows": {"n": 1}}', "WKF-560240"),
        (b"[" * 100_000, "WKF-560240"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_that_breaks_a_guard_ends_with_its_code(
    start_server: StartServer, body: bytes, code: str, packed: bool
) -> None:
    reply = Reply(gzip.compress(body), headers={"Content-Encoding": "gzip"}) if packed else Reply(body)
    server = start_server(lambda call: reply)
    with pytest.raises(ApiError) as refused:
        fetch(EndpointCall(None, endpoint_at(server)), ALLOWED)
    assert refused.value.code == code, str(refused.value)
    assert not refused.value.retryable


@dataclass
class Passes:
    """Credentials that are taken only after they were renewed so often."""

    left: int = 1
    now: int = 0
    given: list[str] = field(default_factory=list)

    def headers(self) -> Mapping[str, SecretStr]:
        return {"X-Pass": SecretStr(str(self.now))}

    def check(self, url: str) -> None:
        assert "/rows" in url

    def renew(self) -> bool:
        self.now += 1
        return self.now <= self.left


@pytest.mark.parametrize(
    ("takes", "renewals", "calls", "outcome"),
    [("0", 1, 1, None), ("1", 1, 2, None), ("2", 1, 2, True), ("1", 0, 1, False)],
)
def test_after_a_401_fresh_credentials_are_tried_once(
    start_server: StartServer, takes: str, renewals: int, calls: int, outcome: bool | None
) -> None:
    def respond(call: Call) -> Reply:
        return Reply(numbers(0, 1)) if call.headers["x-pass"] == takes else Reply(b"{}", 401)

    server = start_server(respond)
    credentials = Passes(left=renewals)
    if outcome is None:
        assert fetch(EndpointCall(None, endpoint_at(server)), ALLOWED, credentials).answer.standard.height == 1
    else:
        with pytest.raises(StatusRefused, match="HTTP - 401") as refused:
            fetch(EndpointCall(None, endpoint_at(server)), ALLOWED, credentials)
        assert refused.value.retryable is outcome
    assert len(server.calls) == calls


@pytest.mark.parametrize(
    "options",
    [
        {"method": "GET", "inbound": {"columns": {"a": "a"}}},
        {"method": "GET", "paged_in": "params", "pagination": {"kind": "page"}},
        {"method": "DELETE"},
        {"method": "GET", "inbound": {"body": {}}},
        {"url": "https://${row.a}.example/", "inbound": {"columns": {"a": "a"}}},
        {"url": "https://p.example/${row.b}", "inbound": {"columns": {"a": "a"}}},
        {"inbound": {"body": {"a": "${rowz}"}}},
        {"inbound": {"body": {"a": "${params.a}"}}, "calls": {}},
        {"pagination": {"kind": "page"}, "inbound": {"body": {"a": 1}}},
        {"pagination": {"kind": "cursor", "path": "a", "header": "b"}},
        {"pagination": {"kind": "magic"}},
        {"pagination": {"kind": "cursor"}},
        {"max_response_bytes": 0},
    ],
)
def test_an_endpoint_that_cannot_be_is_refused_when_it_is_made(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Endpoint(name="x", **options)


def key_of(inbound: pl.DataFrame | None, endpoint: Endpoint, credential: str = "") -> str:
    return EndpointCall(inbound, endpoint).key(lambda secret: sha256(secret.encode()).hexdigest(), credential)


def test_whatever_is_sent_and_can_change_the_answer_is_in_the_cache_key_and_nothing_else() -> None:
    mapping = InboundMapping(columns={"zip_code": "zipCode"})
    headers = {"Accept-Language": SecretStr("de"), "X-Key": SecretStr("canary-secret")}
    base = Endpoint(
        name="coupons", url="https://partner.example/api", inbound=mapping, outbound=NUMBERS, headers=headers
    )
    key = key_of(ROWS, base)

    def changed(**options: object) -> str:
        return key_of(ROWS, base.model_copy(update=options))

    assert key == key_of(ROWS.with_columns(city=pl.lit("unsent")), base)
    assert key == changed(retries=9, timeout_seconds=5)
    assert "canary" not in key
    different = [
        changed(url="https://partner.example/other"),
        changed(url="https://partner.example/api?tenant=b"),
        changed(outbound=OutboundMapping(path="b", columns={"code": "code"})),
        changed(inbound=InboundMapping(columns={"zip_code": "zip"})),
        changed(inbound=InboundMapping(columns={"zip_code": "zipCode"}, query={"a": 1})),
        changed(account="header-account/other"),
        changed(headers={**headers, "Accept-Language": SecretStr("fr")}),
        changed(headers={**headers, "X-Key": SecretStr("another")}),
        changed(headers={}),
        changed(method="PUT"),
        changed(pagination=PageNumber()),
        key_of(ROWS, base, credential="another"),
        key_of(ROWS.head(1), base),
    ]
    assert len({key, *different}) == 14
    shared = base.model_copy(update={"cache_ignores": ("x-key", "account")})
    assert key_of(ROWS, shared, "a") == key_of(
        ROWS, shared.model_copy(update={"headers": {**headers, "X-Key": SecretStr("b")}, "account": "x/y"}), "b"
    )
