import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.endpoint.answer.mapping import OutboundMapping
from tasks.endpoint.answer.reader import read_answer
from tasks.endpoint.answer.uniform import uniform_values
from tasks.errors import ApiError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
COLUMNS = {
    "text": "t",
    "number": {"key": "n", "type": "number"},
    "whole": {"key": "i", "type": "integer"},
    "flag": {"key": "b", "type": "boolean"},
    "left out": {"key": '"x y"', "ignore": True},
}
MAPPING = OutboundMapping(path="a.r", columns=COLUMNS)
ROW = {"t": "x", "n": 1.5, "i": 7, "b": True, "x y": 1}


def body(*rows: dict[str, Any], **around: Any) -> bytes:
    return json.dumps({"before": 1, "a": {"total": 5, **around, "r": rows}, "after": ["]"]}).encode()


@pytest.mark.parametrize(
    "answer",
    [
        body(ROW),
        body(ROW, {}, {"t": None, "n": 3, "x y": "z"}),
        body(ROW, {"i": 2**70, "n": -(2**70)}),
        body(ROW, deep={"list": [{"x": "[{"}]}),
        body(ROW).replace(b'"t"', b'"\\u0074"'),
        body(ROW).replace(b'"x"', b'"first", "t": "x"'),
        body(ROW).replace(b'"r": ', b'"r": [5], "r": '),
        body(ROW).replace(b", ", b" \n,\t"),
    ],
)
def test_rows_of_nothing_but_columns_are_read_without_a_document_and_the_same(answer: bytes) -> None:
    values = uniform_values([answer], MAPPING)
    assert values is not None
    assert (list(values), values["text"][0]) == (["text", "number", "whole", "flag"], "x")
    tables = read_answer([answer], MAPPING, url="u").tables()
    as_document = read_answer([BYTE_ORDER_MARK + answer], MAPPING, url="u").tables()
    assert {name: table.to_dicts() for name, table in tables.items()} == {
        name: table.to_dicts() for name, table in as_document.items()
    }


@pytest.mark.parametrize(
    "answer",
    [
        body({**ROW, "new": 1}),
        body({**ROW, "t": 1}),
        body({**ROW, "i": 1.0}),
        body({**ROW, "b": 1}),
        body({**ROW, "t": ["x"]}),
        body({**ROW, "x y": [1]}),
        body(ROW).replace(b"1.5", b"1e999"),
        body(ROW).replace(b"1.5", b"NaN"),
        body(ROW).replace(b'"x"', b'"\\ud800"'),
        body(ROW).replace(b'"x"', b'"\xff"'),
        body(ROW, deep=[[[[[[[[[[]]]]]]]]]]),
        body(ROW, other="\ud800"),
        body(ROW).replace(b'"before"', b'"\xff"'),
        body(ROW).replace(b'"before": 1', b'"before": NaN'),
        body(ROW).replace(b'"after"', b'"a": 7, "after"'),
        body(ROW)[:-1],
        body(ROW) + b"x",
        BYTE_ORDER_MARK + body(ROW),
        b'{"a": {"r": {}}}',
        b'{"a": {"r": null}}',
        b'{"a": []}',
        b'{"a": ' * 5000,
        b"",
    ],
)
def test_any_other_answer_is_left_to_its_document(answer: bytes) -> None:
    assert uniform_values([answer], MAPPING) is None
    assert uniform_values([body(ROW), answer], MAPPING) is None


@pytest.mark.parametrize(
    "options",
    [
        {"path": "a[].r"},
        {"path": "a[0].r"},
        {"path": "@", "flatten": True},
        {"path": "a.r", "parallel": True},
        {"path": "a.r", "limits": {"max_depth": 3}},
        {"path": "a.r", "limits": {"max_key_length": 1}},
        {"columns": {"x": "t"}},
        {"columns": {"x": "t", "y": "t"}},
        {"columns": {"x": "t", "y": "n.m"}},
        {"columns": {"x": "t", "y": {"key": "n", "at": "@"}}},
        {"columns": {"x": "t", "y": {"key": "n", "many": True}}},
        {"columns": {"x": "t", "y": {"key": "n", "remap": {"1": "2"}, "type": "number"}}},
        {"columns": {"x": "t", "y": '"a\\"b"'}},
    ],
)
def test_any_other_mapping_reads_documents(options: dict[str, Any]) -> None:
    assert uniform_values([body(ROW)], OutboundMapping(**{"path": "a.r", "columns": COLUMNS, **options})) is None


def test_rows_that_stand_twice_in_the_answer_are_not_taken_for_each_other() -> None:
    twice = b'{"a": {"copy": [{"t": "x", "n": 1}], "r": [{"t": "x", "n": 1}]}}'
    assert uniform_values([twice], MAPPING) is None
    assert read_answer([twice], OutboundMapping(path="a.r", columns={"x": "t"}), url="u").standard.height == 1


PLAIN = {
    "t": st.none() | st.text(max_size=5) | st.sampled_from(["", "x" * 256, "é" * 255]),
    "n": st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**80), 2**80),
    "i": st.none() | st.integers(-(2**80), 2**80),
    "b": st.none() | st.booleans(),
    "x y": st.none() | st.text(max_size=3) | st.booleans() | st.floats(allow_nan=False, allow_infinity=False),
}


@settings(deadline=None, max_examples=200)
@given(st.lists(st.fixed_dictionaries({}, optional=PLAIN), min_size=1, max_size=4), st.booleans())
def test_every_uniform_answer_is_read_as_its_document_is(rows: list[dict[str, Any]], ascii_only: bool) -> None:
    answer = json.dumps({"a": {"r": rows}}, ensure_ascii=ascii_only).encode()
    assert uniform_values([answer], MAPPING) is not None
    outcomes = []
    for page in (answer, BYTE_ORDER_MARK + answer):
        try:
            tables = read_answer([page], MAPPING, url="u").tables()
            outcomes.append({name: table.to_dicts() for name, table in tables.items()})
        except ApiError as error:
            outcomes.append({"error": [{"text": str(error)}]})
    assert outcomes[0] == outcomes[1]
