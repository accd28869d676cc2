"""Answers in other formats than JSON: through the same guards, contract and types, over real sockets."""

import gzip
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import pytest

from deployments.sandbox.server import Call, Reply, Server
from tasks.endpoint.answer.mapping import OutboundMapping
from tasks.endpoint.call import EndpointCall
from tasks.endpoint.endpoint import Endpoint
from tasks.endpoint.fetch import Fetched, fetch
from tasks.errors import ApiError, ContentTypeRefused, ResponseMalformed, ResponseShapeInvalid, ResponseTooLarge

StartServer = Callable[[Callable[[Call], Reply]], Server]

RSS = """<?xml version="1.0" encoding="ISO-8859-1"?>
<!DOCTYPE rss PUBLIC "-//Netscape//DTD RSS 0.91//EN" "http://localhost/rss.dtd">
<rss version="2.0" xmlns:media="http://search.yahoo.com/mrss/"><channel><title>News</title>
<item><title>Caf\u00e9 &amp; more</title><guid isPermaLink="false">007</guid><media:title>m</media:title>
  <category domain="d">x</category><category>y</category><stock><left>3</left></stock></item>
<item><title><![CDATA[1 < 2]]></title><guid isPermaLink="true">008</guid><media:title>n</media:title>
  <category>x</category><stock><left>4</left></stock></item>
</channel></rss>"""
ECB = """<gesmes:Envelope xmlns:gesmes="http://www.gesmes.org/xml/2002-08-01"><gesmes:subject>Rates</gesmes:subject>
<Cube><Cube time="2026-11-24"><Cube currency="USD" rate="1.05"/><Cube currency="JPY" rate="160.1"/></Cube></Cube>
</gesmes:Envelope>"""
CSV = (
    "id;zip;price;sold;on;since\n1;01234;1,50;true;2026-11-24;1700000000\n2;00001;-20;false;2026-11-25;1700000001\n"
)
GERMAN = {"kind": "csv", "separator": ";", "encoding": "cp1252", "decimal": ","}


def fetched(server: Server, outbound: dict[str, Any], **options: Any) -> Fetched:
    given = {"name": "file", "url": f"{server.address}/file", "method": "GET", "ca_file": server.ca_file}
    endpoint = Endpoint(**given, outbound=OutboundMapping(**outbound), **options)
    return fetch(EndpointCall(None, endpoint), frozenset({"localhost"}))


def answering(body: bytes, content_type: str, status: int = 200) -> Callable[[Call], Reply]:
    return lambda call: Reply(body, status, {"Content-Type": content_type})


def test_a_feed_becomes_rows_by_the_path_that_its_sample_implies(start_server: StartServer) -> None:
    server = start_server(answering(RSS.encode("latin-1"), "application/rss+xml"))
    table = fetched(server, {"format": "xml", "sample": RSS}).answer.standard
    assert server.calls[0].headers["accept"].startswith("application/xml")
    assert table.to_dicts() == [
        {
            "title": "Café & more",
            "guid_isPermaLink": False,
            "guid": "007",
            "media_title": "m",
            "category_domain": "d",
            "category": ["x", "y"],
            "stock_left": 3,
        },
        {
            "title": "1 < 2",
            "guid_isPermaLink": True,
            "guid": "008",
            "media_title": "n",
            "category_domain": None,
            "category": ["x"],
            "stock_left": 4,
        },
    ]


@pytest.mark.parametrize("items", [0, 1])
def test_a_feed_of_one_item_has_one_row_and_an_empty_one_has_none(start_server: StartServer, items: int) -> None:
    first, last = RSS.index("<item>"), RSS.index("</item>") + len("</item>")
    body = RSS[:first] + RSS[first:last] * items + "</channel></rss>"
    server = start_server(answering(body.encode("latin-1"), "text/xml; charset=iso-8859-1"))
    answer = fetched(server, {"format": "xml", "sample": RSS}).answer
    assert answer.standard["category"].to_list() == [["x", "y"]] * items
    assert answer.findings["kind"].to_list() == (["received"] if items else ["empty", "received"])


def test_rows_of_attributes_alone_and_values_around_them(start_server: StartServer) -> None:
    server = start_server(answering(ECB.encode(), "application/xml"))
    assert fetched(server, {"format": "xml", "sample": ECB}).answer.standard.rows() == [
        ("USD", 1.05),
        ("JPY", 160.1),
    ]
    columns = {
        "day": {"key": '"@time"', "at": '"gesmes:Envelope".Cube.Cube[]', "type": "date"},
        "rate": {"key": "@rate", "type": "decimal", "scale": 3},
    }
    path = '"gesmes:Envelope".Cube.Cube[].Cube[]'
    table = fetched(server, {"format": "xml", "path": path, "columns": columns}).answer.standard
    assert [(day, str(rate)) for day, rate in table.rows()] == [
        (date(2026, 11, 24), "1.050"),
        (date(2026, 11, 24), "160.100"),
    ]


def test_csv_of_another_country_becomes_typed_rows(start_server: StartServer) -> None:
    body = CSV.replace("01234", "é1234").encode("cp1252")
    server = start_server(answering(body, "text/csv"))
    columns = OutboundMapping(format=GERMAN, sample=CSV).columns
    assert {name: column.type for name, column in columns.items()} == {
        "id": "integer",
        "zip": "text",
        "price": "number",
        "sold": "boolean",
        "on": "date",
        "since": "integer",
    }
    moment = {"since": {"key": "since", "type": "datetime", "format": "epoch_seconds"}}
    answer = fetched(server, {"format": GERMAN, "columns": {**columns, **moment}}).answer
    assert answer.standard.rows() == [
        (1, "é1234", 1.5, True, date(2026, 11, 24), datetime(2023, 11, 14, 22, 13, 20)),
        (2, "00001", -20.0, False, date(2026, 11, 25), datetime(2023, 11, 14, 22, 13, 21)),
    ]


def test_a_decimal_comma_counts_where_columns_are_written_by_hand(start_server: StartServer) -> None:
    server = start_server(answering(CSV.encode(), "text/plain"))
    columns = {
        "price": {"key": "price", "type": "decimal"},
        "point": {"key": "price", "type": "number", "decimal_separator": ".", "on_bad_value": "null"},
    }
    table = fetched(server, {"format": GERMAN, "columns": columns}).answer.standard
    assert [(str(price), point) for price, point in table.rows()] == [("1.50", None), ("-20.00", -20.0)]


def test_csv_without_a_header(start_server: StartServer) -> None:
    server = start_server(answering(b'1,"a, ""b"""\n2,\n', "application/octet-stream"))
    mapping = {
        "format": {"kind": "csv", "header": False},
        "columns": {"id": {"key": "1", "type": "integer"}, "b": "2"},
    }
    assert fetched(server, mapping).answer.standard.rows() == [(1, 'a, "b"'), (2, None)]


def test_a_value_a_line_keeps_every_digit_and_the_contract(start_server: StartServer) -> None:
    lines = b'{"a": 1.10, "b": {"c": true}}\r\n\n{"a": 12345678901234567890, "b": null, "new": 1}'
    server = start_server(answering(lines, "application/x-ndjson; charset=utf-8"))
    columns = {"a": {"key": "a"}, "c": {"key": "b.c", "type": "boolean"}}
    answer = fetched(server, {"format": "ndjson", "columns": columns, "properties": ["a", "b"]}).answer
    assert answer.standard.rows() == [("1.10", True), ("12345678901234567890", None)]
    assert answer.findings["kind"].to_list() == ["new", "received"]


def test_moments_since_1970_in_json(start_server: StartServer) -> None:
    body = b'[{"t": 1700000000123}, {"t": "1700000000123.456"}, {"t": 1.7e12}, {"t": -1}, {"t": null}]'
    server = start_server(answering(body, "application/vnd.partner+json"))
    column = {"key": "t", "type": "datetime", "format": "epoch_milliseconds", "on_bad_value": "null"}
    table = fetched(server, {"columns": {"t": column}}).answer.standard
    assert table["t"].to_list() == [
        datetime(2023, 11, 14, 22, 13, 20, 123000),
        datetime(2023, 11, 14, 22, 13, 20, 123456),
        None,
        datetime(1969, 12, 31, 23, 59, 59, 999000),
        None,
    ]


def test_a_page_of_csv_follows_another(start_server: StartServer) -> None:
    def respond(call: Call) -> Reply:
        page = int(call.query["page"])
        return Reply(b"n\n" + (b"%d\n" % page if page < 4 else b""), 200, {"Content-Type": "text/csv"})

    server = start_server(respond)
    mapping = {"format": "csv", "columns": {"n": {"key": "n", "type": "integer"}}}
    came = fetched(server, mapping, pagination={"kind": "page"})
    assert came.answer.standard["n"].to_list() == [1, 2, 3]


XML = {"format": "xml", "path": "a.b", "columns": {"x": "x"}}
LINES = {"format": "ndjson", "columns": {"x": "x"}}
TABLE = {"format": "csv", "columns": {"x": "x", "y": "y"}}
LAUGHS = b'<!DOCTYPE a [<!ENTITY l "lol"><!ENTITY m "&l;&l;&l;">]><a><b><x>&m;</x></b></a>'


@pytest.mark.parametrize(
    ("body", "outbound"),
    [
        (b'{"x": 1}\n{"error": {"code": 7, "message": "shard lost"}}\n', LINES),
        (b'[{"x": 1}, {"error": "shard lost"}, {"error": "shard 2 lost"}]', {"columns": {"x": "x"}}),
    ],
)
def test_an_error_in_place_of_a_row_is_what_the_contract_says(
    start_server: StartServer, body: bytes, outbound: dict[str, Any]
) -> None:
    server = start_server(answering(body, "application/json"))
    with pytest.raises(ResponseShapeInvalid, match=r"row 2 is an error, .*shard lost"):
        fetched(server, outbound)
    warned = fetched(server, {**outbound, "contract": {"missing": "warn"}}).answer
    assert "row 2 is an error" in warned.findings["detail"][0]
    assert warned.standard["x"][0] == "1"
    read = {**outbound, "columns": {"x": "x", "why": "error"}, "contract": {"changed": "accept"}}
    assert fetched(server, read).answer.standard["why"][1] is not None, "an error that is a column is a value"


@pytest.mark.parametrize(
    ("body", "content_type", "mapping", "error", "words"),
    [
        (LAUGHS, "text/xml", XML, ResponseMalformed, "entity 'l'"),
        (
            b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a/>',
            "text/xml",
            XML,
            ResponseMalformed,
            "entity",
        ),
        (b'<!DOCTYPE a [<!ENTITY % x SYSTEM "http://localhost/x">%x;]><a/>', "text/xml", XML, ApiError, "entity"),
        (b'<!DOCTYPE a SYSTEM "x"><a><b>&nbsp;</b></a>', "text/xml", XML, ResponseMalformed, "entity 'nbsp'"),
        (b"<a><b></a>", "text/xml", XML, ResponseMalformed, "mismatched tag"),
        (b"<a/><a/>", "text/xml", XML, ResponseMalformed, "no XML"),
        (b"", "text/xml", XML, ResponseMalformed, "no element"),
        (b"<a>\xff</a>", "text/xml", XML, ResponseMalformed, "no XML"),
        (b'<?xml version="1.0" encoding="zz"?><a/>', "text/xml", XML, ResponseMalformed, "encoding"),
        (b"<a>" * 100_000, "text/xml", XML, ResponseShapeInvalid, "deeper than 10"),
        (b"<html/>", "text/html", XML, ContentTypeRefused, "content_types"),
        (
            b"<error><message>No right</message></error>",
            "text/xml",
            XML,
            ResponseShapeInvalid,
            "'error', not 'a': No right",
        ),
        (b"<a><b><x><y/></x></b></a>", "text/xml", XML, ResponseShapeInvalid, "object"),
        (b'{"x": 1}\n{"x": ', "application/jsonl", LINES, ResponseMalformed, "line 2"),
        (b'{"x": 1},\n', "application/jsonl", LINES, ResponseMalformed, "line 1"),
        (b'{"x": NaN}', "application/jsonl", LINES, ResponseMalformed, "NaN"),
        (b'{"x": ' + b"[" * 20 + b"]" * 20 + b"}", "application/jsonl", LINES, ResponseShapeInvalid, "deeper"),
        (b"[1]\n", "application/jsonl", LINES, ResponseShapeInvalid, "not objects"),
        (gzip.compress(b"x,y\n1,2\n"), "text/csv", TABLE, ResponseMalformed, "Content-Encoding"),
        (
            b"<s:E><s:Body><s:Fault><faultstring>No right</faultstring></s:Fault></s:Body></s:E>",
            "text/xml",
            {**XML, "path": '"s:E"."s:Body".rows.row'},
            ResponseShapeInvalid,
            "has 's:Fault': No right",
        ),
        (b"x;y\n1;2\n", "text/csv", TABLE, ResponseMalformed, "Set separator to ';'"),
        (b"x,y\n1\n", "text/csv", TABLE, ResponseMalformed, "record 1 has 1 values"),
        (b"x,x\n1,2\n", "text/csv", TABLE, ResponseMalformed, "more than once"),
        (b"x,y\n\xff,2\n", "text/csv", TABLE, ResponseMalformed, "Windows-1252"),
        (b"x,z\n1,2\n", "text/csv", TABLE, ResponseShapeInvalid, "has 'y'"),
        (b"<html>x,y</html>", "text/html", TABLE, ContentTypeRefused, "text/html"),
        (b"x,y\n" + b"1,2\n" * 100, "text/csv", {**TABLE, "max": 1}, ResponseTooLarge, "more than 100 bytes"),
    ],
)
def test_what_is_not_of_its_format_is_refused_by_name(
    start_server: StartServer, body: bytes, content_type: str, mapping: dict[str, Any], error: type, words: str
) -> None:
    options = {"max_response_bytes": 100} if "max" in mapping else {}
    mapping = {name: value for name, value in mapping.items() if name != "max"}
    with pytest.raises(error, match=words):
        fetched(start_server(answering(body, content_type)), mapping, **options)


def test_nothing_is_no_rows_in_every_format(start_server: StartServer) -> None:
    for body, content_type, mapping in (
        (b"", "text/csv", TABLE),
        (b"x,y\n", "text/csv", TABLE),
        (b"\n", "application/x-ndjson", LINES),
        (b"<a/>", "text/xml", XML),
    ):
        assert fetched(start_server(answering(body, content_type)), mapping).answer.standard.height == 0


def test_a_partner_may_call_a_format_as_it_likes(start_server: StartServer) -> None:
    server = start_server(answering(b'[{"x": "1"}]', "text/plain; charset=utf-8"))
    with pytest.raises(ContentTypeRefused):
        fetched(server, {"columns": {"x": "x"}})
    assert fetched(server, {"columns": {"x": "x"}, "content_types": ["text/plain"]}).rows == 1


def test_a_way_of_three_names_has_its_empty_days_too(start_server: StartServer) -> None:
    server = start_server(answering(b'{"a": {"b": null}}', "application/json"))
    answer = fetched(server, {"path": "a.b.c", "columns": {"x": "x"}}).answer
    assert answer.findings["kind"].to_list() == ["empty", "received"]
