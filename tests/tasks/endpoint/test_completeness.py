"""All rows, once: partners that page in their own way, over real sockets."""

import json
from collections.abc import Callable
from itertools import count
from typing import Any

import httpx
import pytest

from deployments.sandbox.server import Call, Reply, Server
from tasks.endpoint.answer.mapping import OutboundMapping
from tasks.endpoint.call import EndpointCall
from tasks.endpoint.completeness import marks_of
from tasks.endpoint.endpoint import Endpoint
from tasks.endpoint.fetch import Fetched, Progress, fetch
from tasks.errors import ApiError, ResponseShapeInvalid, StatusRefused

ALLOWED = frozenset({"localhost"})
StartServer = Callable[[Callable[[Call], Reply]], Server]
Respond = Callable[[Call], Reply]
ALL = list(range(25))


def endpoint_at(server: Server, **options: object) -> Endpoint:
    mapping = {"path": "rows", "columns": {"n": {"key": "n", "type": "integer"}}, **options.pop("outbound", {})}
    given = {"name": "numbers", "url": f"{server.address}/rows", "method": "GET", "ca_file": server.ca_file}
    return Endpoint(**{**given, "outbound": OutboundMapping(**mapping), **options})


def fetched(server: Server, **options: object) -> Fetched:
    return fetch(EndpointCall(None, endpoint_at(server, **options)), ALLOWED)


def rows(numbers: list[int], **more: object) -> bytes:
    return json.dumps({"rows": [{"n": n} for n in numbers], **more}).encode()


def number(call: Call, name: str, default: int = 0) -> int:
    return int(call.query.get(name, default))


def capped(call: Call) -> Reply:
    """Gives ten rows at most, whatever is asked for, and says nothing about it."""
    start = number(call, "offset")
    return Reply(rows(ALL[start : start + min(number(call, "limit", 10), 10)]))


def short_pages(call: Call) -> Reply:
    """Pages that are shorter than asked for, but for a flag."""
    start = number(call, "offset")
    return Reply(rows(ALL[start : start + 7], has_more=start + 7 < 25))


def not_found_past_the_end(call: Call) -> Reply:
    page = number(call, "page")
    return (
        Reply(rows(ALL[(page - 1) * 10 : page * 10])) if page <= 3 else Reply(b'{"detail": "Invalid page."}', 404)
    )


def one_page_and_not_found(call: Call) -> Reply:
    return Reply(rows(ALL)) if number(call, "offset") == 0 else Reply(b"{}", 404)


def no_paging(call: Call) -> Reply:
    """Passes over the parameters of a page."""
    return Reply(rows(ALL))


def last_page_again(call: Call) -> Reply:
    page = min(number(call, "page", 1), 3)
    return Reply(rows(ALL[(page - 1) * 10 : page * 10]))


def two_cursors_in_turn() -> Respond:
    served = count()

    def respond(call: Call) -> Reply:
        following = {"": "a", "a": "b", "b": "a"}[call.query.get("cursor", "")]
        return Reply(rows([next(served)], next=following))

    return respond


def by_address(*, relative: bool) -> Respond:
    def respond(call: Call) -> Reply:
        start = number(call, "$skip")
        base = "" if relative else f"https://{call.headers['host']}"
        more = {"@odata.nextLink": f"{base}/rows?$skip={start + 10}"} if start + 10 < 25 else {}
        return Reply(rows(ALL[start : start + 10], **more))

    return respond


def by_quoted_link(call: Call) -> Reply:
    start = number(call, "start")
    title = 'title="a, b; rel=prev"; REL="next last"'
    return Reply(
        rows(ALL[start : start + 10]),
        headers={"Link": f"</rows?start={start + 10}>; {title}"} if start < 20 else {},
    )


@pytest.mark.parametrize(
    ("respond", "pagination", "calls", "says"),
    [
        (capped, {"kind": "offset"}, 4, "did not say whether"),
        (short_pages, {"kind": "offset", "limit": 10}, 4, "said that this was all"),
        (not_found_past_the_end, {"kind": "page", "past_end_statuses": [404]}, 4, "did not say whether"),
        (one_page_and_not_found, {"kind": "offset"}, 2, "did not say whether"),
        (no_paging, {"kind": "offset"}, 2, "did not say whether"),
        (by_address(relative=True), {"kind": "next", "path": "@odata.nextLink"}, 3, "did not say whether"),
        (by_address(relative=False), {"kind": "next", "path": "@odata.nextLink"}, 3, "did not say whether"),
        (by_quoted_link, {"kind": "link"}, 3, "did not say whether"),
    ],
)
def test_all_rows_come_once_whatever_a_partner_s_pages_are_like(
    start_server: StartServer, respond: Respond, pagination: dict[str, Any], calls: int, says: str
) -> None:
    server = start_server(respond)
    came = fetched(server, pagination=pagination)
    assert came.answer.standard["n"].to_list() == ALL
    assert len(server.calls) == calls
    (received,) = came.answer.findings.rows(named=True)
    assert (received["kind"], received["action"]) == ("received", "info")
    assert received["detail"].startswith(f"25 rows, {came.pages} page")
    assert f"{came.bytes} bytes" in received["detail"]
    assert says in received["detail"]


@pytest.mark.parametrize(
    ("respond", "pagination", "says"),
    [
        (no_paging, {"kind": "page"}, "page 2 has the same rows as page 1"),
        (last_page_again, {"kind": "page"}, "page 4 has the same rows as page 3"),
        (two_cursors_in_turn(), {"kind": "cursor", "path": "next"}, "page 4 would be asked for as an earlier page"),
        (not_found_past_the_end, {"kind": "page"}, "HTTP - 404.*Invalid page"),
    ],
)
def test_pages_that_repeat_are_an_error_and_no_rows(
    start_server: StartServer, respond: Respond, pagination: dict[str, Any], says: str
) -> None:
    with pytest.raises(ApiError, match=says):
        fetched(start_server(respond), pagination=pagination)


NONE = httpx.Headers()


@pytest.mark.parametrize(
    ("body", "headers", "said"),
    [
        ({"next": "https://p.example/?p=2"}, NONE, "more"),
        ({"link": [{"relation": "self", "url": "/a"}, {"relation": "next", "url": "/b"}]}, NONE, "more"),
        ({"links": [{"rel": "next", "href": "/b"}]}, NONE, "more"),
        ({"links": [{"rel": "self", "href": "/a"}]}, NONE, "nothing"),
        ({"total": "3573"}, NONE, "more"),
        ({"meta": {"has_next_page": "True"}}, NONE, "more"),
        ({"paging": {"hasMore": "false"}}, NONE, "all"),
        ({"IsTruncated": "true", "NextMarker": "k"}, NONE, "more"),
        ({"exceededTransferLimit": True}, NONE, "more"),
        ({"incomplete_results": True}, NONE, "more"),
        ({"incomplete_results": False}, NONE, "nothing"),
        ({"resumptionToken": "t"}, NONE, "more"),
        ({"nextStartIndex": "100"}, NONE, "more"),
        ({"totalPages": "9"}, NONE, "more"),
        ({"@odata.nextLink": "x"}, NONE, "more"),
        ({"links": {"next": {"href": "/x"}}}, NONE, "more"),
        ({"_links": {"next": {"href": "/x"}}}, NONE, "more"),
        ({"meta": {"next_cursor": "abc"}}, NONE, "more"),
        ({"response_metadata": {"next_cursor": ""}}, NONE, "all"),
        ({"nextPageToken": "t"}, NONE, "more"),
        ({"nextRecordsUrl": "/q", "done": False}, NONE, "more"),
        ({"done": True}, NONE, "all"),
        ({"has_more": True}, NONE, "more"),
        ({"has_more": False}, NONE, "all"),
        ({"pageInfo": {"hasNextPage": True}}, NONE, "more"),
        ({"last": False, "totalPages": 1}, NONE, "more"),
        ({"page": {"totalElements": 6}}, NONE, "more"),
        ({"total": 5}, NONE, "all"),
        ({"total": 6}, NONE, "more"),
        ({"total": 4}, NONE, "nothing"),
        ({"count": 6, "next": None}, NONE, "more"),
        ({"count": 5}, NONE, "nothing"),
        ({"total_pages": 2}, NONE, "more"),
        ({"total_pages": 1}, NONE, "all"),
        ({"next": None}, NONE, "all"),
        ({"next": {"match": "A - B"}}, NONE, "nothing"),
        ({"total": "6"}, NONE, "more"),
        ({"total": "six"}, NONE, "nothing"),
        ({}, NONE, "nothing"),
        ([], NONE, "nothing"),
        ([], httpx.Headers({"Link": '<?p=2>; rel="next last"'}), "more"),
        ([], httpx.Headers({"Link": '<?p=1>; rel="prev"'}), "all"),
        ([], httpx.Headers([("Link", '<?p=1>; rel="prev"'), ("Link", "<?p=3>; REL=next")]), "more"),
    ],
)
def test_marks_of_more_are_known_by_many_names(body: object, headers: httpx.Headers, said: str) -> None:
    marks = marks_of(body, headers, rows=5, pages=1, whole=False)
    assert ("more" if marks.more else "all" if marks.all else "nothing") == said


@pytest.mark.parametrize(
    "reply",
    [
        Reply(rows([1], has_more=True)),
        Reply(rows([1], paging={"total": 7})),
        Reply(rows([1], paging={"total": "7"})),
        Reply(rows([1], link=[{"relation": "next", "url": "/rows?p=2"}])),
        Reply(rows([1], exceededTransferLimit=True)),
        Reply(rows([1]), headers={"Link": '</rows?p=2>; rel="next"'}),
    ],
)
def test_more_that_nobody_follows_is_what_the_contract_says(start_server: StartServer, reply: Reply) -> None:
    server = start_server(lambda call: reply)
    findings = fetched(server).answer.findings
    assert findings.select("kind", "action").rows() == [("more", "warn"), ("received", "info")]
    assert "not all rows came: the partner says that there is more" in findings["detail"][0]
    assert fetched(server, outbound={"contract": {"more": "accept"}}).answer.findings.height == 1
    with pytest.raises(ResponseShapeInvalid, match="not all rows came"):
        fetched(server, outbound={"contract": {"more": "error"}})


def test_a_retry_goes_on_at_the_page_that_failed(start_server: StartServer) -> None:
    failed: list[str] = []

    def respond(call: Call) -> Reply:
        if number(call, "page") == 2 and not failed:
            failed.append("once")
            return Reply(b"{}", 503)
        return not_found_past_the_end(call)

    server = start_server(respond)
    pages = {"kind": "page", "size": 10}
    for resume, asked in ((True, ["1", "2", "2", "3"]), (False, ["1", "2", "1", "2", "3"])):
        failed.clear()
        server.calls.clear()
        call = EndpointCall(None, endpoint_at(server, pagination=pages, resume=resume))
        progress = Progress()
        with pytest.raises(StatusRefused):
            fetch(call, ALLOWED, progress=progress)
        assert fetch(call, ALLOWED, progress=progress).answer.standard["n"].to_list() == ALL
        assert [each.query["page"] for each in server.calls] == asked


def test_a_rate_limit_is_asked_before_each_request(start_server: StartServer) -> None:
    taken = []

    async def take() -> None:
        taken.append(1)

    call = EndpointCall(None, endpoint_at(start_server(capped), pagination={"kind": "offset", "limit": 10}))
    fetch(call, ALLOWED, before_request=take)
    assert len(taken) == 3


def test_nothing_found_can_be_a_status(start_server: StartServer) -> None:
    came = fetched(start_server(lambda call: Reply(b"no such thing", 404)), empty_statuses=[404])
    assert came.answer.standard.is_empty()
    assert came.answer.standard.columns == ["n"]


@pytest.mark.parametrize(
    ("headers", "status", "says"),
    [
        ({"Content-Range": "0-1/25"}, 206, "its Content-Range is 0-1/25"),
        ({"Content-Range": "items 0-1/25"}, 206, "its Content-Range is items 0-1/25"),
        ({"Content-Range": "0-1/2"}, 200, "this was all"),
        ({"Content-Range": "0-1/*"}, 206, "did not say"),
        ({"X-Total-Count": "25"}, 200, "'x-total-count' is 25, and 2 rows came"),
        ({"X-Total-Count": "2"}, 200, "this was all"),
        ({"X-WP-Total": "25", "X-WP-TotalPages": "13"}, 200, "there is more"),
        ({"X-Total-Pages": "3"}, 200, "'x-total-pages' is 3"),
        ({"X-Next-Page": "2"}, 200, "'x-next-page' names what comes next"),
        ({"X-Next-Page": ""}, 200, "this was all"),
        ({"X-Has-More": "true"}, 200, "'x-has-more' is true"),
        ({"X-RateLimit-Remaining": "25", "X-Request-Id": "25", "X-Page": "1"}, 200, "did not say"),
    ],
)
def test_a_header_field_that_counts_or_points_on_is_a_mark_too(
    start_server: StartServer, headers: dict[str, str], status: int, says: str
) -> None:
    came = fetched(start_server(lambda call: Reply(rows([1, 2]), status, headers)))
    assert says in came.answer.findings["detail"][-1]


def test_an_answer_that_is_only_accepted_is_asked_for_again(start_server: StartServer) -> None:
    server = start_server(lambda call: Reply(b'{"status": "processing"}', 202))
    with pytest.raises(StatusRefused, match="only accepted") as refused:
        fetched(server)
    assert refused.value.retryable
