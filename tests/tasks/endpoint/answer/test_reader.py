import gc
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tasks.endpoint.answer.body import Body
from tasks.endpoint.answer.mapping import OutboundMapping
from tasks.endpoint.answer.reader import Answer, elements_of, read_answer
from tasks.errors import ApiError, ResponseMalformed, ResponseShapeInvalid
from tasks.runs.results import ArrowSerializer

URL = "https://partner.example/api"
RealAnswer = Callable[[str], bytes]


def read(answer: object, **options: object) -> Answer:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return read_answer([body], OutboundMapping(**options), url=URL)


def rows(answer: Answer) -> list[dict[str, Any]]:
    return answer.standard.to_dicts()


def column(key: str, **options: object) -> dict[str, object]:
    return {"key": key, **options}


def test_rows_are_read_with_the_types_of_their_columns() -> None:
    answer = read(
        b"""{"data": {"rows": [
            {"t": "x", "i": 7, "n": 1, "d": 1.10, "b": true, "on": "2026-11-24", "at": "2026-11-24T07:30Z",
             "l": ["a"]},
            {"t": 5, "i": "8", "n": 2.5, "d": "2.5", "b": "false", "on": null, "at": "2026-11-24T07:30:00+01:00"},
            {"t": 1.50, "i": 9.0, "n": "3e1", "b": 0, "l": []},
            {}]}}""",
        path="data.rows",
        columns={
            "text": "t",
            "whole": column("i", type="integer"),
            "number": column("n", type="number"),
            "price": column("d", type="decimal"),
            "flag": column("b", type="boolean"),
            "day": column("on", type="date"),
            "moment": column("at", type="datetime"),
            "tags": column("l", many=True),
        },
    )
    assert answer.standard.rows() == [
        ("x", 7, 1.0, Decimal("1.10"), True, date(2026, 11, 24), datetime(2026, 11, 24, 7, 30), ["a"]),
        ("5", 8, 2.5, Decimal("2.50"), False, None, datetime(2026, 11, 24, 6, 30), None),
        ("1.50", 9, 30.0, None, False, None, None, []),
        (None,) * 8,
    ]
    assert [answer.rejects.height, answer.replaced.height, answer.findings.height] == [0, 0, 0]


@pytest.mark.parametrize(
    ("answer", "options", "expected"),
    [
        ([{"a": 1}, {"a": 2}], {"columns": {"x": "a"}}, [{"x": "1"}, {"x": "2"}]),
        ([], {"columns": {"x": "a"}}, []),
        (
            {"r": [{"team": {"name": "A"}}, {"team": None}]},
            {"path": "r", "columns": {"x": "team.name"}},
            [{"x": "A"}, {"x": None}],
        ),
        ([{"zip-code": "1", "a.b": "2"}], {"columns": {"x": "zip-code", "y": '"a.b"'}}, [{"x": "1", "y": "2"}]),
        (
            [{"t": ["a", 1, None, True]}],
            {"columns": {"x": column("t", many=True)}},
            [{"x": ["a", "1", None, "true"]}],
        ),
        ([{"t": [1, 2.0]}], {"columns": {"x": column("t", many=True, type="integer")}}, [{"x": [1, 2]}]),
        ([{"t": [{"n": "a"}, {"n": "b"}]}], {"columns": {"x": column("t[].n", many=True)}}, [{"x": ["a", "b"]}]),
        ([{"t": ["a", "b"]}], {"columns": {"x": "t[0]", "y": "length(t)"}}, [{"x": "a", "y": "2"}]),
        (["a", "b"], {"columns": {"x": "@"}}, [{"x": "a"}, {"x": "b"}]),
        (
            {"v": "w", "r": [{"a": 1, "s": [{"b": 1}, {"b": 2}]}, {"a": 2, "s": []}, {"a": 3, "s": [{"b": 3}]}]},
            {"path": "r[].s[]", "columns": {"b": "b", "a": column("a", at="r[]"), "v": column("v", at="@")}},
            [{"b": "1", "a": "1", "v": "w"}, {"b": "2", "a": "1", "v": "w"}, {"b": "3", "a": "3", "v": "w"}],
        ),
        (
            {"edges": [{"cursor": "c", "node": {"id": 1}}, {"cursor": "d", "node": {"id": 2}}]},
            {"path": "edges[].node", "columns": {"id": "id", "cursor": column("cursor", at="edges[]")}},
            [{"id": "1", "cursor": "c"}, {"id": "2", "cursor": "d"}],
        ),
        (
            [{"p": "x", "d": {"t": [1, 2], "m": [3.5, None]}}, {"p": "y", "d": {"t": [3], "m": [4]}}],
            {
                "path": "[].d",
                "parallel": True,
                "columns": {"t": "t", "m": column("m", type="number"), "p": column("p", at="[]")},
            },
            [{"t": "1", "m": 3.5, "p": "x"}, {"t": "2", "m": None, "p": "x"}, {"t": "3", "m": 4.0, "p": "y"}],
        ),
        (
            {"a": {"b": [{"c": 1}, {"c": 2}]}, "d": None},
            {"flatten": True, "columns": {"x": "a.b[1].c", "y": "d", "z": column("a.b[5].c", optional=True)}},
            [{"x": "2", "y": None, "z": None}],
        ),
        (
            {"r": [{"n": 5, "x": 1}, {"n": 50, "x": 2}]},
            {"path": "r[?n > `10`]", "columns": {"x": "x"}},
            [{"x": "2"}],
        ),
        ([{"a": 1, "b": 2}], {"columns": {"x": "a", "y": column("b", ignore=True)}}, [{"x": "1"}]),
    ],
)
def test_answers_of_many_shapes_are_rows(answer: object, options: dict[str, Any], expected: list[Any]) -> None:
    assert rows(read(answer, **options)) == expected


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("1.10", "1.10"),
        ("1E5", "1E5"),
        ("-0", "0"),
        ("-0.0", "-0.0"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("18446744073709551616", "18446744073709551616"),
        ("-9223372036854775809", "-9223372036854775809"),
        ("true", "true"),
        ('"\\u00e9\\ud83d\\ude00"', "é😀"),
        ('""', ""),
    ],
)
def test_a_text_column_holds_a_value_as_it_was_written(written: str, text: str) -> None:
    assert rows(read(f'[{{"v": {written}}}]'.encode(), columns={"v": "v"})) == [{"v": text}]


def test_of_a_property_named_twice_the_last_counts() -> None:
    assert rows(read(b'[{"v": "first", "v": "last"}]', columns={"v": "v"})) == [{"v": "last"}]
    assert rows(read(b'[{"v": "first", "v": 1.10}]', columns={"v": "v"})) == [{"v": "1.10"}]


def test_a_bad_value_rejects_its_line_with_the_reason_and_the_raw_value() -> None:
    answer = read(
        b'[{"id": 1, "p": 9.5}, {"id": 99999999999999999999, "p": 1}, {"id": 3, "p": "x"}, {"id": 4, "p": ""}]',
        columns={"id": column("id", type="integer"), "price": column("p", type="number")},
    )
    assert rows(answer) == [{"id": 1, "price": 9.5}]
    assert answer.rejects.rows() == [
        (2, "id", "is beyond 64-bit integers", "99999999999999999999"),
        (3, "price", "is not a number", "x"),
        (4, "price", "is empty", ""),
    ]


def test_a_bad_value_of_a_strict_column_refuses_the_answer() -> None:
    with pytest.raises(ResponseShapeInvalid, match=r"row 2: 'v' is not a date.*WKF-560240"):
        read([{"v": None}, {"v": "x"}], columns={"v": column("v", type="date", on_bad_value="error")})


def test_a_number_is_read_into_a_column_of_other_separators() -> None:
    comma = {"type": "number", "decimal_separator": ",", "thousands_separator": "."}
    answer = read(b'[{"v": 1.500}, {"v": "1.500"}, {"v": "2,5"}, {"v": 3}]', columns={"v": column("v", **comma)})
    assert answer.standard["v"].to_list() == [1.5, 1500.0, 2.5, 3.0]


def test_pages_are_one_table_and_one_count_of_rows() -> None:
    mapping = OutboundMapping(path="r", columns={"id": column("id", type="integer"), "late": "late"})
    pages = [b'{"r": [{"id": 1}, {"id": "x"}]}', b'{"r": []}', b'{"r": [{"id": 3, "late": 1.10}, {"id": "y"}]}']
    answer = read_answer(pages, mapping, url=URL)
    assert rows(answer) == [{"id": 1, "late": None}, {"id": 3, "late": "1.10"}]
    assert answer.rejects["row"].to_list() == [2, 4]


@pytest.mark.parametrize(
    ("page", "options", "count"),
    [
        (b'{"r": [{"x": 1}, {"y": "bad"}]}', {"path": "r"}, 2),
        (b'{"r": []}', {"path": "r"}, 0),
        (b'{"r": [{"s": [{}, {}]}, {"s": [{}]}]}', {"path": "r[].s[]"}, 3),
        (b'{"a": [1, 2, 3]}', {"parallel": True}, 3),
        (b'{"r": [{"n": 1}, {"n": 2}]}', {"path": "r[?n > `1`]"}, 1),
        (b"{}", {"flatten": True}, 1),
    ],
)
def test_the_rows_of_a_page_are_counted_whatever_they_lack(
    page: bytes, options: dict[str, Any], count: int
) -> None:
    mapping = OutboundMapping(columns={"a": column("a", type="integer", on_bad_value="error")}, **options)
    assert len(elements_of(Body(page, mapping, URL), mapping)) == count
    with pytest.raises(ResponseMalformed):
        elements_of(Body(b"", mapping, URL), mapping)


@pytest.mark.parametrize(
    "options",
    [
        {"path": "r"},
        {"path": "r[].s[]"},
        {"path": "[].r", "parallel": True},
        {"flatten": True},
        {"path": "r[?a]"},
    ],
)
def test_no_page_at_all_as_after_204_is_no_rows_of_the_right_types(options: dict[str, Any]) -> None:
    columns = {"a": "a", "n": column("n", type="integer"), "l": column("l", many=True, type="date")}
    answer = read_answer([], OutboundMapping(columns=columns, **options), url=URL)
    assert answer.standard.schema == {"a": pl.String(), "n": pl.Int64(), "l": pl.List(pl.Date())}
    assert answer.standard.is_empty()


@pytest.mark.parametrize(
    ("body", "error", "code", "says"),
    [
        (b"", ResponseMalformed, "WKF-560241", "empty body"),
        (b"<html>", ResponseMalformed, "WKF-560241", "no JSON"),
        (b'{"rows": [{"v": 1}]} x', ResponseMalformed, "WKF-560241", "no JSON"),
        (b'{"rows": [{"v": NaN}]}', ResponseMalformed, "WKF-560241", "NaN"),
        (b'{"rows": [{"v": -Infinity}]}', ResponseMalformed, "WKF-560241", "-Infinity"),
        (b'{"rows": [{"v": "\xff"}]}', ResponseMalformed, "WKF-560241", "not UTF-8"),
        (b'{"rows": [{"v": "\\ud800"}]}', ResponseShapeInvalid, "WKF-560240", "lone surrogate"),
        (b'{"rows": [{"v": 1e999}]}', ResponseShapeInvalid, "WKF-560240", "beyond 64-bit floating numbers"),
        (b'{"rows": ' + b"[" * 10 + b"]" * 10 + b"}", ResponseShapeInvalid, "WKF-560240", "deeper than 10 levels"),
        (
            b'{"rows": [{"' + b"k" * 256 + b'": 1}]}',
            ResponseShapeInvalid,
            "WKF-560240",
            "property name has 256 characters",
        ),
        (b'{"other": []}', ResponseShapeInvalid, "WKF-560240", "no array at 'rows'"),
        (b'{"rows": [1]}', ResponseShapeInvalid, "WKF-560240", "values that are not objects"),
        (b'{"rows": [{"v": 1}, null]}', ResponseShapeInvalid, "WKF-560240", "values that are not objects"),
        (b'{"rows": [{"w": 1}]}', ResponseShapeInvalid, "WKF-560240", "has 'v', only 'w'"),
        (b'{"rows": [{"v": {"a": 1}}]}', ResponseShapeInvalid, "WKF-560240", "'v' is an object, not of type text"),
        (b'{"rows": [{"v": [1]}]}', ResponseShapeInvalid, "WKF-560240", "'v' is a list, not of type text"),
    ],
)
def test_every_guard_refuses_an_answer_with_its_code(
    body: bytes, error: type[ApiError], code: str, says: str
) -> None:
    with pytest.raises(error, match=says) as refused:
        read(body, path="rows", columns={"v": "v"})
    assert code in str(refused.value)


SAMPLE = {"rows": [{"zip": "02134", "price": 9.5, "stock": 3, "tags": ["a"], "team": {"name": "x"}, "old": True}]}


@pytest.mark.parametrize(
    ("row", "kind", "name", "says"),
    [
        ({"price": 9}, None, "", ""),
        ({"tags": []}, None, "", ""),
        ({"team": None}, "missing", "team_name", "no object at 'rows\\[\\]' has 'team.name'"),
        ({"team": {}}, "missing", "team_name", "has 'team.name'"),
        ({"old": None}, None, "", ""),
        ({"extra": 1}, "new", "extra", "'extra' is new"),
        ({"zip": 2134}, "changed", "zip", "'zip' is a number, not a text as in the sample"),
        ({"price": "9.5"}, "changed", "price", "'price' is a text, not a number as in the sample"),
        ({"stock": 3.0}, None, "", ""),
        (
            {"stock": 3.5},
            "changed",
            "stock",
            "'stock' is a number with a fraction, not a whole number as in the sample",
        ),
        ({"stock": "3"}, "changed", "stock", "'stock' is a text, not a number as in the sample"),
        ({"price": True}, "changed", "price", "'price' is a boolean, not a number"),
        ({"tags": "a"}, "changed", "tags", "'tags' is a plain value, not a list"),
        ({"tags": [1]}, "changed", "tags", "'tags' is a number, not a text"),
        ({"tags": [["a"]]}, "changed", "tags", "'tags' is a list, not of type text"),
        ({"zip": {"code": "1"}}, "changed", "zip", "'zip' is an object, not of type text"),
    ],
)
def test_a_changed_answer_is_found_and_dealt_with_as_the_contract_says(
    row: dict[str, Any], kind: str | None, name: str, says: str
) -> None:
    answer = {"rows": [{**SAMPLE["rows"][0], **row}]}
    if kind is None:
        assert read(answer, sample=SAMPLE).findings.is_empty()
        return
    with pytest.raises(ResponseShapeInvalid, match=says):
        read(answer, sample=SAMPLE, contract={kind: "error"})
    warned = read(answer, sample=SAMPLE, contract={kind: "warn"})
    said = warned.findings.filter(pl.col("kind") != "unreadable").select("kind", "column", "action")
    assert said.rows() == [(kind, name, "warn")]
    accepted = read(answer, sample=SAMPLE, contract={kind: "accept", "unreadable": "accept"})
    assert accepted.findings.is_empty()
    assert warned.standard.schema == read(SAMPLE, sample=SAMPLE).standard.schema


def test_the_nearest_property_to_a_missing_one_is_named() -> None:
    with pytest.raises(ResponseShapeInvalid, match=r"has 'code', only 'Code'. Did you mean 'Code'"):
        read([{"Code": 1}], columns={"v": "code"})


def test_what_some_rows_lack_is_null_and_no_finding() -> None:
    answer = {"rows": [SAMPLE["rows"][0], {"zip": "1"}]}
    read_through = read(answer, sample=SAMPLE)
    assert rows(read_through)[1] == dict.fromkeys(read_through.standard.columns) | {"zip": "1"}
    assert read_through.findings.is_empty()


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize(("kind", "json_type"), [("text", "number"), ("integer", "text"), ("boolean", "number")])
def test_null_is_of_any_type(kind: str, json_type: str, many: bool) -> None:
    columns = {"v": column("v", type=kind, json_type=json_type, many=many)}
    for null in (None, [], [None]) if many else (None,):
        assert read([{"v": null}], columns=columns).findings.is_empty()


def test_an_optional_column_and_an_answer_without_rows_lack_nothing() -> None:
    columns = {"v": "v", "w": column("w", optional=True)}
    assert rows(read([{"v": 1}], columns=columns)) == [{"v": "1", "w": None}]
    assert read([], columns=columns).findings.is_empty()


def test_properties_are_new_only_to_a_mapping_that_knows_its_sample() -> None:
    assert read([{"v": 1, "x": 2}], columns={"v": "v"}).findings.is_empty()
    flat = read({"a": 1, "b": [1, 2]}, sample={"a": 1, "b": [1]}, flatten=True)
    assert flat.findings["column"].to_list() == ["b[1]"]


def test_a_thousand_new_or_long_names_make_no_endless_sentence() -> None:
    days = {f"day{number:04}": 1 for number in range(1000)}
    findings = read([{"v": 1, **days}], sample=[{"v": 1}]).findings
    assert findings["detail"].to_list()[-2:] == ["'day0019' is new", "980 more properties are new"]
    for answer in ([days], {"x" * 1000: 1, **days}):
        with pytest.raises(ResponseShapeInvalid, match=r"and 98[01] more") as refused:
            read(answer, columns={"v": "v"})
        assert len(str(refused.value)) < 700


def test_a_column_of_which_nothing_can_be_read_is_said() -> None:
    columns = {"v": column("v", type="date"), "w": column("w", type="date")}
    answer = read([{"v": "24.11.26", "w": "x"}, {"v": "25.11.26", "w": "2026-11-24"}], columns=columns)
    assert answer.rejects.height == 2
    assert answer.findings.rows() == [
        ("unreadable", "v", "warn", "none of the 2 values of 'v' could be read: is not a date")
    ]


def test_cut_texts_and_missing_values_are_not_unreadable() -> None:
    columns = {
        "t": column("t", max_length=1, when_longer="cut"),
        "d": column("d", type="date", on_empty="bad_value"),
    }
    answer = read([{"t": "xx", "d": None}, {"t": "yy", "d": "2026-11-24"}], columns=columns)
    assert answer.rejects.rows() == [(1, "d", "is empty", None)]
    assert answer.findings.is_empty()


def test_an_accepted_change_is_read_as_its_text() -> None:
    accepted = {"changed": "accept"}
    answer = read(
        b'[{"v": {"a": [1.50, "\\u00e9"]}, "l": "x"}]',
        columns={"v": "v", "l": column("l", many=True)},
        contract=accepted,
    )
    assert rows(answer) == [{"v": '{"a": [1.5, "é"]}', "l": ["x"]}]
    big = read(b'[{"v": [123456789012345678901]}]', columns={"v": "v"}, contract=accepted)
    assert rows(big) == [{"v": "[123456789012345678901]"}]


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("answer", [b'[{"v": 1}]', b"<html>"])
def test_the_collector_is_left_as_it_was(on: bool, answer: bytes) -> None:
    try:
        (gc.enable if on else gc.disable)()
        with suppress(ResponseMalformed):
            read(answer, columns={"v": "v"})
        assert gc.isenabled() is on
    finally:
        gc.enable()


def test_a_cursor_is_found_by_its_path() -> None:
    text = b'{"meta": {"next": "abc", "page": 12345678901234567890123}, "@odata.nextLink": "x", "r": [{"id": 7}]}'
    body = Body(text, OutboundMapping(), URL)
    assert body.value_at("meta.next") == "abc"
    assert body.value_at("meta.page") == 12345678901234567890123
    assert body.value_at("meta.missing") is None
    assert body.value_at("@odata.nextLink") == "x"
    assert body.value_at("r[-1].id") == 7
    with pytest.raises(ResponseMalformed, match="NaN"):
        Body(b'{"meta": NaN}', OutboundMapping(), URL).value_at("meta")


def test_an_answer_is_stored_and_read_back() -> None:
    answer = read([{"v": "x"}, {"v": 1}], columns={"v": column("v", type="integer", many=False)})
    again = ArrowSerializer().loads(ArrowSerializer().dumps(answer))
    assert isinstance(again, Answer)
    for name, table in answer.tables().items():
        assert_frame_equal(again.tables()[name], table)


def test_the_sample_of_the_documentation_gives_its_rows(real_answer: RealAnswer) -> None:
    body = real_answer("coupons-sample-response.json")
    answer = read(body, sample=body.decode())
    assert answer.standard.rows() == [("0798208", "54gewk-g3ig3q-3gk3gv-0798208", "CA", "95124")]


def test_real_offers_are_read_as_they_are(real_answer: RealAnswer) -> None:
    body = real_answer("offers-dummyjson-products.json")
    products = json.loads(body)["products"]
    answer = read(body, sample=body.decode())
    assert (answer.standard.height, answer.rejects.height, answer.findings.height) == (30, 0, 0)
    assert answer.standard["tags"].to_list() == [product["tags"] for product in products]
    assert answer.standard["price"].to_list() == [product["price"] for product in products]
    assert answer.standard["dimensions_width"].to_list() == [product["dimensions"]["width"] for product in products]
    assert answer.standard["brand"].to_list() == [product.get("brand") for product in products]
    reviews = read(body, sample=body.decode(), path="products[].reviews[]").standard
    wanted = [(review["comment"], product["id"]) for product in products for review in product["reviews"]]
    assert reviews.select("comment", "products_id").rows() == wanted


def test_a_real_schedule_is_read_down_to_its_competitors(real_answer: RealAnswer) -> None:
    body = real_answer("schedule-espn-team.json")
    path, limits = "events[].competitions[].competitors[]", {"max_depth": 11}
    answer = read(body, sample=body.decode(), path=path, limits=limits)
    wanted = [
        (competitor["id"], competitor["team"]["displayName"], event["name"])
        for event in json.loads(body)["events"]
        for competition in event["competitions"]
        for competitor in competition["competitors"]
    ]
    assert answer.standard.select("id", "team_displayName", "events_name").rows() == wanted
    assert answer.standard.schema["events_date"] == pl.Datetime("us")


def test_a_real_forecast_is_a_row_per_day_and_place(real_answer: RealAnswer) -> None:
    body = real_answer("weather-open-meteo-locations.json")
    answer = read(body, sample=body.decode(), path="[].daily")
    wanted = [
        (date.fromisoformat(day), warmest, place["latitude"])
        for place in json.loads(body)
        for day, warmest in zip(place["daily"]["time"], place["daily"]["temperature_2m_max"], strict=True)
    ]
    assert answer.standard.select("time", "temperature_2m_max", "latitude").rows() == wanted


# Any JSON: read here once more, value by value, by the standard library and the words of the documentation.


class Written(str):
    """A number as it stands in the body."""

    __slots__ = ()


class Members(list[tuple[str, Any]]):
    """Members of an object, in which a name may come twice."""


NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70).map(Written),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda number: Written(repr(number))),
    st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True).map(Written),
    st.sampled_from(["1.0", "-0", "-0.0", "1e2", "0.10", "9223372036854775808", "1e-400"]).map(Written),
)
TEXTS = st.one_of(
    st.text(max_size=12),
    NUMBERS.map(str),
    st.sampled_from(["", " 7 ", "true", "FALSE", "0", "{[", '"', "\\", "\x00", "x" * 256, "é" * 255, "\ud800"]),
)
NAMES = st.sampled_from(["a", "b", "c", "a.b", "", "d" * 255, "e" * 256])
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(st.tuples(NAMES, inner), max_size=3).map(Members)
    ),
    max_leaves=6,
)
COLUMN_TYPES = st.sampled_from(["text", "integer", "number", "boolean"])


def body_of(value: Any, ascii_only: bool) -> str:
    match value:
        case Written():
            return str(value)
        case Members():
            members = (f"{json.dumps(name)}: {body_of(inner, ascii_only)}" for name, inner in value)
            return "{" + ", ".join(members) + "}"
        case list():
            return "[" + ",".join(body_of(inner, ascii_only) for inner in value) + "]"
        case _:
            return json.dumps(value, ensure_ascii=ascii_only or value == "\ud800")


def plain_reading(body: str, columns: dict[str, str]) -> tuple[list[tuple[Any, ...]], list[tuple[int, str, Any]]]:
    """Rows and rejects, or ValueError where the body is beyond the guards."""
    document = json.loads(body, parse_float=Written, parse_int=Written)
    if levels(document) > 10 or any(len(name) > 255 for row in document for name in row):
        raise ValueError("beyond the limits")
    table: list[tuple[Any, ...]] = []
    rejects: list[tuple[int, str, Any]] = []
    for number, row in enumerate(document, 1):
        values = {name: plain_value(row.get(name), kind) for name, kind in columns.items()}
        bad = [name for name, value in values.items() if value is REJECTED]
        if bad:
            rejects.append((number, bad[0], plain_text(row[bad[0]])))
        else:
            table.append(tuple(values.values()))
    return table, rejects


REJECTED = object()


def plain_text(value: Any) -> str:
    match value:
        case Written():
            return value if any(mark in value for mark in ".eE") else str(int(value))
        case str():
            return value
        case bool():
            return str(value).lower()
        case _:
            return json.dumps(plain_numbers(value), ensure_ascii=False)


def plain_numbers(value: Any) -> Any:
    match value:
        case Written():
            return json.loads(value)
        case list():
            return [plain_numbers(inner) for inner in value]
        case dict():
            return {name: plain_numbers(inner) for name, inner in value.items()}
        case _:
            return value


def plain_value(value: Any, kind: str) -> Any:
    if value is None:
        return None
    text = plain_text(value)
    if kind == "text":
        return text if len(text) <= 255 else REJECTED
    text = text.strip()
    try:
        if kind == "boolean":
            return None if text == "" else {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if kind == "integer":
            whole = int(text.removesuffix("." + "0" * len(text.partition(".")[2])) if "." in text else text)
            return whole if -(2**63) <= whole < 2**63 and text.isascii() and "_" not in text else REJECTED
        number = float(text)
    except (KeyError, ValueError):
        return REJECTED
    is_plain = text.isascii() and "_" not in text and text.strip("+-")[:1] in "0123456789."
    return number if is_plain and abs(number) < float("inf") else REJECTED


def levels(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(levels, inner), default=0) if isinstance(value, dict | list) else 0


def check_values(value: Any) -> None:
    """ValueError for what no answer may hold, even in a property that is named again."""
    match value:
        case Members() | list():
            for inner in value:
                check_values(inner[1] if isinstance(value, Members) else inner)
        case Written() if abs(float(value)) == float("inf"):
            raise ValueError("beyond floats")
        case "\ud800":
            raise ValueError("no character")


@settings(deadline=None, max_examples=400)
@given(
    st.lists(st.lists(st.tuples(NAMES, VALUES), max_size=4).map(Members), max_size=4),
    COLUMN_TYPES,
    COLUMN_TYPES,
    st.booleans(),
)
def test_any_json_is_what_a_plain_reading_gives_or_an_error_with_a_code(
    document: list[Members], first: str, second: str, ascii_only: bool
) -> None:
    body = body_of(document, ascii_only)
    types = {"a": first, "b": second}
    mapping = OutboundMapping(
        columns={name: column(name, type=kind, optional=True) for name, kind in types.items()},
        contract={"changed": "accept", "unreadable": "accept"},
    )
    try:
        check_values(document)
        expected = plain_reading(body, types)
    except ValueError:
        with pytest.raises(ApiError, match=r"WKF-5602(40|41)"):
            read_answer([body.encode()], mapping, url=URL)
        return
    answer = read_answer([body.encode()], mapping, url=URL)
    assert answer.standard.rows() == expected[0]
    assert answer.rejects.select("row", "column", "value").rows() == expected[1]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.lists(st.tuples(NAMES, VALUES), max_size=4).map(Members), max_size=4), st.booleans())
def test_the_quick_and_the_exact_parse_give_the_same(document: list[Members], flatten: bool) -> None:
    body = body_of(document, ascii_only=True).encode()
    columns = {
        "text": column("[0].a" if flatten else "a"),
        "number": column("[0].b" if flatten else "b", type="number"),
        "list": column("[0].c" if flatten else "c", many=True, type="integer", on_bad_value="null"),
        "price": column("[0].a" if flatten else "a", type="decimal", optional=True),
    }
    mapping = OutboundMapping(columns=columns, flatten=flatten, contract={"changed": "warn"})
    outcomes = []
    # A byte order mark is passed over, and only the exact parse knows it.
    for start in (b"", b"\xef\xbb\xbf"):
        try:
            outcomes.append(
                {
                    name: table.to_dicts()
                    for name, table in read_answer([start + body], mapping, url=URL).tables().items()
                }
            )
        except ApiError as error:
            outcomes.append({"error": [str(error)]})
    assert outcomes[0] == outcomes[1]


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_no_bytes_make_the_reader_crash(data: st.DataObject) -> None:
    start = bytearray(data.draw(st.sampled_from(BODIES)))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(start)))
        cut = data.draw(st.integers(0, 3))
        start[at : at + cut] = data.draw(st.one_of(st.binary(max_size=3), st.sampled_from(TOKENS)))
    for options in SHAPES:
        try:
            answer = read_answer([bytes(start)], OutboundMapping(**options), url=URL)
        except (ResponseMalformed, ResponseShapeInvalid):
            pass  # the two that have a code for answers
        else:
            assert answer.standard.columns == list(options["columns"])


BODIES = [
    b"",
    b'{"r": [{"a": "x", "b": 1.5, "c": [1, 2]}, {"a": null, "b": true}]}',
    b'[{"d": {"t": [1, 2], "m": [3, 4]}}]',
    b'{"r": [[{"a": 1}], [{"a": 2}, {"a": {"b": 3}}]]}',
]
TOKENS = [
    b"[",
    b"]",
    b"{",
    b"}",
    b'"',
    b"\\",
    b"\\ud800",
    b"NaN",
    b"1e999",
    b"null",
    b",",
    b":",
    b"-",
    b"\xff",
    b"\xef\xbb\xbf",
]
SHAPES: list[dict[str, Any]] = [
    {"path": "r", "columns": {"a": "a", "b": {"key": "b", "type": "number"}, "c": {"key": "c", "many": True}}},
    {"path": "r[].a[]", "columns": {"x": "b", "y": {"key": "b", "at": "r[]"}}},
    {"path": "[].d", "parallel": True, "columns": {"t": "t", "m": {"key": "m", "type": "integer"}}},
    {"path": "r[?a]", "columns": {"a": "to_string(a)", "n": "length(c)"}},
    {"flatten": True, "columns": {"a": "r[0].a", "b": "[0].d.t[1]"}},
]
